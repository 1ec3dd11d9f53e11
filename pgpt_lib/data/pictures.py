"""Pictures of every data set under one root, by key: `coco/154`, `flickr30k/1000092795`, `visual_genome/2407890`.

    ROOT/images/train2014/COCO_train2014_000000000154.jpg     COCO, in any of its years and layouts
    ROOT/flickr30k/images/1000092795.jpg
    ROOT/visual_genome/VG_100K/2407890.jpg, or VG_100K_2
    ROOT/llava/images/00453/004539375.jpg                      LLaVA's pictures that are none of COCO

A COCO photograph has the same key in every data set that uses it, so that its features are computed and cached once,
and `leakage` can tell that a training picture is one of a test split.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from .images import read_image

COCO_FOLDERS = ("train2014", "val2014", "train2017", "val2017", "test2015")
_COCO_NAME = re.compile(r"(?:^|/)(?:COCO_(?:train|val|test)20\d\d_)?(\d{12})\.(?:jpg|jpeg|png)$")
_FOLDERS = {
    "flickr30k": ("flickr30k/images", "flickr30k/flickr30k-images", "flickr30k/flickr30k_images"),
    "visual_genome": ("visual_genome/VG_100K", "visual_genome/VG_100K_2", "visual_genome/images"),
    "llava": ("llava/images",),
}


def coco_key(number: int | str) -> str:
    """The key of a COCO photograph."""
    return f"coco/{int(number)}"


def coco_number(name: str) -> int | None:
    """The number in a COCO file's name, of 2014 (`COCO_train2014_000000000154.jpg`) or 2017; None for other names."""
    found = _COCO_NAME.search(name)
    return int(found[1]) if found else None


class Pictures:
    """Pictures below a root, opened when they are asked for."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, key: str) -> Path:
        """Where a picture lies.

        Raises:
            InputError: an unknown kind of key, or no such file; the message says where it was looked for.
        """
        places = self._places(key)
        for place in places:
            if place.is_file():
                return place
        looked = ", ".join(str(place.relative_to(self.root)) for place in places)
        raise InputError(f"no picture {key!r} in {self.root}; looked for {looked}")

    def load_image(self, image_id: str) -> np.ndarray:
        """The picture, uint8 (height, width, 3), RGB."""
        return read_image(self.path(image_id))

    def size(self, key: str) -> tuple[int, int]:
        """(height, width) in pixels, from the file's header alone."""
        path = self.path(key)
        try:
            with Image.open(path) as image:
                return image.height, image.width
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a picture: {error}") from None

    def _places(self, key: str) -> list[Path]:
        kind, _, name = key.partition("/")
        if kind == "coco" and name.isdigit():
            plain, images = f"{int(name):012d}.jpg", self.root / "images"
            named = {f: plain if f.endswith("2017") else f"COCO_{f}_{plain}" for f in COCO_FOLDERS}
            return [*(images / f / n for f, n in named.items()), *(images / n for n in dict.fromkeys(named.values()))]
        if kind in _FOLDERS and name and ".." not in Path(name).parts:
            suffixed = name if kind == "llava" else f"{name}.jpg"
            return [self.root / folder / suffixed for folder in _FOLDERS[kind]]
        raise InputError(f"{key!r} names no picture; keys look like coco/154, {', '.join(f'{k}/…' for k in _FOLDERS)}")
