"""A training loop that can be timed step by step, with the trainer's own parts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator

from ..batch import Batch
from ..config import Profile
from ..data.sample import Sample, Stream
from ..model import PerceptionGPT
from ..optimisation import StepFigures, optimiser_step, set_learning_rate, step_seed
from ..processes import best_device
from ..training import batch_maker
from .levers import Settings, apply_to_model, divided, in_effect, make_optimizer, with_settings
from .machine import now

WARM_UP = 2
DISTINCT = 2  # different steps, in turn
Build = Callable[[Profile], PerceptionGPT]


class Few:
    """The first few steps of a stream, over and over, so that only their pictures are encoded."""

    def __init__(self, stream: Stream, size: int) -> None:
        self.stream, self.images = stream, stream.images
        self.epoch_length = DISTINCT * size
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
        self.learning: list[float] = []
        """Seconds of learning of every timed step, those among them that do not count."""
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
        self.learning.append(now() - ready)
        seconds = {"collate": ready - start, "learn": self.learning[-1]}
        return seconds | {"loss": figures.loss, "grad_norm": figures.grad_norm}

    def starting(self) -> float:
        """By how many seconds the first steps, which do not count, took longer than usual ones."""
        return sum(self.learning[:WARM_UP]) - WARM_UP * statistics.median(self.learning[WARM_UP:])


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
