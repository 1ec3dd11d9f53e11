"""Puts downloaded files where the readers look for them, whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from ..errors import RunError


class DamagedArchive(RunError):
    """The archive itself cannot be read to its end."""


_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, EOFError, ValueError)


def unpack(archive: Path, root: Path, into: str = ".", only: Callable[[str], bool] | None = None) -> int:
    """The files of an archive (zip, tar, compressed or not) at their places below `root`.

    All is unpacked beside its place first, which checks it; then each file takes its place at once.

    Args:
        archive: the file.
        root: the data folder.
        into: the folder below it that the archive's own paths begin at.
        only: which of the archive's paths are wanted; all by default.

    Returns:
        How many files were put in place.

    Raises:
        DamagedArchive: no archive, or a damaged one. Nothing was put in place.
        RunError: it holds no wanted file, or there is no room for its files.
    """
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f".{archive.name}-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{archive.name}-", dir=root) as name:
        fresh = Path(name)
        try:
            (_unzip if zipfile.is_zipfile(archive) else _untar)(archive, fresh, only or (lambda _: True))
        except _DAMAGED as error:
            if isinstance(error, OSError) and error.errno:  # of the disk, as when it is full: the archive may be good
                raise RunError(f"{archive} could not be unpacked below {root}: {error.strerror}") from None
            raise DamagedArchive(f"{archive} cannot be unpacked ({error}); remove it and call this again") from None
        files = sorted(path for path in fresh.rglob("*") if path.is_file())
        mark = unfinished(archive.name, root)
        mark.touch()
        for path in files:
            place = root / into / path.relative_to(fresh)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
        mark.unlink()
    if not files:
        raise RunError(f"{archive} holds none of the files that were expected")
    return len(files)


def unfinished(archive: str, root: Path) -> Path:
    """A file that exists only while an archive's files take their places, so that a kill in between is seen."""
    return root / f".{archive}.unpacking"


def put(file: Path, place: Path) -> None:
    """A downloaded file that needs no unpacking, at its place: a second link where the disk allows it, or a copy."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(file, temporary)
    except OSError:
        shutil.copyfile(file, temporary)
    os.replace(temporary, place)


def _unzip(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in tqdm(content.infolist(), desc=f"unpacking {archive.name}", file=sys.stderr, mininterval=1):
            if not member.is_dir() and wanted(member.filename):
                content.extract(member, folder)  # drops "..", and checks the sum


def _untar(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    with tarfile.open(archive) as content:
        for member in tqdm(content, desc=f"unpacking {archive.name}", file=sys.stderr, mininterval=1):
            if member.isfile() and wanted(member.name):
                content.extract(member, folder, filter="data")
        while content.fileobj and content.fileobj.read(1 << 20):  # to the end, where gzip's own sum is checked
            pass
