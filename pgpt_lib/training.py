"""The training loop (paper, section 4.1): AdamW, cosine schedule, the losses of equations 2 to 6, on accelerate.

What step N computes depends on the weights, on (seed, N), and on nothing else: data is a function of the step, random
numbers are drawn anew from (seed, step), the learning rate is a formula. So a training that was killed goes on from its
last checkpoint and ends in the same bytes as one that was not, on CPU with the same number of threads and versions.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedType, PartialState

from .batch import Batch
from .card_use import card_use
from .checkpoint import load_optimizer, load_weights, save_checkpoint
from .checkpoint_files import State, find_checkpoint, library_versions, list_checkpoints, set_aside
from .compilation import compiled, eagerly
from .config import Profile, Training
from .data.sample import Sample, Stream
from .data.streams import prepare_stream
from .diagnosis import EmissionWatch, MakeBatch, is_lost_peer, lost_peer, non_finite
from .errors import InputError, RunError
from .interrupts import StopSignals
from .optimisation import NonFiniteError, build_optimizer, learning_rate, optimiser_step, set_learning_rate, step_seed
from .placement import letterboxed
from .precision import in_usable_precision
from .processes import best_device, join_processes
from .train_log import Progress, TrainLog, Window

if TYPE_CHECKING:  # the loop itself needs no transformers
    from .model import PerceptionGPT

OnLog = Callable[[dict[str, Any]], None]
Clock = Callable[[], float]


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves behind.

    `seconds` were spent in training, over all sittings; `losses` (by term) and `emission` (the share of answers'
    `<vis>` that the model predicts when the answer so far is given) are means over the last logged steps. Beside a card
    `peak_memory_gb` is the most that tensors took there in the last sitting, `mfu` the median over the log; else both
    are None.
    """

    checkpoint: Path
    log: Path
    steps: int
    resumed_from: int
    seconds: float
    losses: dict[str, float]
    emission: float | None
    peak_memory_gb: float | None = None
    mfu: float | None = None


