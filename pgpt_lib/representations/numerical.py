"""Coordinates as numbers in the language model's own vocabulary, as Shikra writes boxes (paper, section 4.4)."""

from __future__ import annotations

import re

import numpy as np

from .notation import Parts, PointNotation

DECIMALS = 3
_NUMBER = r"(?:\d?\.\d+|\d)"
_PART = rf"{_NUMBER}(?:,{_NUMBER})*"
_WELL_FORMED = re.compile(rf"\[({_PART}(?:;{_PART})*)\]")


class Numerical(PointNotation):
    """`[x1,y1,x2,y2]` for a box, `[x,y,x,y,x,y,…;x,y,…]` for contours, each number as `0.123`.

    A number of other than three decimals is read as well; one above 1 makes the region malformed.
    """

    name = "numerical"
    attempt = re.compile(r"\[[^\[\]]*\]?|\d\s?\.\s?\d[\d\s.,;]*\]?|\]")  # from a bracket, or decimals without one

    @property
    def region_tokens(self) -> int:
        numbers = 4 if self.coordinates.target == "box" else 2 * self.coordinates.vertices
        return numbers * (2 + DECIMALS) + numbers - 1 + 2

    def spell(self, parts: Parts) -> str:
        spelled = (",".join(f"{v:.{DECIMALS}f}" for v in points.clip(0, 1).ravel()) for points in parts)
        return f"[{';'.join(spelled)}]"

    def parse(self, written: str) -> Parts | None:
        match = _WELL_FORMED.fullmatch(written)
        if match is None:
            return None
        rows = [np.array([float(number) for number in part.split(",")]) for part in match[1].split(";")]
        if any(len(row) % 2 or row.max() > 1 for row in rows):
            return None
        return [row.reshape(-1, 2) for row in rows]
