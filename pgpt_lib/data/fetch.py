"""Downloads: several mirrors, resumed where they broke off, checked by hash.

pooch downloads and checks; what it lacks is added here: resuming, mirrors in order, hashes recorded on first use.

    ROOT/downloads/NAME            files as they came
    ROOT/downloads/hashes.json     of each: sha256, bytes, where it came from, whether the hash is a published one
    ROOT/downloads/.NAME.part      what has arrived of an interrupted download; the next call goes on from there
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests
from tqdm import tqdm

from ..errors import RunError
from ..files import read_json, write_json

logger = logging.getLogger(__name__)

DOWNLOADS = "downloads"
RECORD = "hashes.json"
TIMEOUT = (15, 60)  # seconds to connect, and without a byte
ATTEMPTS = 3  # at one mirror, each going on where the last broke off
_CHUNK = 1 << 16  # what a broken connection loses at most


@dataclass(frozen=True)
class Download:
    """One file: its name, mirrors in order, and its published hash ("sha256:..." or "md5:...") where one is known."""

    name: str
    urls: tuple[str, ...]
    hash: str | None = None
    size: int | None = None  # bytes, where known; for the message and for free space

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Download:
        """An entry of `data/datasets.json`."""
        return cls(str(entry["name"]), tuple(entry["urls"]), entry.get("hash"), entry.get("size"))


class Resuming:
    """pooch's downloader for HTTP that keeps what arrived, and asks the server for the rest only."""

    def __init__(self, part: Path, label: str) -> None:
        self.part, self.label = part, label

    def __call__(self, url: str, output_file: Any, _pooch: Any, check_only: bool = False) -> None:
        """Download `url`; called by `pooch.retrieve` with a temporary file, which gets the whole content.

        Raises:
            requests.RequestException: the server cannot be reached, refuses, or breaks off.
        """
        validator = self.part.with_name(self.part.name + ".json")
        state = read_json(validator) or {}
        have = self.part.stat().st_size if self.part.exists() and state.get("url") == url else 0
        headers = {"Accept-Encoding": "identity"}  # bytes as they lie there, so that lengths and ranges hold
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": state["tag"]}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416:  # nothing is left to send, or the file shrank
                self.discard()
                raise requests.ConnectionError("what had arrived does not fit; begun anew")
            response.raise_for_status()
            goes_on = response.status_code == 206
            tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
            if tag and not tag.startswith("W/"):
                write_json(validator, {"url": url, "tag": tag})
            else:  # a server that cannot say whether its file is still the same: no resuming
                validator.unlink(missing_ok=True)
            total = int(response.headers.get("Content-Length", 0)) + (have if goes_on else 0)
            self._receive(response, have if goes_on else 0, total)
        os.replace(self.part, output_file)
        self.discard()

    def _receive(self, response: requests.Response, have: int, total: int) -> None:
        bar = tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=self.label, file=sys.stderr)
        with bar, self.part.open("ab" if have else "wb") as file:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if total and self.part.stat().st_size != total:
            raise requests.ConnectionError(f"{self.part.stat().st_size} of {total} bytes arrived")

    def discard(self) -> None:
        """Forget what has arrived."""
        self.part.unlink(missing_ok=True)
        self.part.with_name(self.part.name + ".json").unlink(missing_ok=True)


def fetch(download: Download, root: Path, mirrors: Sequence[str] = ()) -> Path:
    """A file in ROOT/downloads, downloaded unless it is there and has its hash.

    Args:
        download: what to get.
        root: the data folder.
        mirrors: base addresses tried first, under which the file has its own name: a laboratory's own server.

    Returns:
        The file. Its hash is the published one or, where none is known, the one recorded when it first came.

    Raises:
        RunError: no mirror served it; the message lists what each said, and where to put the file by hand.
    """
    folder = root / DOWNLOADS
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".fetch-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    path, record = folder / download.name, read_json(folder / RECORD) or {}
    known = download.hash or (f"sha256:{record[download.name]['sha256']}" if download.name in record else None)
    if path.exists() and (_has_hash(path, known) if known else looks_whole(path)):
        _record(folder, path, "found in place", download.hash)
        return path
    downloader = Resuming(folder / f".{download.name}.part", download.name)
    wrong = f"has another hash than {known}" if known else "is no whole file of its kind"
    said = [f"{path} {wrong}"] if path.exists() else []
    for url in [*(f"{base.rstrip('/')}/{download.name}" for base in mirrors), *download.urls]:
        problem = _try(url, path, known, downloader)
        if problem is None:
            _record(folder, path, url, download.hash)
            return path
        said.append(f"{url}: {problem}")
        logger.warning("%s: %s", url, problem)
    raise RunError(_by_hand(download, path, known, said))


