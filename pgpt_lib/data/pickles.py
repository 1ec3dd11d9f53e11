"""Pickles from elsewhere, read without running anything that they ask for.

A pickle is a program: loading one that was downloaded may run any code. The annotation files that need reading hold
only lists, dicts, strings and numbers, which take no class to build; so a file that asks for any class or function is
refused before that is looked up.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from ..errors import InputError

# What the unpickler raises on damaged bytes, beside UnpicklingError.
_DAMAGED = (EOFError, AttributeError, IndexError, KeyError, MemoryError, OverflowError, TypeError, ValueError)


class PlainUnpickler(pickle.Unpickler):
    """Admits containers, strings, bytes, numbers, booleans and None."""

    def find_class(self, module: str, name: str) -> Any:
        """Every class and function comes through here; none is admitted."""
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_pickle(path: Path) -> Any:
    """The plain value in a pickle of any protocol, strings of Python 2 included (UTF-8, or else Latin-1).

    Raises:
        InputError: the file is missing, damaged, or asks for anything but plain values; nothing of it has run.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    problem: Exception | None = None
    for encoding in ("utf-8", "latin-1"):
        try:
            return PlainUnpickler(io.BytesIO(data), encoding=encoding).load()
        except UnicodeDecodeError as error:
            problem = error
        except (pickle.UnpicklingError, *_DAMAGED) as error:
            problem = error
            break
    raise InputError(f"{path} is no pickle of plain lists, dicts, strings and numbers, so it was not loaded: {problem}")
