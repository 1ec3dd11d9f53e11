"""The most memory that a piece of work takes, as the device's allocator or Linux counts it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

PROCESS = Path("/proc/self")


def peak_bytes(run: Callable[[], Any]) -> int | None:
    """What this process held at most while `run` ran, beyond what it held before; None where that cannot be told."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return int(torch.cuda.max_memory_allocated() - before)
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else what was freed before hides what is taken now
    try:
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
        before = _status("VmRSS")
        run()
        return max(_status("VmHWM") - before, 0)
    except OSError:  # no Linux, or not allowed
        return None


def _status(name: str) -> int:
    """A figure of this process in bytes."""
    lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024
