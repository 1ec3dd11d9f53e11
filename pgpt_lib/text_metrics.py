"""Scores of answers in words: CIDEr and exact match; VQA accuracy is in `vqa_metric`.

CIDEr (Vedantam et al., CVPR 2015) comes from pycocoevalcap's scorer. Its tokenizer is a Java program; `ptb_tokenize`
takes its place and follows the same Penn Treebank rules.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.cider.cider_scorer import CiderScorer

from .errors import InputError

# Typographic signs that the Penn Treebank writes in ASCII.
_ASCII = str.maketrans({
    "\u2018": "`", "\u2019": "'", "\u201c": "``", "\u201d": "''", "\u2013": "--", "\u2014": "--", "\u2026": "...",
    "\u00bd": "1/2", "\u00bc": "1/4", "\u00be": "3/4", "\u00a3": "#", "\u20ac": "$",
})  # fmt: skip
_BRACKETS = str.maketrans({"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"})
# Tokens that carry no meaning. Runs such as "?!" and brackets are not among them: the original keeps those too.
_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

# Words that keep their full stop.
_STOPPED = (
    "mr mrs ms dr prof st jr sr gen sen rep gov capt sgt lt col rev hon etc vs inc ltd corp co bros ave blvd rd mt ft "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
).split()
_TOKEN = re.compile(
    rf"""
      </?[a-z][^<>\s]*>                                              # tags
    | (?:https?://|www\.)[^\s<>"]+\w | [\w.+-]+@[\w-]+(?:\.[a-z]+)+  # addresses
    | [:;=]-?[()]                                                    # smileys
    | (?:[a-z]\.)+(?![\w.]) | ph\.d\.                               # U.S., a.m., C.
    | (?:{"|".join(_STOPPED)})\.(?!\w) | nos?\.(?=\s*\d) | pp\.(?=\s*\d)
    | '(?:s|m|d|ll|re|ve)(?!\w) | '(?:\d0s|n'|n(?!\w)|cause\b|em\b|t(?=is\b|was\b))  # clitics that stand alone
    | c(?:\+\+|\#)(?!\w) | y'(?=[a-z]{{2}})
    | \d+:\d+(?=[ap]m\b)                                             # 5:30 pm
    | [-+]?\.?\d+(?:[.,:/]\d+)*(?:-?[^\W_]+)*                        # numbers, 3-year-old
    | [^\W_]+(?:(?:[-./_!?]|(?<=\w\w)&|'(?=[a-z]))[^\W_]+)*          # words: t-shirt, and/or, AT&T, don't
    | `` | '' | \.{{2,}} | -{{2,}} | [?!]+ | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
# What the Treebank takes apart: "cannot", and clitics at the end of a word; "o'clock" and "d'oh" stay whole.
_COMPOUNDS = {"cannot": "can not", "gonna": "gon na", "wanna": "wan na", "gotta": "got ta", "gimme": "gim me"}
_CLITIC = re.compile(r"^(.*[^\W_])(n't|'(?:s|m|d|ll|re|ve|n))$")
_WHOLE = re.compile(r"^(?:[a-z]|ma|qu)'[a-z]{2,}$")


def _split(token: str) -> list[str]:
    """Take a matched token apart where the Treebank does."""
    if token in _COMPOUNDS:
        return _COMPOUNDS[token].split()
    if clitic := _CLITIC.match(token):
        return [*_split(clitic[1]), clitic[2]]
    if "'" in token[1:-1] and not _WHOLE.match(token):
        return re.findall(r"'|[^']+", token)
    if re.fullmatch(r"\.{2,}", token):
        return ["..."] if len(token) > 2 else [".", "."]
    if re.fullmatch("-{2,}", token):
        return ["--"]
    return [token.translate(_BRACKETS)]


def ptb_tokenize(text: str) -> str:
    """Lower-case Penn Treebank tokens joined by spaces, punctuation removed.

    Follows Stanford CoreNLP 3.4.1's PTBTokenizer with `-lowerCase`, and the list of punctuation that the COCO caption
    evaluation removes. It agrees with the original on all 43,755 distinct expressions of RefCOCO, RefCOCO+ and RefCOCOg
    val and test; rare signs in free text (entities in a row, hash tags) may differ.
    """
    text = html.unescape(text).translate(_ASCII).lower()
    # A double quote opens after a space or a bracket and closes elsewhere.
    text = re.sub(r'(^|[\s(\[{<])"', r"\1``", text).replace('"', "''")
    return " ".join(part for m in _TOKEN.finditer(text) for part in _split(m[0]) if part not in _PUNCTUATION)


def cider(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, NDArray[np.float64]]:
    """CIDEr-D of a corpus: n-grams up to 4, sigma 6, document frequencies from these references.

    Args:
        candidates: one caption an image.
        references: the captions that people gave that image, at least one.

    Returns:
        The mean over images, and each image's score, in [0, 10]; the literature prints 100 times that.

    Raises:
        InputError: no images, lengths that differ, or an image without a reference.
    """
    if not candidates or len(candidates) != len(references):
        raise InputError(f"CIDEr of {len(candidates)} captions with {len(references)} lists of references")
    scorer = CiderScorer(n=4, sigma=6.0)
    for i, (candidate, truths) in enumerate(zip(candidates, references, strict=True)):
        if not truths:
            raise InputError(f"CIDEr: caption {i} ({candidate!r}) has no reference")
        scorer += (ptb_tokenize(candidate), [ptb_tokenize(t) for t in truths])
    mean, each = scorer.compute_score()
    return float(mean), np.asarray(each, dtype=np.float64)


def exact_match(answer: str, truth: str) -> bool:
    """Whether the whole answer is the truth, up to case and spaces (so "red circle" is not "red")."""
    return answer.lower().split() == truth.lower().split()


def majority_accuracy(truths: Sequence[str]) -> float:
    """The share of questions that their most frequent answer alone gets right; 0 without questions."""
    counts = Counter(" ".join(t.lower().split()) for t in truths)
    return max(counts.values(), default=0) / max(len(truths), 1)
