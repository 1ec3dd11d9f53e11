"""Trainings started through accelerate from a notebook: the same result, followed, gone on with, and ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pgpt_lib import launching, project
from pgpt_lib.checkpoint_files import read_state
from pgpt_lib.commands.finetune import parse_shares
from pgpt_lib.config import load_profile, profile_names
from pgpt_lib.errors import InputError, RunError
from pgpt_lib.estimate.text import own_estimate
from pgpt_lib.interrupts import FOLLOWED
from pgpt_lib.train_log import TrainLog
from pgpt_lib.training import train

SMOKE = load_profile("smoke")


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_two_processes_are_followed_and_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five steps by accelerate; without the last checkpoint it goes on to the same bytes; done, it starts nothing."""
    command = launching.launch_command
    monkeypatch.setattr(launching, "launch_command", lambda *given: [*command(*given), "--save-every", "4"])
    told: list[int] = []
    result = launching.launch_training(SMOKE, tmp_path, 3, "ddp", 2, 5, lambda record: told.append(record["step"]))
    assert (result.steps, result.resumed_from, result.checkpoint.name) == (5, 0, "step_5") and told == [5]
    printed = capsys.readouterr().out
    assert "$ accelerate launch --config_file" in printed and "--num_processes 2" in printed
    assert "step 5 of 5: loss" in printed, "what the processes print is shown"
    want = {file.name: file.read_bytes() for file in result.checkpoint.rglob("*.safetensors")}
    shutil.rmtree(result.checkpoint)
    again = launching.launch_training(SMOKE, tmp_path, 3, "ddp", 2, 5)
    assert (again.steps, again.resumed_from, again.checkpoint) == (5, 4, result.checkpoint)
    got = {file.name: file.read_bytes() for file in again.checkpoint.rglob("*.safetensors")}
    assert len(want) >= 3 and got == want and "going on from" in capsys.readouterr().out
    done = launching.launch_training(SMOKE, tmp_path, 3, "ddp", 2, 5)
    assert done.losses == again.losses and done.resumed_from == 5 and not capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_fine_tune_and_a_finished_one_is_kept(tmp_path: Path) -> None:
    base = train(SMOKE, tmp_path / "base", 0, steps=1, progress=False).checkpoint
    again = []
    for _ in range(2):
        tuned = launching.launch_tuning(base, tmp_path / "tuned", {"question": 1}, 2, 0, "ddp", 2)
        again.append({f.name: f.stat().st_mtime_ns for f in tuned.iterdir()})
    assert tuned == tmp_path / "tuned" / "checkpoint" / "step_2" and again[0] == again[1]
    assert set(read_state(tuned).profile.data.tasks) == {"question"}
    with pytest.raises(RunError, match="juggling"):
        launching.launch_tuning(base, tmp_path / "other", {"juggling": 1}, 2, 0, "ddp", 2)


def test_the_fine_tunes_command(tmp_path: Path) -> None:
    command = launching.tune_command(tmp_path / "step_9", tmp_path, {"refcoco+": 1.0}, 70, 2, "fsdp", 8, "data")
    asked = " ".join(command[command.index("pgpt_lib") :])
    where = f"--checkpoint {tmp_path / 'step_9'} --out {tmp_path} --on refcoco+=1.0 --steps 70 --seed 2"
    assert asked == f"pgpt_lib finetune {where} --root {Path('data').absolute()}"
    assert parse_shares(command[command.index("--on") + 1]) == {"refcoco+": 1.0}


def test_the_command_is_train_under_a_shipped_configuration(tmp_path: Path) -> None:
    command = launching.launch_command(load_profile("paper-13b", {"data.root": "data"}), tmp_path, 2, "fsdp", 8, 70)
    assert command[1:5] == [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(project.ROOT / "pgpt_lib/launch/fsdp.yaml"),
    ]
    asked = " ".join(command[command.index("pgpt_lib") :])
    where = f"--out {tmp_path} --seed 2 --resume --steps 70 --root {Path('data').absolute()}"
    assert asked == f"pgpt_lib train --profile paper-13b {where}"
    assert "--num_processes 8" in " ".join(command)


