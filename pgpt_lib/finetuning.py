"""A trained model trained on: other tasks, fewer steps, the same loop (paper, section 4.3, Table 5)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from .checkpoint import checkpoint_hash, find_checkpoint, load_checkpoint
from .data.streams import build_stream
from .files import read_json, write_json
from .train_log import TrainLog
from .training import OnLog, TrainResult, batch_maker, fit, starting_point


def fine_tune(
    checkpoint: Path | str,
    out_dir: Path | str,
    tasks: Mapping[str, float],
    steps: int,
    seed: int,
    lr: float | None = None,
    on_log: OnLog | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train a checkpoint's model further on a mixture of its own; a killed fine-tune goes on from its last checkpoint.

    Args:
        checkpoint: a `step_N` or a folder of them: where the weights come from. It is left as it is.
        out_dir: the folder of the new training, as in `training.train`; one that began elsewhere is dropped from it.
        tasks: a task's name to its share.
        steps: length of the schedule.
        seed: of data and dropout.
        lr: peak learning rate; by default a third of the one that the checkpoint was trained with.

    Raises:
        InputError: no usable checkpoint, or an unknown task.
    """
    model, state = load_checkpoint(checkpoint)
    before = state.profile.training
    changes = {"steps": steps, "save_every": steps, "lr": lr or before.lr / 3}
    training = before.model_copy(update=changes)
    data = state.profile.data.model_copy(update={"tasks": dict(tasks)})
    profile = state.profile.model_copy(update={"training": training, "data": data})
    out = Path(out_dir)
    _drop_if_stale(out, checkpoint_hash(find_checkpoint(Path(checkpoint))[0]))
    start = starting_point(out, profile, seed, resume=True)
    if start and start[1].step == steps:
        log = TrainLog(out / "train.jsonl")
        end = log.records()[-1]
        return TrainResult(start[0], log.path, steps, steps, end["seconds"], end["losses"], end["emission"])
    stream = build_stream(profile, seed)
    return fit(model, stream, batch_maker(model, stream, progress), profile, seed, out, start, on_log, progress)


def _drop_if_stale(out: Path, base: str) -> None:
    """Forget a fine-tune that started from other weights, and note which ones this one starts from."""
    note = out / "base.json"
    if read_json(note) != {"checkpoint": base}:
        shutil.rmtree(out / "checkpoint", ignore_errors=True)
        (out / "train.jsonl").unlink(missing_ok=True)
        write_json(note, {"checkpoint": base})
