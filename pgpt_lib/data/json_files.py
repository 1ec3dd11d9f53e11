"""Annotation files of other people: read whole, with errors that name the file and the entry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .refcoco import naming, read_json

__all__ = ["first_of", "naming", "read_json", "records_of"]


def first_of(folder: Path, names: Sequence[str], command: str) -> Path:
    """The first of several files that exists in a folder.

    Args:
        names: relative paths, the usual one first.
        command: the `data` subcommand that fetches it.

    Raises:
        InputError: none exists; the message says which was expected, and the command.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    others = f" (or {', '.join(names[1:])})" if len(names) > 1 else ""
    root = folder.parent
    raise InputError(f"no {folder / names[0]}{others}: python -m pgpt_lib data {command} --root {root}")


def records_of(path: Path, key: str | None, needs: Sequence[str]) -> list[dict[str, Any]]:
    """A list of objects in a JSON file.

    Args:
        key: the entry of the file's object that holds the list; None where the file is the list.
        needs: keys that every object must have.

    Raises:
        InputError: no such file, not valid JSON, another layout, or an object without a key; the message names both.
    """
    content = read_json(path)
    if key is not None:
        if not isinstance(content, dict) or key not in content:
            raise InputError(f"{path}: expected an object with {key!r}")
        content = content[key]
    if not isinstance(content, list):
        raise InputError(f"{path}: expected a list{f' as {key!r}' if key else ''}, found {type(content).__name__}")
    for number, entry in enumerate(content):
        missing = [name for name in needs if not isinstance(entry, dict) or name not in entry]
        if missing:
            raise InputError(f"{path}: {key or 'entry'} {number} has no {missing[0]!r}")
    return content
