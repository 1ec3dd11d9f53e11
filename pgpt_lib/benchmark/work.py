"""What a computation asks of the machine, counted operation by operation while it runs once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class Product(NamedTuple):
    """A matrix product or attention: [rows, inner] times [inner, anything], maybe many of them."""

    flop: int
    moved: int  # bytes of operands and result
    rows: int
    inner: int


@dataclass
class Work:
    """Counts of one run.

    Attributes:
        calls: operations, views included; each costs Python and dispatch whatever its size.
        products: every matrix product and attention.
        other_bytes: read and written by everything else, views left out.
    """

    calls: int = 0
    products: list[Product] = field(default_factory=list)
    other_bytes: int = 0

    @property
    def flop(self) -> int:
        """Of the matrix products."""
        return sum(product.flop for product in self.products)

    @property
    def product_bytes(self) -> int:
        """What the matrix products read and write."""
        return sum(product.moved for product in self.products)


def count_work(run: Callable[[], Any]) -> Work:
    """Run once without gradients and count."""
    counter = _Counter()
    with torch.no_grad(), counter:
        run()
    return counter.work


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.work.calls += 1
        packet = func.overloadpacket
        if packet is CPU_ATTENTION:
            query, key = args[0], args[1]
            flop = 4 * query.numel() * key.shape[-2]
        elif packet in flop_registry:
            flop = int(flop_registry[packet](*args, **(kwargs or {}), out_val=out))
        elif func.is_view:
            return out
        else:
            self.work.other_bytes += _bytes((args, kwargs)) + _bytes(out)
            return out
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.dim() > 1]
        weight = operands[-1]  # [inner, n] of a product, [out, in, h, w] of a convolution
        result = next(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        if packet is torch.ops.aten.convolution:
            rows, inner = result.numel() // result.shape[1], weight[0].numel()
        else:
            rows, inner = result.shape[-2], weight.shape[-2]
        self.work.products.append(Product(flop, _bytes((args, kwargs)) + _bytes(out), rows, inner))
        return out


def _bytes(tree: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