def train(
    profile: Profile,
    out_dir: Path | str,
    seed: int,
    steps: int | None = None,
    save_every: int | None = None,
    resume: bool = False,
    on_log: OnLog | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train a profile's model; leaves `out_dir/checkpoint/step_N` and `out_dir/train.jsonl`.

    Args:
        profile: settings of model, data and optimisation.
        out_dir: the run's folder; made when missing.
        seed: of data, initial weights and dropout.
        steps: length of the schedule, in place of `profile.training.steps`.
        save_every: steps between checkpoints, in place of `profile.training.save_every`. The last step is always saved.
        resume: go on from the last usable checkpoint in `out_dir`; without one, start anew and say so.
        on_log: called with each record of the log, in the main thread (for live curves).
        progress: show progress on standard error.

    Raises:
        InputError: a setting out of range, or `out_dir` holds a training and `resume` is off.
        RunError: a loss is not finite; the message names the samples.
        KeyboardInterrupt, SystemExit: interrupted or terminated; a checkpoint was saved first.
    """
    from .data.streams import build_stream
    from .model import build_model

    profile = with_settings(profile, steps=steps, save_every=save_every)
    out = Path(out_dir)
    join_processes()
    with PartialState(cpu=not torch.accelerator.is_available()).main_process_first():
        start = starting_point(out, profile, seed, resume)
    if start and start[1].step == profile.training.steps:
        return result_of(start[0], TrainLog(out / "train.jsonl"), start[1].step)
    stream = build_stream(profile, seed)
    model = build_model(profile, seed)
    return fit(model, stream, batch_maker(model, stream, progress), profile, seed, out, start, on_log, progress)


def with_settings(profile: Profile, **settings: int | None) -> Profile:
    """The profile with those of `profile.training` replaced that are not None.

    Raises:
        InputError: a value below 1.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    for name, value in given.items():
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")
    return profile.model_copy(update={"training": profile.training.model_copy(update=given)})


def starting_point(out: Path, profile: Profile, seed: int, resume: bool) -> tuple[Path, State] | None:
    """The checkpoint to go on from, or None to start anew. Unusable ones are named, and set aside in `refused/`.

    Raises:
        InputError: `out` holds a training and `resume` is off.
    """
    folder = out / "checkpoint"
    if not resume:
        if held := list_checkpoints(folder):
            last = held[-1][1].name
            raise InputError(f"{out} holds a training up to {last}: go on with --resume, or choose another folder")
        return None
    refused: dict[Path, str] = {}
    try:
        found = find_checkpoint(folder, matches=(profile, seed), on_refused=refused.__setitem__)
    except InputError:
        found = None
    for path, why in refused.items():
        _say(f"not used: {why}; moved to {set_aside(path)}")
    if found is None:
        _say(f"no usable checkpoint in {folder}: training starts anew")
        return None
    path, state = found
    _say(f"going on from {path}")
    made, now = state.versions, library_versions()
    if changed := [f"{name} {made.get(name)}, now {now[name]}" for name in now if made.get(name) != now[name]]:
        _say(f"the checkpoint was made with {'; '.join(changed)}: results may differ in their last digits")
    return found


def fit(
    model: PerceptionGPT,
    stream: Stream,
    make_batch: MakeBatch,
    profile: Profile,
    seed: int,
    out: Path,
    start: tuple[Path, State] | None = None,
    on_log: OnLog | None = None,
    progress: bool = True,
    clock: Clock = time.monotonic,
) -> TrainResult:
    """The loop itself; arguments and errors as for `train`.

    Args:
        model: has `trainable_parameters()`, `signals`, `emission(batch, output)` and a forward whose output has
            `losses`, by term, each a mean over its tokens or regions. `training.compile` needs a `decoder` of `layers`,
            `training.aligned_lr` acts where `aligned` is true.
        make_batch: collates samples. Beside a GPU it is called a step ahead, in a thread.
        start: the checkpoint to go on from.
        clock: whose seconds the log and the checkpoints state.
    """
    settings, computing = profile.training, in_usable_precision(profile, best_device())
    first, before = (start[1].step, start[1].seconds) if start else (0, 0.0)
    # Precision is set by autocast, step by step: accelerate would fix it for the whole process.
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
    if accelerator.distributed_type == DistributedType.DEEPSPEED and settings.accumulation > 1:
        raise InputError(f"training.accumulation is {settings.accumulation}; DeepSpeed's ZeRO-2 takes 1, or use FSDP")
    parameters = model.trainable_parameters()
    if start:
        load_weights(start[0], model)
    optimizer = build_optimizer(parameters, settings, getattr(model, "aligned", False))
    wrapped, stepper = accelerator.prepare(model, optimizer)
    wrapped.train()
    if start:
        load_optimizer(start[0], model, optimizer)
    out.mkdir(parents=True, exist_ok=True)
    log = TrainLog(out / "train.jsonl")
    if accelerator.is_main_process:
        log.truncate(first)
    bar = Progress(settings.steps, first, progress and accelerator.is_main_process)
    checkpoint = start[0] if start else out
    prepare_stream(stream, first * settings.batch_size, settings.steps * settings.batch_size)  # before the clock starts
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    began, window = clock(), Window(accelerator.num_processes, card_use(accelerator, profile))
    watch = EmissionWatch(profile, list(parameters), first)
    ahead = _batches(stream, make_batch, settings, seed, first, accelerator)
    faster = compiled(model, settings.compile, accelerator.device, bar.say if accelerator.is_main_process else _silent)
    safely = _lost_peers(accelerator, out)
    with safely, torch.random.fork_rng(devices), StopSignals() as stop, bar, faster, ahead as batches:
        for step, (samples, parts) in enumerate(batches, start=first):
            torch.manual_seed(step_seed(seed, step, f"model/{accelerator.process_index}"))
            rate = learning_rate(step, settings.steps, settings.lr, settings.warmup)
            set_learning_rate(optimizer, rate)
            try:
                figures = optimiser_step(accelerator, wrapped, stepper, parts, computing)
            except NonFiniteError as error:
                if accelerator.distributed_type == DistributedType.FSDP:  # no process can try a sample by itself
                    named = ", ".join(sample.sample_id for sample in samples)
                    raise RunError(f"step {step + 1}: {error}; samples of this process: {named}") from None
                raise RunError(non_finite(model, make_batch, samples, step, str(error))) from None
            window.add(figures, samples)
            done, seconds = step + 1, before + clock() - began
            if (warning := watch.after(done, figures)) and accelerator.is_main_process:
                bar.say(warning)
            if done % settings.log_every == 0 or done == settings.steps:
                record = window.record(done, rate, seconds)
                if accelerator.is_main_process:
                    log.append(record)
                bar.report(record)
                if on_log is not None:
                    with eagerly(settings.compile):  # it may score the model
                        on_log(record)
                window.restart()
            bar.advance()
            if stop.requested:
                accelerator.set_trigger()
            stopping = accelerator.check_trigger()  # in all processes, if in one
            if done % settings.save_every == 0 or done == settings.steps or stopping:
                checkpoint = out / "checkpoint" / f"step_{done}"
                epoch = done * settings.batch_size // stream.epoch_length
                state, writes = State(profile, seed, done, epoch, seconds), accelerator.is_main_process
                save_checkpoint(checkpoint.parent, model, optimizer, state, write=writes)
                accelerator.wait_for_everyone()
            if stopping and done < settings.steps:
                stop.leave(f"stopped after step {done}, saved in {checkpoint}: --resume goes on from there")
    return result_of(checkpoint, log, first)


@contextmanager
def _lost_peers(accelerator: Accelerator, out: Path) -> Iterator[None]:
    """Say what to do when another process is gone, whatever this one was waiting for."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RunError) or accelerator.num_processes == 1 or not is_lost_peer(error):
            raise
        held = list_checkpoints(out / "checkpoint")
        raise RunError(lost_peer(error, held[-1][1] if held else None)) from error


@contextmanager
def _batches(
    stream: Stream, make_batch: MakeBatch, settings: Training, seed: int, first: int, accelerator: Accelerator
) -> Iterator[Iterator[tuple[list[Sample], list[Batch]]]]:
    """The samples and micro-batches of each step that is left. Beside a GPU a thread prepares the next step's."""

    def prepare(step: int) -> tuple[list[Sample], list[Batch]]:
        samples = stream.batch(step, settings.batch_size)[accelerator.process_index :: accelerator.num_processes]
        size = -(-len(samples) // settings.accumulation)
        draw = torch.Generator().manual_seed(step_seed(seed, step, "batch"))  # the same in all processes
        return samples, [make_batch(samples[i : i + size], draw) for i in range(0, len(samples), size)]

    if accelerator.device.type == "cpu":  # every core is at work in the step: a busy thread would stall them all
        yield (prepare(step) for step in range(first, settings.steps))
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:

        def ahead() -> Iterator[tuple[list[Sample], list[Batch]]]:
            pending = thread.submit(prepare, first)
            for step in range(first + 1, settings.steps + 1):
                ready = pending.result()
                if step < settings.steps:
                    pending = thread.submit(prepare, step)
                yield ready

        yield ahead()


def batch_maker(model: PerceptionGPT, stream: Stream, progress: bool = True) -> MakeBatch:
    """Collates a model's batches from features on disk: the tower is frozen, so it sees each image once, beforehand.

    With `training.cache_features` off (the features of all images may fit no disk) batches hold pixels for the tower.

    Raises:
        InputError: questions are to be kept apart, but the chat format does not begin with the image.
    """
    from .backbones import cache_dir
    from .distillation import Teacher, untuned
    from .feature_cache import FeatureCache

    model.tower.to(best_device())
    size, template = model.tower.image_size, model.chat.template
    if model.profile.data.turns_apart and not template.image_first:
        raise InputError(
            f"data.turns_apart needs a chat format that begins with the image; {template.name} puts it into the first "
            "question: set data.turns_apart to false"
        )
    options: dict[str, Any] = {
        "input_dropout": model.profile.training.input_dropout,
        "apart": model.profile.data.turns_apart,
    }

    def load_square(image_id: str) -> np.ndarray:
        return letterboxed(stream.images.load_image(image_id), size)

    def pixels(image_ids: Sequence[str]) -> torch.Tensor:
        return model.tower.preprocess([load_square(image_id) for image_id in image_ids]).cpu()

    if model.profile.training.cache_features:
        cache = FeatureCache(model.tower, cache_dir() / "features")
        cache.features(stream.image_ids(), load_square, progress)
        options["features"] = cache.rows
    else:
        options["pixel_values"] = pixels
    if not model.profile.losses.distillation:
        return lambda samples, draw: model.collate(samples, generator=draw, **options)
    teacher = Teacher(untuned(model))
    return lambda samples, draw: teacher.teach(model.collate(samples, generator=draw, **options), samples)


def result_of(checkpoint: Path, log: TrainLog, resumed_from: int) -> TrainResult:
    """What a training that came to its end left behind."""
    records = log.records()
    end, rates = records[-1], [record["mfu"] for record in records if record.get("mfu") is not None]
    return TrainResult(
        checkpoint=checkpoint,
        log=log.path,
        steps=end["step"],
        resumed_from=resumed_from,
        seconds=end["seconds"],
        losses=end["losses"],
        emission=end["emission"],
        peak_memory_gb=end.get("peak_memory_gb"),
        mfu=statistics.median(rates) if rates else None,
    )


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _silent(message: str) -> None:
    """One process speaks for all."""
