"""`course leaderboard`: hand-ins of a project, scored again, ranked, and graded by its rubric.

A `result.json` is a claim. It counts when its predictions for the open questions score as it says; the rank comes from
the hidden ones.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.refcoco import RefCOCO
from ..errors import InputError
from ..files import printable, read_json
from ..scoring import Truth, read_predictions, score_predictions, truths_of
from .projects import BOXES, BY_SLUG, CLAIM_POINTS, SIGNAL, Project
from .splits import DATASET, SPLIT

TOLERANCE = 5e-4  # a claim may be rounded to three digits
QUANTITIES = ("centre", "extent")


class Refused(ValueError):
    """A hand-in that does not hold what it claims."""


def leaderboard(folder: Path, open_truth: Path, hidden_truth: Path, baseline: Path | None = None) -> dict[str, Any]:
    """Score and rank every hand-in.

    Args:
        folder: its subfolders hold `result.json`, `open.json` and `hidden.json`; one without `result.json` is refused.
        open_truth, hidden_truth: what `course split` wrote.
        baseline: a hand-in to be better than, for better-boxes; its budget is the others'.

    Returns:
        `rows`, project by project, the best first, the refused last: `name`, `folder`, `project`, `place` within the
        project, `score` on the hidden questions, `claimed`, `points`, `of` (without those that a person gives),
        `refused` with the reason.

    Raises:
        InputError: no such folder, no hand-in, a truth that cannot be read, or a baseline that is refused itself or
            belongs to another project.
    """
    if not folder.is_dir():
        raise InputError(f"--results {folder} is no folder")
    found = sorted(path for path in folder.glob("[!.]*/") if path.is_dir())
    if not any((path / "result.json").exists() for path in found):
        raise InputError(f"--results {folder} holds no FOLDER/result.json")
    truths = {name: truths_of(RefCOCO(root / "truth", DATASET, SPLIT)) for name, root in
              (("open", open_truth), ("hidden", hidden_truth))}  # fmt: skip
    start = None
    if baseline is not None:
        try:
            start = examine(baseline, truths)
        except Refused as error:
            raise InputError(f"the baseline {baseline} is refused: {error}") from None
        if start["project"] is not BOXES:
            raise InputError(f"the baseline {baseline} is of {start['project'].slug}; only {BOXES.slug} has one")
    rows = [_row(path, truths, start) for path in found]
    rows.sort(key=lambda row: (bool(row["refused"]), row["project"] or "", -(row["score"] or 0.0), row["name"]))
    for project, ranked in itertools.groupby(rows, key=lambda row: row["project"]):
        for place, row in enumerate(ranked, 1):
            row["place"] = place if project else None
    return {"rows": rows, "refused": sum(bool(row["refused"]) for row in rows)}


def examine(folder: Path, truths: Mapping[str, Sequence[Truth]]) -> dict[str, Any]:
    """A hand-in's result, with its `score` on the hidden questions.

    Raises:
        Refused: a file is missing or broken, or the open predictions do not score as claimed.
    """
    if not (folder / "result.json").exists():
        raise Refused("it holds no result.json")
    result = read_json(folder / "result.json")
    if not isinstance(result, dict):
        raise Refused("result.json is no JSON object")
    project = BY_SLUG.get(str(result.get("project")))
    if project is None:
        raise Refused(f"its project is {result.get('project')!r:.40}; there are {', '.join(BY_SLUG)}")
    claimed = _number(result, "claimed", project.metric)
    budget = {name: _number(result, "budget", name) for name in ("samples", "parameters")}
    score = {name: _score(project, folder / f"{name}.json", truths[name], result) for name in ("open", "hidden")}
    if abs(score["open"] - claimed) > TOLERANCE:
        raise Refused(f"its predictions score {score['open']:.4f} on the open questions, claimed is {claimed:.4f}")
    name = " ".join(printable(str(result.get("name") or folder.name)).split())[:60]  # of one line, as a table needs it
    return {"name": name, "project": project, "claimed": claimed, "budget": budget, "score": score["hidden"]}


def _row(folder: Path, truths: Mapping[str, Sequence[Truth]], start: Mapping[str, Any] | None) -> dict[str, Any]:
    name = printable(folder.name)
    row: dict[str, Any] = {"name": name, "folder": name, "project": None, "place": None, "score": None}
    row |= {"claimed": None, "points": 0.0, "of": None, "refused": ""}
    try:
        done = examine(folder, truths)
        project: Project = done["project"]
        if project is BOXES and start is not None:
            for name, most in start["budget"].items():
                if done["budget"][name] > most:
                    raise Refused(f"it used {done['budget'][name]:g} {name}, the budget is {most:g}")
    except Refused as error:
        return row | {"refused": printable(str(error))}
    except RecursionError:
        return row | {"refused": "its files are nested too deeply"}
    points = CLAIM_POINTS + project.gain_points * min(1.0, max(0.0, gain(done, start)) / project.full_gain)
    row |= {"name": done["name"], "project": project.slug, "score": done["score"], "claimed": done["claimed"]}
    return row | {"points": round(points, 1), "of": CLAIM_POINTS + project.gain_points}


def gain(done: Mapping[str, Any], start: Mapping[str, Any] | None) -> float:
    """What the rubric rewards: the share of the baseline's misses that are gone, 0 without one; or the skill itself."""
    if done["project"] is SIGNAL:
        return float(done["score"])
    before = start["score"] if start else 1.0
    return float((done["score"] - before) / (1 - before)) if before < 1 else 0.0


