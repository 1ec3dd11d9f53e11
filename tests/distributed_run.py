"""One process of a training on a tiny real model, or of an evaluation, for `test_distributed.py`.

    torchrun ... tests/distributed_run.py train OUT STEPS [--resume] [--die RANK:STEP] [--compile] [--accumulation N]
    torchrun ... tests/distributed_run.py evaluate OUT

Samples in even places have boxes alone, those in odd places masks too: of two processes the first never sees a mask.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import zlib
from pathlib import Path

import torch
import torch.distributed.tensor
from accelerate import Accelerator, DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin, PartialState
from conftest import LEFT, RIGHT, TinyTower, dialogue, make_llm
from test_chat import byte_level

from pgpt_lib import compilation, training
from pgpt_lib.config import load_profile
from pgpt_lib.data.sample import Sample
from pgpt_lib.errors import RunError
from pgpt_lib.evaluation.predictions import predict, record_of
from pgpt_lib.model import PerceptionGPT, build_model
from pgpt_lib.processes import join_processes, own_share, place
from pgpt_lib.regions import Region

SEED, BATCH = 3, 4
WORDS = ("red star", "blue circle", "square", "green one", "small star")


class TinyStream:
    """Dialogues of different lengths about sixteen pictures."""

    images = None
    epoch_length = 16

    def image_ids(self) -> list[str]:
        return [f"picture-{i}" for i in range(16)]

    def batch(self, step: int, size: int) -> list[Sample]:
        return [self.sample(step * size + i) for i in range(size)]

    def sample(self, index: int) -> Sample:
        region = (LEFT, RIGHT)[index // 2 % 2]
        if index % 2 == 0:
            region = Region(region.box, None)
        words = WORDS[index % 5]
        asked = (f"where is the {words} ?", ()) if index % 3 else ("what is <vis> ?", (RIGHT,))
        answer = ("<vis>", (region,)) if index % 3 else (f"the {words}", ())
        return dialogue(f"tiny-{index}", f"picture-{index % 16}", asked, answer)


def features(image_ids):
    seeds = [torch.Generator().manual_seed(zlib.crc32(i.encode())) for i in image_ids]
    return torch.stack([torch.randn(3, 16, 32, generator=seed) for seed in seeds])


def tiny_model(steps: int, compiled: bool = False, accumulation: int = 1) -> PerceptionGPT:
    settings: dict[str, object] = {"compile": compiled, "accumulation": accumulation}
    settings |= {"steps": steps, "batch_size": BATCH, "save_every": 3, "log_every": 1, "precision": "fp32", "lr": 1e-2}
    overrides = {f"training.{name}": value for name, value in settings.items()}
    overrides |= {"vision.name": "tiny", "vision.image_size": 32, "llm.name": "tiny", "llm.lora_rank": 4}
    profile = load_profile("smoke", {**overrides, "signals": ["box", "mask"]})
    tokenizer = byte_level(["<unk>", "<s>", "</s>"])
    return build_model(profile, SEED, (make_llm(len(tokenizer)), tokenizer), TinyTower())  # type: ignore[arg-type]


def divide_on_cpu(config: str) -> None:
    """Have the training take accelerate's FSDP or DeepSpeed path on the CPU too.

    By itself accelerate does so on accelerators only, though torch's `fully_shard` and DeepSpeed work on both.
    """
    if config:
        import deepspeed

        settings = json.loads(Path(config).read_text())
        settings["zero_optimization"]["overlap_comm"] = False  # there are no streams to overlap
        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
        plugin = DeepSpeedPlugin(hf_ds_config=settings)
        accelerator = Accelerator(cpu=True, mixed_precision="no", deepspeed_plugin=plugin)
        accelerator.state.deepspeed_plugins = {"default": plugin}
        plugin.select(_from_accelerator_state=True)
        kind = DistributedType.DEEPSPEED
    else:
        accelerator = Accelerator(cpu=True, mixed_precision="no")
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
        kind = DistributedType.FSDP
    accelerator.state.distributed_type = PartialState().distributed_type = kind
    training.Accelerator = lambda **_: accelerator


def note(out: Path, model: PerceptionGPT) -> None:
    """Leave a word about this process: its place, and how many of the model's parameters it holds in part."""
    rank, count = place()
    divided = sum(
        isinstance(p, torch.distributed.tensor.DTensor) or hasattr(p, "_hp_mapping") for p in model.parameters()
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / f"process-{rank}.json").write_text(json.dumps({"processes": count, "divided": divided}))


def train(
    out: Path,
    steps: int,
    resume: bool = False,
    die: str | None = None,
    compiled: bool = False,
    accumulation: int = 1,
) -> None:
    if compiled:
        compilation.BACKEND = "aot_eager"  # traced and differentiated as for any backend, without a compiler's time
    model = tiny_model(steps, compiled, accumulation)
    join_processes()
    zero = os.environ.get("PGPT_TEST_ZERO", "")
    if zero or os.environ.get("ACCELERATE_USE_FSDP") == "true":
        divide_on_cpu(zero)
    if die:
        rank, at = map(int, die.split(":"))
        schedule = training.learning_rate

        def fatal(step: int, *rest: float) -> float:
            if step == at and place()[0] == rank:
                os.kill(os.getpid(), signal.SIGKILL)
            return schedule(step, *rest)

        training.learning_rate = fatal

    def make_batch(samples, draw):
        return model.collate(samples, features, input_dropout=0.3, generator=draw)

    start = training.starting_point(out, model.profile, SEED, resume)
    training.fit(model, TinyStream(), make_batch, model.profile, SEED, out, start, progress=False)
    note(out, model)
    if compiled:
        from torch._dynamo.utils import counters

        assert counters["stats"]["unique_graphs"] > 1, "nothing was compiled but the probe"


def evaluate(out: Path) -> None:
    model = tiny_model(1)
    join_processes()
    samples = [TinyStream().sample(i) for i in range(37)]
    told: list[int] = []
    answers = predict(model, samples, None, features, batch_size=5, on_progress=lambda done, total: told.append(total))
    mine = len(own_share([s.image_id for s in samples]))
    assert set(told) == {mine}
    rank, count = place()
    out.mkdir(parents=True, exist_ok=True)
    records = {"share": mine, "answers": [record_of(answer) for answer in answers]}
    (out / f"{rank}-of-{count}.json").write_text(json.dumps(records))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=("train", "evaluate"))
    parser.add_argument("out", type=Path)
    parser.add_argument("steps", type=int, nargs="?", default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--die")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--accumulation", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if given.work == "train":
            train(given.out, given.steps, given.resume, given.die, given.compile, given.accumulation)
        else:
            evaluate(given.out)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
