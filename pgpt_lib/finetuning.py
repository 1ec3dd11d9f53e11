"""A trained model trained on: other tasks, fewer steps, the same loop (paper, section 4.3, Table 5)."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from .checkpoint import checkpoint_hash, find_checkpoint, load_checkpoint
from .checkpoint_files import State
from .config import Profile, absolute
from .data.streams import build_stream
from .files import read_json, write_json
from .processes import join_processes, place
from .train_log import TrainLog
from .training import OnLog, TrainResult, batch_maker, fit, result_of, starting_point

BASE = "base.json"  # in a fine-tune's folder: the weights that it started from, and what these had been trained on


def fine_tune(
    checkpoint: Path | str,
    out_dir: Path | str,
    tasks: Mapping[str, float],
    steps: int,
    seed: int,
    lr: float | None = None,
    on_log: OnLog | None = None,
    progress: bool = True,
    root: Path | str | None = None,
) -> TrainResult:
    """Train a checkpoint's model further on a mixture of its own; a killed fine-tune goes on from its last checkpoint.

    Under `accelerate launch` or `torchrun` all processes call it, and train together as in `training.train`. On fewer
    cards than the profile is meant for a step has more micro-batches, so that a card holds no more.

    Args:
        checkpoint: a `step_N` or a folder of them: where the weights come from. It is left as it is.
        out_dir: the folder of the new training, as in `training.train`; one that began elsewhere is dropped from it.
        tasks: a task's name to its share; a source's, where the checkpoint was trained on a mixture of data sets.
        steps: length of the schedule.
        seed: of data and dropout.
        lr: peak learning rate; by default a third of the one that the checkpoint was trained with.
        root: folder of the data, where it is no longer where the checkpoint's training found it.

    Raises:
        InputError: no usable checkpoint, or an unknown task or source.
    """
    join_processes()
    base, state = find_checkpoint(Path(checkpoint))
    before = state.profile.training
    training = before.model_copy(
        update={
            "steps": steps,
            "save_every": min(before.save_every, steps),
            "lr": lr or before.lr / 3,
            "accumulation": accumulation_for(state.profile, place()[1]),
        }
    )
    shares = "sources" if state.profile.data.name == "mixture" else "tasks"
    data = state.profile.data.model_copy(update={shares: dict(tasks), **({"root": absolute(root)} if root else {})})
    losses = state.profile.losses.model_copy(update={"distillation": 0.0})  # to learn these tasks, not to keep others
    profile = state.profile.model_copy(update={"training": training, "data": data, "losses": losses})
    out = Path(out_dir)
    with PartialState(cpu=not torch.accelerator.is_available()).main_process_first():
        _drop_if_stale(out, {"checkpoint": checkpoint_hash(base), "questions": questions_seen(base, state)})
        start = starting_point(out, profile, seed, resume=True)
    if start and start[1].step == steps:
        return result_of(start[0], TrainLog(out / "train.jsonl"), steps)
    model, stream = load_checkpoint(base)[0], build_stream(profile, seed)
    return fit(model, stream, batch_maker(model, stream, progress), profile, seed, out, start, on_log, progress)


def accumulation_for(profile: Profile, processes: int) -> int:
    """Micro-batches in a step such that none is larger than on the cards that the profile is meant for.

    Args:
        processes: that share a step. With fewer than `budget.gpus` each would hold a larger share of the batch.
    """
    training = profile.training
    micro_batch = math.ceil(training.batch_size / (training.accumulation * profile.budget.gpus))
    return max(training.accumulation, math.ceil(training.batch_size / (processes * micro_batch)))


def questions_seen(step: Path, state: State) -> int:
    """How many questions a checkpoint was trained on at most, by all trainings that led to it.

    A dialogue may hold up to `data.turns` of them. What came before a fine-tune is noted in `base.json`, beside the
    folder of its checkpoints; a checkpoint that was taken out of there counts from its own training's start.

    Args:
        step: the checkpoint, a `step_N`.
        state: its state.
    """
    before = read_json(step.absolute().parent.parent / BASE)
    earlier = before.get("questions", 0) if isinstance(before, dict) else 0
    return int(earlier) + state.step * state.profile.training.batch_size * state.profile.data.turns


def _drop_if_stale(out: Path, base: dict[str, Any]) -> None:
    """Forget a fine-tune that started from other weights, and note which ones this one starts from."""
    note = out / BASE
    known = read_json(note)
    if not isinstance(known, dict) or known.get("checkpoint") != base["checkpoint"]:
        shutil.rmtree(out / "checkpoint", ignore_errors=True)
        (out / "train.jsonl").unlink(missing_ok=True)
    if known != base:
        write_json(note, base)
