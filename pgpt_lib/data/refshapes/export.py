"""RefShapes on disk, in the layouts that RefCOCO and gRefCOCO have: one reader each reads both."""

from __future__ import annotations

import io
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import InputError
from ...files import read_json, write_bytes, write_json
from ...regions import mask_to_rle
from . import entries
from .levels import SHAPES, Level, get_level
from .render import masks, render
from .scene import Scene, Thing, make_scene
from .tasks import scene_regions
from .world import WRITTEN

CROSS = ((1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1))
_TENTHS = tuple(split for split, places in WRITTEN.items() for _ in places)


def write_refshapes(root: Path, scenes: int, seed: int, level: str = "cpu") -> dict:
    """Write pictures, annotations, expressions, captions, questions, dialogues and `world.json`.

    Of ten scenes seven are train's, one val's, one testA's and one testB's (both together are RefCOCOg's test). Numbers
    of pictures and sentences do not depend on how many scenes there are. docs/results.md says what stands where.

    Returns:
        what `world.json` says.

    Raises:
        InputError: an unknown level, fewer than one scene, a seed below 0, or a root that is a file.
    """
    settings = get_level(level)
    if scenes < 1:
        raise InputError(f"--scenes is {scenes}; scenes must be at least 1")
    if seed < 0:
        raise InputError(f"--seed is {seed}; it must be at least 0")
    if root.exists() and not root.is_dir():
        raise InputError(f"--root {root} is a file; name a folder")
    seen: Counter[str] = Counter()
    made: list[Scene] = []
    for index in range(scenes):
        split = _TENTHS[index % 10]
        made.append(make_scene(settings, split, seed, seen[split]))
        seen[split] += 1
    images, annotations = _instances(made)
    numbers = entries.Numbers.of(made)
    pictures = root / "images" / "train2014"
    _remove_earlier(root, pictures, keep={image["file_name"] for image in images})
    for scene in made:
        write_bytes(pictures / f"{scene.image_id}.png", _png(render(scene)))
    categories = [{"id": i + 1, "name": shape, "supercategory": "shape"} for i, shape in enumerate(SHAPES)]
    instances = {"images": images, "annotations": annotations, "categories": categories}
    world: dict = {
        "level": _level(settings),
        "seed": seed,
        "scenes": scenes,
        "statistics": _statistics(made),
        "expressions": {},
    }
    for dataset, by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")):
        refs = entries.refs(dataset, seed, level, seen, numbers)
        write_json(root / dataset / "instances.json", instances)
        write_bytes(root / dataset / f"refs({by}).p", pickle.dumps(refs, protocol=2))
        world["expressions"][dataset] = dict(Counter(ref["split"] for ref in refs))
    grefs = entries.grefs(made, numbers)
    write_json(root / "grefcoco" / "instances.json", instances)
    write_json(root / "grefcoco" / "grefs(unc).json", grefs)
    world["expressions"]["grefcoco"] = dict(Counter(ref["split"] for ref in grefs))
    captions, asked = entries.texts(made, numbers)
    write_json(root / "captions.json", {"images": images, "annotations": captions})
    write_json(root / "questions.json", {"questions": asked})
    world["questions"] = dict(Counter(entry["question_type"] for entry in asked))
    dialogues = entries.dialogues(made, numbers)
    write_json(root / "dialogues.json", {"dialogues": dialogues})
    world["dialogues"] = dict(Counter(entry["task"] for entry in dialogues))
    write_json(root / "world.json", world)
    return world


def _remove_earlier(root: Path, pictures: Path, keep: set[str]) -> None:
    """Remove the pictures of another world that was written here before: those that its own annotations name."""
    if not (root / "world.json").is_file():
        return
    listing = read_json(root / "refcoco" / "instances.json") or {}
    for name in {image["file_name"] for image in listing.get("images", [])} - keep:
        (pictures / Path(name).name).unlink(missing_ok=True)


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _instances(scenes: list[Scene]) -> tuple[list[dict], list[dict]]:
    images: list[dict] = []
    annotations: list[dict] = []
    for number, scene in enumerate(scenes, 1):
        size = scene.level.image_size
        images.append({"id": number, "file_name": f"{scene.image_id}.png", "height": size, "width": size})
        for thing, bitmap, region in zip(scene.things, masks(scene), scene_regions(scene), strict=True):
            x0, y0, x1, y1 = thing.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": SHAPES.index(thing.shape) + 1,
                    "iscrowd": 0,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": thing.area,
                    "segmentation": _segmentation(thing, bitmap),
                    "depth": region.depth,
                    "attributes": {
                        "colour": thing.colour,
                        "size": thing.size,
                        "material": thing.material,
                        "side": thing.side,
                        "layer": thing.layer,
                    },
                }
            )
    return images, annotations


def _segmentation(thing: Thing, bitmap: np.ndarray) -> list | dict:
    """A polygon where one is exact: whole squares and crosses; else run lengths."""
    x0, y0, x1, y1 = thing.box
    if thing.area == int(np.count_nonzero(thing.template())):
        if thing.shape == "square":
            return [[x0, y0, x1, y0, x1, y1, x0, y1]]
        if thing.shape == "cross":
            rows = _steps(bitmap[y0:y1, x0:x1])
            return [[c for i, j in CROSS for c in (x0 + rows[i], y0 + rows[j])]]
    return mask_to_rle(bitmap)


def _steps(cross: np.ndarray) -> tuple[int, int, int, int]:
    """Where the arms of a cross begin and end along its side."""
    arm = np.flatnonzero(cross[0])
    return 0, int(arm[0]), int(arm[-1]) + 1, cross.shape[1]


def _level(level: Level) -> dict:
    return {
        "name": level.name,
        "image_size": level.image_size,
        "objects": list(level.objects),
        "side_bands_px": [list(b) for b in level.bands],
        "hidden_at_most_percent": level.hidden,
        "box_overlap_at_most_percent": level.overlap,
        "shape_repeated_percent": level.repeat_shape,
        "colour_repeated_percent": level.repeat_colour,
        "striped_percent": level.striped,
    }


def _statistics(scenes: list[Scene]) -> dict:
    """What the scenes hold: objects, distractors of the same shape, occlusion, sizes."""
    things = [thing for scene in scenes for thing in scene.things]
    size = scenes[0].level.image_size
    sides = np.array([((t.box[2] - t.box[0]) * (t.box[3] - t.box[1])) ** 0.5 / size for t in things])
    hidden = [1 - t.area / np.count_nonzero(t.template()) for t in things]
    twins = [max(Counter(t.shape for t in scene.things).values()) >= 2 for scene in scenes]
    return {
        "objects": len(things),
        "objects_a_scene": dict(sorted(Counter(str(len(s.things)) for s in scenes).items())),
        "scenes_with_two_of_a_shape": sum(twins),
        "objects_partly_hidden": int(sum(h > 0 for h in hidden)),
        "mean_share_hidden": float(np.mean(hidden)),
        "side_quantiles": {q: float(np.quantile(sides, float(q))) for q in ("0.05", "0.5", "0.9")},
    }
