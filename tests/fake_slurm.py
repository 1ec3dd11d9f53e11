"""Stands in for SLURM's commands on this machine, for `test_cluster.py`: linked as sbatch, srun, sacct and the others.

Jobs run at once, in sessions of their own. `$FAKE_SLURM` is a folder: `TASK.pid` of each array task, `TASK.state` of
those that ended, and `calls`. An array task listed in `$FAKE_LOST` ends as if its node had run out of memory.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAKE_SLURM"])
RUNNER = "trap : USR2; source {script}; echo $? > {folder}/{task}.status"


def start(script: str, task: str) -> None:
    """Run one array task in the background."""
    (FOLDER / f"{task}.state").unlink(missing_ok=True)
    number, _, index = task.partition("_")
    about = {"SLURM_JOB_ID": str(100 + int(index or 0)), "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_NODEID": "0"}
    about |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index} if index else {"SLURM_JOB_ID": number}
    about |= {"FAKE_TASK": task, "FAKE_SCRIPT": script}
    shell = ["bash", "-c", RUNNER.format(script=script, folder=FOLDER, task=task)]
    process = subprocess.Popen(
        shell, env={**os.environ, **about}, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    (FOLDER / f"{task}.pid").write_text(str(process.pid))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main(name: str, arguments: list[str]) -> None:
    with (FOLDER / "calls").open("a") as calls:
        calls.write(f"{name} {' '.join(arguments)}\n")
    if name == "sbatch":
        text = Path(arguments[0]).read_text()
        script = FOLDER / "script.sh"
        script.write_text(text)
        array = re.search(r"--array=0-(\d+)", text)
        for task in [f"7_{i}" for i in range(int(array[1]) + 1)] if array else ["7"]:
            start(str(script), task)
        print("Submitted batch job 7")
    elif name == "srun":
        if os.environ["FAKE_TASK"] in os.environ.get("FAKE_LOST", "").split():
            (FOLDER / f"{os.environ['FAKE_TASK']}.state").write_text("OUT_OF_MEMORY")
            return
        command = arguments[next(i for i, a in enumerate(arguments) if a.startswith("/") and "python" in a) :]
        os.execv(command[0], command)
    elif name == "sacct":
        print("JobID|State|NodeList")
        for file in sorted(FOLDER.glob("*.pid")):
            state = file.with_suffix(".state")
            ended = state.read_text() if state.exists() else "COMPLETED"
            print(f"{file.stem}|{'RUNNING' if alive(int(file.read_text())) else ended}|here")
    elif name == "scancel":
        task = arguments[0]
        (FOLDER / f"{task}.state").write_text("CANCELLED by 0")
        os.killpg(int((FOLDER / f"{task}.pid").read_text()), signal.SIGTERM)
    elif name == "scontrol":  # requeue, from inside the task
        start(os.environ["FAKE_SCRIPT"], os.environ["FAKE_TASK"])


if __name__ == "__main__":
    main(Path(sys.argv[0]).name, sys.argv[1:])
