"""The machine's rates, measured, and the seconds they predict (FLOP rate, bandwidth, overhead a call).

A matrix product takes the longer of its FLOP and its bytes, as in a roofline; every operation costs a call; what is no
product moves bytes. Calls and bytes of the last kind are calibrated on language models of other sizes than the one
that is predicted, in the same process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from ..adapters import base_model, tune
from ..config import LLM
from .work import Product, Work, count_work

SIZES = ((4, 64), (8, 64), (5, 384))  # layers and width of the models that calibrate
LENGTHS = (64, 256)  # positions: of their prefills, and before their single steps
REPEATS, WARM_UP = 12, 3
ROWS = (64, 256)  # of the products that give FLOP rates
INNER = (64, 128, 256, 512, 1024)  # their inner dimensions
PIECE = 1 << 20  # bytes of a matrix in the measurement of the bandwidth
MOST_PIECES = 64  # more than a CPU's caches hold
clock = time.perf_counter  # every time of this package is read from it


def now() -> float:
    """The clock in seconds, once a GPU that is in use has done what was asked of it."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return clock()


def timed(run: Callable[[], Any], repeats: int = REPEATS, warm_up: int = WARM_UP) -> list[float]:
    """Seconds of each of `repeats` runs, after some that do not count."""
    seconds = []
    with torch.no_grad():
        for number in range(warm_up + repeats):
            start = now()
            run()
            if number >= warm_up:
                seconds.append(now() - start)
    return seconds


def flop_rate(rows: int, inner: int, pieces: int) -> float:
    """FLOP a second of products [rows, inner] x [inner, 3 inner] alone, on the default device.

    The right-hand sides take turns and fill `pieces` times `PIECE` bytes: weights that fit no cache come from memory.
    """
    return _flop_rate(rows, inner, min(pieces, MOST_PIECES), str(torch.get_default_device()))


def bandwidth(pieces: int) -> float:
    """Bytes a second at which products of one row read `pieces` matrices of `PIECE` bytes, one after the other."""
    return _bandwidth(min(pieces, MOST_PIECES), str(torch.get_default_device()))


@cache
def _flop_rate(rows: int, inner: int, pieces: int, device: str) -> float:
    left, size = torch.randn(rows, inner), 3 * inner**2
    weights = [torch.randn(3 * inner, inner) for _ in range(max(1, pieces * PIECE // (4 * size)))]

    def multiply() -> None:
        for weight in weights:
            torch.nn.functional.linear(left, weight)

    return 2 * rows * size * len(weights) / statistics.median(timed(multiply, 10, 1))


@cache
def _bandwidth(pieces: int, device: str) -> float:
    side = int((PIECE / 4) ** 0.5)
    matrices = [torch.randn(side, side) for _ in range(pieces)]
    row = torch.randn(1, side)

    def read() -> None:
        for matrix in matrices:
            torch.nn.functional.linear(row, matrix)

    return pieces * 4 * side**2 / statistics.median(timed(read, 10))


@dataclass(frozen=True)
class Rates:
    """What one call costs in seconds, and one byte that is moved outside of products."""

    call: float
    byte: float

    def parts(self, work: Work) -> dict[str, float]:
        """Predicted seconds by cause: `products`, `overhead` of calls, `traffic` of everything else."""
        return {
            "products": product_seconds(work),
            "overhead": self.call * work.calls,
            "traffic": self.byte * work.other_bytes,
        }

    def seconds(self, work: Work) -> float:
        """The prediction."""
        return sum(self.parts(work).values())


def product_seconds(
    work: Work, rate: Callable[[int, int, int], float] = flop_rate, read: Callable[[int], float] = bandwidth
) -> float:
    """Seconds of the matrix products: each as long as its FLOP or its bytes take, whichever is more.

    Args:
        work: counted.
        rate: FLOP a second by rows, inner dimension and the number of pieces that are read in one run.
        read: bytes a second by that number.
    """
    if not work.products:
        return 0.0
    pieces = 1 << max(0, round(np.log2(max(1, work.product_bytes / PIECE))))  # what fits a cache is read faster
    speed = read(pieces)

    def seconds(product: Product) -> float:
        known = rate(_nearest(product.rows, ROWS), _nearest(product.inner, INNER), pieces)
        return max(product.flop / known, product.moved / speed)

    return sum(map(seconds, work.products))


def _nearest(size: int, known: Sequence[int]) -> int:
    """The one of the known sizes whose ratio to `size` is nearest to 1."""
    return min(known, key=lambda other: abs(np.log(other / max(size, 1))))


def fit(observed: Sequence[tuple[Work, float]]) -> Rates:
    """The rates that explain, with the least relative error, what products leave of measured seconds."""
    rows = [(work.calls, work.other_bytes, seconds - product_seconds(work), seconds) for work, seconds in observed]
    table = np.array([[calls / total, moved / total * 1e-4] for calls, moved, _, total in rows])
    left = np.array([max(rest, 0) / total for _, _, rest, total in rows])
    (call, byte), _ = nnls(table, left)
    return Rates(float(call), float(byte) * 1e-4)


def calibrated(attention: str) -> Rates:
    """Rates from small random language models with that implementation of attention, on the default device."""
    return _calibrated(attention, str(torch.get_default_device()))


@cache
def _calibrated(attention: str, device: str) -> Rates:
    observed = []
    for layers, width in SIZES:
        config = LlamaConfig(
            vocab_size=64,
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 32),
            num_key_value_heads=max(1, width // 32),
        )
        with torch.device("cpu"):
            whole = LlamaForCausalLM(config).eval()
        whole.set_attn_implementation(attention)
        model = base_model(tune(whole, LLM(name="calibration"), [])).model.to(device)  # with adapters, as what is timed
        for length in LENGTHS:
            for run in (_prefill(model, length), _step(model, length)):
                observed.append((count_work(run), statistics.median(timed(run))))
    return fit(observed)


def _prefill(model: Any, length: int) -> Callable[[], Any]:
    embeds = torch.randn(1, length, model.config.hidden_size)
    return lambda: _run(model, embeds, length, None)


def _step(model: Any, length: int) -> Callable[[], Any]:
    embeds = torch.randn(1, length + 1, model.config.hidden_size)
    past = DynamicCache(config=model.config)
    with torch.no_grad():
        _run(model, embeds[:, :-1], length, past)

    def run() -> None:
        _run(model, embeds[:, -1:], length + 1, past)
        past.crop(-1)

    return run


def _run(model: Any, embeds: torch.Tensor, length: int, past: DynamicCache | None) -> Any:
    """The last of `length` positions, called as `generation.run_decoder` calls it."""
    mask, positions = torch.ones(1, length, dtype=torch.bool), torch.arange(length - embeds.shape[1], length)[None]
    return model(
        inputs_embeds=embeds, attention_mask=mask, position_ids=positions, cache=past, use_cache=past is not None
    )
