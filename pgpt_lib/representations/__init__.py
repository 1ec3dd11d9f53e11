"""How a region is written in the token stream and read back (paper, sections 3.2 and 4.4; Table 6).

Every representation has one file and one entry here; profiles choose by name.
"""

from __future__ import annotations

from ..errors import InputError
from .base import PHRASE_END, PHRASE_START, Representation
from .embedding import Embedding

REPRESENTATIONS: dict[str, type[Representation]] = {Embedding.name: Embedding}


def get_representation(name: str) -> Representation:
    """The representation called `name`; `InputError` names the known ones."""
    if name not in REPRESENTATIONS:
        raise InputError(f"unknown representation {name!r}; there are {', '.join(sorted(REPRESENTATIONS))}")
    return REPRESENTATIONS[name]()


__all__ = ["PHRASE_END", "PHRASE_START", "REPRESENTATIONS", "Embedding", "Representation", "get_representation"]
