"""Sweeps on a cluster, against stand-ins for SLURM's commands: results, failures, lost nodes, another sitting."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from test_reproduce import write

from pgpt_lib import cli
from pgpt_lib.errors import InputError
from pgpt_lib.sweeps import cluster
from pgpt_lib.sweeps.jobs import Job, why
from pgpt_lib.sweeps.notebook_grid import load_grid, run_grid

FAKE = Path(__file__).parent / "fake_slurm.py"
GRID = "profile: smoke\nfolder: notebooks\nnotebooks: [01_first]\ngrid: {seed: [0, 1]}\n"
WORK = """marks = run.folder / 'marks'
marks.mkdir(exist_ok=True)
earlier = len(list(marks.iterdir()))
(marks / str(earlier)).touch()
import time
if seed == 1: raise ValueError('seed one breaks')
if not earlier: time.sleep(120)"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-ins on the path; returns the folder in which they note what they do."""
    commands, folder = tmp_path / "bin", tmp_path / "slurm"
    commands.mkdir()
    folder.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel", "scontrol"):
        (commands / name).write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(FAKE.parent)!r})\n")
        with (commands / name).open("a") as script:
            script.write(f"import fake_slurm\nfake_slurm.main({name!r}, sys.argv[1:])\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setattr(cluster, "STATE_SECONDS", 1)
    from submitit.core.core import Job as Handle

    monkeypatch.setattr(Handle, "_results_timeout_s", 0.1)
    return folder


def run_on(folder: Path, **resources: object):
    return partial(cluster.run_on_cluster, resources=resources, folder=folder / ".slurm")


def test_each_job_ends_with_its_own_status(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_LOST", "7_1")
    ended: dict[str, int] = {}
    jobs = [Job(name, {"kind": "cell", "plan": "table8"}, tmp_path / name) for name in ("unknown plan", "lost node")]
    run = run_on(tmp_path, partition="gpu", time=30, gpus_per_node=1, mem_gb=32)
    run(jobs, 5, lambda job, status: ended.update({job.name: status}), print)
    assert ended == {"unknown plan": 2, "lost node": 1}
    assert why(jobs[0], 2).startswith("unknown sweep 'table8'")
    assert why(jobs[1], 1) == "SLURM job 7_1: OUT_OF_MEMORY"
    script = (slurm / "script.sh").read_text()
    for option in ("array=0-1%2", "partition=gpu", "time=30", "gpus-per-node=1", "mem=32GB", "signal=USR2@90"):
        assert f"#SBATCH --{option}" in script


@pytest.mark.slow
def test_a_grid_goes_on_in_another_sitting(slurm: Path, tmp_path: Path) -> None:
    """SLURM's warning ends the first sitting of point 0; the second finishes it. Point 1 fails by itself."""
    write(tmp_path / "notebooks", "01_first", WORK)
    (tmp_path / "grid.yaml").write_text(GRID)
    out, lines = tmp_path / "out", []

    def warn() -> None:
        while not (out / "seed=0/01_first/marks/0").exists():
            time.sleep(0.2)
        os.killpg(int((slurm / "7_0.pid").read_text()), signal.SIGUSR2)

    threading.Thread(target=warn, daemon=True).start()
    done = run_grid(load_grid(tmp_path / "grid.yaml"), out, 8, False, lines.append, run_on(out))
    assert {name: point["status"] for name, point in done["points"].items()} == {"seed=0": "done", "seed=1": "failed"}
    assert "seed one breaks" in done["failed"]["seed=1"] and list(done["failed"]) == ["seed=1"]
    assert sorted(p.name for p in (out / "seed=0/01_first/marks").iterdir()) == ["0", "1"]
    assert "scontrol requeue" in (slurm / "calls").read_text() and "2 jobs submitted to SLURM, 7_0 to 7_1" in lines


def test_an_interrupt_cancels_what_is_left(slurm: Path, tmp_path: Path) -> None:
    def interrupt(job: Job, status: int) -> None:
        raise KeyboardInterrupt

    write(tmp_path / "notebooks", "01_first", "import time; time.sleep(120)")
    sleeper = {"kind": "notebooks", "profile": "smoke", "out": str(tmp_path / "out"), "parameters": {}, "only": []}
    sleeper |= {"timeout_minutes": None, "notebooks": str(tmp_path / "notebooks")}
    jobs = [Job("unknown plan", {"kind": "cell", "plan": "table8"}, tmp_path / "a"), Job("b", sleeper, tmp_path / "b")]
    with pytest.raises(KeyboardInterrupt):
        run_on(tmp_path)(jobs, 2, interrupt, print)
    assert "scancel 7_1" in (slurm / "calls").read_text() and "scancel 7_0" not in (slurm / "calls").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "pbs"], "--cluster 'pbs': there is slurm"),
        (["-r", "time=3"], "--resource time=3: it belongs to --cluster slurm"),
        (["--cluster", "slurm", "-r", "time"], "-r 'time': it is given as name=value"),
    ],
)
def test_bad_choices_are_named(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["sweep", "table6", "--dry-run", *arguments])
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_an_option_that_sbatch_lacks_is_named(slurm: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--resource: .*hours.*partition"):
        run_on(tmp_path, hours=3)([Job("a", {}, tmp_path / "a")], 1, print, print)
    assert not (slurm / "calls").exists()


def test_without_slurm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no srun here"):
        run_on(tmp_path)([Job("a", {}, tmp_path / "a")], 1, print, print)


def test_the_plan_says_where(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["sweep", "losses", "--profile", "smoke", "--out", str(tmp_path), "--dry-run"]
    with pytest.raises(SystemExit) as end:
        cli.main([*arguments, "--cluster", "slurm", "-r", "time=60", "-r", "partition=gpu"])
    printed = capsys.readouterr().out
    assert end.value.code == 0 and "256 at a time" in printed and "on SLURM: time=60, partition=gpu" in printed
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--json"])
    assert json.loads(capsys.readouterr().out)["jobs"] == 1
