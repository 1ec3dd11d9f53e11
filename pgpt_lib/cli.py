"""`python -m pgpt_lib`: finds the command, runs it, and turns errors into exit statuses.

0 is success, 2 bad input (one message on standard error that names it), 1 a failure. A command's module is imported
when it is called (see `pgpt_lib.commands`), so that `--help` is quick and a missing module disturbs no other.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from .commands._output import new_app
from .errors import InputError, RunError

COMMANDS = {
    "run": "Execute the notebook series of a profile, or go on with it, and gather the report.",
    "data": "Write or fetch a data set.",
    "score": "Score a file of predictions without a model.",
    "train": "Train outside a notebook.",
    "finetune": "Train a trained model further on tasks or data sets of its own.",
    "evaluate": "Evaluate a trained checkpoint.",
    "estimate": "Say what a profile costs on given hardware, without the hardware.",
    "bench": "Measure speed on this machine, beside what its rates predict.",
    "pretrain": "Pretrain or evaluate the nano backbone.",
    "ask": "Ask a trained model about a picture.",
    "demo": "Ask a trained model in the browser.",
    "sweep": "Run a sweep of trainings (table6, losses, fusion, released_code), or a grid over notebook parameters.",
    "course": "Build, grade and rank a course of the notebooks.",
    "report": "Gather the results of a folder into report.json, index.html and report.md.",
    "compare": "Say which metrics and settings of two reports differ.",
    "site": "Build the series, results, course and API as pages, offline.",
    "setup": "Make the project's environment in .venv, or renew it.",
    "test": "Run the tests.",
    "doctor": "Check versions, device, memory and disk against what each profile needs.",
}
TRACEBACK = "PGPT_TRACEBACK"


class LazyGroup(TyperGroup):
    """The commands of `COMMANDS` whose modules exist, imported on demand."""

    def list_commands(self, ctx: Any) -> list[str]:
        folder = Path(__file__).parent / "commands"
        return [name for name in COMMANDS if (folder / f"{name}.py").exists()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        return load_command(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a message about a bad value names the value, which typer's own leaves out."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            value = _given(ctx.obj, error.param.opts if error.param else [])
            if value is not None and repr(value) not in error.message:
                error.message += f" (given: {value!r})"
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def load_command(name: str) -> Any:
    """The command of `pgpt_lib/commands/NAME.py`: its `app` (subcommands) or the function of the same name."""
    module = importlib.import_module(f"pgpt_lib.commands.{name}")
    app = getattr(module, "app", None)
    if app is None:
        app = new_app(no_args_is_help=False)
        app.command(name, help=COMMANDS[name])(getattr(module, name))
    command = typer.main.get_command(app)
    command.name = name
    return command


app = new_app(cls=LazyGroup)


@app.callback()
def root() -> None:
    """PerceptionGPT as a notebook series: boxes and masks through one dynamic token."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    given = list(sys.argv[1:] if args is None else args)
    try:
        typer.main.get_command(app)(args=given, prog_name="python -m pgpt_lib", obj=given)
    except InputError as error:
        _fail(error, str(error), 2)
    except RunError as error:
        _fail(error, str(error), 1)
    except Exception as error:  # whatever else went wrong is a failure, told in one line like any other
        _fail(error, f"{type(error).__name__}: {error} (set {TRACEBACK}=1 to see where)", 1)


def _given(arguments: Sequence[str], names: Sequence[str]) -> str | None:
    """The value that follows one of an option's names on the command line."""
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else following
    return None


def _fail(error: Exception, message: str, status: int) -> None:
    if os.environ.get(TRACEBACK):
        raise error
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)
