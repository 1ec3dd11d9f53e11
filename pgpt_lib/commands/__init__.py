"""One command of `python -m pgpt_lib` a module.

A module `NAME.py` holds a function `NAME` whose typer annotations are the command's options, or a `typer.Typer`
called `app` when the command has subcommands. `pgpt_lib.cli` imports a module when its command is called, so heavy
imports (torch, transformers) belong inside the function. Results go through `_output.results`.
"""
