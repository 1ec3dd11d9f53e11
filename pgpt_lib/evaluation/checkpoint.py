"""A trained checkpoint on a split of a data set: what `python -m pgpt_lib evaluate` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from ..checkpoint import checkpoint_hash, find_checkpoint, load_checkpoint
from ..data.refcoco import SPLIT_BY
from ..data.refshapes import RefShapesImages, question_samples, rec_samples, task_samples
from ..data.sample import Sample
from ..errors import InputError
from ..processes import join_processes, place
from .benchmark_sets import EvaluationSet, benchmark_set
from .predictions import save_predictions
from .scores import TASKS, evaluate

REFER_TASKS = ("rec",)  # what that layout has truths for


def evaluate_checkpoint(
    checkpoint: Path | str,
    data: Literal["refshapes", "refer", "benchmark"] = "refshapes",
    dataset: str = "refcoco",
    split: str = "val",
    scenes: int | None = None,
    seed: int = 0,
    tasks: Sequence[str] | None = None,
    *,
    root: Path | str | None = None,
    out: Path | str | None = None,
    batch_size: int = 64,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Load a model and score it.

    Args:
        checkpoint: a `step_N`, a folder of them, or a run's folder; then the last complete one.
        data: "refshapes", scenes of the level that the checkpoint was trained on, "refer", a folder in that layout, or
            "benchmark", another of `data.benchmarks` (captions, questions, several targets).
        dataset: refcoco, refcoco+ or refcocog: on RefShapes the style of the expressions; or a benchmark's.
        split: one of the data set's.
        scenes: how many images; by default the profile's `eval_scenes`, and all images of a folder.
        seed: of the scenes. Only those of split `train` with the training's seed were trained on.
        tasks: some of `TASKS`; by default all that the data has truths for.
        root: the folder of "refer" and "benchmark".
        out: where to save the predictions, as JSON.
        batch_size: prompts answered together.
        on_progress: told (answered, total).

    Returns:
        The metrics of `scores.score`, and what they are of: `data`, `dataset`, `split`, `scenes`, `seed`, `level`,
        `checkpoint` (its path) and `checkpoint_hash`.

    Raises:
        InputError: no usable checkpoint, unknown data set, split or task, no scenes, or a folder without the layout.
    """
    if scenes is not None and scenes < 1:
        raise InputError(f"scenes is {scenes}; at least 1 is needed")
    path, state = find_checkpoint(Path(checkpoint))
    level: str | None = None
    if data == "refshapes":
        level = state.profile.data.level
        scenes = scenes or state.profile.data.eval_scenes
        chosen_set = EvaluationSet(refshapes_samples(dataset, split, scenes, seed, level, tasks), RefShapesImages())
    elif root is None:
        raise InputError(f"data {data} needs its folder: give --root, which holds images and the data sets")
    else:
        if data == "refer" and dataset not in SPLIT_BY:
            raise InputError(f"unknown data set {dataset!r}; there are {', '.join(SPLIT_BY)}")
        chosen = _check_tasks(tasks, REFER_TASKS if dataset in SPLIT_BY else TASKS)
        chosen_set = benchmark_set(f"{dataset}/{split}", root, scenes, chosen)
        scenes = len({sample.image_id for sample in chosen_set.samples})
    join_processes()
    model, _ = load_checkpoint(path)
    done = evaluate(model, chosen_set.samples, chosen_set.images, batch_size=batch_size, on_progress=on_progress)
    if out is not None and place()[0] == 0:
        save_predictions(out, done.predictions)
    about = {"data": data, "dataset": dataset, "split": split, "scenes": scenes, "seed": seed, "level": level}
    own = chosen_set.own_scores(done.predictions)
    return {**done.metrics, **own, **about, "checkpoint": str(path), "checkpoint_hash": checkpoint_hash(path)}


def refshapes_samples(
    dataset: str, split: str, scenes: int, seed: int, level: str, tasks: Sequence[str] | None = None
) -> list[Sample]:
    """The evaluation samples of scenes 0 to `scenes` - 1 of a split and seed.

    Every object that the style can single out, one question of each type, one sample of each other task a scene.

    Raises:
        InputError: unknown data set, split or task.
    """
    chosen = _check_tasks(tasks, TASKS)
    samples: list[Sample] = []
    for task in chosen:
        if task == "rec":
            samples += rec_samples(dataset, split, scenes, seed, level)
        elif task == "question":
            samples += question_samples(split, scenes, seed, level)
        else:
            samples += task_samples(task, split, scenes, seed, level)
    return samples


def _check_tasks(tasks: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    unknown = [task for task in tasks or () if task not in known]
    if unknown:
        raise InputError(f"unknown task {unknown[0]!r} for this data; there are {', '.join(known)}")
    return [task for task in known if task in tasks] if tasks else known
