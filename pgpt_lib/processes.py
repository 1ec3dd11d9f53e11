"""Several processes, one a device: which device, whose share of the work, and the shares put together again."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
import torch.distributed.tensor

from .errors import RunError

Item = TypeVar("Item")


def best_device() -> torch.device:
    """This process's accelerator where there is one, else the CPU."""
    if not torch.accelerator.is_available():
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator()
    return torch.device(str(kind), int(os.environ.get("LOCAL_RANK", torch.accelerator.current_device_index())))


def join_processes() -> None:
    """Meet the other processes that a launcher started beside this one; without a launcher nothing happens."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.distributed.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=not torch.accelerator.is_available())
        atexit.register(_part)


def _part() -> None:
    """Take leave in order: a process that ends with its connections open may be aborted on the way out."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def place() -> tuple[int, int]:
    """(index of this process, number of processes); (0, 1) unless processes have met."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in full. One that FSDP has divided over processes is put together, which all of them must ask for."""
    if torch.distributed.is_available() and isinstance(tensor, torch.distributed.tensor.DTensor):
        return tensor.full_tensor()
    return tensor


def divided_as(tensor: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
    """A full tensor divided over processes as `pattern` is, or on the device of `pattern` where that is not divided."""
    tensor = tensor.to(pattern.device)
    if torch.distributed.is_available() and isinstance(pattern, torch.distributed.tensor.DTensor):
        return torch.distributed.tensor.distribute_tensor(tensor, pattern.device_mesh, pattern.placements)
    return tensor


def own_share(keys: Sequence[str]) -> list[int]:
    """Indices of the items that this process works on: all items of a key (an image, say) go to one process.

    Every item belongs to exactly one process, and shares differ by one key at most.
    """
    index, count = place()
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [i for i, key in enumerate(keys) if order[key] % count == index]


def merged(done: Mapping[int, Item], total: int) -> list[Item]:
    """Everybody's results, in order, in every process.

    Args:
        done: this process's results by index.
        total: how many there are in all.

    Raises:
        RunError: an item is missing, or was worked on twice.
    """
    parts: list[Mapping[int, Item]] = [done]
    if place()[1] > 1:
        from accelerate.utils import gather_object

        parts = gather_object([dict(done)])
    found = [i for part in parts for i in part]
    if sorted(found) != list(range(total)):
        raise RunError(f"{len(found)} results for {total} samples: each must be worked on by exactly one process")
    results = {i: result for part in parts for i, result in part.items()}
    return [results[i] for i in range(total)]
