"""Several processes: the same curve as one, whatever divides the model, and a death that costs nothing but time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import distributed_run
import pytest
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file

from pgpt_lib import processes
from pgpt_lib.config import load_profile, profile_names
from pgpt_lib.errors import RunError
from pgpt_lib.project import ROOT
from pgpt_lib.train_log import TrainLog

HERE = Path(__file__).parent
LAUNCH = ROOT / "pgpt_lib" / "launch"
STEPS = 8
ZERO2 = pytest.param(
    "zero2",
    marks=pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed"),
)


class Strict(BaseModel):
    """What DeepSpeed's documentation and its own models say of a configuration: no other key, type or range."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Zero2(Strict):
    """`zero_optimization`, as far as stage 2 without offloading is concerned."""

    stage: Literal[2]
    contiguous_gradients: bool = True
    reduce_scatter: bool = True
    reduce_bucket_size: int = Field(default=500_000_000, ge=0)
    allgather_partitions: bool = True
    allgather_bucket_size: int = Field(default=500_000_000, ge=0)
    overlap_comm: bool = False
    round_robin_gradients: bool = False


class DeepSpeed(Strict):
    """The whole file; the training loop asks for more, see `fit`."""

    train_batch_size: int | None = Field(default=None, gt=0)
    train_micro_batch_size_per_gpu: int = Field(gt=0)
    gradient_accumulation_steps: Literal[1]  # the loop accumulates by itself, and not under ZeRO-2
    gradient_clipping: float = Field(default=0.0, ge=0)
    zero_allow_untested_optimizer: Literal[True]  # the optimiser is torch's own
    zero_optimization: Zero2


