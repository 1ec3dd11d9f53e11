"""All rows of `bench decode`, in one process, so that their ratios mean something."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..adapters import base_model
from ..backbones import resolve
from ..errors import InputError
from ..representations import REPRESENTATIONS
from .decoding import cases, row
from .machine import INNER, calibrated, flop_rate


def decode_rows(llms: Sequence[str], budget: float, log: Callable[[str], None]) -> dict[str, Any]:
    """Rows for every language model, representation, kind and cache.

    Args:
        llms: names of backbones; one that is not to be had is skipped with the reason.
        budget: seconds that one row's measurement may take.

    Returns:
        `rows`, what was `skipped` and why, and the `machine`: threads, FLOP a second, calibrated rates.

    Raises:
        InputError: none of the language models is to be had.
    """
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    overhead = {}
    for llm in llms:
        try:
            resolve(llm)
        except InputError as reason:
            skipped[llm] = str(reason)
            continue
        for case in cases(llm, tuple(REPRESENTATIONS)):
            attention = base_model(case.model.llm).config._attn_implementation
            rates = calibrated(attention)
            overhead[attention] = {"seconds_a_call": rates.call, "seconds_a_byte": rates.byte}
            for cached in (True, False):
                rows.append(row(case, llm, cached, rates, budget))
                log(f"{llm} {case.representation} {case.kind} cache={cached}: ratio {rows[-1]['ratio']:.2f}")
    if not rows:
        raise InputError("; ".join(skipped.values()))
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "flop_a_second": {str(inner): flop_rate(inner) for inner in INNER},
        "calibrated": overhead,
    }
    return {"rows": rows, "skipped": skipped, "machine": machine}
