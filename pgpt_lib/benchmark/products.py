"""The matrix products of a computation, and how fast the machine does the same ones alone.

What a training step could reach at most is not the peak of the data sheet but what these very shapes, strides and types
reach when nothing else is in the way.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .machine import timed

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution, aten.convolution_backward)
REPEATS = 5


@dataclass(frozen=True)
class Layout:
    """A tensor without its numbers."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> Layout:
        """A tensor's layout."""
        return cls(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype, tensor.device)

    def tensor(self) -> Tensor:
        """Random numbers in this layout; expanded dimensions stay expanded."""
        size = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        return torch.randn(size, device=self.device).to(self.dtype).as_strided(self.shape, self.stride)


@dataclass(frozen=True)
class Product:
    """One kind of matrix product: the operation, its operands with layouts in place of tensors, and its FLOP."""

    operation: Any
    operands: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]
    flop: int

    def runner(self) -> Callable[[], Any]:
        """Runs it on random numbers."""
        operands = [o.tensor() if isinstance(o, Layout) else o for o in self.operands]
        return lambda: self.operation(*operands, **dict(self.options))


class ProductCounter(TorchDispatchMode):
    """While active, counts the matrix products, backward passes included. `found` maps each kind to its number."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.overloadpacket in PRODUCTS:
            flop = int(flop_registry[func.overloadpacket](*args, **kwargs, out_val=out))
            options = tuple(sorted(kwargs.items()))
            self.found[Product(func, tuple(_frozen(a) for a in args), options, flop)] += 1
        return out


def _frozen(value: Any) -> Any:
    """A hashable stand-in for an operand."""
    if isinstance(value, Tensor):
        return Layout.of(value)
    return tuple(value) if isinstance(value, list) else value


def total_flop(found: Mapping[Product, int]) -> int:
    """FLOP of all counted products; multiply and add are two."""
    return sum(product.flop * number for product, number in found.items())


def seconds_alone(found: Mapping[Product, int], time: Callable[[Callable[[], Any]], float] | None = None) -> float:
    """Seconds of all counted products, each kind timed alone, one after the other.

    Args:
        found: kinds and numbers.
        time: seconds of one run; by default the median of a few.
    """

    def median(run: Callable[[], Any]) -> float:
        return statistics.median(timed(run, REPEATS, 1))

    return sum(number * (time or median)(product.runner()) for product, number in found.items())
