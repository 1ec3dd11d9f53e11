"""Real photographs without a download: pictures from scikit-image's wheel, expressions, boxes and masks of our own.

`data/photos` holds the annotations in the REFER layout, without pictures. `materialise` puts both into a folder of the
cache that `RefCOCO` reads like any other. Credits are in `data/photos/README.md`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from ..backbones.resolver import cache_dir
from ..errors import RunError
from ..project import ROOT

PHOTOS = ROOT / "data" / "photos"
ANNOTATIONS = ("refcoco/instances.json", "refcoco/refs(unc).json", "captions_train2014.json")

# Calibration of the stereo pair, as scikit-image documents it for `stereo_motorcycle` (Middlebury 2014).
FOCAL_LENGTH = 994.978  # pixels
BASELINE = 0.193001  # metres
OFFSET = 31.086  # pixels between the principal points


def names() -> tuple[str, ...]:
    """The photographs that have annotations, such as `astronaut`."""
    images = json.loads((PHOTOS / ANNOTATIONS[0]).read_text(encoding="utf-8"))["images"]
    return tuple(Path(image["file_name"]).stem for image in images)


def load_photo(name: str) -> np.ndarray:
    """A photograph by its name in scikit-image: uint8 (height, width, 3), RGB.

    Raises:
        RunError: scikit-image's wheel lacks it, or has another picture under its name.
    """
    from skimage import data  # lazily: scoring and training on other data do without it

    try:
        image = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    except (AttributeError, FileNotFoundError, OSError) as error:
        raise RunError(f"scikit-image has no photograph {name!r}: {error}; install scikit-image 0.26") from error
    image = np.asarray(image, dtype=np.uint8)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]


@cache
def motorcycle_depth() -> np.ndarray:
    """True depth of the photograph `motorcycle`, from its stereo disparity.

    Returns:
        float64 (500, 741): 0 at the nearest measured point, 1 at the farthest; NaN where nothing was measured.
    """
    from skimage import data

    disparity = np.asarray(data.stereo_motorcycle()[2], dtype=np.float64)
    metres = FOCAL_LENGTH * BASELINE / (np.where(np.isfinite(disparity), disparity, np.nan) + OFFSET)
    nearest, farthest = np.nanmin(metres), np.nanmax(metres)
    return (metres - nearest) / (farthest - nearest)


def region_depth(mask: np.ndarray) -> float:
    """Median depth, in [0, 1], of a mask (height, width) on `motorcycle`."""
    return float(np.nanmedian(motorcycle_depth()[mask > 0]))


def materialise(folder: Path | None = None) -> Path:
    """Write pictures and annotations in the REFER layout, once, and return the folder to give as `root`.

    Args:
        folder: by default one in the cache, named after the annotations' content.

    Raises:
        RunError: a photograph is missing, or its size differs from the annotated one.
    """
    texts = [(PHOTOS / name).read_bytes() for name in ANNOTATIONS]
    folder = folder or cache_dir() / "photos" / hashlib.sha256(b"".join(texts)).hexdigest()[:12]
    if (folder / "COMPLETE").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".photos-", dir=folder.parent))
    try:
        for name, text in zip(ANNOTATIONS, texts, strict=True):
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_bytes(text)
        (fresh / "images" / "train2014").mkdir(parents=True)
        for image in json.loads(texts[0])["images"]:
            pixels = load_photo(Path(image["file_name"]).stem)
            if pixels.shape[:2] != (image["height"], image["width"]):
                raise RunError(
                    f"{image['file_name']} is {pixels.shape[:2]}, annotated as "
                    f"{(image['height'], image['width'])}; install scikit-image 0.26"
                )
            Image.fromarray(pixels).save(fresh / "images" / "train2014" / image["file_name"])
        (fresh / "COMPLETE").touch()
        if folder.exists():  # left half-written by a copy, or another process was faster
            shutil.rmtree(folder) if not (folder / "COMPLETE").exists() else None
        if not folder.exists():
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder
