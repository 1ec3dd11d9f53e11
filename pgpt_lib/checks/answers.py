"""What a solution returned, as arrays, and how it differs from what is right, in words and without giving it away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

Answer = list[np.ndarray | None]  # a solution's result, part by part


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


def fault_of_form(answer: Answer, expected: Answer, what: str) -> str:
    """What is wrong with an answer before its numbers count: nothing, another shape, not finite. Empty if nothing is.

    Args:
        answer: to the inputs that `what` describes.
        expected: the right one.
        what: as "boxes that do not touch".
    """
    if len(answer) != len(expected):
        given, asked = (f"{n} result{'s' * (n != 1)}" for n in (len(answer), len(expected)))
        form = ": return them as a tuple" if len(expected) > 1 else ""
        return f"your function returned {given} for {what}, not {asked}{form}"
    for mine, right in zip(answer, expected, strict=True):
        if mine is None and right is not None:
            return f"your function returned None for {what}: is the return statement missing?"
        if mine is not None and right is None:
            return f"your function returned numbers for {what}, where the answer is None"
        if mine is None or right is None:
            continue
        if mine.shape != right.shape:
            return f"your function returned shape {mine.shape} for {what}, not {right.shape}{_why(mine, right)}"
        if not np.isfinite(mine).all():
            return f"your function returned NaN or infinity for {what}"
    return ""


def relation(answers: Sequence[Answer], expected: Sequence[Answer], tolerance: float) -> str:
    """What wrong numbers have in common with the right ones, over all cases; empty where nothing is seen.

    Args:
        answers: a solution's, case by case.
        expected: the right ones.
        tolerance: as in `equal`.
    """
    pairs = []
    for mine, right in zip(answers, expected, strict=True):
        if len(mine) != len(right) or any(x is None or y is None for x, y in zip(mine, right, strict=True)):
            return ""
        pairs.append([np.concatenate([np.ravel(part) for part in side if part is not None]) for side in (mine, right)])
    if any(a.shape != b.shape for a, b in pairs):
        return ""
    a, b = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    if len(b) < 3 or not np.isfinite(a).all() or np.ptp(b) <= 10 * tolerance:
        return ""

    def near(x: np.ndarray, y: np.ndarray) -> bool:
        return np.allclose(x, y, rtol=tolerance, atol=tolerance)

    if near(a, -b):
        return "your numbers have the wrong sign"
    if near(a, 1 - b):
        return "your numbers are 1 minus what is asked for"
    if near(a, (a @ b) / (b @ b) * b) and np.ptp(a) > 10 * tolerance:
        return "your numbers are all off by one and the same factor"
    if near(a - b, (a - b).mean()):
        return "your numbers are all off by one and the same amount"
    if all(near(np.sort(x), np.sort(y)) for x, y in pairs):
        return "your numbers are right, but stand in the wrong places"
    return ""


def _why(mine: np.ndarray, right: np.ndarray) -> str:
    """What the shape of an answer says about its mistake."""
    if mine.ndim == 0:
        return ": a single number, where each has its own; did you take a mean or a sum over too much?"
    if right.ndim == 0:
        return ": one number is asked for; is a mean or a sum missing?"
    if mine.shape == right.shape[::-1]:
        return ": its axes are in the wrong order"
    if mine.size == right.size:
        return ": as many numbers, in another form"
    return ""


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
