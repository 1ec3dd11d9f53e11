"""How fast training is and why: each lever on and off, the plain loop, and what the matrix products could reach alone.

A step is the trainer's own: the stream's dialogues, collated, and `optimiser_step` on them. Its learning rate is 0, so
that every step meets the same weights and losses can be compared. Two loops take turns, step by step, so that whatever
else the machine does meets both. A sample is one question with its answer. `losses.distillation`, which is not in the
paper, is left out: its teacher runs while a batch is made, so that its products would be timed and not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ..compilation import reason
from ..config import Profile
from ..data.sample import Stream
from ..errors import InputError, RunError
from ..model import build_model
from .levers import BARE, LEVERS, PLAIN, Lever, Settings, default_settings, exchanges
from .loop import Build, Few, Loop, take_turns
from .memory import peak_bytes
from .operations import profile_step
from .products import ProductCounter, seconds_alone, total_flop
from .suite import described

SAME = 0.02  # relative difference of two losses that count as the same
TARGETS = {"plain": 5.0, "products": 0.5}  # times the plain loop's throughput; share of the products' rate alone
LOOPS = {"plain": PLAIN, "bare": BARE}  # that the default is held against


def quartiles(values: Sequence[float]) -> list[float]:
    """[median, first and third quartile]."""
    return [float(v) for v in np.percentile(values, [50, 25, 75])]


def summary(loop: Loop, figures: Sequence[Mapping[str, float]], samples: int) -> dict[str, Any]:
    """A loop's side of a comparison. Memory is of one step, beyond what lay there before."""
    batches = loop.prepare(0)
    return {
        "samples_a_second": quartiles([samples / (f["collate"] + f["learn"]) for f in figures]),
        "seconds_a_step": quartiles([f["collate"] + f["learn"] for f in figures]),
        "collating": quartiles([f["collate"] for f in figures]),
        "peak_memory": peak_bytes(lambda: loop.learn(batches)),
        "loss": figures[0]["loss"],
        "grad_norm": figures[0]["grad_norm"],
    }


def compare(base: Loop, other: Loop, steps: int, samples: int) -> dict[str, Any]:
    """Both sides, how many times faster `base` is, its share of the memory, and whether the losses are the same."""
    ours, theirs = take_turns([base, other], steps)
    seconds = [[f["collate"] + f["learn"] for f in side] for side in (ours, theirs)]
    found = {"base": summary(base, ours, samples), "other": summary(other, theirs, samples)}
    memory = [side["peak_memory"] for side in found.values()]
    difference = abs(found["base"]["loss"] / found["other"]["loss"] - 1)
    return found | {
        "ratio": quartiles([b / a for a, b in zip(*seconds, strict=True)]),
        "memory_ratio": memory[0] / memory[1] if all(memory) else None,
        "loss_difference": difference,
        "same_loss": difference <= SAME,
    }


def lever_row(
    name: str, lever: Lever, base: Loop, other: Callable[[Settings], Loop], steps: int, samples: int
) -> dict[str, Any]:
    """A lever's row: `on` and `off`, `ratio` of their samples a second, and which of them is the default.

    That of `compile` has its cost as well, see `compile_cost`.
    """
    on, off = lever.sides(base.settings)
    default = "on" if base.settings == on else "off"
    row: dict[str, Any] = {"lever": name, "title": lever.title, "default": default, "skipped": None}
    try:
        against = other(off if default == "on" else on)
        made = compare(base, against, steps, samples)
    except RunError:
        raise
    except RuntimeError as error:
        if name != "compile":
            raise
        return row | {"skipped": f"torch.compile does not work here: {reason(error)}"}
    first, second = made.pop("base"), made.pop("other")
    faster = made["ratio"][0] >= 1
    if default == "off":
        first, second = second, first
        made["ratio"] = [1 / made["ratio"][k] for k in (0, 2, 1)]
        made["memory_ratio"] = 1 / made["memory_ratio"] if made["memory_ratio"] else None
    if name == "compile":
        saved = second["seconds_a_step"][0] - first["seconds_a_step"][0]
        row |= compile_cost((base if default == "on" else against).starting(), saved)
    return row | {"on": first, "off": second, **made, "default_is_faster": faster}


def compile_cost(seconds: float, saved: float) -> dict[str, float | None]:
    """The seconds that compiling took, and the steps that earn them back at so many seconds saved a step; else None."""
    return {"compile_seconds": seconds, "break_even_steps": seconds / saved if saved > 0 else None}


def told(row: Mapping[str, Any]) -> str:
    """What a lever does, in a line."""
    if row["skipped"]:
        return str(row["skipped"])
    line = f"on is {row['ratio'][0]:.2f} times as fast as off"
    if row.get("compile_seconds") is None:
        return line
    steps = row["break_even_steps"]
    back = "never earned back" if steps is None else f"earned back after {steps:.0f} steps"
    return f"{line}; compiling takes {row['compile_seconds']:.1f} s, {back}"


