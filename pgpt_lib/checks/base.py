"""How an exercise is checked: by what a solution computes on drawn inputs, never by how it is written.

A check holds a right solution and the wrong ones that people write. Where an answer differs from the right one it is
compared with the wrong ones, and the message names the mistake, not the expected number. Inputs come from a seed, so
that answers cannot be written down in advance.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .answers import Answer, as_parts, equal, fault_of_form, relation
from .calls import UNWATCHED, calls_to

Function = Callable[..., Any]
GRADING_SEED = "PGPT_GRADING_SEED"


class CheckFailed(AssertionError):
    """An exercise's solution is wrong; the message names the mistake."""


@dataclass(frozen=True)
class Case:
    """Drawn inputs, and in words what is special about them ("boxes that do not touch")."""

    what: str
    inputs: tuple[Any, ...]


@dataclass(frozen=True)
class Mistake:
    """A wrong solution that people write, and what to tell them."""

    message: str
    solution: Function


def examine(
    name: str,
    solution: Function,
    right: Function,
    cases: Sequence[Case],
    mistakes: Sequence[Mistake],
    tolerance: float = 1e-4,
    forbidden: Sequence[str] = (),
) -> None:
    """Compare a solution with the right one on every case.

    Args:
        name: the exercise, for the line that is printed when all is well.
        solution: the function under check.
        right: a right one.
        cases: what both are called with; each call gets its own copy.
        mistakes: wrong solutions; the first that answers as `solution` does in every case gives the message.
        tolerance: how far a number may be off, absolutely and as a share of the right one.
        forbidden: functions that are the answer already, as "pgpt_lib.boxes.generalized_iou".

    Raises:
        CheckFailed: the solution raises, returns nothing, changes its inputs, calls a forbidden function, or is wrong.
    """
    answers = [call(solution, case, forbidden) for case in cases]
    expected = [as_parts(right(*copy.deepcopy(case.inputs))) for case in cases]
    correct = [equal(a, e, tolerance) for a, e in zip(answers, expected, strict=True)]
    if all(correct):
        passed(name)
        return
    for mistake in mistakes:
        if _answers_alike(mistake.solution, cases, answers, tolerance):
            raise CheckFailed(mistake.message)
    wrong = correct.index(False)
    if fault := fault_of_form(answers[wrong], expected[wrong], cases[wrong].what):
        raise CheckFailed(fault)
    good = [case.what for case, ok in zip(cases, correct, strict=True) if ok]
    bad = [case.what for case, ok in zip(cases, correct, strict=True) if not ok]
    seen = relation(answers, expected, tolerance)
    where = f"wrong for {', '.join(bad)}" + (f"; right for {', '.join(good)}" if good else "")
    raise CheckFailed(f"{seen}: {where}" if seen else where)


def call(solution: Function, case: Case, forbidden: Sequence[str] = ()) -> Answer:
    """Run a solution on a copy of a case's inputs, and turn its failures into `CheckFailed`."""
    inputs = copy.deepcopy(case.inputs)
    result = guarded(lambda: solution(*inputs), case.what, forbidden)
    if not _unchanged(inputs, case.inputs):
        raise CheckFailed(f"your function changes its input in place (seen for {case.what}): work on a copy")
    try:
        return as_parts(result)
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"your function returned {type(result).__name__} for {case.what}, not numbers") from error


def guarded(run: Callable[[], Any], what: str, forbidden: Sequence[str] = ()) -> Any:
    """The result of a student's code; what it raises, and calls to forbidden functions, become `CheckFailed`."""
    try:
        with calls_to(forbidden) as called:
            result = run()
    except MemoryError as error:  # its traceback holds what filled the memory
        raise CheckFailed(f"your function ran out of memory for {what}") from error.with_traceback(None)
    except (Exception, SystemExit) as error:  # whatever a student's code raises is the student's to read
        if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):  # as torch says it
            raise CheckFailed(f"your function ran out of memory for {what}") from error.with_traceback(None)
        if type(error) is NotImplementedError:  # not one of its kinds, as `input()` raises where nobody can answer
            raise CheckFailed("there is nothing here yet: it is your turn") from error
        raise CheckFailed(f"your function raised {type(error).__name__} for {what}: {error}") from error
    if UNWATCHED in called:
        raise CheckFailed(f"your function changes the profiler ({UNWATCHED}), which watches its calls: leave it alone")
    if called:
        raise CheckFailed(f"your function calls {called[0]}, which is the answer already: build it yourself")
    return result


def grading_seed() -> int:
    """The seed of the hidden tests' inputs, which whoever grades chooses."""
    return int(os.environ.get(GRADING_SEED, "1234"))


def passed(name: str) -> None:
    """Say so: one line under the exercise."""
    print(f"ok: {name}")


def _answers_alike(wrong: Function, cases: Sequence[Case], answers: Sequence[Answer], tolerance: float) -> bool:
    for case, answer in zip(cases, answers, strict=True):
        try:
            with np.errstate(all="ignore"):
                theirs = as_parts(wrong(*copy.deepcopy(case.inputs)))
        except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError):
            return False  # a wrong solution may break where another still answers
        if not equal(theirs, answer, tolerance):
            return False
    return True


def _unchanged(after: Any, before: Any) -> bool:
    if isinstance(before, torch.Tensor):
        return after.shape == before.shape and torch.equal(after, before)
    if isinstance(before, torch.nn.Module):
        return all(torch.equal(x, y) for x, y in zip(after.parameters(), before.parameters(), strict=True))
    if isinstance(before, np.ndarray):
        return np.array_equal(after, before)
    if isinstance(before, (list, tuple)):
        return len(after) == len(before) and all(map(_unchanged, after, before))
    return bool(after == before)
