"""Every check accepts right solutions, however written, and names the mistake in wrong ones."""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
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
from pgpt_lib.checks.answers import as_parts, fault_of_form, relation
from pgpt_lib.checks.calls import calls_to
from pgpt_lib.project import ROOT

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
        assert "wrong for " not in str(failure.value)  # what is said where no mistake was recognised


def plain(value: Any) -> Any:
    """An input or answer as something that can be compared; of a model its numbers, of another object its class."""
    if isinstance(value, torch.nn.Module):
        return [tuple(p.shape) for p in value.parameters()]
    if isinstance(value, torch.Tensor | np.ndarray):
        return np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__


def recorded(solution: Any, seen: list[Any]) -> Any:
    """The solution, which leaves what it is given and what it answers; of a signal, the boxes that it collates."""
    if inspect.isclass(solution):

        class Recorded(solution):
            def collate(self, regions: Any, placements: Any) -> Any:
                seen.append([region.box for region in regions])
                return super().collate(regions, placements)

        return Recorded

    def instead(*inputs: Any) -> Any:
        seen.append(plain(inputs))  # before the solution, which may change them
        answer = solution(*inputs)
        seen.append(plain(answer))
        return answer

    return instead


@pytest.mark.parametrize("name", RIGHT)
def test_inputs_or_their_order_depend_on_the_seed(name: str) -> None:
    seen: dict[int, list[Any]] = {seed: [] for seed in SEEDS}
    for seed, record in seen.items():
        getattr(checks, name)(recorded(RIGHT[name][0], record), seed=seed)
    assert len({str(record) for record in seen.values()}) > 1, "the grader's seed changes nothing"


def test_what_is_forbidden_is_named_as_it_is_defined() -> None:
    named = {
        name
        for path in (ROOT / "pgpt_lib" / "checks").glob("*.py")
        for name in re.findall(r'"(pgpt_lib(?:\.\w+){2,})"', path.read_text(encoding="utf-8"))
    }
    assert len(named) > 30
    for name in named:
        function = inspect.unwrap(pkgutil.resolve_name(name))
        assert f"{function.__module__}.{function.__qualname__}" == name


def test_a_function_is_noticed_before_and_after_its_module_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "pgpt_lib.project.describe"
    for _ in range(2):
        with calls_to([name]) as called:
            from pgpt_lib.project import describe as borrowed

            borrowed({"processor": "a", "cores": 2, "memory_gb": 3})
        assert called == ["describe"]
        monkeypatch.delitem(sys.modules, "pgpt_lib.project")
        monkeypatch.delattr("pgpt_lib.project")


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        (lambda x: -x, "the wrong sign"),
        (lambda x: 1 - x, "1 minus"),
        (lambda x: 3.5 * x, "one and the same factor"),
        (lambda x: x + 0.25, "one and the same amount"),
        (lambda x: x[::-1], "in the wrong places"),
        (lambda x: x**2, ""),
        (lambda x: 0 * x, ""),
        (lambda x: x * np.nan, ""),
        (lambda x: x[:2], ""),
        (lambda x: None, ""),
    ],
)
def test_what_wrong_numbers_have_in_common(mine: Callable[..., Any], said: str) -> None:
    cases = [np.array([0.2, 0.9, 0.4]), np.array([0.1, 0.35])]
    found = relation([as_parts(mine(x)) for x in cases], [as_parts(x) for x in cases], 1e-4)
    assert said in found and bool(said) == bool(found)


@pytest.mark.parametrize(
    ("mine", "right", "said"),
    [
        (1.0, (1.0, 2.0), "returned 1 result for a case, not 2 results: return them as a tuple"),
        (0.5, [0.5, 0.5], "a single number, where each has its own"),
        ([0.5, 0.5], 0.5, "is a mean or a sum missing?"),
        (np.zeros((2, 3)), np.zeros((3, 2)), "its axes are in the wrong order"),
        (np.zeros(6), np.zeros((3, 2)), "as many numbers, in another form"),
        ([0.5, 0.5], None, "where the answer is None"),
        ([0.5, 0.5], [0.5, 0.5], ""),
    ],
)
def test_faults_of_form_are_named(mine: Any, right: Any, said: str) -> None:
    found = fault_of_form(as_parts(mine), as_parts(right), "a case")
    assert said in found and bool(said) == bool(found)


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
