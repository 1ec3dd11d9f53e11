"""How the weights of equation 1 move while a cell trains, for the paper's Figure 5."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import read_json, write_json
from ..optimisation import learning_rate

if TYPE_CHECKING:
    from ..model import PerceptionGPT


def with_alignment(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points of a cell's `weights`, and before them those of its own alignment, where it had one.

    The alignment's steps count up to 0, where the tuning starts; the mask decoder's weights are only tuned, so those
    points have `llm` alone.
    """
    track = (result.get("aligned") or {}).get("track", [])
    last = track[-1]["step"] if track else 0
    aligned = [{"step": p["step"] - last, "llm": p["weights"]} for p in track if p["weights"] and p["step"] < last]
    return [*aligned, *result["weights"]]


def moved(result: Mapping[str, Any], which: str = "llm") -> dict[str, float]:
    """The largest change of one weight from the first to the last step of a cell's `alignment` and of its `tuning`.

    A stage in which these weights were not there, or which has no two points, is left out.

    Args:
        which: `llm` or `mask`.
    """
    points = [point for point in with_alignment(result) if which in point]
    aligned = sum(point["step"] < 0 for point in points)  # the next point ends the alignment and starts the tuning
    stages = {"alignment": points[: aligned + 1], "tuning": points[aligned:]}
    return {
        stage: max(abs(after - before) for before, after in zip(held[0][which], held[-1][which], strict=True))
        for stage, held in stages.items()
        if len(held) > 1
    }


def reach(result: Mapping[str, Any]) -> dict[str, float]:
    """How far tuning can move one logit of the weights, `llm` and, where it has its own, `mask`, about and at most.

    Adam moves a number by about its rate a step at most, so that this is the sum of all rates. The language model's
    weights, once aligned, learn at the share `training.aligned_lr` of the rate, the mask decoder's own at all of it.
    """
    asked = result["asked"]
    rates = [learning_rate(s, result["steps"], result["lr"], asked["training.warmup"]) for s in range(result["steps"])]
    shares = {"llm": asked["training.aligned_lr"], "mask": 1.0}
    return {which: shares[which] * sum(rates) for which in shares if which in result["weights"][-1]}


class WeightTrack:
    """The weights of the language model's fusion and of the mask decoder's, at the start and at each logged step.

    Args:
        folder: of the cell; `weights.json` in it lets a killed cell go on.
        model: as it is before the training.
        first: the step that the training goes on from; later points are forgotten.

    `points` is a list of `step`, `llm` and, where it has weights of its own, `mask`, each a list of L numbers; empty
    where the strategy has nothing to learn.
    """

    def __init__(self, folder: Path, model: PerceptionGPT, first: int) -> None:
        self.path = folder / "weights.json"
        sets = {"llm": model.fusion, "mask": model.mask_fusion}
        self.sets = {name: fusion for name, fusion in sets.items() if fusion is not None}
        self.learned = model.fusion.strategy == "learned"
        self.points: list[dict[str, Any]] = [p for p in read_json(self.path) or [] if p["step"] <= first]
        if not self.points:
            self._note(0)

    def on_log(self, line: Mapping[str, Any]) -> None:
        """Take a point at a line of the training's log."""
        self._note(line["step"])

    def _note(self, step: int) -> None:
        if self.learned:
            self.points.append({"step": step, **{name: f.weights().tolist() for name, f in self.sets.items()}})
            write_json(self.path, self.points)
