"""What every command that prints results shares: `--json`, and standard output that holds nothing but the result."""

from __future__ import annotations

import contextlib
import json as jsonlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import typer

from ..files import plain

JsonFlag = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object; logs go to standard error.")]
Emit = Callable[..., None]


def new_app(**settings: Any) -> typer.Typer:
    """A typer application with the project's conventions: plain text, which never breaks a word or a number.

    A command with subcommands makes its `app` with it, as `app = new_app(help="...")`.
    """
    settings = {"no_args_is_help": True, **settings}
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **settings)


def log(message: str) -> None:
    """One line of progress, on standard error."""
    print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def results(json: bool) -> Iterator[Emit]:
    """Keep standard output for the result while a command works.

    Whatever libraries print inside the block, children included, goes to standard error. The block receives
    `emit(data, text="")`, which prints `data` as one JSON object under `--json` and otherwise `text`, or a plain
    listing of `data` when there is no text.

    Args:
        json: the command's `--json` flag.
    """
    real = sys.stdout
    with contextlib.ExitStack() as stack:
        if _is_process_stdout(real):
            real.flush()
            kept = os.dup(1)
            os.dup2(2, 1)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 1)
            real = stack.enter_context(os.fdopen(os.dup(kept), "w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))

        def emit(data: Mapping[str, Any], text: str = "") -> None:
            print(jsonlib.dumps(plain(data)) if json else text or listing(data), file=real, flush=True)

        yield emit


def listing(data: Mapping[str, Any]) -> str:
    """`data` as lines of `name  value`, intervals as `value [low, high]`, for a person."""
    flat = dict(_flatten(plain(data)))
    width = max(map(len, flat), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in flat.items())


def _flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list) and len(value) == 3 and all(isinstance(v, float) for v in value):
            yield prefix + name, f"{value[0]:.4f} [{value[1]:.4f}, {value[2]:.4f}]"
        else:
            yield prefix + name, f"{value:.4f}" if isinstance(value, float) else str(value)


def _is_process_stdout(stream: Any) -> bool:
    """Whether `stream` is file descriptor 1 (under a test runner or in a notebook it is not)."""
    try:
        return bool(stream.fileno() == 1)
    except (AttributeError, OSError, ValueError):
        return False
