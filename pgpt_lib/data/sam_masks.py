"""Masks that SAM drew for boxes, kept in SQLite files beside the data: read by picture, written a picture at a time.

A file holds `masks` (picture, box, RLE or null where the mask was refused, SAM's own IoU estimate, agreement with the
box) and `provenance` (which model, which thresholds, which versions). Several processes write a file each;
readers take them all, so that all must have one provenance.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError

PATTERN = "sam_masks*.sqlite"
_PROVENANCE = "select key, value from provenance"
_SCHEMA = """
create table if not exists provenance (key text primary key, value text not null);
create table if not exists masks (picture text, box text, counts text, height int, width int,
                                  predicted_iou real, box_iou real, primary key (picture, box));
create table if not exists done (picture text primary key);
"""


class Mask(NamedTuple):
    """A box's mask: `rle` is None where it was refused."""

    box: tuple[float, float, float, float]
    rle: dict[str, Any] | None
    predicted_iou: float
    box_iou: float


def box_name(box: Sequence[float]) -> str:
    """A box [x, y, width, height] in pixels as its key: to a tenth of a pixel, finer than any annotation."""
    return " ".join(f"{value:.1f}" for value in box)


class MaskFile:
    """One file, written by one process. A picture's masks and its mark are one transaction, so a kill loses none."""

    def __init__(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Open a file, or make it.

        Raises:
            InputError: this file or another beside it is none of these, or holds masks of another model or other
                thresholds.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        wanted = {key: json.dumps(value, sort_keys=True) for key, value in provenance.items()}
        for place in sorted(path.parent.glob(PATTERN)):
            _check_provenance(place, wanted)
        try:
            self._file = sqlite3.connect(path)
            self._file.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path} cannot be written to: {error}") from None
        with self._file:
            self._file.executemany("insert or replace into provenance values (?, ?)", wanted.items())

    def add(self, picture: str, masks: Iterable[Mask]) -> None:
        """A picture's masks, and that it is finished."""
        rows = []
        for mask in masks:
            counts, (height, width) = (mask.rle["counts"], mask.rle["size"]) if mask.rle else (None, (None, None))
            rows.append((picture, box_name(mask.box), counts, height, width, mask.predicted_iou, mask.box_iou))
        with self._file:
            self._file.executemany("insert or replace into masks values (?, ?, ?, ?, ?, ?, ?)", rows)
            self._file.execute("insert or replace into done values (?)", (picture,))

    def close(self) -> None:
        """Close the file; all that was added is already on disk."""
        self._file.close()


class SamMasks:
    """All masks below a data set's folder, by picture and box. Without a file, no box has a mask."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob(PATTERN))
        self._files: list[sqlite3.Connection] = []

    def __bool__(self) -> bool:
        return bool(self._paths)

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths, "_files": []}  # connections stay in the process that opened them

    def of(self, picture: str) -> dict[str, dict[str, Any]]:
        """The accepted masks of a picture: `box_name` to compressed RLE."""
        found: dict[str, dict[str, Any]] = {}
        for file in self._open():
            query = "select box, counts, height, width from masks where picture = ? and counts is not null"
            for box, counts, height, width in _rows(file, query, picture):
                found[box] = {"size": [height, width], "counts": counts}
        return found

    def finished(self) -> set[str]:
        """The pictures whose boxes were all dealt with, in any of the files."""
        return {row[0] for file in self._open() for row in _rows(file, "select picture from done")}

    def provenance(self) -> list[dict[str, Any]]:
        """What made the files, one entry a file."""
        return [{key: json.loads(value) for key, value in _rows(file, _PROVENANCE)} for file in self._open()]

    def _open(self) -> list[sqlite3.Connection]:
        if len(self._files) != len(self._paths):
            self._files = [_reading(path) for path in self._paths]
        return self._files


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)


def _rows(file: sqlite3.Connection, query: str, *values: str) -> list[tuple[Any, ...]]:
    """A query's rows; none of a file that another process has not yet given its tables."""
    try:
        return file.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise


def _check_provenance(path: Path, wanted: Mapping[str, str]) -> None:
    """An `InputError` where a file is none of these, or was made otherwise."""
    try:
        with closing(_reading(path)) as file:
            found = dict(_rows(file, _PROVENANCE))
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path} is no file of SAM masks: {error}") from None
    if found and found != wanted:
        changed = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
        raise InputError(
            f"{path} was made otherwise ({', '.join(sorted(changed))} changed), and readers take all files of its "
            "folder; remove it, or label as it was made"
        )
