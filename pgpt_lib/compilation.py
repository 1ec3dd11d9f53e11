"""`torch.compile` in training: the language model's blocks, one graph for all of them and for every length.

Compiled is each block's call, in place, so that modules, parameters and checkpoints keep their names. The blocks differ
in their weights alone and share one graph, which takes a block's time to compile, not the model's. Its sizes are free
from the first step on (`dynamic`): dialogues have many lengths, and a training that is gone on with gets the same graph
whatever length it meets first. FSDP divides, and checkpointing repeats, the same blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from .errors import RunError

if TYPE_CHECKING:
    from .model import PerceptionGPT

BACKEND: str | Callable[..., Any] = "inductor"


def blocks_of(model: PerceptionGPT) -> list[nn.Module]:
    """The transformer blocks of the language model."""
    return list(cast(Iterable[nn.Module], model.decoder.layers))


def compile_blocks(model: PerceptionGPT) -> None:
    """Have the blocks compiled when they are first called, in place."""
    for block in blocks_of(model):
        block.compile(dynamic=True, backend=BACKEND)


def fault_here(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device on this machine (no compiler, say), in a line; None where it works."""
    values = torch.ones(3, 5, device=device, requires_grad=True)
    try:
        torch.compile(_probe, dynamic=True, backend=BACKEND)(values).backward()
    except Exception as error:  # whatever a missing or broken compiler leads to
        return reason(error)
    return None


def reason(error: Exception) -> str:
    """What an error of torch.compile is about, in a line: that of the compiler, which torch wraps in one of its own."""
    text = str(getattr(error, "inner_exception", error)).strip() or type(error).__name__
    return text.splitlines()[0]


def _probe(values: Tensor) -> Tensor:
    return (values * 2).tanh().sum()


@contextmanager
def compiled(model: PerceptionGPT, wanted: bool, device: torch.device, say: Callable[[str], None]) -> Iterator[None]:
    """The blocks compiled while the block of the `with` runs, if it is wanted and this machine can.

    Args:
        model: changed in place, and left as it was.
        wanted: `training.compile`.
        device: that the model is on.
        say: told why a model is not compiled though it is wanted.

    Raises:
        RunError: the machine can compile, but not this model.
    """
    fault = fault_here(device) if wanted else None
    if fault:
        say(f"training.compile: torch.compile does not work here ({fault}); training goes on without it")
    if fault or not wanted:
        yield
        return
    compile_blocks(model)
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        way = "set training.compile to false in the profile, and go on with --resume"
        raise RunError(f"torch.compile does not take this model: {reason(error)}; {way}") from error
    finally:
        for block in blocks_of(model):
            block._compiled_call_impl = None


@contextmanager
def eagerly(wanted: bool) -> Iterator[None]:
    """Call compiled blocks uncompiled, where `wanted`: decoding, with its growing cache, would compile them anew."""
    if not wanted:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