@pytest.mark.parametrize(
    ("profile", "settings", "message"),
    [
        (SMOKE, {"way": "horovod"}, "launch 'horovod': .* ddp, fsdp, zero2"),
        (SMOKE, {"way": "ddp", "processes": -1}, "processes is -1"),
        (load_profile("smoke", {"training.lr": 0.5}), {"way": "ddp"}, "settings of its own"),
    ],
)
def test_bad_input_starts_nothing(tmp_path: Path, profile, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        launching.launch_training(profile, tmp_path, 0, **settings)
    assert not list(tmp_path.iterdir())


FAIL = (
    "import sys; print('step 1 of 9: x', flush=True); print('error: loss is not finite'); print('=' * 9); sys.exit(1)"
)


def test_a_failure_is_told_in_the_processes_own_words(tmp_path: Path) -> None:
    log = TrainLog(tmp_path / "train.jsonl")
    for step in (1, 2):
        log.append({"step": step})
    told: list[int] = []
    with pytest.raises(RunError, match="the launched training failed: loss is not finite"):
        launching._follow([sys.executable, "-c", FAIL], os.environ, log, 1, lambda record: told.append(record["step"]))
    assert told == [2], "records from before the last checkpoint are known already"


SLEEP = """import signal, sys, time
def end(*_): open(sys.argv[1], "w").write("saved"); sys.exit(143)
signal.signal(signal.SIGTERM, end); print("up", flush=True); time.sleep(60)"""


def test_an_interrupted_notebook_ends_its_processes(tmp_path: Path) -> None:
    def interrupt() -> None:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    command = [sys.executable, "-c", SLEEP, str(tmp_path / "saved")]
    with pytest.raises(KeyboardInterrupt):
        launching._follow(command, os.environ, TrainLog(tmp_path / "train.jsonl"), 0, None)
    assert (tmp_path / "saved").read_text() == "saved"


NOTEBOOK = f"""import subprocess, sys, os, time
child = "from pgpt_lib.interrupts import follow; import os, time; follow(int(os.environ['{FOLLOWED}']))\\n"
child += "print('up', flush=True); time.sleep(60)"
process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, start_new_session=True,
                           env=dict(os.environ, {FOLLOWED}=str(os.getpid())))
process.stdout.readline()
print(process.pid, flush=True)
time.sleep(60)"""


def test_a_training_does_not_outlive_its_notebook() -> None:
    notebook = subprocess.Popen([sys.executable, "-c", NOTEBOOK], stdout=subprocess.PIPE, text=True, cwd=project.ROOT)
    assert notebook.stdout is not None
    child = int(notebook.stdout.readline())
    notebook.kill()  # and left a zombie for a while, as a kernel may be
    began = time.time()
    while time.time() - began < 20 and _lives(child):
        time.sleep(0.1)
    notebook.wait()
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_launcher_above_is_forgotten() -> None:
    given = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "x", "ACCELERATE_USE_FSDP": "true", "HOME": "/h"}
    made = launching._environment(given, 3)
    assert made["HOME"] == "/h" and made[FOLLOWED] == str(os.getpid()) and "OMP_NUM_THREADS" in made
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_USE_FSDP"} & made.keys()


def test_torchs_launcher_waits_for_a_checkpoint_but_no_longer_than_we_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.launcher.api import LaunchConfig

    name = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
    set_to = [launching._environment({}, 1)[name]]
    scripts = {path.name: path.read_text(encoding="utf-8") for path in (project.ROOT / "docs" / "launch").iterdir()}
    set_to += [re.findall(rf"^export {name}=\$\{{{name}:-(\d+)\}}", text, re.M)[0] for text in scripts.values()]
    monkeypatch.setenv(name, set_to[0])
    waits = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=1).shutdown_timeout
    assert len(set_to) == 3 and set(set_to) == {str(waits)} and waits > 30
    warned = int(re.findall(r"^#SBATCH --signal=TERM@(\d+)$", scripts["slurm.sbatch"], re.M)[0])
    assert waits < min(launching.PATIENCE_SECONDS, warned)


@pytest.mark.slow
def test_a_second_training_in_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgpt_lib.commands import train

    monkeypatch.setattr(train, "LOCK_SECONDS", 0)
    with train.only_training(tmp_path):
        with pytest.raises(InputError, match="another training is at work"), train.only_training(tmp_path):
            pytest.fail("two at once")
    with train.only_training(tmp_path):
        pass


@pytest.mark.parametrize("name", profile_names())
def test_profiles_say_how_they_are_launched(name: str) -> None:
    budget = load_profile(name).budget
    large = name.startswith(("gpu", "paper-"))
    assert (budget.launch != "here") == bool(budget.gpu) == large
    if not large:
        assert own_estimate(load_profile(name)) == f"{name} needs no card: nothing to estimate"


def test_the_estimate_is_for_the_profiles_own_cards() -> None:
    text = own_estimate(load_profile("gpu"))
    assert text.startswith("gpu on 1 x rtx3090, ddp") and "fits" in text and "hours" in text
