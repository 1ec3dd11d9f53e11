"""What to tell a person whose training goes wrong: which samples, why, and what to do."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .batch import Batch
from .config import Profile
from .data.sample import Sample

if TYPE_CHECKING:
    from .model import PerceptionGPT
    from .optimisation import StepFigures

MakeBatch = Callable[[Sequence[Sample], torch.Generator], Batch]
NAMED = 5  # how many sample ids a message lists
SILENT_SHARE, SILENT_STEPS = 0.1, 20  # of the training, and at least, after which `<vis>` should be predicted
SILENCE_WINDOW = 10  # steps that are judged together
SILENCE = 0.02  # a smaller share of answers' `<vis>` is chance


def non_finite(model: PerceptionGPT, make_batch: MakeBatch, samples: Sequence[Sample], step: int, cause: str) -> str:
    """A message about a step whose loss or gradient is not finite. Tries every sample alone to find the guilty ones.

    Args:
        model: with the weights before that step.
        make_batch: collates samples.
        samples: of that step.
        step: counted from 0.
        cause: what was not finite.
    """
    broken = [name for name, p in model.trainable_parameters().items() if not p.isfinite().all()]
    if broken:
        names = ", ".join(broken[:3])
        return f"step {step + 1}: {cause}, since the weights {names} are no longer finite; lower training.lr"
    guilty = [s.sample_id for s in samples if not _is_finite_alone(model, make_batch, s)]
    named = guilty or [s.sample_id for s in samples]
    listed = ", ".join(named[:NAMED]) + (f" and {len(named) - NAMED} more" if len(named) > NAMED else "")
    if guilty:
        return f"step {step + 1}: {cause}. Not finite alone: sample(s) {listed}; check their regions, or leave them out"
    return f"step {step + 1}: {cause}, though each of its samples alone is finite ({listed}); lower training.lr"


def _is_finite_alone(model: PerceptionGPT, make_batch: MakeBatch, sample: Sample) -> bool:
    with torch.no_grad():
        losses = model(make_batch([sample], torch.Generator()).to(next(model.parameters()).device)).losses
    return all(math.isfinite(float(value)) for value in losses.values())


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether an error says that another process cannot be reached."""
    words = ("connection closed by peer", "connection reset", "broken pipe", "remote process exited", "nccl", "gloo")
    return isinstance(error, torch.distributed.DistError) or any(word in str(error).lower() for word in words)


def lost_peer(error: RuntimeError, checkpoint: Path | None) -> str:
    """A message for the processes that are left when one of several has ended.

    Args:
        error: what the communication library says.
        checkpoint: the last one, if any.
    """
    first = str(error).strip().splitlines()[0]
    where = f"from {checkpoint}" if checkpoint else "from the start, for nothing was saved yet"
    return (
        f"another process of this training has ended or cannot be reached ({first}). All processes stop; the one that "
        f"ended first says why. The same command with --resume goes on {where}, also with another number of processes"
    )


class EmissionWatch:
    """Looks once, a tenth into a training, whether the model has begun to predict `<vis>`.

    The steps of a window are judged together: one alone may hold few regions, or a lucky guess. After a resumption the
    first whole window is judged again.

    Args:
        profile: the run's settings.
        trained: names of the trained parameters.
        first: steps done before this sitting.
    """

    def __init__(self, profile: Profile, trained: Sequence[str], first: int = 0) -> None:
        self.profile, self.trained = profile, trained
        tenth = max(round(SILENT_SHARE * profile.training.steps), SILENT_STEPS)
        self.at = min(profile.training.steps, max(tenth, first + SILENCE_WINDOW))
        self.recent: deque[StepFigures] = deque(maxlen=SILENCE_WINDOW)

    def after(self, step: int, figures: StepFigures) -> str | None:
        """The warning, where it is due; else None.

        Args:
            step: steps done.
            figures: of the last of them.
        """
        self.recent.append(figures)
        if step != self.at:
            return None
        emitted, regions = sum(f.emitted for f in self.recent), sum(f.regions for f in self.recent)
        if emitted >= SILENCE * regions:
            return None
        where = f"{emitted} of {regions} places where answers of the last {len(self.recent)} steps have one"
        return _silence(
            self.profile, self.trained, f"warning: after {step} steps the model predicts <vis> at {where}", figures
        )


def _silence(profile: Profile, trained: Sequence[str], head: str, figures: StepFigures) -> str:
    """A warning that hardly any `<vis>` would be emitted, with the likeliest cause first tested, and what to do."""
    if profile.losses.language == 0:
        return f"{head}: losses.language is 0, so no words are learnt; set it above 0"
    if not any(part in name for name in trained for part in ("trainable_tokens", "lm_head", "embed_tokens")):
        return f"{head}: the output row of <vis> is not among the trained parameters; train the rows of new tokens"
    if profile.llm.tuning == "frozen":
        return f"{head}: llm.tuning is 'frozen', so only the row of <vis> can learn when to come; tune with 'lora'"
    return (
        f"{head}: the language loss is still {figures.losses.get('language', math.nan):.2f}. The run may be too short "
        f"({profile.training.steps} steps), or training.lr {profile.training.lr:g} too low or so high that it diverges"
    )
