"""Perception signals: what `<vis>` can carry (paper, section 3.1).

A new signal takes three steps and touches no other file of the library:

1. one file here with a subclass of `Signal` (`depth.py` is the pattern, fifty lines);
2. its registration: its class in `SIGNALS` below, or `register(MySignal)` from a program of one's own;
3. its name in a profile: `signals: [box, mask, depth, my_signal]`. Its loss terms count once unless weighted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..config import Profile
from ..errors import InputError
from .base import Signal
from .box import BoxSignal
from .depth import DepthSignal
from .mask import MaskSignal

SIGNALS: dict[str, type[Signal]] = {cls.name: cls for cls in (BoxSignal, MaskSignal, DepthSignal)}

__all__ = ["SIGNALS", "BoxSignal", "DepthSignal", "MaskSignal", "Signal", "build_signals", "register", "signal_options"]


def register(cls: type[Signal]) -> type[Signal]:
    """Make a signal known by its name; usable as a decorator.

    Raises:
        InputError: another class has that name, or a loss name that another signal uses.
    """
    if SIGNALS.get(cls.name, cls) is not cls:
        raise InputError(f"signal name {cls.name!r} is taken by {SIGNALS[cls.name].__qualname__}")
    for other in SIGNALS.values():
        if other is not cls and set(other.loss_names) & set(cls.loss_names):
            shared = ", ".join(sorted(set(other.loss_names) & set(cls.loss_names)))
            raise InputError(f"signal {cls.name!r}: loss name {shared} is taken by {other.name!r}")
    SIGNALS[cls.name] = cls
    return cls


def build_signals(
    names: Sequence[str],
    hidden_size: int,
    feature_size: int,
    grid: int,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> nn.ModuleDict:
    """The signals of a profile, untrained.

    Args:
        names: keys of `SIGNALS`.
        hidden_size: H, the language model's width.
        feature_size: C, the vision tower's channels.
        grid: side of the square of visual tokens.
        options: further arguments of a signal, by its name, as from `signal_options`.

    Raises:
        InputError: an unknown name.
    """
    options = options or {}
    unknown = [name for name in [*names, *options] if name not in SIGNALS]
    if unknown:
        raise InputError(f"unknown signal {unknown[0]!r}; there are {', '.join(SIGNALS)}")
    return nn.ModuleDict(
        {name: SIGNALS[name](hidden_size, feature_size, grid, **options.get(name, {})) for name in names}
    )


def signal_options(profile: Profile) -> dict[str, dict[str, Any]]:
    """What a profile sets of its signals: the widths of their networks, the mask head, faults of the released code."""
    released = profile.released
    options: dict[str, dict[str, Any]] = {name: {"width": width} for name, width in profile.signal_widths.items()}
    options["box"] = {**options.get("box", {}), "misparsed": released.giou_misparsed}
    mask = {"head": profile.mask_head, "scrambled": released.position_scrambled, "pooled": released.dice_pooled}
    options["mask"] = {**options.get("mask", {}), **mask}
    return options
