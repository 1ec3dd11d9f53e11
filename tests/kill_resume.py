"""Trains once without a break, then once for each kill point: killed there with SIGKILL, and resumed.

    python tests/kill_resume.py toy|smoke|smoke-apart FOLDER STEPS KILL ...

`smoke-apart` is `smoke` as `cpu` trains: questions kept apart, and a teacher beside the true answers.

A kill point is `step:N` (as step N begins), `save:N:FILE` (step N's checkpoint is being written, FILE has half its
bytes on the disk) or `prune:N` (step N's checkpoint stands, old ones are about to go). Every run is a fork of this
process, so that libraries are imported once. Leaves `FOLDER/whole`, `FOLDER/0`, `FOLDER/1`, ...; prints how each
process ended as JSON, and exits with 1 unless the killed were killed and the others ended well.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from toy_model import run_toy, toy_profile

from pgpt_lib import checkpoint, training
from pgpt_lib.config import load_profile

SEED = 5
SETTINGS = {"smoke": {}, "smoke-apart": {"data.turns_apart": True, "losses.distillation": 0.5}}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(kill: str) -> None:
    """Make this process die at a kill point."""
    kind, step, *rest = kill.split(":")
    if kind == "step":
        schedule = training.learning_rate  # asked once a step, with the step as its first argument
        training.learning_rate = lambda *args: die() if args[0] == int(step) else schedule(*args)
    elif kind == "save":
        flush = checkpoint._flush

        def flush_half(path: Path) -> None:
            if path.name == rest[0] and f"step_{step}.tmp" in path.as_posix():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
                die()
            flush(path)

        checkpoint._flush = flush_half
    elif kind == "prune":
        listing = checkpoint.list_checkpoints
        checkpoint.list_checkpoints = lambda folder: die() if (folder / f"step_{step}").exists() else listing(folder)
    else:
        raise ValueError(f"no kill point: {kill}")


def forked(work: Callable[[], object]) -> int:
    """Run in a child process; its exit status, or minus the signal that ended it."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    kind, folder, steps, *kills = sys.argv[1:]
    torch.set_num_threads(1)

    def run(out: Path, resume: bool = False) -> None:
        if kind == "toy":
            run_toy(out, toy_profile(int(steps), save_every=4), SEED, resume)
        else:
            profile = load_profile("smoke", SETTINGS[kind])
            training.train(profile, out, SEED, int(steps), save_every=3, resume=resume, progress=False)

    def killed(kill: str, out: Path) -> None:
        arm(kill)
        run(out)

    ends = {"whole": forked(lambda: run(Path(folder, "whole")))}
    good = ends["whole"] == 0
    for number, kill in enumerate(kills):
        out = Path(folder, str(number))
        first = forked(lambda kill=kill, out=out: killed(kill, out))
        second = forked(lambda out=out: run(out, resume=True))
        ends[kill] = [first, second]
        good = good and first == -signal.SIGKILL and second == 0
    print(json.dumps(ends))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
