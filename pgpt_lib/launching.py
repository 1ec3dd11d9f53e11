"""A training in processes of their own, which accelerate starts, one a device: `train` and `finetune`, from a notebook.

The processes run `python -m pgpt_lib`, whose loop is that of `training.py`. This module starts them,
shows what they print, hands on what they log, and ends them when the notebook is interrupted. When the notebook is
killed they save and end by themselves (`interrupts.follow`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from . import project
from .checkpoint_files import find_checkpoint
from .config import Profile, absolute, load_profile
from .errors import InputError, RunError
from .interrupts import FOLLOWED
from .train_log import TrainLog
from .training import OnLog, TrainResult, result_of, with_settings

Way = Literal["ddp", "fsdp", "zero2"]
CONFIGURATIONS = Path(__file__).parent / "launch"
PATIENCE_SECONDS = 120.0  # for a step and a checkpoint, once the processes are asked to end
# How long torch's launcher then waits before it kills them, by itself 30 s; less than we wait for the launcher.
_ELASTIC = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "110"}
_LAUNCHERS = re.compile(r"(ACCELERATE|FSDP|TORCHELASTIC|GROUP)_.*|(LOCAL_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)")
_LOGGED = re.compile(r"step \d+ of \d+: ")  # what a training prints after each record of its log


def launch_command(
    profile: Profile, out: Path, seed: int, way: Way, processes: int = 0, steps: int | None = None
) -> list[str]:
    """The command that trains a profile under accelerate, or goes on with it.

    Args:
        profile: one that ships, with another `data.root` at most: the processes read it by its name.
        out: the run's folder.
        seed: of data, initial weights and dropout.
        way: which of the configurations in `launch/`.
        processes: how many; 0 means one an accelerator, and one where there is none.
        steps: length of the schedule, in place of the profile's.

    Raises:
        InputError: an unknown way, a negative number, or a profile with settings that its name does not say.
    """
    command = _accelerate(way, processes)
    root = profile.data.root
    if load_profile(profile.name, {"data.root": root} if root else None) != profile:
        raise InputError(f"profile {profile.name} has settings of its own; a launched training knows it by name alone")
    command += ["train", "--profile", profile.name, "--out", str(out.absolute())]
    command += ["--seed", str(seed), "--resume", *(["--steps", str(steps)] if steps else [])]
    return command + (["--root", absolute(root)] if root else [])


def tune_command(
    checkpoint: Path,
    out: Path,
    shares: Mapping[str, float],
    steps: int,
    seed: int,
    way: Way,
    processes: int = 0,
    root: str | None = None,
) -> list[str]:
    """The command that fine-tunes a checkpoint under accelerate, or goes on with it.

    Args:
        checkpoint, out, shares, steps, seed, root: see `finetuning.fine_tune`, whose `tasks` are `shares`.
        way, processes: see `launch_command`.

    Raises:
        InputError: an unknown way, or a negative number.
    """
    command = [*_accelerate(way, processes), "finetune", "--checkpoint", str(checkpoint.absolute())]
    command += ["--out", str(out.absolute()), "--on", ",".join(f"{name}={share}" for name, share in shares.items())]
    command += ["--steps", str(steps), "--seed", str(seed)]
    return command + (["--root", absolute(root)] if root else [])


def _accelerate(way: Way, processes: int) -> list[str]:
    """The command up to the package's name."""
    if way not in get_args(Way):
        raise InputError(f"launch {way!r}: a training is started here, or by {', '.join(get_args(Way))}")
    if processes < 0:
        raise InputError(f"processes is {processes}; it must be at least 1, or 0 for one an accelerator")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATIONS / f"{way}.yaml")]
    command += ["--num_processes", str(processes or devices()), "--main_process_port", "0"]  # 0: any that is free
    return [*command, "-m", "pgpt_lib"]


