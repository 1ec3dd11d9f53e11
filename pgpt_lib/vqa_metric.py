"""VQA accuracy (Antol et al., ICCV 2015), as the benchmark's own evaluation computes it for VQAv2 and OK-VQA.

The given answer is normalised in full. The ten answers of the annotation files are lower case and free of articles
already: of them only the punctuation is normalised, and that only where they are not all alike. So "none", which
becomes "0" in a given answer, is wrong where people wrote "none"; the official evaluation has it so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .errors import InputError

_ARTICLES = {"a", "an", "the"}
_NUMBERS = {word: str(i) for i, word in enumerate("zero one two three four five six seven eight nine ten".split())}
_NUMBERS["none"] = "0"
_SIGNS = """;/[]"{}()=+\\_-><@`,?!"""
_CONTRACTED = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't "
    "needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've "
    "weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll "
    "why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"
).split()
# People leave out one apostrophe. The benchmark takes one word the other way round.
_CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word for word in _CONTRACTED for place, sign in enumerate(word) if sign == "'"
}
_CONTRACTIONS["somebody'd"] = "somebodyd"


def normalise_punctuation(text: str) -> str:
    """Signs taken out of an answer, as the benchmark does it.

    A sign that stands beside a space anywhere in the answer disappears wherever it stands, and so does every sign where
    a comma parts two digits ("1,000"); other signs become a space. A full stop stays before a digit only.
    """
    between_digits = re.search(r"\d,\d", text) is not None
    out = text
    for sign in _SIGNS:
        beside_space = f"{sign} " in text or f" {sign}" in text
        out = out.replace(sign, "" if beside_space or between_digits else " ")
    return re.sub(r"\.(?!\d)", "", out)


def normalise_answer(answer: str) -> str:
    """A given answer as VQA compares it: no punctuation or articles, lower case, numbers up to ten as digits."""
    text = normalise_punctuation(re.sub(r"[\n\t]", " ", answer).strip())
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, human_answers: Sequence[str]) -> float:
    """VQA's accuracy of one answer, in [0, 1].

    With ten people's answers: over every choice of nine of them, the mean of min(1, matches / 3). A single true answer,
    which is no benchmark's, makes it exact match, both sides normalised in full.

    Raises:
        InputError: no answers to compare with.
    """
    if not human_answers:
        raise InputError(f"no human answers to compare {answer!r} with")
    given = normalise_answer(answer)
    if len(human_answers) == 1:
        return float(given == normalise_answer(human_answers[0]))
    alike = len(set(human_answers)) == 1
    matches = np.array([(a if alike else normalise_punctuation(a)) == given for a in human_answers])
    enough = min(3, len(human_answers) - 1)
    return float(np.mean([min(1.0, (matches.sum() - match) / enough) for match in matches]))
