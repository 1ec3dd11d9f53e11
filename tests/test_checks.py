"""Every check accepts right solutions, however written, and names the mistake in wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from checks import (
    comparison,
    decoding,
    frames,
    losses,
    model,
    point,
    pointing,
    probing,
    regions,
    releases,
    speed,
    training,
)

from pgpt_lib import checks

PARTS = (regions, frames, losses, probing, point, model, decoding, training, comparison, speed, releases, pointing)
RIGHT = {name: solutions for part in PARTS for name, solutions in part.RIGHT.items()}
WRONG = {name: solutions for part in PARTS for name, solutions in part.WRONG.items()}
SEEDS = (0, 1, 2025)


def test_every_check_has_solutions_and_a_notebook() -> None:
    names = {name for name in checks.__all__ if name.startswith("check_")}
    assert set(RIGHT) == set(WRONG) == names == {f.__name__ for group in checks.NOTEBOOKS.values() for f in group}
    assert all(len(group) >= 2 for group in checks.NOTEBOOKS.values())
    assert all(len(RIGHT[name]) >= 3 and len(WRONG[name]) >= 5 for name in names)


@pytest.mark.parametrize(("name", "solution"), [(name, s) for name, group in RIGHT.items() for s in group])
def test_right_solutions_pass(name: str, solution: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    for seed in SEEDS:
        getattr(checks, name)(solution, seed=seed)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(SEEDS) and all(line.startswith("ok: ") for line in lines)


@pytest.mark.parametrize(
    ("name", "solution", "message"), [(name, *pair) for name, group in WRONG.items() for pair in group]
)
def test_wrong_solutions_hear_their_mistake(name: str, solution: Callable[..., Any], message: str) -> None:
    for seed in SEEDS:
        with pytest.raises(checks.CheckFailed) as failure:
            getattr(checks, name)(solution, seed=seed)
        assert message in str(failure.value)


def test_inputs_depend_on_the_seed() -> None:
    seen: dict[int, list[float]] = {seed: [] for seed in SEEDS}
    for seed, sums in seen.items():
        with pytest.raises(checks.CheckFailed, match="return statement"):
            checks.check_giou(lambda a, b, sums=sums: sums.append(float(b.sum())), seed=seed)
    assert len({tuple(sums) for sums in seen.values()}) == len(SEEDS)


def test_an_open_exercise_is_told_from_a_wrong_one() -> None:
    def todo(a: Any, b: Any) -> Any:
        raise NotImplementedError("your turn")

    with pytest.raises(checks.CheckFailed, match="your turn") as failure:
        checks.check_giou(todo)
    assert isinstance(failure.value.__cause__, NotImplementedError)


def test_results_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(checks.CheckFailed, match="returned str for equal weights, not numbers"):
        checks.check_fusion(lambda states, logits: "fused")
    with pytest.raises(checks.CheckFailed, match="NaN"):
        checks.check_fusion(lambda states, logits: states[:, 0] * float("nan"))
