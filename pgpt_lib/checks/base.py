"""How an exercise is checked: by what a solution computes on drawn inputs, never by how it is written.

A check holds a right solution and the wrong ones that people write. Where an answer differs from the right one it is
compared with the wrong ones, and the message names the mistake, not the expected number. Inputs come from a seed, so
that answers cannot be written down in advance.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch

Function = Callable[..., Any]
Answer = list[np.ndarray | None]  # a solution's result, part by part
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
        forbidden: functions that are the answer already, as "pgpt_lib.regions.generalized_iou".

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
    _compare_form(answers[wrong], expected[wrong], cases[wrong].what)
    good = [case.what for case, ok in zip(cases, correct, strict=True) if ok]
    bad = [case.what for case, ok in zip(cases, correct, strict=True) if not ok]
    raise CheckFailed(f"wrong for {', '.join(bad)}" + (f"; right for {', '.join(good)}" if good else ""))


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
        if type(error) is NotImplementedError:  # not one of its kinds, as `input()` raises where nobody can answer
            raise CheckFailed("there is nothing here yet: it is your turn") from error
        raise CheckFailed(f"your function raised {type(error).__name__} for {what}: {error}") from error
    if called:
        raise CheckFailed(f"your function calls {called[0]}, which is the answer already: build it yourself")
    return result


@contextlib.contextmanager
def calls_to(names: Sequence[str]) -> Iterator[list[str]]:
    """Notes which of some functions are called inside, by whatever name and from however deep.

    Functions are told by their code, so that an alias is no way round. A compiled one has no code: it is replaced in
    its module meanwhile, and seen when it is called from there, not by an alias that was made before.
    """
    called: list[str] = []
    codes: dict[CodeType, str] = {}
    with contextlib.ExitStack() as replaced:
        for name in names:
            module, _, short = name.rpartition(".")
            function = inspect.unwrap(pkgutil.resolve_name(name))
            if inspect.isfunction(function):
                codes[function.__code__] = short
            else:
                owner = pkgutil.resolve_name(module)
                replaced.callback(setattr, owner, short, function)
                setattr(owner, short, _noted(function, short, called))

        def note(frame: FrameType, event: str, argument: Any) -> None:
            if event == "call" and frame.f_code in codes:
                called.append(codes[frame.f_code])

        before = sys.getprofile()
        if codes:
            sys.setprofile(note)
        try:
            yield called
        finally:
            if codes:
                sys.setprofile(before)


def _noted(function: Function, name: str, called: list[str]) -> Function:
    """A function that puts its name on a list whenever it is called."""

    def instead(*args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return function(*args, **kwargs)

    return instead


def grading_seed() -> int:
    """The seed of the hidden tests' inputs, which whoever grades chooses."""
    return int(os.environ.get(GRADING_SEED, "1234"))


def passed(name: str) -> None:
    """Say so: one line under the exercise."""
    print(f"ok: {name}")


def as_parts(result: Any) -> Answer:
    """A result as float64 arrays: a tuple has a part for each element, anything else is one part; None stays None."""
    return [_as_array(part) for part in result] if isinstance(result, tuple) else [_as_array(result)]


def equal(a: Answer, b: Answer, tolerance: float) -> bool:
    """Whether two answers have the same parts, shapes and, within the tolerance, numbers."""
    if len(a) != len(b):
        return False
    pairs = list(zip(a, b, strict=True))
    if any((x is None) != (y is None) for x, y in pairs):
        return False
    return all(
        x.shape == y.shape and np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)
        for x, y in pairs
        if x is not None and y is not None
    )


def _as_array(value: Any) -> np.ndarray | None:
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().double().numpy()
    if isinstance(value, (list, tuple)):
        parts = [_as_array(v) for v in value]
        if any(p is None for p in parts):
            raise TypeError("None among the numbers")
        return np.asarray(parts, np.float64)
    return np.asarray(value, np.float64)


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


def _compare_form(answer: Answer, expected: Answer, what: str) -> None:
    """Speak of the form of an answer before its numbers: nothing, another shape, not finite."""
    if len(answer) != len(expected):
        raise CheckFailed(f"your function returned {len(answer)} results for {what}, not {len(expected)}")
    for mine, right in zip(answer, expected, strict=True):
        if mine is None and right is not None:
            raise CheckFailed(f"your function returned None for {what}: is the return statement missing?")
        if mine is not None and right is None:
            raise CheckFailed(f"your function returned numbers for {what}, where the answer is None")
        if mine is not None and right is not None:
            if mine.shape != right.shape:
                raise CheckFailed(f"your function returned shape {mine.shape} for {what}, not {right.shape}")
            if not np.isfinite(mine).all():
                raise CheckFailed(f"your function returned NaN or infinity for {what}")


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
