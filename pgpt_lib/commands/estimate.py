"""`python -m pgpt_lib estimate`: what a profile costs on given hardware, without the hardware."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from ..config import load_profile
from ._output import JsonFlag, log, results


class Strategy(StrEnum):
    """How weights, gradients and moments lie on the cards."""

    ddp = "ddp"
    fsdp = "fsdp"
    zero2 = "zero2"


def estimate(
    profile: Annotated[str, typer.Option(help="Name of the settings.")] = "paper-7b",
    gpu: Annotated[str, typer.Option(help="A card, such as a100-80, h100-80, a40, l4, rtx3090.")] = "a100-80",
    gpus: Annotated[int, typer.Option(help="How many of them.")] = 1,
    strategy: Annotated[Strategy, typer.Option(help="How the cards share weights and moments.")] = Strategy.ddp,
    utilisation: Annotated[float, typer.Option(help="Share of the card's peak that is reached.")] = 0.4,
    text_tokens: Annotated[int | None, typer.Option(min=1, help="Of a dialogue; by default from data.turns.")] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure here what the estimate predicts.")] = False,
    json: JsonFlag = False,
) -> None:
    """Parameters, memory by part, FLOP, hours, tokens a second and disk; nothing is downloaded or trained."""
    with results(json) as emit:
        if calibrate:
            from ..estimate.calibration import CASES, calibrated

            found = {name: calibrated(name, log) for name in CASES}
            emit(found)
            return
        from ..estimate.plan import estimate as plan

        found = plan(load_profile(profile), gpu, gpus, strategy.value, utilisation, text_tokens)
        emit(found, _text(found))


def _text(found: Mapping[str, Any]) -> str:
    """The plan for a person."""
    card, time, assumed = found["gpu"], found["time"], found["assumptions"]
    lines = [f"{found['profile']} on {card['count']} x {card['name']}, {found['strategy']}", ""]
    lines.append(f"{'parameters':<18}{'all':>16}{'trained':>14}")
    for part in [*found["parameters"]]:
        lines.append(f"  {part:<16}{found['parameters'][part]:>16,}{found['trainable'].get(part, 0):>14,}")
    table6, code = (" to ".join(f"{value / 1e6:.0f}M" for value in pair) for pair in found["compare"].values())
    lines.append(f"  trained share {found['trainable']['share']:.2%}; the paper's Table 6: {table6}; its code: {code}")
    memory = found["memory"]
    lines += ["", f"memory of a card of {card['memory_gb']:g} GB: {'fits' if memory['fits'] else 'does not fit'}"]
    lines += [f"  {part:<16}{value / 1e9:>16.2f} GB" for part, value in memory.items() if part != "fits"]
    lines += ["", f"FLOP a step {found['flop']['a_step']:.3g}, repeated {found['flop']['recomputed']:.3g}"]
    lines.append(
        f"time {time['seconds_a_step']:.2f} s a step, {time['hours']:.1f} hours for {assumed['steps']:,} steps "
        f"({time['gpu_hours']:.0f} GPU hours), {time['tokens_a_second']:,.0f} tokens a second"
    )
    lines.append(f"at {assumed['utilisation']:.0%} of the peak, {time['mfu']:.0%} without what is repeated")
    lines.append("disk " + ", ".join(f"{part} {value / 1e9:.1f} GB" for part, value in found["disk"].items()))
    lines.append(
        f"a dialogue: {assumed['image_tokens']} tokens of the image, {assumed['text_tokens']} of text; "
        f"{assumed['dialogues_a_gpu']} dialogues a card at once"
    )
    return "\n".join(lines)
