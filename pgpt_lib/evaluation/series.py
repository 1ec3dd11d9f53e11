"""The evaluations of notebook 06: which data sets and tasks a profile's model is scored on, and under which names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..config import Profile
from ..data.photo_stream import open_photos
from ..data.refshapes.world import SPLITS, RefShapesImages
from ..data.sample import Images, Sample
from .checkpoint import refshapes_samples
from .scores import Evaluation, evaluate

if TYPE_CHECKING:
    from ..model import PerceptionGPT

MAIN = "refshapes-refcoco/val"
PHOTOS = ("photos/train", "photos/unseen")


def evaluation_sets(profile: Profile, seed: int, scenes: int | None = None) -> dict[str, tuple[list[Sample], Images]]:
    """Samples and pictures by name: `refshapes-<style>/<split>` or `photos/train` and `photos/unseen`.

    The first one of RefShapes holds every task, the others referring expressions only, on half as many scenes.

    Args:
        profile: names the data.
        seed: of RefShapes' scenes.
        scenes: in place of `profile.data.eval_scenes`.
    """
    if profile.data.name == "refer":
        photos = open_photos(profile.data.root)
        return {PHOTOS[0]: (photos.train, photos), PHOTOS[1]: (photos.unseen, photos)}
    count, level, images = scenes or profile.data.eval_scenes, profile.data.level, RefShapesImages()
    sets: dict[str, tuple[list[Sample], Images]] = {}
    for dataset, splits in SPLITS.items():
        for split in splits:
            name = f"refshapes-{dataset}/{split}"
            if name == MAIN:
                sets[name] = refshapes_samples(dataset, split, count, seed, level), images
            elif split != "train":
                sets[name] = refshapes_samples(dataset, split, max(1, count // 2), seed, level, ["rec"]), images
    return sets


def evaluate_series(
    model: PerceptionGPT, sets: Mapping[str, tuple[list[Sample], Images]]
) -> Iterator[tuple[str, Evaluation]]:
    """Each set's name with its scores and answers, one after the other."""
    for name, (samples, images) in sets.items():
        yield name, evaluate(model, samples, images)


def functions_shown(metrics: Mapping[str, Any], threshold: float = 0.5) -> dict[str, bool]:
    """Table 1 by measurement: a function counts as supported where its own score is above `threshold`.

    Args:
        metrics: of a set with every task.
    """

    def above(*path: str) -> bool:
        value: Any = metrics
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value is not None and value[0] > threshold

    return {
        "Image Caption": above("caption", "cider"),
        "Region Caption": above("region_caption", "box"),
        "Bounding Box": above("acc@0.5"),
        "Segmentation": above("ciou"),
        "Multi-Instance Segmentation": above("several", "merged_iou"),
        "End-to-End": True,  # by construction: no other vision expert is asked
    }
