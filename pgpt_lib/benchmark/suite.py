"""What commands and notebooks call: all rows of `bench decode`, in one process, so that their ratios mean something.

`decode_rows` and `llm_name` keep their names and arguments; `full_scale.table7` and `training.train_rows` are the other
two doors of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .. import project
from ..adapters import base_model
from ..backbones import BACKBONES, resolve
from ..errors import InputError
from ..representations import REPRESENTATIONS
from .comparison import explain, noise
from .decoding import cases, row, target
from .machine import INNER, MOST_PIECES, ROWS, bandwidth, calibrated, flop_rate


def llm_name(given: str) -> str:
    """A backbone's name from its beginning, as `smollm2`; a folder or hub name stays.

    Raises:
        InputError: no language model's name starts so.
    """
    names = [name for name, spec in BACKBONES.items() if spec.kind == "llm"]
    if given in names or "/" in given or "." in given:
        return given
    found = [name for name in names if name.startswith(given)]
    if len(found) != 1:
        raise InputError(f"unknown language model {given!r}; there are {', '.join(names)}, or give a folder")
    return found[0]


def decode_rows(
    llms: Sequence[str], budget: float, log: Callable[[str], None], device: str = "cpu", tower: str | None = None
) -> dict[str, Any]:
    """Rows for every language model, representation, kind and cache.

    Args:
        llms: names of backbones; one that is not to be had is skipped with the reason.
        budget: seconds that one row may take, unless its fewest repeats take longer.
        log: gets a line a row.
        device: of torch, where everything runs and is calibrated.
        tower: name of the vision tower in place of a profile's own, for machines that lack that.

    Returns:
        `rows`, the `seconds_a_row` that were given, how many rows meet the `target`, the run's `noise`, what was
        `skipped` and why, and the `machine`: threads, FLOP and bytes a second, calibrated rates.

    Raises:
        InputError: none of the language models is to be had.
    """
    with torch.device(device):
        return _decode_rows(llms, budget, log, tower)


def _decode_rows(llms: Sequence[str], budget: float, log: Callable[[str], None], tower: str | None) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    overhead = {}
    for llm in llms:
        try:
            resolve(llm)
        except InputError as reason:
            skipped[llm] = str(reason)
            continue
        for case in cases(llm, tuple(REPRESENTATIONS), vision=tower):
            attention = base_model(case.model.llm).config._attn_implementation
            rates = calibrated(attention)
            overhead[attention] = {"seconds_a_call": rates.call, "seconds_a_byte": rates.byte}
            for cached in (True, False):
                rows.append(row(case, llm, cached, rates, budget))
                log(f"{llm} {case.representation} {case.kind} cache={cached}: ratio {rows[-1]['ratio']:.2f}")
    if not rows:
        raise InputError("; ".join(skipped.values()))
    heard = noise(rows)
    explained = [one | {"explanation": explain(one, heard["by_llm"][one["llm"]])} for one in rows]
    found = {
        "flop_a_second": {str(inner): flop_rate(ROWS[0], inner, 1) for inner in INNER},
        "bytes_a_second": {str(pieces): bandwidth(pieces) for pieces in (1, MOST_PIECES)},
        "calibrated": overhead,
    }
    about = {"seconds_a_row": budget, "target": target(rows), "noise": heard, "skipped": skipped}
    return {"rows": explained, **about, "machine": described() | found}


def described(device: torch.device | None = None) -> dict[str, Any]:
    """The machine as far as times depend on it; by default with torch's default device."""
    device = device or torch.get_default_device()
    cuda = device.type == "cuda"
    machine = project.machine()
    return {
        "processor": torch.cuda.get_device_name(device) if cuda else machine["processor"],
        "instructions": None if cuda else machine["instructions"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
