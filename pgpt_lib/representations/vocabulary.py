"""Coordinates as new tokens: one for each cell of a grid (Kosmos-2), or one for each bin of an axis (Pix2Seq).

The model's square input is cut into `bins` along each side. A token stands for the centre of its cell or bin.
"""

from __future__ import annotations

import re

import numpy as np

from ..config import Coordinates
from .base import PHRASE_END, PHRASE_START
from .notation import Parts, PointNotation

START, PART, END = "<region>", "<part>", "</region>"  # around a region, and between its contours
WAVES = 4  # cosines along each axis in the codes that new rows start from
_LOC = r"<loc_(?:\d+)>"


class Vocabulary(PointNotation):
    """`<region> <loc_i> <loc_j> </region>` for a box, contours likewise with `<part>` between them.

    Of form "points" a token is a cell, `i = row * bins + column`; of form "axes" it is a bin of x or y in turn, and
    both axes share the tokens. A box thinner than a bin is read as a line, so that no corner is off by more than half
    a bin.
    """

    name = "vocabulary"
    attempt = re.compile(
        rf"{START}(?:\s*(?:{_LOC}|{PART}))*(?:\s*{END})?|(?:{_LOC}|{PART})(?:\s*(?:{_LOC}|{PART}))*(?:\s*{END})?|{END}"
    )

    def __init__(self, coordinates: Coordinates | None = None, side: int | None = None) -> None:
        super().__init__(coordinates, side)
        bins = self.coordinates.bins
        self.locations = bins**2 if self.coordinates.form == "points" else bins
        marks = (PHRASE_START, PHRASE_END, START, PART, END)
        self.tokens = (*marks, *(f"<loc_{i}>" for i in range(self.locations)))

    @property
    def region_tokens(self) -> int:
        points, parts = 2, 1
        if self.coordinates.target == "mask":
            points, parts = self.coordinates.vertices, self.coordinates.vertices // 3
        return points * (1 if self.coordinates.form == "points" else 2) + parts - 1 + 2

    def spell(self, parts: Parts) -> str:
        bins = self.coordinates.bins
        spelled = []
        for points in parts:
            numbers = np.floor(points * bins).astype(int).clip(0, bins - 1)
            if self.coordinates.form == "points":
                numbers = numbers[:, 1] * bins + numbers[:, 0]
            spelled.append("".join(f"<loc_{i}>" for i in numbers.ravel()))
        return START + PART.join(spelled) + END

    def parse(self, written: str) -> Parts | None:
        if not (written.startswith(START) and written.endswith(END)):
            return None
        bins = self.coordinates.bins
        parts: Parts = []
        for part in written[len(START) : -len(END)].split(PART):
            numbers = np.array([int(i) for i in re.findall(r"\d+", part)])
            if not len(numbers) or numbers.max() >= self.locations:
                return None
            if self.coordinates.form == "points":
                numbers = np.stack([numbers % bins, numbers // bins], axis=1)
            elif len(numbers) % 2:
                return None
            parts.append((numbers.reshape(-1, 2) + 0.5) / bins)
        return parts

    def place_codes(self) -> np.ndarray:
        """Cosines along the axes, so that near places start with near rows and far ones with different rows."""
        bins = self.coordinates.bins
        centres = (np.arange(bins) + 0.5) / bins
        waves = np.cos(np.pi * centres[:, None] * np.arange(1, WAVES + 1))  # [bins, WAVES]
        codes = waves
        if self.coordinates.form == "points":
            along_x, along_y = np.tile(waves, (bins, 1)), np.repeat(waves, bins, axis=0)
            codes = np.concatenate([along_x, along_y], axis=1)
        codes /= np.sqrt((codes**2).sum(1).mean())
        return np.concatenate([np.zeros((len(self.tokens) - self.locations, codes.shape[1])), codes])
