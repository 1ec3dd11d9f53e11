"""`python -m pgpt_lib estimate`: what a profile costs on given hardware, without the hardware."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

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
        from ..estimate.text import as_text

        found = plan(load_profile(profile), gpu, gpus, strategy.value, utilisation, text_tokens)
        emit(found, as_text(found))
