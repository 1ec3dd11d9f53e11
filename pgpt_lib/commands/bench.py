"""`python -m pgpt_lib bench`: decode times measured here, beside what the machine's own rates predict."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ._output import JsonFlag, log, new_app, results

app = new_app(help="Measure speed on this machine.")


@app.callback()
def bench() -> None:
    """Measure speed on this machine."""


@app.command()
def decode(
    llm: Annotated[list[str] | None, typer.Option(help="A language model; may be given again.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="The most that one row's measurement takes.")] = 30.0,
    json: JsonFlag = False,
) -> None:
    """Seconds until a box or mask is decoded: representations, cache on and off, measured and predicted."""
    with results(json) as emit:
        from ..benchmark.suite import decode_rows

        found = decode_rows(llm or ["nano", "smollm2-135m"], seconds, log)
        emit(found, _text(found))


def _text(found: dict[str, Any]) -> str:
    """The rows for a person."""
    lines = [f"{'':<44}{'tokens':>7}{'measured':>12}{'predicted':>12}{'ratio':>7}"]
    for row in found["rows"]:
        name = f"{row['llm']} {row['representation']} {row['kind']} cache {'on' if row['cache'] else 'off'}"
        measured, predicted = row["measured"][0] * 1e3, row["predicted"] * 1e3
        lines.append(f"{name:<44}{row['tokens']:>7}{measured:>9.1f} ms{predicted:>9.1f} ms{row['ratio']:>7.2f}")
    lines += [row["explanation"] for row in found["rows"] if row["explanation"]]
    return "\n".join(lines + [f"{llm}: skipped, {reason}" for llm, reason in found["skipped"].items()])
