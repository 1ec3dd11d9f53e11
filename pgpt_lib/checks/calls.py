"""Notices which functions a solution calls, so that the library's own answer is none."""

from __future__ import annotations

import contextlib
import inspect
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

OWN = __name__.partition(".")[0] + "."
UNWATCHED = "sys.setprofile"  # stands among the calls when the watching was changed


@contextlib.contextmanager
def calls_to(names: Sequence[str]) -> Iterator[list[str]]:
    """Notes which of some functions are called inside, by whatever name and from however deep.

    Functions are told by where their code was written, so that neither an alias nor a renamed copy is a way round. One
    of the library whose module is not loaded yet is told by its names: nothing is loaded for a check alone. A compiled
    one has no code: it is replaced in its module meanwhile, and seen when it is called from there, not by an alias that
    was made before. Threads that are started inside are watched too; threads that were there before and other
    processes are not. Who takes the watching away is noticed; who is determined will find another way.

    Args:
        names: as "pgpt_lib.boxes.generalized_iou"; of the library, where they are defined or imported from.
    """
    called: list[str] = []
    codes: dict[tuple[str, int], str] = {}
    unloaded: set[str] = set()
    with contextlib.ExitStack() as replaced:
        for name in names:
            module, _, short = name.rpartition(".")
            function = _loaded(name) if name.startswith(OWN) else pkgutil.resolve_name(name)
            if function is None:
                unloaded.add(name)
                continue
            function = inspect.unwrap(function)
            if inspect.isfunction(function):
                codes[function.__code__.co_filename, function.__code__.co_firstlineno] = short
            else:
                owner = pkgutil.resolve_name(module)
                replaced.callback(setattr, owner, short, function)
                setattr(owner, short, _noted(function, short, called))
        shorts = {name.rpartition(".")[2] for name in unloaded}

        setprofile, here = sys.setprofile, sys._getframe().f_code

        def note(frame: FrameType, event: str, argument: Any) -> None:
            code = frame.f_code
            if event == "c_call" and argument is setprofile and code != here:  # a check within a check may
                called.append(UNWATCHED)
            if event != "call":
                return
            where = code.co_filename, code.co_firstlineno
            if where in codes:
                called.append(codes[where])
            elif code.co_name in shorts and f"{frame.f_globals.get('__name__')}.{code.co_qualname}" in unloaded:
                called.append(code.co_name)

        before, before_in_threads = sys.getprofile(), threading.getprofile()
        if codes or unloaded:
            sys.setprofile(note)
            threading.setprofile(note)
        try:
            yield called
            if (codes or unloaded) and sys.getprofile() is not note:
                called.append(UNWATCHED)
        finally:
            if codes or unloaded:
                sys.setprofile(before)
                threading.setprofile(before_in_threads)


def _loaded(name: str) -> Any:
    """A function of a module that is loaded already; None of another."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        found = sys.modules.get(".".join(parts[:length]))
        if found is not None:
            for part in parts[length:]:
                found = getattr(found, part, None)
            return found
    return None


def _noted(function: Callable[..., Any], name: str, called: list[str]) -> Callable[..., Any]:
    """A function that puts its name on a list whenever it is called."""

    def instead(*args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return function(*args, **kwargs)

    return instead
