"""bfloat16 where the processor multiplies in it; elsewhere it is emulated, and several times slower than float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from .config import Profile

Precision = Literal["fp32", "bf16"]


def usable_precision(asked: Precision, device: torch.device) -> Precision:
    """The precision to compute in on a device: what is asked, but "fp32" on a CPU without bfloat16 units.

    On one core of an AVX2 processor a training step of `cpu` took 10 s in emulated bfloat16 and 1.1 s in float32.
    """
    if asked == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        return "fp32"
    return asked


def in_usable_precision(profile: Profile, device: torch.device) -> Profile:
    """The profile as it trains on a device: `training.precision` by `usable_precision`."""
    precision = usable_precision(profile.training.precision, device)
    return profile.model_copy(update={"training": profile.training.model_copy(update={"precision": precision})})


def bf16_autocast() -> torch.autocast:
    """Matrix products on the CPU in bfloat16, where it has units for it; else a context that changes nothing."""
    return torch.autocast("cpu", torch.bfloat16, enabled=usable_precision("bf16", torch.device("cpu")) == "bf16")


def cpu_has_bf16() -> bool:
    """By the processor's flags: `avx512_bf16` and `amx_bf16` on x86, `bf16` and its like on ARM."""
    return any("bf16" in name and bool(has) for name, has in torch.cpu.get_capabilities().items())