def products_row(base: Loop, seconds: float, collating: float, samples: int) -> dict[str, Any]:
    """FLOP of a step's matrix products, and what they reach in the step and alone, in FLOP a second."""
    batches = base.prepare(0)
    with ProductCounter() as counter:
        base.learn(batches)
    flop, alone = total_flop(counter.found), seconds_alone(counter.found)
    return {
        "kinds": len(counter.found),
        "number": sum(counter.found.values()),
        "flop_a_step": flop,
        "flop_a_sample": flop / samples,
        "flop_a_second": flop / seconds,
        "flop_a_second_alone": flop / alone,
        "seconds_alone": alone,
        "share": alone / seconds,
        "share_without_collating": alone / (seconds - collating),
    }


def train_rows(
    profile: Profile,
    steps: int = 6,
    only: Sequence[str] = (),
    log: Callable[[str], None] = print,
    seed: int = 0,
    stream: Stream | None = None,
    build: Build | None = None,
) -> dict[str, Any]:
    """What `bench train` prints.

    Args:
        profile: whose training is measured, without `losses.distillation`.
        steps: that are timed, of each loop in each comparison.
        only: names of `LEVERS` and `LOOPS`; all when empty. The default's products and profile are always measured.
        log: gets a line a comparison.
        seed: of data and weights.
        stream: in place of the profile's data.
        build: makes the model, in place of `build_model`.

    Returns:
        `levers`, rows with `on`, `off` and their `ratio`, that of `compile` with its cost; `loops`, the default against
        loops without several of them; `default`, `products` and `operations` of a step; `targets`; `machine`.

    Raises:
        InputError: an unknown name in `only`, or fewer than 1 step.
    """
    known = [*LEVERS, *LOOPS]
    if unknown := [name for name in only if name not in known]:
        raise InputError(f"unknown lever {unknown[0]!r}; there are {', '.join(known)}")
    if steps < 1:
        raise InputError(f"steps is {steps}; it must be at least 1")
    if profile.losses.distillation:
        log("without losses.distillation, whose teacher is not in the paper")
        profile = profile.model_copy(update={"losses": profile.losses.model_copy(update={"distillation": 0.0})})
    if stream is None:
        from ..data.streams import build_stream

        stream = build_stream(profile, seed)
    from torch._inductor.utils import fresh_cache  # takes seconds to import

    few = Few(stream, profile.training.batch_size)
    make = build or (lambda wanted: build_model(wanted, seed))
    settings = default_settings(profile, make(profile))
    with fresh_cache():  # what an earlier run has compiled would hide what compiling takes
        return _train_rows(lambda wanted: Loop(profile, wanted, few, make), settings, steps, only or known, log)


def _train_rows(
    loop: Callable[[Settings], Loop], settings: Settings, steps: int, only: Sequence[str], log: Callable[[str], None]
) -> dict[str, Any]:
    base = loop(settings)
    samples = exchanges(base.stream.batch(0, base.profile.training.batch_size))
    default = summary(base, take_turns([base], steps)[0], samples)
    products = products_row(base, default["seconds_a_step"][0], default["collating"][0], samples)
    share = products["share"]
    log(f"default: {default['samples_a_second'][0]:.1f} samples a second, {share:.0%} of what its products reach alone")
    operations = profile_step(lambda: base.learn(base.prepare(0)))
    rows = []
    for name, lever in LEVERS.items():
        if name in only:
            rows.append(lever_row(name, lever, base, loop, steps, samples))
            log(f"{name}: {told(rows[-1])}")
    loops = {}
    for name, changes in LOOPS.items():
        if name in only:
            made_plain = compare(base, loop(replace(settings, **changes)), steps, samples)  # type: ignore[arg-type]
            loops[name] = {"default": made_plain.pop("base"), name: made_plain.pop("other"), **made_plain}
            log(f"{name} loop: the default is {made_plain['ratio'][0]:.2f} times as fast")
    reached = {"plain": loops["plain"]["ratio"][0] if "plain" in loops else None, "products": products["share"]}
    return {
        "profile": base.profile.name,
        "settings": asdict(settings),
        "samples_a_step": samples,
        "default": default,
        "products": products,
        "operations": operations,
        "levers": rows,
        "loops": loops,
        "targets": {name: target(reached[name], wanted) for name, wanted in TARGETS.items()},
        "machine": described(base.accelerator.device),
    }


def target(reached: float | None, wanted: float) -> dict[str, Any]:
    """A target beside what was reached; `met` is None where that was not measured."""
    return {"wanted": wanted, "reached": reached, "met": None if reached is None else reached >= wanted}
