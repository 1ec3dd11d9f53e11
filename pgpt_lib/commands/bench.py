"""`python -m pgpt_lib bench`: speed measured here, beside what the machine's own rates predict or allow."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..errors import InputError
from ._output import JsonFlag, log, new_app, results

app = new_app(help="Measure speed on this machine.")


@app.callback()
def bench() -> None:
    """Measure speed on this machine."""


@app.command()
def decode(
    llm: Annotated[list[str] | None, typer.Option(help="nano, smollm2 or another; may be given again.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of a row, unless its fewest repeats take longer.")] = 30.0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    predict: Annotated[
        bool, typer.Option("--predict", help="Measure nothing: predict Table 7 at 7B and 13B on other cards.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Seconds until a box or mask is decoded: representations, cache on and off, measured and predicted."""
    with results(json) as emit:
        if predict:
            from ..benchmark.full_scale import table7

            found = table7()
            emit(found, _predicted_text(found))
            return
        import torch

        from ..benchmark.suite import decode_rows, llm_name

        if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
            raise InputError(f"device is {device!r}; cpu, or cuda where there is a GPU")
        found = decode_rows([llm_name(name) for name in llm or ["nano", "smollm2"]], seconds, log, device)
        emit(found, _text(found))


@app.command()
def train(
    profile: Annotated[str, typer.Option(help="Whose training is measured.")] = "cpu",
    steps: Annotated[int, typer.Option(help="Timed steps of each side of a comparison.")] = 6,
    only: Annotated[
        list[str] | None,
        typer.Option(help="gather, pack, bf16, bucket, features, attention, optimiser, compile, plain, bare."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Samples a second and memory with each lever on and off, against the plain loop and the products alone."""
    with results(json) as emit:
        from ..benchmark.training import train_rows
        from ..config import load_profile

        found = train_rows(load_profile(profile), steps, only or (), log)
        emit(found, _train_text(found))


def _text(found: dict[str, Any]) -> str:
    """The rows for a person."""
    lines = [f"{'':<44}{'tokens':>7}{'measured':>12}{'predicted':>12}{'ratio':>7}"]
    for row in found["rows"]:
        name = f"{row['llm']} {row['representation']} {row['kind']} cache {'on' if row['cache'] else 'off'}"
        measured, predicted = row["measured"][0] * 1e3, row["predicted"] * 1e3
        lines.append(f"{name:<44}{row['tokens']:>7}{measured:>9.1f} ms{predicted:>9.1f} ms{row['ratio']:>7.2f}")
    lines += [row["explanation"] for row in found["rows"] if row["explanation"]]
    lines.append(f"noise: a single token, measured twice, differs by a factor of up to {found['noise']['largest']:.2f}")
    aim = found["target"]
    lines.append(
        f"{aim['within']} of {aim['of']} rows within 25 %; target {aim['wanted']:.0%} of rows: "
        f"{'met' if aim['met'] else 'not met'}"
    )
    return "\n".join(lines + [f"{llm}: skipped, {reason}" for llm, reason in found["skipped"].items()])


def _predicted_text(found: dict[str, Any]) -> str:
    """Predicted seconds beside the paper's, and the shares."""
    lines = [f"{'':<48}{'tokens':>7}{'predicted':>12}{'paper':>9}"]
    for row in found["rows"]:
        name = f"{row['llm']} {row['gpu']} cache {_switch(row['cache'])} {row['representation']} {row['kind']}"
        lines.append(f"{name:<48}{row['tokens']:>7}{row['predicted']:>10.3f} s{row['paper']:>7.2f} s")
    lines += ["", "time with <vis> as a share of the time with"]
    for share in found["shares"]:
        name = f"{share['of']} {share['kind']}, {share['llm']} {share['gpu']} cache {_switch(share['cache'])}"
        claim = "" if share["claimed"] is None else f", claimed {share['claimed']:.1%}"
        lines.append(f"  {name:<48}{share['predicted']:>8.2%}, its Table 7 {share['table7']:.2%}{claim}")
    return "\n".join(lines)


def _train_text(found: dict[str, Any]) -> str:
    """The comparisons for a person."""
    from ..benchmark.training import told

    default, products = found["default"], found["products"]
    lines = [
        f"{found['profile']}: {default['samples_a_second'][0]:.1f} samples a second, "
        f"{products['flop_a_sample']:.3g} FLOP a sample, {products['flop_a_second'] / 1e9:.1f} GFLOP/s, "
        f"{products['share']:.0%} of what the same products reach alone",
        "",
        f"{'lever':<52}{'on':>9}{'off':>9}{'ratio':>7}{'memory':>8}  same loss, default",
    ]
    for row in found["levers"]:
        if row["skipped"]:
            lines.append(f"{row['title']:<52}skipped: {row['skipped']}")
            continue
        on, off = (row[side]["samples_a_second"][0] for side in ("on", "off"))
        memory = "" if row["memory_ratio"] is None else f"{row['memory_ratio']:.2f}"
        same = "yes" if row["same_loss"] else f"off by {row['loss_difference']:.1%}"
        lines.append(
            f"{row['title']:<52}{on:>9.1f}{off:>9.1f}{row['ratio'][0]:>7.2f}{memory:>8}  {same}, {row['default']}"
        )
        if row.get("compile_seconds") is not None:
            lines.append(f"  {told(row)}")
    for name, loop in found["loops"].items():
        lines.append(f"the default is {loop['ratio'][0]:.2f} times as fast as the {name} loop")
    lines += ["", "shares of a step: " + ", ".join(f"{k} {v:.0%}" for k, v in found["operations"]["shares"].items())]
    return "\n".join(lines)


def _switch(on: bool) -> str:
    return "on" if on else "off"
