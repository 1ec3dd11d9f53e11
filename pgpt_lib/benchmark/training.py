"""How fast training is and why: each lever on and off, the plain loop, and what the matrix products could reach alone.

A step is the trainer's own: the stream's dialogues, collated, and `optimiser_step` on them. Its learning rate is 0, so
that every step meets the same weights and losses can be compared. Two loops take turns, step by step, so that whatever
else the machine does meets both. A sample is one question with its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from ..batch import Batch
from ..config import Profile
from ..data.sample import Sample, Stream
from ..errors import InputError, RunError
from ..model import PerceptionGPT, build_model
from ..optimisation import StepFigures, optimiser_step, set_learning_rate, step_seed
from ..processes import best_device
from ..training import batch_maker
from .levers import (
    LEVERS,
    PLAIN,
    Lever,
    Settings,
    apply_to_model,
    default_settings,
    divided,
    exchanges,
    in_effect,
    make_optimizer,
    with_settings,
)
from .machine import now
from .memory import peak_bytes
from .operations import profile_step
from .products import ProductCounter, seconds_alone, total_flop
from .suite import described

WARM_UP = 2
DISTINCT = 2  # different steps, in turn
SAME = 0.02  # relative difference of two losses that count as the same
TARGETS = {"plain": 5.0, "products": 0.5}  # times the plain loop's throughput; share of the products' rate alone
Build = Callable[[Profile], PerceptionGPT]


class Few:
    """The first few steps of a stream, over and over, so that only their pictures are encoded."""

    def __init__(self, stream: Stream, size: int) -> None:
        self.stream, self.images = stream, stream.images
        self._keys = list(dict.fromkeys(s.image_id for k in range(DISTINCT) for s in stream.batch(k, size)))

    def image_ids(self) -> list[str]:
        """Every picture of these steps."""
        return [key for key in self._keys if key]

    def batch(self, step: int, size: int) -> list[Sample]:
        """The dialogues of a step, made anew."""
        return self.stream.batch(step % DISTINCT, size)


class Loop:
    """A model in training with some settings."""

    def __init__(self, profile: Profile, settings: Settings, stream: Stream, build: Build) -> None:
        self.settings, self.stream = settings, stream
        self.profile = with_settings(profile, settings)
        self.model = build(self.profile)
        apply_to_model(self.model, settings)
        optimizer = make_optimizer(self.model.trainable_parameters(), self.profile.training, settings)
        set_learning_rate(optimizer, 0.0)
        self.accelerator = Accelerator(mixed_precision="no", cpu=best_device().type == "cpu")
        self.wrapped, self.stepper = self.accelerator.prepare(self.model, optimizer)
        self.wrapped.train()
        self.make = batch_maker(self.model, stream, progress=False)
        self._lengths: dict[str, int] = {}

    def length(self, sample: Sample) -> int:
        """Tokens of a sample."""
        if sample.sample_id not in self._lengths:
            self._lengths[sample.sample_id] = len(self.model.chat.encode(sample).input_ids)
        return self._lengths[sample.sample_id]

    def prepare(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        training = self.profile.training
        samples = self.stream.batch(step, training.batch_size)
        parts = divided(samples, self.settings, training.accumulation, self.length)
        draw = torch.Generator().manual_seed(step_seed(0, step % DISTINCT, "batch"))
        return [self.make(part, draw) for part in parts]

    def learn(self, batches: Sequence[Batch]) -> StepFigures:
        """One step of the optimiser, at rate 0."""
        torch.manual_seed(0)
        with in_effect(self.settings):
            return optimiser_step(self.accelerator, self.wrapped, self.stepper, batches, self.profile)

    def timed_step(self, step: int) -> dict[str, float]:
        """Seconds of collating and of learning, and the loss."""
        start = now()
        batches = self.prepare(step)
        ready = now()
        figures = self.learn(batches)
        return {"collate": ready - start, "learn": now() - ready, "loss": figures.loss, "grad_norm": figures.grad_norm}


def take_turns(loops: Sequence[Loop], steps: int) -> list[list[dict[str, float]]]:
    """The timed steps of each loop, one of each in turn, after some that do not count; who begins alternates."""
    found: list[list[dict[str, float]]] = [[] for _ in loops]
    for number in range(WARM_UP + steps):
        order = list(enumerate(loops))
        for index, loop in order if number % 2 else order[::-1]:
            figures = loop.timed_step(number)
            if number >= WARM_UP:
                found[index].append(figures)
    return found


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


def lever_row(name: str, lever: Lever, base: Loop, other: Callable[[Settings], Loop], steps: int, samples: int) -> dict:
    """A lever's row: `on` and `off`, `ratio` of their samples a second, and which of them is the default."""
    on, off = lever.sides(base.settings)
    default = "on" if base.settings == on else "off"
    row: dict[str, Any] = {"lever": name, "title": lever.title, "default": default, "skipped": None}
    try:
        made = compare(base, other(off if default == "on" else on), steps, samples)
    except RunError:
        raise
    except RuntimeError as error:
        if name != "compile":
            raise
        return row | {"skipped": f"torch.compile does not work here: {str(error).strip().splitlines()[0]}"}
    first, second = made.pop("base"), made.pop("other")
    faster = made["ratio"][0] >= 1
    if default == "off":
        first, second = second, first
        made["ratio"] = [1 / made["ratio"][k] for k in (0, 2, 1)]
        made["memory_ratio"] = 1 / made["memory_ratio"] if made["memory_ratio"] else None
    return row | {"on": first, "off": second, **made, "default_is_faster": faster}


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
        profile: whose training is measured.
        steps: that are timed, of each loop in each comparison.
        only: names of `LEVERS`, or "plain"; all when empty. The default's products and profile are always measured.
        log: gets a line a comparison.
        seed: of data and weights.
        stream: in place of the profile's data.
        build: makes the model, in place of `build_model`.

    Returns:
        `levers`, rows; `plain`, the default against the plain loop; `default`, `products` and `profile` of a step;
        `targets`; `machine`.

    Raises:
        InputError: an unknown name in `only`, or fewer than 1 step.
    """
    known = [*LEVERS, "plain"]
    if unknown := [name for name in only if name not in known]:
        raise InputError(f"unknown lever {unknown[0]!r}; there are {', '.join(known)}")
    if steps < 1:
        raise InputError(f"steps is {steps}; it must be at least 1")
    if stream is None:
        from ..data.streams import build_stream

        stream = build_stream(profile, seed)
    with torch.device("cpu"):  # batches are made there; `Accelerator` moves them
        few = Few(stream, profile.training.batch_size)
        make = build or (lambda wanted: build_model(wanted, seed))
        settings = default_settings(profile, make(profile))

        def loop(wanted: Settings) -> Loop:
            return Loop(profile, wanted, few, make)

        return _train_rows(loop, settings, steps, only or known, log)


def _train_rows(
    loop: Callable[[Settings], Loop], settings: Settings, steps: int, only: Sequence[str], log: Callable[[str], None]
) -> dict[str, Any]:
    base = loop(settings)
    samples = exchanges(base.stream.batch(0, base.profile.training.batch_size))
    default = summary(base, take_turns([base], steps)[0], samples)
    made = products_row(base, default["seconds_a_step"][0], default["collating"][0], samples)
    log(f"default: {default['samples_a_second'][0]:.1f} samples a second, {made['share']:.0%} of its products alone")
    shares = profile_step(lambda: base.learn(base.prepare(0)))
    rows = []
    for name, lever in LEVERS.items():
        if name in only:
            rows.append(lever_row(name, lever, base, loop, steps, samples))
            skipped = rows[-1]["skipped"]
            log(f"{name}: {skipped or 'on is {:.2f} times as fast as off'.format(rows[-1]['ratio'][0])}")
    plain = None
    if "plain" in only:
        plain = compare(base, loop(replace(settings, **PLAIN)), steps, samples)  # type: ignore[arg-type]
        plain = {"default": plain.pop("base"), "plain": plain.pop("other"), **plain}
        log(f"plain: the default is {plain['ratio'][0]:.2f} times as fast")
    reached = {"plain": plain["ratio"][0] if plain else None, "products": made["share"]}
    return {
        "profile": base.profile.name,
        "settings": asdict(settings),
        "samples_a_step": samples,
        "default": default,
        "products": made,
        "operations": shares,
        "levers": rows,
        "plain": plain,
        "targets": {
            name: {
                "wanted": wanted,
                "reached": reached[name],
                "met": None if (r := reached[name]) is None else r >= wanted,
            }
            for name, wanted in TARGETS.items()
        },
        "machine": described(),
    }