def launch(count: int, kind: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `distributed_run.py` in `count` processes on the CPU, with what the shipped configuration says of FSDP."""
    path = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
    script = [str(HERE / "distributed_run.py"), *arguments]
    if kind == "fsdp":
        config = yaml.safe_load((LAUNCH / "fsdp.yaml").read_text(encoding="utf-8"))["fsdp_config"]
        environment |= {name.upper(): str(value) for name, value in config.items()}
        environment["ACCELERATE_USE_FSDP"] = "true"
    if kind == "zero2":
        environment |= {"PGPT_TEST_ZERO": str(LAUNCH / "zero2.json"), "DS_ACCELERATOR": "cpu"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"] if count > 1 else []
    command = [sys.executable, *torchrun, *script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def trained(folder: Path, count: int, kind: str, *options: str) -> list[dict]:
    done = launch(count, kind, "train", str(folder / "run"), str(STEPS), *options)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(count):
        told = json.loads((folder / "run" / f"process-{rank}.json").read_text())
        assert told["processes"] == count and (told["divided"] > 20) == (kind in ("fsdp", "zero2"))
    return TrainLog(folder / "run" / "train.jsonl").records()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """One process, without a break."""
    run = tmp_path_factory.mktemp("alone") / "run"
    distributed_run.train(run, STEPS)
    return run, TrainLog(run / "train.jsonl").records()


def require_same(run: Path, records: list[dict], alone: tuple[Path, list[dict]]) -> None:
    """The curves agree within 1e-4, and the last checkpoints nearly as well."""
    want_run, want = alone
    assert [r["step"] for r in records] == [r["step"] for r in want] == list(range(1, STEPS + 1))
    for mine, theirs in zip(records, want, strict=True):
        assert mine["losses"].keys() == theirs["losses"].keys() == {"language", "l1", "giou", "bce", "dice"}
        for name, value in theirs["losses"].items():
            assert mine["losses"][name] == pytest.approx(value, abs=1e-4), (mine["step"], name)
        assert (mine["tokens"], mine["emission"]) == (theirs["tokens"], theirs["emission"])
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
    for file in ("perception.safetensors", "optimizer.safetensors", "adapter/adapter_model.safetensors"):
        mine, theirs = (load_file(r / "checkpoint" / f"step_{STEPS}" / file) for r in (run, want_run))
        assert mine.keys() == theirs.keys()
        worst = max(float((mine[name].float() - theirs[name].float()).abs().max()) for name in mine)
        assert worst < 2e-2, file  # AdamW turns a rounding error of a tiny gradient into a step of the rate's size


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--compile",)], ids=["eager", "compiled"])
@pytest.mark.parametrize("kind", ["ddp", "fsdp", ZERO2])
def test_two_processes_follow_the_curve_of_one(
    kind: str, options: tuple[str, ...], alone: tuple, tmp_path: Path
) -> None:
    require_same(tmp_path / "run", trained(tmp_path, 2, kind, *options), alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, then, parts",
    [
        ("ddp", (1, ""), 1),
        ("fsdp", (2, "fsdp"), 2),
        ("fsdp", (1, ""), 1),
        pytest.param("zero2", (2, "zero2"), 1, marks=ZERO2.marks),
    ],
)
def test_a_killed_process_ends_the_job_and_it_resumes_exactly(
    kind: str, then: tuple[int, str], parts: int, alone: tuple, tmp_path: Path
) -> None:
    in_parts = ("--accumulation", str(parts))
    died = launch(2, kind, "train", str(tmp_path / "run"), str(STEPS), "--die", "1:4", *in_parts)
    assert died.returncode != 0
    assert "another process of this training has ended" in died.stderr and "--resume goes on from" in died.stderr
    assert sorted(p.name for p in (tmp_path / "run/checkpoint").iterdir()) == ["step_3"]
    require_same(tmp_path / "run", trained(tmp_path, *then, "--resume", *in_parts), alone)


@pytest.mark.slow
def test_two_processes_go_on_in_micro_batches_where_one_was(alone: tuple, tmp_path: Path) -> None:
    shutil.copytree(alone[0], tmp_path / "run")
    shutil.rmtree(tmp_path / f"run/checkpoint/step_{STEPS}")
    records = trained(tmp_path, 2, "ddp", "--resume", "--accumulation", "2")
    require_same(tmp_path / "run", records, alone)
    assert records[STEPS - 3] == alone[1][STEPS - 3], "up to step 6 it was one process"


def test_deepspeeds_configuration_follows_its_schema() -> None:
    text = (LAUNCH / "zero2.json").read_text(encoding="utf-8")
    config = DeepSpeed.model_validate_json(text)
    assert {load_profile(name).training.grad_clip for name in profile_names()} == {config.gradient_clipping}
    if find_spec("deepspeed") is not None:
        from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

        assert DeepSpeedZeroConfig(**json.loads(text)["zero_optimization"]).stage == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stage", 3),
        ("overlap_comm", "yes"),
        ("reduce_bucket_size", 5e7 + 0.5),
        ("allgather_bucket_size", -1),
        ("contigous_gradients", True),
    ],
)
def test_the_schema_refuses_what_deepspeed_would(key: str, value: object) -> None:
    config = json.loads((LAUNCH / "zero2.json").read_text(encoding="utf-8"))
    config["zero_optimization"][key] = value
    with pytest.raises(ValidationError, match=key):
        DeepSpeed.model_validate_json(json.dumps(config))


@pytest.mark.parametrize("name, kind", [("ddp", "MULTI_GPU"), ("fsdp", "FSDP"), ("zero2", "DEEPSPEED")])
def test_accelerate_reads_the_shipped_configurations(name: str, kind: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))
    assert config.distributed_type == kind and config.num_processes == 8 and config.mixed_precision in ("no", None)
    if name == "zero2":
        assert (ROOT / config.deepspeed_config["deepspeed_config_file"]).is_file()


@pytest.mark.parametrize("name", ["ddp", "fsdp", "zero2"])
def test_two_machines_meet_where_slurm_says(name: str) -> None:
    """What `slurm.sbatch` starts on its second machine: eight processes by torch's launcher, and one meeting place."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    script = (ROOT / "docs" / "launch" / "slurm.sbatch").read_text(encoding="utf-8")
    options = script[script.index("--num_machines") : script.index("-m pgpt_lib train")].replace("\\\n", " ").split()
    values = {"$SLURM_NNODES": "2", "\\$SLURM_NODEID": "1", "$head": "node7", "$((8": "16"}
    given = [values.get(word, word) for word in options if word not in ("*", "SLURM_NNODES))")]
    config = ["--config_file", str(LAUNCH / f"{name}.yaml")]
    asked = launch_command_parser().parse_args([*config, *given, "-m", "pgpt_lib", "train"])
    arguments, _, _ = _validate_launch_command(asked)
    if name == "zero2":
        arguments.deepspeed_fields_from_accelerate_config = []
        command, _ = prepare_deepspeed_cmd_env(arguments)
        assert command is None, "DeepSpeed's own launcher, which wants ssh and a host file"
    else:
        prepare_multi_gpu_env(arguments)
    where = arguments.rdzv_backend, arguments.rdzv_endpoint, arguments.nnodes, arguments.nproc_per_node
    assert where == ("c10d", "node7:29500", "2", "8") and arguments.node_rank == 1


@pytest.mark.slow
def test_two_processes_answer_each_sample_once_and_as_one_does(tmp_path: Path) -> None:
    distributed_run.evaluate(tmp_path / "answers")
    done = launch(2, "ddp", "evaluate", str(tmp_path / "answers"))
    assert done.returncode == 0, done.stderr[-3000:]
    one, first, second = (
        json.loads((tmp_path / "answers" / f"{n}.json").read_text()) for n in ("0-of-1", "0-of-2", "1-of-2")
    )
    assert first["share"] + second["share"] == one["share"] == 37 and min(first["share"], second["share"]) > 10
    ids = [answer["sample_id"] for answer in one["answers"]]
    for other in (first, second):
        assert [answer["sample_id"] for answer in other["answers"]] == ids and len(set(ids)) == 37
        assert [answer["text"] for answer in other["answers"]] == [answer["text"] for answer in one["answers"]]


def test_shares_are_whole_and_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"image-{i % 7}" for i in range(30)]
    shares = []
    for index in range(3):
        monkeypatch.setattr(processes, "place", lambda index=index: (index, 3))
        shares.append(processes.own_share(keys))
    assert sorted(i for share in shares for i in share) == list(range(30))
    assert all(not {keys[i] for i in a} & {keys[i] for i in b} for a in shares for b in shares if a is not b)


def test_a_lost_answer_is_an_error() -> None:
    assert processes.merged({1: "b", 0: "a"}, 2) == ["a", "b"]
    with pytest.raises(RunError, match="1 results for 2 samples"):
        processes.merged({0: "a"}, 2)


def test_whole_tensors_pass_through() -> None:
    tensor = torch.ones(3)
    assert processes.whole(tensor) is tensor and processes.divided_as(tensor, torch.zeros(1)) is tensor