def _score(project: Project, path: Path, truths: Sequence[Truth], result: Mapping[str, Any]) -> float:
    try:
        given = read_predictions(path)
        if project is BOXES:
            scores = score_predictions(given, truths)
            if scores["missing"]:
                raise Refused(f"{path.name} leaves out {scores['missing']} questions; null says that there is no box")
            value = scores[project.metric]
            assert isinstance(value, tuple | list)
            return float(value[0])
        return skill(given, truths, str(result.get("quantity")))
    except InputError as error:
        raise Refused(str(error)) from None


def claim(predictions: Path, open_questions: Path, quantity: str | None = None) -> dict[str, Any]:
    """The score of predictions for the open questions, which a `result.json` claims.

    Args:
        predictions: a file such as `open.json`.
        open_questions: what `course split` wrote, `truth` included.
        quantity: one of `QUANTITIES`, where the predictions are a signal's values.

    Returns:
        `project`, and the score under its metric's name.

    Raises:
        InputError: files that cannot be read, predictions that are incomplete or of another form.
    """
    project = BOXES if quantity is None else SIGNAL
    truths = truths_of(RefCOCO(open_questions / "truth", DATASET, SPLIT))
    try:
        score = _score(project, predictions, truths, {"quantity": quantity})
    except Refused as error:
        raise InputError(f"{predictions}: {error}") from None
    return {"project": project.slug, project.metric: score}


def skill(given: Sequence[Any], truths: Sequence[Truth], quantity: str) -> float:
    """1 - (mean error) / (mean error of always saying the median); a missing value counts with error 1.

    Args:
        given: `{"sent_id": number, "value": list of numbers or null}`, one for each question.
        truths: the questions' truths.
        quantity: one of `QUANTITIES`.

    Raises:
        Refused: an unknown quantity, questions left out or unknown, values of another form.
    """
    if quantity not in QUANTITIES:
        raise Refused(f"its quantity is {quantity!r}; there are {', '.join(QUANTITIES)}")
    true = {truth.sent_id: _quantity(truth, quantity) for truth in truths}
    errors, seen = [], set()
    for entry in given:
        name = entry.get("sent_id") if isinstance(entry, dict) else None
        if type(name) is not int or name not in true or name in seen:
            raise Refused(f"prediction {str(entry)[:60]} has an unknown or repeated sent_id")
        seen.add(name)
        value = entry.get("value")
        if value is None:
            errors.append(1.0)
            continue
        try:
            numbers = np.asarray(value, np.float64)
        except (TypeError, ValueError, OverflowError):
            numbers = np.array([np.nan])
        if numbers.shape != true[name].shape or not np.isfinite(numbers).all():
            raise Refused(f"sentence {name}: a value is a list of {len(true[name])} numbers, not {str(value)[:40]}")
        errors.append(float(np.abs(numbers - true[name]).mean()))
    if len(seen) < len(true):
        raise Refused(f"{len(true) - len(seen)} questions are left out; null says that there is no value")
    values = np.stack(list(true.values()))
    constant = np.abs(values - np.median(values, axis=0)).mean()
    return float(1 - np.mean(errors) / constant) if constant > 0 else 0.0


def _quantity(truth: Truth, quantity: str) -> np.ndarray:
    height, width = truth.size
    x, y, w, h = truth.bbox
    if quantity == "centre":
        return np.array([(x + w / 2) / width, (y + h / 2) / height])
    from ..regions import mask_area, to_rle

    area = mask_area(to_rle(truth.segmentation, height, width))
    return np.array([math.sqrt(area / (height * width))])


def _number(result: Mapping[str, Any], group: str, name: str) -> float:
    """A number of a group as results write it: alone, or as [value, low, high]."""
    numbers = result.get(group)
    if not isinstance(numbers, dict):
        raise Refused(f'{group} in result.json is {numbers!r:.40}, not an object as {{"{name}": number}}')
    value = numbers.get(name)
    value = value[0] if isinstance(value, list) and value else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise Refused(f"{group} {name} in result.json is {value!r:.40}, not a number")
    return float(value)
