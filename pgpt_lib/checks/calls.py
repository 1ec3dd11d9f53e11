"""Notices which functions a solution calls, so that the library's own answer is none."""

from __future__ import annotations

import contextlib
import inspect
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any

OWN = __name__.partition(".")[0] + "."


@contextlib.contextmanager
def calls_to(names: Sequence[str]) -> Iterator[list[str]]:
    """Notes which of some functions are called inside, by whatever name and from however deep.

    Functions are told by their code, so that an alias is no way round. One of the library whose module is not loaded
    yet is told by where it is defined: nothing is loaded for a check alone. A compiled one has no code: it is replaced
    in its module meanwhile, and seen when it is called from there, not by an alias that was made before. Threads that
    are started inside are watched too; threads that were there before and other processes are not.

    Args:
        names: as "pgpt_lib.boxes.generalized_iou"; of the library, where they are defined or imported from.
    """
    called: list[str] = []
    codes: dict[CodeType, str] = {}
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
                codes[function.__code__] = short
            else:
                owner = pkgutil.resolve_name(module)
                replaced.callback(setattr, owner, short, function)
                setattr(owner, short, _noted(function, short, called))
        shorts = {name.rpartition(".")[2] for name in unloaded}

        def note(frame: FrameType, event: str, argument: Any) -> None:
            if event != "call":
                return
            code = frame.f_code
            if code in codes:
                called.append(codes[code])
            elif code.co_name in shorts and f"{frame.f_globals.get('__name__')}.{code.co_qualname}" in unloaded:
                called.append(code.co_name)

        before, before_in_threads = sys.getprofile(), threading.getprofile()
        if codes or unloaded:
            sys.setprofile(note)
            threading.setprofile(note)
        try:
            yield called
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
