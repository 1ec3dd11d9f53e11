"""What makes a training step fast: levers, each on and off, one difference at a time.

The trainer has a switch for precision and for cached features. The other sides that it does not offer are built here,
so that it need not carry what it would never use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import model as model_module
from ..adapters import base_model
from ..compilation import compile_blocks, fault_here
from ..config import Profile, Training
from ..data.sample import Sample
from ..losses import IGNORE_INDEX
from ..model import PerceptionGPT
from ..optimisation import BETAS, build_optimizer
from ..precision import usable_precision
from ..processes import best_device

EXCHANGE = 2  # turns of a question with its answer


@dataclass(frozen=True)
class Settings:
    """How a step is trained.

    Attributes:
        gathered: only supervised positions go through the language model's head; else all of them.
        packed: the questions about a picture share one dialogue, and the picture is seen once; else one question each.
        bf16: matrix products in bfloat16 (autocast); else in float32.
        bucketed: a step's dialogues are sorted by length before they are divided into micro-batches.
        cached: the frozen tower's features come from the disk; else it runs in every step.
        attention: transformers' name of the implementation.
        fused: one kernel for the whole optimiser; else a loop over the tensors.
        compiled: the language model's blocks go through `torch.compile`.
    """

    gathered: bool = True
    packed: bool = True
    bf16: bool = True
    bucketed: bool = False
    cached: bool = True
    attention: str = "sdpa"
    fused: bool = True
    compiled: bool = False


@dataclass(frozen=True)
class Lever:
    """One difference: the field of `Settings` and its two values."""

    title: str
    field: str
    on: bool | str = True
    off: bool | str = False

    def sides(self, settings: Settings) -> tuple[Settings, Settings]:
        """The settings with the lever on, and with it off."""
        return replace(settings, **{self.field: self.on}), replace(settings, **{self.field: self.off})  # type: ignore[arg-type]


LEVERS = {
    "gather": Lever("supervised positions gathered before the LM head", "gathered"),
    "pack": Lever("each image encoded once, its questions packed", "packed"),
    "bf16": Lever("bf16", "bf16"),
    "bucket": Lever("length bucketing", "bucketed"),
    "features": Lever("cached vision features", "cached"),
    "attention": Lever("attention: fused (on) against plain (off)", "attention", "sdpa", "eager"),
    "optimiser": Lever("fused optimiser", "fused"),
    "compile": Lever("torch.compile", "compiled"),
}
PLAIN = {"gathered": False, "packed": False, "bf16": False}  # one question a sample, full logits, fp32
BARE = PLAIN | {"cached": False, "fused": False}  # the tower in every step as well, and a loop over the weights


def default_settings(profile: Profile, model: PerceptionGPT) -> Settings:
    """What the trainer does with this profile."""
    attention = str(base_model(model.llm).config._attn_implementation)
    training = profile.training
    return Settings(
        bf16=usable_precision(training.precision, best_device()) == "bf16",
        cached=training.cache_features,
        attention=attention,
        compiled=training.compile and fault_here(best_device()) is None,  # as the trainer does
    )


def with_settings(profile: Profile, settings: Settings) -> Profile:
    """The profile with those settings that it has a switch for."""
    changed = {"precision": "bf16" if settings.bf16 else "fp32", "cache_features": settings.cached}
    return profile.model_copy(update={"training": profile.training.model_copy(update=changed)})


def exchanges(samples: Sequence[Sample]) -> int:
    """The number of questions with their answers: what a sample is, in samples a second."""
    return sum(len(sample.turns) // EXCHANGE for sample in samples)


def singles(samples: Sequence[Sample]) -> list[Sample]:
    """Each question with its answer as a dialogue of its own; neighbours are about different pictures.

    First the first question of each dialogue, then the second of each, and so on, as a shuffled list would have it.
    """
    most = max(len(sample.turns) for sample in samples) // EXCHANGE
    return [
        replace(s, sample_id=f"{s.sample_id}/{k}", turns=s.turns[EXCHANGE * k : EXCHANGE * (k + 1)])
        for k in range(most)
        for s in samples
        if len(s.turns) >= EXCHANGE * (k + 1)
    ]


def divided(
    samples: Sequence[Sample], settings: Settings, parts: int, length: Callable[[Sample], int]
) -> list[list[Sample]]:
    """A step's samples in micro-batches of about as many tokens, packed or not.

    Args:
        samples: packed dialogues, as the training stream gives them.
        settings: whether they stay packed, and are sorted by length.
        parts: micro-batches that the trainer makes of them.
        length: tokens of a sample.

    Returns:
        The micro-batches. Unpacked, a picture is hardly ever twice in one.
    """
    size = -(-len(samples) // parts)
    chosen = list(samples)
    if not settings.packed:
        chosen = singles(samples)
        tokens = sum(map(length, samples)) / len(samples), sum(map(length, chosen)) / len(chosen)
        size = min(round(size * tokens[0] / tokens[1]), len(samples))
    if settings.bucketed:
        chosen.sort(key=length)
    return [chosen[i : i + size] for i in range(0, len(chosen), size)]


def full_language_loss(hidden_states: Tensor, labels: Tensor, lm_head: Callable[[Tensor], Tensor]) -> Tensor:
    """`losses.language_loss` with the logits of every position, as most code has it."""
    logits = lm_head(hidden_states)[:, :-1].flatten(0, 1)
    return F.cross_entropy(logits.float(), labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX)


@contextmanager
def in_effect(settings: Settings) -> Iterator[None]:
    """While a step with these settings runs."""
    if settings.gathered:
        yield
        return
    with mock.patch.object(model_module, "language_loss", full_language_loss):
        yield


def apply_to_model(model: PerceptionGPT, settings: Settings) -> None:
    """Choose attention and compilation, in place."""
    base_model(model.llm).set_attn_implementation(settings.attention)
    if settings.compiled:
        compile_blocks(model)


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], training: Training, settings: Settings
) -> torch.optim.Optimizer:
    """The trainer's optimiser, or the same with a loop over its tensors."""
    fused = build_optimizer(parameters, training)
    if settings.fused:
        return fused
    groups = [{k: group[k] for k in ("params", "weight_decay", "share")} for group in fused.param_groups]
    return torch.optim.AdamW(groups, lr=training.lr, betas=BETAS, fused=False, foreach=False)
