"""A reader's own try at an exercise, between the lesson's cells: it is checked, but never stops the notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .checks import CheckFailed


def attempt(check: Callable[[Callable[..., Any]], None], solution: Callable[..., Any]) -> bool:
    """Run a check on a try, print what it says, and return whether the try is right.

    Args:
        check: one of `pgpt_lib.checks`.
        solution: the reader's function; one that still raises NotImplementedError counts as not begun.
    """
    try:
        check(solution)
    except CheckFailed as failure:
        begun = type(failure.__cause__) is not NotImplementedError
        print(f"not yet: {failure}" if begun else f"{solution.__name__} awaits you: write it and run this cell again")
        return False
    return True
