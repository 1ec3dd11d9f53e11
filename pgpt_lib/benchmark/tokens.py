"""The tokens that a box or a mask takes in each row of the paper's Table 4, counted on real regions.

What a row writes is a text with one `<name>` for each token that its vocabulary adds. Counted are all tokens that the
model has to emit: the values, the signs between them, and the marks around them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..config import Coordinates
from ..errors import InputError
from ..regions import Region
from ..representations import Representation, get_representation
from ..representations.vocabulary import END, PART, START

KINDS = ("box", "mask")
PARTS = ("values", "signs", "marks")
MARKS = {"[", "]", START, PART, END, "<obj_vis_s>", "<obj_vis_e>"}
TABLE7_VERTICES = 32  # of a mask's contour in the paper's Table 7
RULE = "Llama-2 by rule"
_TOKEN = re.compile(r"<[^<>\s]+>|\S")

Tokens = Callable[[str], list[str]]  # a text's tokens as text


@dataclass(frozen=True)
class Scheme:
    """How a method writes regions.

    Attributes:
        row: of Table 4.
        how: in words.
        representation: the library's that writes likewise.
        coordinates: its settings.
        kinds: of regions that the method has.
        bare: whether it writes no mark around a region.
        codes: of a mask that is a fixed number of tokens, drawn from a codebook; 0 where it is not.
        around: marks that another author adds.
    """

    row: str
    how: str
    representation: str
    coordinates: Coordinates = Coordinates()
    kinds: tuple[str, ...] = ("box",)
    bare: bool = False
    codes: int = 0
    around: tuple[str, str] = ("", "")

    def writer(self, kind: str) -> Representation | None:
        """The representation that writes this kind; None where the method has none, or a codebook."""
        if kind not in self.kinds or (kind == "mask" and self.codes):
            return None
        settings = {**self.coordinates.model_dump(), "target": kind}
        return get_representation(self.representation, Coordinates.model_validate(settings))

    def text(self, kind: str, region: Region, size: tuple[int, int]) -> str | None:
        """What is written for a region of an image of (height, width); None where the method cannot."""
        if kind not in self.kinds:
            return None
        if kind == "mask" and self.codes:
            return "".join(f"<code_{i}>" for i in range(self.codes))
        writer = self.writer(kind)
        assert writer is not None
        written = writer.write(region, size)
        if self.bare:
            written = written.removeprefix(START).removesuffix(END)
        return self.around[0] + written + self.around[1]


BOTH = ("box", "mask")
SCHEMES = (
    Scheme("Shikra", "digits, three decimals", "numerical"),
    Scheme(
        "Unified-IO",
        "1000 bins an axis; masks as 16 × 16 codes of a VQ-GAN",
        "vocabulary",
        Coordinates(form="axes", bins=1000),
        BOTH,
        bare=True,
        codes=256,
    ),
    Scheme("Kosmos-2", "32 × 32 cells, a token each", "vocabulary", Coordinates(bins=32)),
    Scheme(
        "VisionLLM",
        "512 bins an axis; masks as 8 vertices",
        "vocabulary",
        Coordinates(form="axes", bins=512, vertices=8),
        BOTH,
        bare=True,
    ),
    Scheme("PerceptionGPT", "one embedding", "embedding", kinds=BOTH),
    Scheme("PerceptionGPT, released code", "with two marks", "embedding", kinds=BOTH,
           around=("<obj_vis_s>", "<obj_vis_e>")),
    Scheme("Numerical, Table 7", "digits; masks as 32 vertices", "numerical",
           Coordinates(vertices=TABLE7_VERTICES), BOTH),
    Scheme("Vocab, Table 7", "32 × 32 cells; masks as 32 vertices", "vocabulary",
           Coordinates(vertices=TABLE7_VERTICES), BOTH),
)  # fmt: skip
"""The rows of Table 4 from their own papers, the released code's, and the two discrete rows of Table 7."""


def by_rule(text: str) -> list[str]:
    """Tokens by Llama-2's rule (Touvron et al. 2023): every digit is a token of its own.

    A sign between two digits then has nothing to merge with, so it is one as well; so is a token that was added.
    """
    return _TOKEN.findall(text)


def by_tokenizer(name: str, scheme: Scheme) -> Tokens:
    """Tokens by a backbone's own tokenizer, to which the tokens of the scheme were added.

    Raises:
        InputError: it is neither bundled nor cached; nothing is downloaded to count tokens.
    """
    from ..chat import Chat

    chat = Chat(_tokenizer(name), representation=get_representation(scheme.representation, scheme.coordinates))
    added = [f"<code_{i}>" for i in range(scheme.codes)] + [mark for mark in scheme.around if mark]

    def split(text: str) -> list[str]:
        pieces: list[str] = []
        for piece in re.split(f"({'|'.join(map(re.escape, added))})", text) if added else [text]:
            if piece in added:
                pieces.append(piece)  # one token, as every added one
            elif piece:
                pieces += [chat.tokenizer.decode([i]) for i in chat.turn(piece, keep=False)[0]]
        return pieces

    return split


@lru_cache
def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    from ..backbones import resolve

    return AutoTokenizer.from_pretrained(resolve(name, fetch=False))


def part_of(token: str) -> str:
    """`values` (digits, location tokens, `<vis>`), `signs` between them, or `marks` around a region or its parts."""
    token = token.strip()
    if token in MARKS:
        return "marks"
    return "values" if token[:1].isdigit() or token.startswith("<") else "signs"


def count_tokens(
    scheme: Scheme, kind: str, regions: Sequence[Region], size: tuple[int, int], tokens: Tokens
) -> dict[str, float] | None:
    """Mean number of tokens of a region by `PARTS`, and in `all`; None where the method has no such region.

    Raises:
        InputError: no regions.
    """
    if not regions:
        raise InputError("no regions to count the tokens of")
    total = dict.fromkeys(PARTS, 0)
    for region in regions:
        text = scheme.text(kind, region, size)
        if text is None:
            return None
        for token in tokens(text):
            total[part_of(token)] += 1
    means = {part: count / len(regions) for part, count in total.items()}
    return {**means, "all": sum(means.values())}


def token_table(
    regions: Sequence[Region], size: tuple[int, int], tokenizers: Sequence[str] = ("nano", "smollm2-135m")
) -> tuple[dict[str, dict[tuple[str, str], Mapping[str, float]]], dict[str, str]]:
    """Every scheme's tokens by every tokenizer.

    Returns:
        by tokenizer (`RULE` among them): (row, kind) to `count_tokens`; and the tokenizers that were skipped, with the
        reason.
    """
    table: dict[str, dict[tuple[str, str], Mapping[str, float]]] = {}
    skipped: dict[str, str] = {}
    for name in (*tokenizers, RULE):
        counted: dict[tuple[str, str], Mapping[str, float]] = {}
        try:
            for scheme in SCHEMES:
                tokens = by_rule if name == RULE else by_tokenizer(name, scheme)
                for kind in KINDS:
                    if (means := count_tokens(scheme, kind, regions, size, tokens)) is not None:
                        counted[scheme.row, kind] = means
        except InputError as reason:
            skipped[name] = str(reason)
            continue
        table[name] = counted
    return table, skipped
