"""How a region is written in the token stream and read back (paper, sections 3.2 and 4.4; Table 6).

Every representation has one file and one entry here; profiles choose by name. `notation.py` holds what those have in
common that write regions as text.
"""

from __future__ import annotations

from ..config import Coordinates
from ..errors import InputError
from .base import PHRASE_END, PHRASE_START, Representation
from .embedding import Embedding
from .numerical import Numerical
from .vocabulary import Vocabulary

REPRESENTATIONS: dict[str, type[Representation]] = {cls.name: cls for cls in (Embedding, Numerical, Vocabulary)}


def get_representation(
    name: str, coordinates: Coordinates | None = None, image_size: int | None = None
) -> Representation:
    """The representation called `name`.

    Args:
        coordinates: `profile.coordinates`.
        image_size: side of the vision tower's square input in pixels; by default no side is rounded to its pixels.

    Raises:
        InputError: an unknown name; the known ones are listed.
    """
    if name not in REPRESENTATIONS:
        raise InputError(f"unknown representation {name!r}; there are {', '.join(sorted(REPRESENTATIONS))}")
    return REPRESENTATIONS[name](coordinates, image_size)


__all__ = [
    "PHRASE_END",
    "PHRASE_START",
    "REPRESENTATIONS",
    "Embedding",
    "Numerical",
    "Representation",
    "Vocabulary",
    "get_representation",
]