def _try(url: str, path: Path, known: str | None, downloader: Resuming) -> str | None:
    """Download from one mirror; what went wrong, or None."""
    problem = ""
    for _ in range(ATTEMPTS):
        before = downloader.part.stat().st_size if downloader.part.exists() else 0
        try:
            pooch.get_logger().setLevel(logging.WARNING)  # its advice on hashes is followed here already
            # To a name of its own first: a file in place is replaced by a whole one only.
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as fresh:
                arrived = Path(pooch.retrieve(url, known, fname=path.name, path=fresh, downloader=downloader))
                if not looks_whole(arrived):
                    return "what it sent is no whole file of this kind (a page that says sorry?)"
                os.replace(arrived, path)
            return None
        except requests.HTTPError as error:
            return f"HTTP status {error.response.status_code if error.response is not None else 'unknown'}"
        except requests.RequestException as error:
            answered = downloader.part.exists()
            problem = f"{'broke off' if answered else 'no answer'} ({type(error).__name__})"
        except ValueError as error:  # pooch: another hash than expected
            return str(error).split(". ")[0]
        after = downloader.part.stat().st_size if downloader.part.exists() else 0
        if not downloader.part.with_name(downloader.part.name + ".json").exists():
            downloader.discard()  # cannot be resumed
        elif after <= before:
            break  # no byte came: this mirror is down
    return problem


def looks_whole(path: Path) -> bool:
    """Whether a file is what its name promises, to its end: what can be told where no hash is known.

    Of a zip archive the list of contents, which is at the end; its sums are checked when it is unpacked.
    """
    kind = "".join(path.suffixes[-2:])
    with path.open("rb") as file:
        start, length = file.read(4), file.seek(0, os.SEEK_END)
        file.seek(max(0, length - 64))
        end = file.read().rstrip()
    if kind.endswith(".zip"):
        return zipfile.is_zipfile(path)
    if kind.endswith((".tar.gz", ".tgz", ".tar")):
        return _tar_is_whole(path)
    if kind.endswith(".parquet"):
        return start == b"PAR1" and end.endswith(b"PAR1")
    if kind.endswith(".json"):
        try:
            return isinstance(json.loads(path.read_bytes()), list | dict)  # one cut off behind a "}" ends well too
        except (ValueError, RecursionError):
            return False
    return length > 0


def _tar_is_whole(path: Path) -> bool:
    """Whether a tar archive can be read to its end, where a compressed one has its sum."""
    try:
        with tarfile.open(path) as archive:
            for _ in archive:
                pass
            while archive.fileobj and archive.fileobj.read(1 << 20):
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError):
        return False
    return True


def _has_hash(path: Path, known: str) -> bool:
    algorithm, _, digest = known.rpartition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm or "sha256").hexdigest() == digest.lower()


def _record(folder: Path, path: Path, origin: str, published: str | None) -> None:
    """Note a file's hash beside it, once."""
    record = read_json(folder / RECORD) or {}
    size = path.stat().st_size
    if record.get(path.name, {}).get("bytes") == size and origin == "found in place":
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    entry = {"sha256": digest, "bytes": size, "from": origin, "checked_against": published or "nothing: first use"}
    write_json(folder / RECORD, {**record, path.name: entry})


def forget(root: Path, name: str) -> None:
    """Unbind a file from the hash of its first use, which a damaged file had; a published hash still binds."""
    place = root / DOWNLOADS / RECORD
    record = read_json(place) or {}
    if record.pop(name, None) is not None:
        write_json(place, record)


def _by_hand(download: Download, path: Path, known: str | None, said: Sequence[str]) -> str:
    size = f", {download.size / 1e9:.2f} GB" if download.size else ""
    lines = [f"{download.name} could not be downloaded:", *(f"  {line}" for line in said)]
    check = f"its hash should be {known}" if known else "its hash is not known here and will be noted"
    lines.append(f"Get it elsewhere, put it at {path}{size}, and call this again; {check}.")
    return "\n".join(lines)