def launch_training(
    profile: Profile,
    out: Path,
    seed: int,
    way: Way,
    processes: int = 0,
    steps: int | None = None,
    on_log: OnLog | None = None,
) -> TrainResult:
    """Train a profile under accelerate, or go on with it; what it prints is shown as it comes.

    Args:
        profile, out, seed, way, processes, steps: see `launch_command`.
        on_log: called with each new record of the log, as in `training.train`.

    Raises:
        InputError: see `launch_command`.
        RunError: a process failed; the message is its own.
        KeyboardInterrupt: interrupted; the processes were asked to end, and have saved where they were.
    """
    command = launch_command(profile, out, seed, way, processes, steps)
    wanted = with_settings(profile, steps=steps)
    log = TrainLog(out / "train.jsonl")
    first = _steps_done(out, wanted, seed)
    if first < wanted.training.steps:
        _run(command, processes, log, first, on_log)
    checkpoint, state = find_checkpoint(out / "checkpoint", matches=(wanted, seed))
    if state.step != wanted.training.steps:
        raise RunError(f"the training ended with {checkpoint}, before step {wanted.training.steps}")
    return result_of(checkpoint, log, first)


def launch_tuning(
    checkpoint: Path,
    out: Path,
    shares: Mapping[str, float],
    steps: int,
    seed: int,
    way: Way,
    processes: int = 0,
    root: str | None = None,
) -> Path:
    """Fine-tune a checkpoint under accelerate, or go on with it; what it prints is shown as it comes.

    Args:
        as of `tune_command`.

    Returns: the new checkpoint.

    Raises:
        InputError, RunError, KeyboardInterrupt: see `launch_training`.
    """
    command = tune_command(checkpoint, out, shares, steps, seed, way, processes, root)
    _run(command, processes, TrainLog(out / "train.jsonl"), 0, None)
    tuned, state = find_checkpoint(out / "checkpoint")
    if state.step != steps:
        raise RunError(f"the fine-tune ended with {tuned}, before step {steps}")
    return tuned


def _run(command: list[str], processes: int, log: TrainLog, told: int, on_log: OnLog | None) -> None:
    print("$ " + " ".join(["accelerate launch", *command[3:]]), flush=True)
    _follow(command, _environment(os.environ, processes or devices()), log, told, on_log)


def _follow(command: list[str], environment: Mapping[str, str], log: TrainLog, told: int, on_log: OnLog | None) -> None:
    """Run the command to its end; `told` is the last step whose record is known already."""
    error = ""
    process = subprocess.Popen(
        command, cwd=project.ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("error: ") or (not error and line.strip()):
                error = line.strip().removeprefix("error: ")
            if on_log is not None and _LOGGED.match(line):
                for record in [r for r in log.records() if r["step"] > told]:
                    on_log(record)
                    told = record["step"]
        status = process.wait()
    finally:  # a session of their own: an interrupt of the notebook does not reach the processes by itself
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
    if status:
        raise RunError(f"the launched training failed: {error or f'it ended with status {status}'}")


def _environment(given: Mapping[str, str], processes: int) -> dict[str, str]:
    """The notebook's environment, without what a launcher may have told the notebook about itself."""
    kept = {name: value for name, value in given.items() if not _LAUNCHERS.fullmatch(name)}
    path = os.pathsep.join(filter(None, (str(project.ROOT), given.get("PYTHONPATH"))))
    threads = str(max(1, project.cores() // processes))
    return {"OMP_NUM_THREADS": threads, **_ELASTIC, **kept, "PYTHONPATH": path, FOLLOWED: str(os.getpid())}


def devices() -> int:
    """How many accelerators this machine has; 1 where there is none."""
    import torch

    return max(1, torch.accelerator.device_count() if torch.accelerator.is_available() else 1)


def _steps_done(out: Path, profile: Profile, seed: int) -> int:
    try:
        return find_checkpoint(out / "checkpoint", matches=(profile, seed))[1].step
    except InputError:
        return 0
