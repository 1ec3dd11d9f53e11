"""A bounded store on disk of what a frozen tower says about each image, so that an image is encoded once.

One folder a tower: `features.bf16` holds rows of raw bfloat16 [L, N, C], `index.tsv` a line `CRC-32 of the pixels, id`
for each row. Both only grow: data first, then the line, so a process killed at any point leaves a store that goes on.
Rows are read through a memory map. DINOv2-S/14 at 112 pixels takes 590 KB an image.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from .backbones.wheels import bytes_below
from .data.sample import Images
from .errors import InputError
from .placement import letterboxed
from .vision import VisionTower

MIN_BYTES, MAX_BYTES = 12 * 2**30, 20 * 2**30  # 21,000 and 36,000 images of DINOv2-S/14 at 112 pixels


def default_bound(folder: Path) -> int:
    """Bytes that the stores in a folder may take by default: up to half of the room there, from 12 to 20 GiB.

    The room is what is free on the folder's disk and what the stores hold already.
    """
    disk = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    room = shutil.disk_usage(disk).free + (bytes_below(folder) if folder.is_dir() else 0)
    return max(MIN_BYTES, min(MAX_BYTES, room // 2))


class FeatureCache:
    """Features of one tower, by image id.

    An id must name its pixels for good (data set, level, split, seed and index, say). As a guard, three images of each
    request are compared with the checksums of what was encoded under their ids, and the store is made anew if they
    differ.

    Args:
        tower: the frozen tower.
        folder: holds the stores of all towers.
        max_bytes: bound on the size of all stores in `folder`, by default `default_bound`. Those of other towers,
            longest unused first, give way.
        batch_size: images a forward pass. Short batches are padded to it, so that a row does not depend on its company.
    """

    def __init__(self, tower: VisionTower, folder: Path, max_bytes: int | None = None, batch_size: int = 16) -> None:
        self.tower, self.folder, self.batch_size = tower, Path(folder), batch_size
        self.max_bytes = default_bound(self.folder) if max_bytes is None else max_bytes
        self.shape = (tower.num_layers, tower.num_tokens, tower.hidden_size)
        self.row_bytes = 2 * math.prod(self.shape)
        self.store = self.folder / f"{Path(tower.name).name}-{tower.image_size}-{tower.digest()}"
        self.data, self.index = self.store / "features.bf16", self.store / "index.tsv"
        self._rows: dict[str, int] = {}
        self._checksums: list[int] = []
        self._map: Tensor | None = None

    def features(self, image_ids: Sequence[str], load_image: Callable[[str], np.ndarray], progress: bool = True) -> int:
        """Make sure that the features of these images are stored.

        Args:
            image_ids: the images; repeated ones are encoded once.
            load_image: an id to its picture, uint8 [S, S, 3] at the tower's input size.
            progress: show a progress bar on standard error.

        Returns:
            How many images were encoded, the others were there.

        Raises:
            InputError: the images do not fit into `max_bytes` or on the disk, an id holds a line break, or a picture
                has the wrong size.
        """
        wanted = list(dict.fromkeys(image_ids))
        if bad := next((name for name in wanted if "\n" in name or "\r" in name), None):
            raise InputError(f"image id {bad!r} holds a line break; the feature cache cannot store it")
        self.store.mkdir(parents=True, exist_ok=True)
        self._open()
        if all(name in self._rows for name in wanted) and not self._stale(wanted, load_image):
            os.utime(self.store)
            return 0  # without waiting for a process that is encoding other images
        with self._locked():
            self._open()
            if stale := self._stale(wanted, load_image):
                print(f"features: image {stale} is not the one in {self.store}; encoding anew", file=sys.stderr)
                self._drop()
            missing = [name for name in wanted if name not in self._rows]
            if missing:
                self._make_room(wanted, missing)
                missing = [name for name in wanted if name not in self._rows]
                self._encode(missing, load_image, progress)
                self._open()
            os.utime(self.store)  # the time of last use, for eviction
        return len(missing)

    def rows(self, image_ids: Sequence[str]) -> Tensor:
        """The features of images that `features` has seen: bfloat16 [I, L, N, C], a copy.

        Raises:
            InputError: an image has no features.
        """
        if self._map is None:
            self._open()
        unknown = [name for name in image_ids if name not in self._rows]
        if unknown or self._map is None:
            raise InputError(
                f"{len(unknown)} images have no features in {self.store}, as {unknown[:1]}; call features() first"
            )
        return self._map.index_select(0, torch.tensor([self._rows[name] for name in image_ids], dtype=torch.long))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer a store, among all processes."""
        lock = FileLock(self.folder / f".{self.store.name}.lock")
        try:
            lock.acquire(timeout=2)
        except Timeout:
            print(f"features: waiting for another process that is encoding into {self.store}", file=sys.stderr)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _open(self) -> None:
        """Read the index, forget torn ends, map the rows."""
        rows: dict[str, int] = {}
        checksums: list[int] = []
        stored = self.data.stat().st_size // self.row_bytes if self.data.is_file() else 0
        lines = self.index.read_text(encoding="utf-8").split("\n")[:-1] if self.index.is_file() else []
        for line in lines[:stored]:
            checksum, name = line.split("\t", 1)
            rows[name] = len(checksums)
            checksums.append(int(checksum))
        self._rows, self._checksums = rows, checksums
        self._map = None
        if checksums:
            shape = (len(checksums), *self.shape)
            flat = torch.from_file(str(self.data), shared=False, size=math.prod(shape), dtype=torch.bfloat16)
            self._map = flat.view(shape)

    def _drop(self) -> None:
        """Start the store anew. Files are unlinked, not emptied: a reader's map stays whole."""
        self.index.unlink(missing_ok=True)
        self.data.unlink(missing_ok=True)
        self._open()

    def _stale(self, wanted: list[str], load_image: Callable[[str], np.ndarray]) -> str | None:
        """One of these images whose stored features are of another picture; only a few are looked at."""
        known = [name for name in wanted if name in self._rows]
        probes = dict.fromkeys((known[0], known[len(known) // 2], known[-1])) if known else {}
        return next((n for n in probes if _checksum(load_image(n)) != self._checksums[self._rows[n]]), None)

    def _make_room(self, wanted: list[str], missing: list[str]) -> None:
        """Bound the folder: other towers' stores go first, then this one's rows that are not wanted now."""
        if len(wanted) * self.row_bytes > self.max_bytes:
            raise InputError(
                f"features of {len(wanted)} images take {len(wanted) * self.row_bytes / 2**30:.2f} GiB, more than "
                f"max_bytes {self.max_bytes / 2**30:.2f} GiB; use fewer images, a smaller image_size or a larger bound"
            )
        others = [path for path in self.folder.iterdir() if path.is_dir() and path != self.store]
        excess = bytes_below(self.folder) + len(missing) * self.row_bytes - self.max_bytes
        for victim in sorted(others, key=lambda path: path.stat().st_mtime):
            if excess > 0:
                # unless another process is writing it
                with suppress(Timeout), FileLock(self.folder / f".{victim.name}.lock", timeout=0):
                    print(f"features: removing {victim}, the longest unused, to stay below max_bytes", file=sys.stderr)
                    excess -= bytes_below(victim)
                    shutil.rmtree(victim)
        if excess > 0:
            print(f"features: {self.store} is full; keeping only what is asked for now", file=sys.stderr)
            self._drop()
            missing = wanted
        free = shutil.disk_usage(self.folder).free
        if len(missing) * self.row_bytes > free:
            raise InputError(
                f"features of {len(missing)} images take {len(missing) * self.row_bytes / 2**30:.2f} GiB, but the disk "
                f"of {self.folder} has {free / 2**30:.2f} GiB free; free some, or set PGPT_CACHE to a folder elsewhere"
            )

    def _encode(self, missing: list[str], load_image: Callable[[str], np.ndarray], progress: bool) -> None:
        live = sys.stderr.isatty()
        with (
            self.data.open("ab") as data,
            self.index.open("ab") as index,
            tqdm(
                total=len(missing),
                desc=f"encoding images with {self.tower.name}",
                unit="image",
                file=sys.stderr,
                mininterval=0.5 if live else 15,
                disable=not progress,
            ) as bar,
        ):
            # cut off what a killed process left half written
            data.truncate(len(self._checksums) * self.row_bytes)
            lines = [f"{checksum}\t{name}\n" for name, checksum in zip(self._rows, self._checksums, strict=True)]
            index.truncate(sum(len(line.encode()) for line in lines))
            for start in range(0, len(missing), self.batch_size):
                names = missing[start : start + self.batch_size]
                images = [load_image(name) for name in names]
                padded = images + [images[-1]] * (self.batch_size - len(images))
                encoded = self.tower(self.tower.preprocess(padded))[: len(images)]
                data.write(encoded.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().data)
                data.flush()
                for name, image in zip(names, images, strict=True):
                    index.write(f"{_checksum(image)}\t{name}\n".encode())
                index.flush()
                bar.update(len(names))


class StoredFeatures:
    """Hands out features by image id, encoding those that no process has encoded before.

    Takes the place of `evaluation.predictions.TowerFeatures` where many processes score on the same images.

    Args:
        cache: holds them on disk.
        images: hands out the pictures.
    """

    def __init__(self, cache: FeatureCache, images: Images) -> None:
        self.cache, self.images = cache, images
        self._stored: set[str] = set()

    def __call__(self, image_ids: Sequence[str]) -> Tensor:
        """Hidden states [I, L, N, C] of I images, in their order; bfloat16."""
        if missing := [name for name in image_ids if name not in self._stored]:
            self.cache.features(missing, self._square, progress=False)
            self._stored.update(missing)
        return self.cache.rows(image_ids)

    def _square(self, image_id: str) -> np.ndarray:
        return letterboxed(self.images.load_image(image_id), self.cache.tower.image_size)


def _checksum(image: np.ndarray) -> int:
    """The CRC-32 of a picture's pixels."""
    return zlib.crc32(np.ascontiguousarray(image).data)
