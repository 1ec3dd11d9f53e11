"""One optimiser step: its learning rate, its random numbers, its gradient over one or many micro-batches.

Beside weights and moments, everything here is a function of (seed, step), so that a training that was killed and
resumed computes the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from accelerate import Accelerator
from torch import nn

from .batch import Batch
from .config import Profile, Training
from .errors import RunError
from .losses import supervised_positions
from .processes import whole

if TYPE_CHECKING:
    from .model import PerceptionGPT
    from .signals import Signal

ALIGNED = ("fusion.", "projector.")  # starts of names: what may have been trained with the language model before
ENCODERS = ("signals.", ".encoder.")  # start and part of names: what turns given regions into embeddings
UNDECAYED = ("norm", "embed_tokens", "trainable_tokens", "lm_head")  # parts of names
Number = TypeVar("Number", int, float)
BETAS = (0.9, 0.95)  # the released code's; the moments forget fast enough for runs of a few hundred steps


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Cosine schedule with linear warm-up.

    Args:
        step: 0 to steps - 1, the step about to be made.
        steps: length of the whole schedule.
        peak: the rate at the end of the warm-up.
        warmup: share of the steps that the rate takes to rise, in [0, 1).

    Returns: a rate in (0, peak]; neither the first nor the last step is wasted on a rate of 0.
    """
    rising = math.floor(steps * warmup)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def step_seed(seed: int, step: int, purpose: str = "train") -> int:
    """A 63-bit seed for one step's random numbers, unlike those of any other step, seed or purpose."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{seed}/{step}".encode()).digest()[:8], "little") >> 1


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices, but not to biases, norms, fusion weights or rows of tokens."""
    return parameter.dim() >= 2 and not any(part in name for part in UNDECAYED)


def build_optimizer(
    parameters: Mapping[str, nn.Parameter], settings: Training, aligned: bool = True
) -> torch.optim.AdamW:
    """AdamW over named parameters, in groups: with and without weight decay, each with its share of the rate.

    Args:
        aligned: whether fusion and projector were trained with the language model before; random ones learn at the
            whole rate, whatever `settings.aligned_lr` is.
    """
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = settings.weight_decay if is_decayed(name, parameter) else 0.0
        share = 1.0
        if name.startswith(ALIGNED):
            share = settings.aligned_lr if aligned else 1.0
        elif name.startswith(ENCODERS[0]) and ENCODERS[1] in name:
            share = settings.encoder_lr
        members.setdefault((decay, share), []).append(parameter)
    groups = [{"params": same, "weight_decay": decay, "share": share} for (decay, share), same in members.items()]
    # One fused kernel: there are many small tensors, and a loop over them costs more than their arithmetic.
    return torch.optim.AdamW(groups, lr=settings.lr, betas=BETAS, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of this step's rate. No scheduler object, so no state to save."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)


class NonFiniteError(RunError):
    """A loss or the gradient is infinite or not a number. `losses` holds the step's terms."""

    def __init__(self, what: str, losses: Mapping[str, float]) -> None:
        super().__init__(f"{what} is not finite; losses {', '.join(f'{k} {v:.4g}' for k, v in losses.items())}")
        self.losses = dict(losses)


@dataclass(frozen=True)
class StepFigures:
    """What is known after a step: loss terms as means over the whole step, and the gradient's norm before clipping."""

    losses: dict[str, float]
    loss: float
    grad_norm: float
    tokens: int
    emitted: int  # answers' `<vis>` that the model itself would have emitted
    regions: int  # answers' `<vis>` in all
    positions: int  # tokens of all dialogues, images and padding included


def target_counts(batch: Batch, model: PerceptionGPT) -> dict[str, int]:
    """How many targets each loss term of a batch is a mean over: tokens, or regions with the signal."""
    counts = {"language": len(supervised_positions(batch.labels)[0])}
    if batch.taught is not None:
        counts["distillation"] = len(batch.taught)
    for name, (_, present) in batch.targets.items():
        number = int((present & batch.vis_is_answer).sum())
        counts |= dict.fromkeys(cast("Signal", model.signals[name]).loss_names, number)
    return counts


def optimiser_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    profile: Profile,
) -> StepFigures:
    """One step of the optimiser over micro-batches whose gradient is that of one large batch.

    Each loss term is a mean over its own targets, and micro-batches hold different numbers of them. So a term is
    weighed by the micro-batch's share of all its targets, over micro-batches and processes; a mean of means would
    give the few tokens of a short batch the weight of many.

    Args:
        accelerator: places batches and averages gradients over processes.
        model: as `accelerator.prepare` returns it.
        optimizer: over all trained parameters; its learning rate is set.
        batches: this process's micro-batches.
        profile: gives the loss terms' weights, the clipping norm and the precision.

    Raises:
        NonFiniteError: before the weights are changed.
    """
    bare = accelerator.unwrap_model(model)
    counts = [target_counts(batch, bare) for batch in batches]
    totals = {name: sum(count[name] for count in counts) for name in counts[0]}
    totals = _over_processes(accelerator, totals)
    weights = profile.losses.model_dump()
    figures = dict.fromkeys(totals, 0.0)
    seen = {"emitted": 0, "regions": 0, "positions": sum(batch.input_ids.numel() for batch in batches)}
    for number, (batch, count) in enumerate(zip(batches, counts, strict=True), start=1):
        batch = batch.to(accelerator.device)
        with _synchronised(accelerator, model, number == len(batches)):
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=profile.training.precision == "bf16"):
                output = model(batch)
            shares = {name: count[name] / max(totals[name], 1) for name in output.losses}
            for name, term in output.losses.items():
                figures[name] += float(term.detach()) * shares[name]
            if not all(math.isfinite(value) for value in figures.values()):
                raise NonFiniteError("a loss", figures)
            loss = sum(weights.get(name, 1.0) * shares[name] * term for name, term in output.losses.items())
            # distributed training averages gradients over processes; the shares ask for their sum
            accelerator.backward(loss * accelerator.num_processes)
        seen["emitted"] += int(output.emitted.sum())
        seen["regions"] += len(output.emitted)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = float(whole(accelerator.clip_grad_norm_(parameters, profile.training.grad_clip)))
    figures = _over_processes(accelerator, figures)
    if not math.isfinite(norm):
        raise NonFiniteError("the gradient", figures)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    loss = sum(weights.get(name, 1.0) * value for name, value in figures.items())
    return StepFigures(figures, loss, norm, totals["language"], **_over_processes(accelerator, seen))


def _over_processes(accelerator: Accelerator, values: Mapping[str, Number]) -> dict[str, Number]:
    """Sums over all processes, by name."""
    if accelerator.num_processes == 1:
        return dict(values)
    summed = accelerator.reduce(torch.tensor(list(values.values()), device=accelerator.device), "sum")
    return dict(zip(values, summed.tolist(), strict=True))


def _synchronised(accelerator: Accelerator, model: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Gradients travel between processes only with the last micro-batch."""
    return nullcontext() if last else accelerator.no_sync(model)
