"""The closed vocabulary of RefShapes: one token a word, a digit or a mark, and characters for the rest."""

from __future__ import annotations

import string
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ..phrasings import EXTRA_WORDS, PHRASINGS
from .levels import COLOURS, MATERIALS, SHAPES, SIZES
from .phrases import COLUMNS, FACTS, PLURALS, RANKS, RELATIONS, ROWS, SIDES
from .questions import FINE_COLUMNS, FINE_ROWS, NUMBERS, ORDINALS

SPECIAL = ("<pad>", "<unk>", "<bos>", "<user>", "<assistant>", "<end>", "<image>", "<empty>")
_FRAMES = (
    "what colour shape size is the which part holds how many are there is a an where exactly list the colours shapes "
    "from left to right top to bottom describe picture do you see count write as digit word on repeat sort thing "
    "things one ones striped centre "
    "zero and all in of , . ? ! : ; ' - ( ) [ ] / + ="
)


def words() -> list[str]:
    """Every word that has a token of its own, sorted; digits and punctuation first."""
    text = [
        *SHAPES,
        *COLOURS,
        *MATERIALS,
        *SIZES,
        *COLUMNS,
        *ROWS,
        *RANKS,
        *NUMBERS,
        *ORDINALS,
        *FINE_COLUMNS,
        *FINE_ROWS,
    ]
    text += [*SIDES.values(), *RELATIONS.values(), _FRAMES, EXTRA_WORDS]
    text += [PLURALS.get(shape, shape + "s") for shape in SHAPES]
    text += [fact for facts in FACTS.values() for fact in facts]
    text += [p.replace("<vis>", " ").replace("{x}", " ") for options in PHRASINGS.values() for p in options]
    found = set(" ".join(text).split())
    return sorted(found, key=lambda w: (w[0].isalpha(), w))


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer: lower case; a word is one token if it is known, else its characters; digits always stand alone."""
    characters = [c for c in string.ascii_lowercase + string.digits + string.punctuation]
    pieces = [*SPECIAL, *dict.fromkeys([*words(), *characters]), *("##" + c for c in characters)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>", max_input_chars_per_word=64))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>", "<image>", "<empty>"],
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(folder: Path) -> None:
    """Write the tokenizer in Hugging Face's layout."""
    make_tokenizer().save_pretrained(folder)
