"""Train and evaluate one cell, or go on with it; what it leaves is one dictionary.

The training is the library's own loop. At some steps the model is scored in passing, which changes nothing of what it
learns, since every step's random numbers are drawn anew; the time that this takes is not counted as training.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import project
from ..backbones import cache_dir
from ..config import Profile
from ..data.refshapes.world import SPLITS, RefShapesImages
from ..data.streams import build_stream
from ..evaluation.by_scene import by_scene
from ..evaluation.checkpoint import refshapes_samples
from ..evaluation.failures import kept_answers
from ..evaluation.scores import Evaluation, evaluate
from ..evaluation.series import MAIN
from ..feature_cache import FeatureCache, StoredFeatures
from ..files import read_json, write_json
from ..model import build_model
from ..processes import best_device
from ..train_log import TrainLog
from ..training import Clock, batch_maker, fit, starting_point
from .alignment import aligned_weights
from .cells import Cell
from .rates import learning_rate_of
from .switches import require_all
from .weights import WeightTrack

if TYPE_CHECKING:
    from ..model import PerceptionGPT

VERSION = 1
TIMED_STEPS, WARM_STEPS = 12, 4
CURVE_KEYS = ("acc@0.5", "miou_box", "ciou", "miou_mask", "emission_rate")
KEPT_ANSWERS = 40  # to referring expressions of the main split
LOGGED = 20  # lines of the training log that a cell keeps, at least


def run_cell(cell: Cell, folder: Path, results: Path, progress: bool = True) -> dict[str, Any]:
    """A cell's result, ready to be written.

    Args:
        cell: what to train.
        folder: for checkpoint, log and curve of the cell; a killed one goes on from there, a finished one is left to
            the caller to delete.
        results: the folder of the sweep's finished cells, in which tuned learning rates are looked up, and weights
            that several cells start from are kept.
        progress: show the training on standard error.

    Returns:
        `cell` (factors), `metrics` (as in report.json: data set/split to scores; the main one has `scenes`, see
        `by_scene`, whose `teacher_forced.` ones are of answers with the true words given), `answers` (see
        `kept_answers`), `before` (questions and their `scenes` before tuning), `curve`, `log`, `weights` (see
        `WeightTrack`), `parameters`, `aligned` (see `alignment.py`, null for the bundled weights), `seconds` (of
        training alone), `total_seconds` (with building and scoring), `clock` (whose seconds these are: "processor" or
        "wall", see `training_clock`), `peak_memory_gb` and `mfu` (null without a card), and what it all depends on.

    Raises:
        InputError: something is lacking, see `switches.lacking`.
        RunError: the training failed.
    """
    require_all([cell])
    clock, commit = training_clock(), project.commit()  # what runs is what was loaded, whatever is committed meanwhile
    began = clock()
    rate = learning_rate_of(cell, results)
    profile = _scheduled(cell, cell.profile(), rate["lr"], folder)
    checkpoints = folder / "checkpoint"
    start = starting_point(folder, profile, cell.seed, resume=checkpoints.is_dir())
    aligned, alignment = aligned_weights(cell, profile, results) or (None, None)
    model, stream = build_model(profile, cell.seed, aligned=aligned), build_stream(profile, cell.seed)
    scorer = Scorer(cell, model, profile)
    before = read_json(folder / "before.json")
    if before is None:
        before = scorer.before()
        write_json(folder / "before.json", before)
    curve = Curve(folder, scorer, cell, profile, start[1].step if start else 0)
    weights = WeightTrack(folder, model, start[1].step if start else 0)

    def on_log(line: Mapping[str, Any]) -> None:
        weights.on_log(line)
        curve.on_log(line)

    maker = batch_maker(model, stream, progress)
    done = fit(model, stream, maker, profile, cell.seed, folder, start, on_log, progress, clock)
    metrics, answers = scorer.all_sets()
    log = [
        {
            **{key: line[key] for key in ("step", "loss", "losses")},
            "seconds": line["seconds"] - curve.paused(line["step"]),
        }
        for line in TrainLog(done.log).records()
    ]
    trained = model.trainable_parameters()
    return {
        "version": VERSION,
        "plan": cell.plan,
        "id": cell.id,
        "cell": dict(cell.factors),
        "status": "done",
        "profile": cell.profile_name,
        "asked": cell.asked(),
        "steps": done.steps,
        "expressions": done.steps * profile.training.batch_size * profile.data.turns,
        **rate,
        "parameters": {
            "trainable": sum(p.numel() for p in trained.values()),
            "llm_trainable": sum(p.numel() for name, p in trained.items() if name.startswith("llm.")),
            "llm": sum(p.numel() for p in model.llm.parameters()),
        },
        "aligned": alignment,
        "before": before,
        "metrics": metrics,
        "answers": answers,
        "curve": curve.points,
        "log": log,
        "weights": weights.points,
        "seconds": done.seconds - curve.paused(done.steps),
        "peak_memory_gb": done.peak_memory_gb,
        "mfu": done.mfu,
        "total_seconds": clock() - began + _earlier(start),
        "clock": "processor" if clock is time.process_time else "wall",
        "threads": torch.get_num_threads(),
        "commit": commit,
        "versions": project.versions(),
        "machine": project.machine(),
    }


def training_clock() -> Clock:
    """What a cell is timed by.

    Processor seconds where all work is one thread's: other processes of a shared machine take none of them, and cells
    that ran side by side can be compared. Seconds on the wall where there is a card, or several threads.
    """
    alone = best_device().type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.monotonic


def _earlier(start: Any) -> float:
    """Seconds of the sittings before this one."""
    return start[1].seconds if start else 0.0


def _scheduled(cell: Cell, profile: Profile, lr: float, folder: Path) -> Profile:
    """The profile with the cell's learning rate, its steps (measured once, if it trains for a time), and a log."""
    training = profile.training.model_copy(update={"lr": lr})
    steps = training.steps
    if cell.run.minutes is not None:
        held = read_json(folder / "schedule.json")
        if held is None:
            profile = profile.model_copy(update={"training": training})
            held = {"seconds_a_step": seconds_a_step(profile, cell.seed, folder / "timing")}
            write_json(folder / "schedule.json", held)
        steps = max(1, round(cell.run.minutes * 60 / held["seconds_a_step"]))
    update = {"steps": steps, "log_every": max(1, steps // LOGGED)}
    return profile.model_copy(update={"training": training.model_copy(update=update)})


def seconds_a_step(profile: Profile, seed: int, folder: Path) -> float:
    """The median over a few steps of a training that is thrown away, its first ones left out."""
    update = {"steps": TIMED_STEPS, "log_every": 1, "save_every": TIMED_STEPS}
    profile = profile.model_copy(update={"training": profile.training.model_copy(update=update)})
    shutil.rmtree(folder, ignore_errors=True)
    seconds: list[float] = []
    model, stream = build_model(profile, seed), build_stream(profile, seed)
    maker = batch_maker(model, stream, progress=False)

    def on_log(line: Mapping[str, Any]) -> None:
        seconds.append(line["seconds"])

    fit(model, stream, maker, profile, seed, folder, None, on_log, False, training_clock())
    shutil.rmtree(folder)
    return statistics.median(b - a for a, b in zip(seconds[WARM_STEPS:-1], seconds[WARM_STEPS + 1 :], strict=True))


class Scorer:
    """Scores a cell's model on fixed scenes, whose pictures go through the tower once for all cells of all sweeps."""

    def __init__(self, cell: Cell, model: PerceptionGPT, profile: Profile) -> None:
        self.cell, self.model, self.level = cell, model, profile.data.level
        self.images = RefShapesImages()
        model.tower.to(best_device())
        self.features = StoredFeatures(FeatureCache(model.tower, cache_dir() / "features"), self.images)

    def before(self) -> dict[str, Any]:
        """Accuracy of answers in words by type, and what it adds up from, scene by scene."""
        asked = self._ask()
        return {"questions": asked.metrics["questions"], "scenes": by_scene(asked.predictions)}

    def point(self) -> dict[str, Any]:
        """A few scores of the main split, for the learning curve."""
        scores = self._evaluate("refcoco", "val", self.cell.run.curve_scenes, ["rec"], False).metrics
        return {key: scores[key] for key in CURVE_KEYS}

    def all_sets(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The scores of every style and split, by the names of `evaluation.series`, and some answers of the main one.

        The main one has questions too, and what its scores add up from, scene by scene.
        """
        run = self.cell.run
        found: dict[str, dict[str, Any]] = {}
        answers: list[dict[str, Any]] = []
        for dataset, splits in SPLITS.items():
            for split in splits[1:]:
                name = f"refshapes-{dataset}/{split}"
                main = name == MAIN
                if not main and run.splits == "main":
                    continue
                tasks = [t for t in run.tasks if t != "question"] if main else ["rec"]
                scenes = run.eval_scenes if main else max(1, run.eval_scenes // 2)
                done = self._evaluate(dataset, split, scenes, tasks, run.teacher_forced and main)
                found[name] = done.metrics
                if main:
                    forced = {f"teacher_forced.{path}": column for path, column in by_scene(done.forced).items()}
                    found[name]["scenes"] = {**by_scene(done.predictions), **forced}
                    answers = kept_answers([p for p in done.predictions if p.sample.task == "rec"], KEPT_ANSWERS)
        if "question" in run.tasks:
            asked = self._ask()
            found[MAIN]["questions"] = asked.metrics["questions"]
            # Of answers in words: whether a region was given in their place, or added to them.
            found[MAIN]["questions_with_region"] = asked.metrics["false_vis"].get("question")
            found[MAIN]["scenes"] |= by_scene(asked.predictions)
        return found, answers

    def _ask(self) -> Evaluation:
        return self._evaluate("refcoco", "val", self.cell.run.question_scenes, ["question"], False)

    def _evaluate(self, dataset: str, split: str, scenes: int, tasks: list[str], forced: bool) -> Evaluation:
        samples = refshapes_samples(dataset, split, scenes, self.cell.run.eval_seed, self.level, tasks)
        with _evaluating(self.model):
            return evaluate(
                self.model,
                samples,
                self.images,
                self.features,
                teacher_forced=forced,
                threshold=self.cell.run.mask_threshold,
            )


class Curve:
    """The learning curve: scores at some steps, and the time that taking them cost."""

    def __init__(self, folder: Path, scorer: Scorer, cell: Cell, profile: Profile, first: int) -> None:
        self.path, self.scorer = folder / "curve.json", scorer
        # The checkpoint's clock was read before the point of its own step was taken.
        self.points: list[dict[str, Any]] = [
            {**p, "paused": p["paused"] * (p["step"] < first)} for p in read_json(self.path) or [] if p["step"] <= first
        ]
        every, steps = profile.training.log_every, profile.training.steps
        wanted = {min(steps, max(every, round(share * steps / every) * every)) for share in cell.run.curve}
        self.left = sorted(wanted - {p["step"] for p in self.points})
        self.a_step = profile.training.batch_size * profile.data.turns

    def paused(self, before: int | None = None) -> float:
        """Seconds of scoring that the training's clock has counted, in all or before a step."""
        return sum(point["paused"] for point in self.points if before is None or point["step"] < before)

    def on_log(self, line: Mapping[str, Any]) -> None:
        """Take a point, if one is due at this step."""
        if line["step"] not in self.left:
            return
        clock, paused = training_clock(), self.paused()
        began = clock()
        scores = self.scorer.point()
        point = {"step": line["step"], "expressions": line["step"] * self.a_step, "seconds": line["seconds"] - paused}
        self.points.append({**point, **scores, "paused": clock() - began})
        write_json(self.path, self.points)


@contextmanager
def _evaluating(model: PerceptionGPT) -> Iterator[None]:
    """The model in evaluation mode, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
