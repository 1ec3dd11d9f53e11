"""A sweep's folder as a finished sweep leaves it, with scores drawn from a rule instead of trained."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pgpt_lib.config import Profile
from pgpt_lib.data.refshapes.world import SPLITS
from pgpt_lib.evaluation.series import MAIN
from pgpt_lib.files import write_json
from pgpt_lib.sweeps.cells import Cell
from pgpt_lib.sweeps.engine import sweep_folder
from pgpt_lib.sweeps.plans import load_plan
from pgpt_lib.sweeps.rates import learning_rate_of
from pgpt_lib.sweeps.results import all_results, result_file
from pgpt_lib.sweeps.switches import lacking
from pgpt_lib.sweeps.table import write_table
from pgpt_lib.sweeps.worker import read_back

WORDS = ("all", "colour", "shape", "place", "size", "count", "existence")
ACC = {"embedding": 0.62, "vocabulary": 0.34, "numerical": 0.25}
SPEED = {"embedding": 1400.0, "vocabulary": 1300.0, "numerical": 300.0}  # expressions a second
FORMAT = {"embedding": 0.02, "vocabulary": 0.1, "numerical": 0.4}  # share of misses
TERMS = {"l1": 0.44, "l1_twice": 0.46, "l1+giou": 0.52, "bce": 0.6, "bce_twice": 0.62, "bce+dice": 0.68}
FUSION = {"learned": 0.62, "last": 0.52, "second_last": 0.54, "mean": 0.58, "learned_raw": 0.55}


def write(out: Path, plan: str, profile: str = "smoke", keep: Callable[[Cell], bool] = lambda cell: True) -> list[str]:
    """Results of a plan's cells below `out`, those that `keep` wants, with the sweep's table. Returns their names.

    Cells that lack something in this profile are left out.
    """
    folder, made = sweep_folder(out, plan), []
    for cell in load_plan(plan).cells(profile):
        if keep(cell) and not lacking(cell):
            rate = learning_rate_of(cell, folder) if cell.run.lr == "tuned" else {}
            write_json(result_file(folder, cell.id), {**result(cell), **rate})
            made.append(cell.id)
    write_table(folder, all_results(folder))
    return made


def result(cell: Cell) -> dict[str, Any]:
    """What `cell_run.run_cell` gives for a cell."""
    factors, run, rng = cell.factors, cell.run, random.Random(cell.id)
    acc = score(cell) + rng.gauss(0, 0.012)
    profile = cell.profile()
    each = profile.training.batch_size * profile.data.turns
    speed = SPEED[factors.get("representation", "embedding")]
    steps = max(2, round(run.minutes * 60 * speed / each) if run.minutes else profile.training.steps)
    seconds = steps * each / speed
    rate = {"lr": run.lr, "lr_from": "given"} if isinstance(run.lr, float) else {"lr": 0.001, "lr_from": "tuning"}
    boxes, masks = ("box" in profile.signals, "mask" in profile.signals)
    metrics = {MAIN: scores(cell, acc, boxes, masks)}
    if run.splits == "all":
        names = [f"refshapes-{dataset}/{split}" for dataset, splits in SPLITS.items() for split in splits[1:]]
        others = [name for name in names if name != MAIN]
        metrics |= {name: scores(cell, acc + rng.gauss(-0.03, 0.02), boxes, masks, main=False) for name in others}
    return {
        "version": 1, "plan": cell.plan, "id": cell.id, "cell": dict(factors), "status": "done",
        "profile": cell.profile_name, "asked": read_back(cell.asked()), "steps": steps, "expressions": steps * each,
        **rate,
        "parameters": {"trainable": 1_200_000 if factors.get("rank") == "full" else 291_080, "llm_trainable": 17_152,
                       "llm": 957_568},
        "aligned": None,
        "before": {"questions": questions(0.9), "scenes": one_scene(["questions.all.accuracy"])},
        "metrics": metrics, "answers": answers(),
        "curve": [point(share, steps, seconds, each, acc) for share in run.curve],
        "log": [{"step": steps, "loss": 1.0, "losses": {"language": 0.4, "l1": 0.1}, "seconds": seconds}],
        "weights": weights(profile, steps, rng),
        "seconds": seconds, "clock": "processor",
        "total_seconds": seconds + 30, "threads": 1, "commit": "0" * 40,
        "peak_memory_gb": None, "mfu": None,
        "versions": {}, "machine": {},
    }  # fmt: skip


def score(cell: Cell) -> float:
    """Acc@0.5 by the rule, for what the cell trains."""
    f, run = cell.factors, cell.run
    if cell.plan == "losses":
        away = abs(math.log10(run.lr / 0.004)) if isinstance(run.lr, float) else 0
        return TERMS[f["terms"]] - 0.12 * (f["head"] == "dot_product") - 0.05 * away
    if cell.plan == "fusion":
        swapped = 0.1 * (f["start"] == "swapped" and f["strategy"] not in ("learned", "learned_raw"))
        return (FUSION[f["strategy"]] - swapped - 0.01 * (f["weights"] == "shared")) * (0.5 if run.times < 1 else 1)
    weak = f["representation"] != "embedding"
    acc = ACC[f["representation"]] + {"8": 0, "32": 0.02, "full": 0.04}[str(f["rank"])] * (4 if weak else 1)
    acc += 0.2 * weak * (run.times > 1) - 0.1 * (bool(run.minutes) and f["representation"] == "numerical")
    if isinstance(run.lr, float):
        acc -= 0.05 * abs(math.log10(run.lr / 0.001))
    return acc * (0.5 if run.times < 1 else 1) * (1 - (0.35 if weak else 0.12) * (1 - run.fraction))


def scores(cell: Cell, acc: float, boxes: bool, masks: bool, main: bool = True) -> dict[str, Any]:
    """The metrics of one split."""
    n = 900 if main else 450
    share = FORMAT[cell.factors.get("representation", "embedding")]
    missed = round(n * (1 - acc))
    wrong = round(missed * (1 - share) * 0.45)
    found = {
        "n": n, "missing": 0,
        "acc@0.5": around(acc if boxes else 0), "miou_box": around(0.85 * acc if boxes else 0),
        "ciou": around(acc + 0.1) if masks else None, "miou_mask": around(acc) if masks else None,
        "p@0.5": around(acc) if masks else None, "p@0.7": around(0.8 * acc) if masks else None,
        "p@0.9": around(0.4 * acc) if masks else None, "emission_rate": around(1 - share * (1 - acc), 0.005),
        "shuffled": {"n": n, "acc@0.5": around(0.1 if boxes else 0), "ciou": around(0.15) if masks else None},
        "filled_ciou": {"true_box": around(0.6), "predicted_box": None},
        "failures": {"format": round(missed * share), "wrong_object": wrong,
                     "imprecise": missed - round(missed * share) - wrong},
        "parse_failure_rate": around(share * (1 - acc), 0.005), "vqa": None,
    }  # fmt: skip
    asked = main and "question" in cell.run.tasks
    found["questions"] = questions(0.78 if cell.factors.get("rank") == "full" else 0.88) if asked else {}
    found |= {"questions_with_region": [0.1, 0.08, 0.12]} if asked else {}
    if main and "caption" in cell.run.tasks:
        found["caption"] = {"n": 300, "cider": around(1.5 * acc, 0.06), "parse_failure_rate": around(0.0, 0.0)}
    if main:
        paths = ["acc@0.5", "miou_box", *(("ciou", "miou_mask") if masks else ())]
        found["scenes"] = one_scene([*paths, *(["questions.all.accuracy"] if asked else [])])
    return found


def one_scene(paths: list[str]) -> dict[str, dict[str, str]]:
    """What scores add up from, on a single scene: too few to pair them."""
    return {path: {"images": "0" * 16, "sums": "2", "of": "3"} for path in paths}


def answers() -> list[dict[str, Any]]:
    """Six answers, of which one is right."""
    box, other = [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.7, 0.7]
    kinds = ("wrong_object", None, "format", "imprecise", "wrong_object", "format")
    read = {"format": None, "wrong_object": other, "imprecise": [0.1, 0.2, 0.3, 0.6], None: box}
    return [
        {"image": f"cpu-val-0-{i}", "question": f"where is ring {i} ?", "written": f"<vis> {i}", "true": box,
         "read": read[kind], "failure": kind}
        for i, kind in enumerate(kinds)
    ]  # fmt: skip


def questions(accuracy: float) -> dict[str, Any]:
    """Accuracy by type of question."""
    return {word: {"accuracy": around(accuracy), "n": 600, "majority": 0.31} for word in WORDS}


def point(share: float, steps: int, seconds: float, each: int, acc: float) -> dict[str, Any]:
    """A point of a learning curve."""
    step = max(1, round(share * steps))
    at = around(acc * (1 - math.exp(-4 * share)) / (1 - math.exp(-4)), 0.04)
    none = dict.fromkeys(("ciou", "miou_mask"))
    when = {"step": step, "expressions": step * each, "seconds": share * seconds}
    return {**when, "acc@0.5": at, "miou_box": at, **none, "emission_rate": around(1.0, 0.0), "paused": 0.5}


def weights(profile: Profile, steps: int, rng: random.Random) -> list[dict[str, Any]]:
    """Fusion weights that wander from even ones to the middle layers."""
    if profile.fusion.strategy != "learned":
        return []
    layers = {"nano-vit": 4}.get(profile.vision.name, 12)
    kinds = ["llm"] + ["mask"] * ("mask" in profile.signals and not profile.fusion.shared)
    tilt = {kind: [math.sin((i + 1) / layers * 3) + rng.gauss(0, 0.1) for i in range(layers)] for kind in kinds}
    track = []
    for part in range(11):
        sets = {}
        for kind in kinds:
            raw = [math.exp(part / 10 * value) for value in tilt[kind]]
            sets[kind] = [value / sum(raw) for value in raw]
        track.append({"step": round(part / 10 * steps), **sets})
    return track


def around(value: float, half: float = 0.02) -> list[float]:
    """A score with an interval."""
    return [value, value - half, value + half]
