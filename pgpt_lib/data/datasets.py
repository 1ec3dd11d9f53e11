"""`data NAME --root DIR`: a data set from its mirrors to the places where its reader looks.

`data/datasets.json` says for each data set which ways there are to it, tried in order; the files of a way with their
mirrors; what becomes of each file (`unpack` below a folder, `put` at a place, or a conversion of all of them); and what
must be there in the end (`provides`; of a list of places any one is enough).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from ..errors import InputError, RunError
from ..project import ROOT
from . import refer_formats
from .fetch import DOWNLOADS, Download, fetch, forget
from .refcoco import SPLIT_BY, read_json
from .unpack import DamagedArchive, put, unfinished, unpack

logger = logging.getLogger(__name__)

TABLE = ROOT / "data" / "datasets.json"


def table() -> dict[str, Any]:
    """What there is to download, by name."""
    return read_json(TABLE)


def obtain(
    name: str,
    root: str | Path,
    mirrors: Sequence[str] = (),
    pictures: bool = True,
    fresh: bool = False,
    entries: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Download a data set and lay it out below `root`. What is there already is kept.

    Args:
        name: of `table()`.
        root: the data folder.
        mirrors: base addresses tried before the known ones.
        pictures: also the archives of pictures, which are most of the bytes.
        fresh: lay it out again from the files in ROOT/downloads, which are checked and fetched where they are missing.
        entries: in place of `table()`.

    Returns:
        `name`, `root`, `way` (None when nothing had to be done), `files` (laid out), `licence`, `by_hand`.

    Raises:
        InputError: no such data set.
        RunError: no way led to it; the message says what each said, and which file to put where.
    """
    known = table() if entries is None else entries
    if name not in known:
        raise InputError(f"unknown data set {name!r}; there are {', '.join(known)}")
    entry, root = known[name], Path(root)
    result = {"name": name, "root": str(root), "way": None, "files": 0, "licence": entry.get("licence")}
    result["by_hand"] = entry.get("by_hand", "").replace("ROOT", str(root)) or None
    (root / DOWNLOADS).mkdir(parents=True, exist_ok=True)
    with FileLock(root / DOWNLOADS / ".lock"):
        return _obtain(name, root, entry, result, mirrors, pictures, fresh)


def _obtain(
    name: str,
    root: Path,
    entry: Mapping[str, Any],
    result: dict[str, Any],
    mirrors: Sequence[str],
    pictures: bool,
    fresh: bool,
) -> dict[str, Any]:
    problems = []
    for way in entry["ways"]:
        files = [f for f in way["files"] if pictures or not f.get("pictures")]
        if not fresh and _complete(entry, files, root):
            return result
        try:
            count = _lay_out(name, way, files, root, mirrors)
        except (RunError, InputError) as error:
            problems.append(f"{way['name']}: {error}")
            logger.info("%s: %s did not work: %s", name, way["name"], error)
            continue
        missing = _missing(entry, root)
        if missing:
            problems.append(f"{way['name']}: it lacked {', '.join(missing)}")
            continue
        return {**result, "way": way["name"], "files": count}
    raise RunError(f"{name} could not be obtained.\n" + "\n".join(problems))


def _complete(entry: Mapping[str, Any], files: Sequence[Mapping[str, Any]], root: Path) -> bool:
    """Whether all is there: what readers need, and the folders of the pictures that are asked for."""
    folders = [root / f["unpack"] / _folder(f["name"]) for f in files if f.get("pictures")]
    if any(unfinished(f["name"], root).exists() for f in files):
        return False
    return not _missing(entry, root) and all(any(folder.glob("*.jpg")) for folder in folders)


def _missing(entry: Mapping[str, Any], root: Path) -> list[str]:
    """What readers need and do not find."""
    wanted = [[place] if isinstance(place, str) else place for place in entry["provides"]]
    return [" or ".join(places) for places in wanted if not any((root / place).exists() for place in places)]


def _folder(archive: str) -> str:
    """The folder that an archive of pictures holds."""
    known = {"visual_genome-images.zip": "VG_100K", "visual_genome-images2.zip": "VG_100K_2"}
    return known.get(archive, archive.removesuffix(".zip"))


def _lay_out(
    name: str, way: Mapping[str, Any], files: Sequence[Mapping[str, Any]], root: Path, mirrors: Sequence[str]
) -> int:
    """Fetch all files of a way, then put them in place; how many files came of it."""
    fetched, count, sources = [], 0, []
    for place, entry in enumerate(files):
        try:
            fetched.append((entry, fetch(Download.from_dict(entry), root, mirrors)))
        except RunError as error:
            others = [f["name"] for f in files[place + 1 :] if not (root / DOWNLOADS / f["name"]).exists()]
            raise RunError(
                f"{error}" + (f"\nIt also needs, beside it: {', '.join(others)}." if others else "")
            ) from None
    for entry, path in fetched:
        if "unpack" in entry:
            wanted = entry.get("only")
            try:
                count += unpack(path, root, entry["unpack"], _named(wanted) if wanted else None)
            except DamagedArchive:
                forget(root, path.name)  # else its hash would refuse the whole one that comes after it
                raise
            if wanted:
                found = {n: next((root / entry["unpack"]).rglob(n), None) for n in wanted}
                if lacking := [n for n, place in found.items() if place is None]:
                    raise RunError(f"{path} does not hold {', '.join(lacking)}")
                sources += [place for place in found.values() if place]
        elif "put" in entry:
            put(path, root / entry["put"])
            count += 1
        else:
            sources.append(path)
    if "convert" in way:
        try:
            made = _convert(way["convert"], name, sources, root)
        except InputError:
            for _, path in fetched:
                forget(root, path.name)
            raise
        logger.info("%s: %s", name, ", ".join(f"{n} refs of {split}" for split, n in made.items()))
        count += 2
    return count


def _convert(form: str, name: str, files: Sequence[Path], root: Path) -> dict[str, int]:
    if form == "refcoco_m":
        return refer_formats.from_refcoco_m(files, root)
    if name not in SPLIT_BY:
        raise InputError(
            f"{name} is none of {', '.join(SPLIT_BY)}, so that {form} cannot be turned into REFER's layout"
        )
    return {"parquet": refer_formats.from_parquet, "mdetr": refer_formats.from_mdetr}[form](files, name, root)


def _named(names: Sequence[str]) -> Callable[[str], bool]:
    return lambda path: PurePosixPath(path).name in names


__all__ = ["DOWNLOADS", "TABLE", "obtain", "table"]
