"""The evaluations of notebook 06: which data sets and tasks a profile's model is scored on, and under which names."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Profile
from ..data.benchmarks import TUNED_ON, present_benchmarks
from ..data.photo_stream import open_photos
from ..data.refshapes.world import SPLITS, RefShapesImages
from ..errors import InputError
from .benchmark_sets import EvaluationSet, benchmark_set
from .checkpoint import refshapes_samples
from .scores import Evaluation, evaluate

if TYPE_CHECKING:
    from ..model import PerceptionGPT

MAIN = "refshapes-refcoco/val"
PHOTOS = ("photos/train", "photos/unseen")
TABLE5 = {"vqav2/val": "VQAv2", "okvqa/val": "OK-VQA", "flickr30k/test": "Flickr30k", "coco/test": "COCO"}


def evaluation_sets(profile: Profile, seed: int, scenes: int | None = None) -> dict[str, EvaluationSet]:
    """Samples and pictures by name: `refshapes-<style>/<split>`, `photos/train` and `photos/unseen`, or benchmarks.

    The first one of RefShapes holds every task, the others referring expressions only, on half as many scenes. A
    profile that trains on a mixture is scored on the official splits of Tables 2, 3 and 5 that its root holds, whole.

    Args:
        profile: names the data.
        seed: of RefShapes' scenes.
        scenes: in place of `profile.data.eval_scenes`; of a benchmark the first so many pictures.

    Raises:
        InputError: no root for a mixture, none of the benchmarks in it, or damaged files.
    """
    if profile.data.name == "refer":
        photos = open_photos(profile.data.root)
        return {PHOTOS[0]: EvaluationSet(photos.train, photos), PHOTOS[1]: EvaluationSet(photos.unseen, photos)}
    if profile.data.name == "mixture":
        if profile.data.root is None:
            raise InputError(f"profile {profile.name} is scored on the paper's data sets: give their folder, --root")
        root = profile.data.root
        return {name: benchmark_set(name, root, scenes) for name in present_benchmarks(root)}
    count, level, images = scenes or profile.data.eval_scenes, profile.data.level, RefShapesImages()
    sets: dict[str, EvaluationSet] = {}
    for dataset, splits in SPLITS.items():
        for split in splits:
            name = f"refshapes-{dataset}/{split}"
            if name == MAIN:
                sets[name] = EvaluationSet(refshapes_samples(dataset, split, count, seed, level), images)
            elif split != "train":
                samples = refshapes_samples(dataset, split, max(1, count // 2), seed, level, ["rec"])
                sets[name] = EvaluationSet(samples, images)
    return sets


def evaluate_series(model: PerceptionGPT, sets: Mapping[str, EvaluationSet]) -> Iterator[tuple[str, Evaluation]]:
    """Each set's name with its scores and answers, one after the other."""
    for name, chosen in sets.items():
        done = evaluate(model, chosen.samples, chosen.images)
        yield name, Evaluation({**done.metrics, **chosen.own_scores(done.predictions)}, done.predictions)


def tuned_series(
    checkpoint: Path, out: Path, sets: Mapping[str, EvaluationSet], steps: int, seed: int, processes: int = 0
) -> Iterator[tuple[str, Evaluation]]:
    """As `evaluate_series`, each data set after a fine-tune on its training split (paper, section 4.3).

    RefShapes and photographs have no such fine-tunes; they are left out. Where there are several accelerators, and the
    profile trains through accelerate (`budget.launch`), its fine-tunes do so too; the scoring is this process's.

    Args:
        checkpoint: what each fine-tune starts from.
        out: gets a folder for each data set; a fine-tune that was stopped goes on there, a finished one is kept.
        sets: what to score.
        steps: of each fine-tune.
        seed: of each fine-tune.
        processes: that fine-tune together; 0 means one an accelerator.
    """
    import torch

    from ..checkpoint import find_checkpoint, load_checkpoint
    from ..finetuning import fine_tune
    from ..launching import devices, launch_tuning

    base, state = find_checkpoint(checkpoint)
    way, root, processes = state.profile.budget.launch, state.profile.data.root, processes or devices()
    for dataset, sources in TUNED_ON.items():
        own = {name: chosen for name, chosen in sets.items() if name.partition("/")[0] == dataset}
        if not own:
            continue
        gc.collect()  # the model scored last makes room for the fine-tune
        torch.cuda.empty_cache()
        if way == "here" or processes == 1:
            tuned = fine_tune(base, out / dataset, sources, steps, seed, progress=False).checkpoint
        else:
            tuned = launch_tuning(base, out / dataset, sources, steps, seed, way, processes, root)
        yield from evaluate_series(load_checkpoint(tuned)[0], own)


def percent_row(metrics: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, float]:
    """A row of Table 2 or 3 from scores by set: `key` in percent, where a set has it."""
    return {name.removeprefix("refshapes-"): 100 * found[key][0] for name, found in metrics.items() if found[key]}


def table5_row(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Table 5 from scores by set, in percent: CIDEr of captions, accuracy of answers; sets of other tables left out."""
    found = {
        name: scores["caption"]["cider"] if "caption" in scores else scores["vqa"]
        for name, scores in metrics.items()
        if name in TABLE5
    }
    return {TABLE5[name]: 100 * score[0] for name, score in found.items() if score is not None}


FUNCTIONS = {
    "Image Caption": ("caption", "cider"),
    "Region Caption": ("region_caption", "box"),
    "Bounding Box": ("acc@0.5",),
    "Segmentation": ("ciou",),
    "Multi-Instance Segmentation": ("several", "merged_iou"),
}
"""The columns of Table 1 that a score can show, each with the path of its score."""


def functions_shown(metrics: Mapping[str, Any], threshold: float = 0.5) -> dict[str, bool | None]:
    """Table 1 by measurement: a function counts as supported where its score's whole interval is above `threshold`.

    Args:
        metrics: of one set, see `scores.score`.

    Returns:
        each function to whether it was shown; None where it was not asked for, or had no truth to be compared with.
    """

    def above(path: Sequence[str]) -> bool | None:
        value: Any = metrics
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else value[1] > threshold

    shown = {name: above(path) for name, path in FUNCTIONS.items()}
    if shown["Segmentation"] is None and above(("filled_ciou", "true_box")) is not None:
        shown["Segmentation"] = False  # there were masks to find, and no answer gave one
    return {**shown, "End-to-End": True}  # by construction: no other vision expert is asked
