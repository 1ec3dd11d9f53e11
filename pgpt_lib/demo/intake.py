"""The demo's pictures: scenes, photographs, and whatever a person uploads."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..commands.ask import FORMATS, open_picture, refusing
from ..data.photos import ANNOTATIONS, PHOTOS, load_photo, names
from ..data.phrasings import held_out_phrasing
from ..data.refshapes.tasks import scene_regions
from ..data.refshapes.world import RefShapesImages, image_id, rec_samples, scene_of
from ..errors import InputError
from ..regions import Region

MAX_BYTES = 64 * 2**20
SCENES = 6  # offered, all of the split `val`, which no training sees
ABOUT_REGION = ("region_caption", "region_colour", "region_shape")


@dataclass(frozen=True)
class Picture:
    """A picture to ask about.

    Attributes:
        name: what a person calls it.
        pixels: uint8 (height, width, 3), RGB, upright.
        objects: regions that a click can mean; empty for an upload.
        questions: what one may ask about it.
        note: what was done to an upload that was not plain RGB of 8 bits; empty otherwise.
        drawn: whether it is a scene of RefShapes.
    """

    name: str
    pixels: np.ndarray
    objects: tuple[Region, ...] = ()
    questions: tuple[str, ...] = ()
    note: str = ""
    drawn: bool = False


def questions_about_regions() -> tuple[str, ...]:
    """Questions in which `<vis>` stands for the region that is drawn or clicked."""
    return tuple(held_out_phrasing(task) for task in ABOUT_REGION)


def pictures(level: str, seed: int = 0) -> dict[str, Callable[[], Picture]]:
    """The pictures on offer by name, made when asked for.

    Args:
        level: RefShapes' level of difficulty, best the one that the model was trained on.
        seed: of the scenes.
    """
    offered: dict[str, Callable[[], Picture]] = {}
    offered |= {f"scene {i + 1}": partial(_scene, f"scene {i + 1}", level, seed, i) for i in range(SCENES)}
    offered |= {f"photograph {name}": partial(_photo, name) for name in names()}
    return offered


def read_upload(name: str, data: bytes) -> Picture:
    """An uploaded file as a picture, judged by its content, whatever its name ends with.

    Raises:
        InputError: empty, no picture, damaged, over 50 megapixels, or over 64 MB.
    """
    shown = Path(name.replace("\\", "/")).name or "the file"
    if len(data) > MAX_BYTES:
        raise InputError(f"{shown} has {len(data) / 2**20:.0f} MB, over {MAX_BYTES // 2**20} MB; scale it down first")
    pixels = open_picture(io.BytesIO(data), shown)
    return Picture(shown, pixels, questions=_general_questions(), note=_note(shown, data))


def _note(name: str, data: bytes) -> str:
    """What a person should know about how a file was read."""
    from PIL import Image

    said = []
    with refusing(name), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        frames, mode, kind = getattr(image, "n_frames", 1), image.mode, image.format or ""
    ending = Path(name).suffix.lower()
    meant = Image.registered_extensions().get(ending, "")
    if ending and meant != kind and {meant, kind} != {"JPEG", "MPO"}:
        said.append(f"by its content it is a {kind} file, whatever its name says")
    if frames > 1:
        said.append(f"of its {frames} frames the first is taken")
    if mode == "CMYK":
        said.append("its CMYK colours were converted to RGB")
    if mode[0] in "IF":
        said.append("its values were scaled to 8 bits")
    return f"{name}: {'; '.join(said)}." if said else ""


def _general_questions() -> tuple[str, ...]:
    return tuple(held_out_phrasing(task) for task in ("caption", "spot_caption"))


def _scene(name: str, level: str, seed: int, index: int) -> Picture:
    """A scene of the split `val`, with questions that its objects answer."""
    asked = [
        s.turns[0].text
        for s in rec_samples("refcoco", "val", index + 1, seed, level)
        if s.image_id == image_id(level, "val", seed, index)
    ]
    key = image_id(level, "val", seed, index)
    pixels, regions = RefShapesImages().load_image(key), scene_regions(scene_of(key))
    return Picture(name, pixels, regions, (*asked[:4], *_general_questions()), drawn=True)


def _photo(name: str) -> Picture:
    """A photograph of scikit-image with the project's annotations."""
    pixels = load_photo(name)
    height, width = pixels.shape[:2]
    instances = json.loads((PHOTOS / ANNOTATIONS[0]).read_text(encoding="utf-8"))
    refs = json.loads((PHOTOS / "refcoco" / "refs(unc).json").read_text(encoding="utf-8"))
    [key] = [image["id"] for image in instances["images"] if Path(image["file_name"]).stem == name]
    marked = [a for a in instances["annotations"] if a["image_id"] == key]
    regions = tuple(Region.from_coco(a["bbox"], a["segmentation"], height, width) for a in marked)
    said = [ref["sentences"][0]["sent"] for ref in refs if ref["image_id"] == key]
    said = [words.removeprefix("the ") for words in said if words.startswith("the ")]  # the phrasing adds its own
    asked = [held_out_phrasing("rec").replace("{x}", words) for words in said]
    return Picture(f"photograph {name}", pixels, regions, (*asked[:4], *_general_questions()))
