"""How far the estimate is to be trusted: predicted and measured memory and time of a step, on this machine's CPU.

A case is measured in processes of its own, with random weights of the true sizes and a made-up batch. Memory is what
the tensors take, so freed memory is returned at once, which glibc does not do by itself. The time is predicted from
rates measured in the same process: one block of the language model, a quarter of the perception heads, a matrix
product, an optimiser's step over a million numbers. What is predicted is the whole step.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor

from ..adapters import base_model
from ..batch import Batch
from ..config import Profile, load_profile
from ..errors import RunError
from ..optimisation import build_optimizer, optimiser_step
from ..precision import in_usable_precision
from ..regions import Placement, Region
from .counting import count, shape_on_meta
from .plan import memory_of
from .shapes import Shape, build_shape
from .tracing import heads_pass, trace

CASES = {"nano": "cpu", "smollm2-135m": "photos"}  # the language model, and the profile that gives the batch
REPEATS = 20
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "262144"}  # glibc then returns what is freed, instead of keeping it for later
MATRIX = 1024  # side of the matrix product that gives the rate of the language model's head


def calibrated(case: str, log: Callable[[str], None]) -> dict[str, Any]:
    """Predicted and measured peak memory (bytes) and seconds of a step, with their ratios.

    Raises:
        RunError: the measuring process failed.
    """
    log(f"calibrating {case}: {REPEATS} steps")
    measured = _in_a_process("memory", case, ALLOCATOR) | _in_a_process("time", case, {})
    profile = _profile_of(case)
    shape = shape_on_meta(profile)
    totals, trained = count(shape)
    step = trace(profile, profile.training.batch_size)
    memory = memory_of(profile, totals, trained, step, shape.layers)["total"]
    rates = measured.pop("rates")
    seconds = (
        shape.layers * rates["seconds_a_block"]
        + rates["seconds_of_heads"] * profile.training.batch_size / rates["dialogues_of_heads"]
        + step.flop["lm_head"] / rates["flop_a_second"]
        + sum(trained.values()) * rates["seconds_a_parameter"]
    )
    return {
        "memory": {"predicted": memory, "measured": measured["memory"], "ratio": memory / measured["memory"]},
        "seconds": {"predicted": seconds, "measured": measured["seconds"], "ratio": seconds / measured["seconds"]},
        "quartiles": measured["quartiles"],
        "threads": measured["threads"],
        "rates": rates,
    }


def _profile_of(case: str) -> Profile:
    return in_usable_precision(load_profile(CASES[case]), torch.device("cpu"))


def _in_a_process(what: str, case: str, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, what, case]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise RunError(f"measuring the {what} of {case} failed with status {done.returncode}")
    return cast(dict, json.loads(done.stdout.splitlines()[-1]))


def measure_memory(profile: Profile) -> dict[str, Any]:
    """The most memory, in bytes, that building the model and three steps add to this process."""
    shape_on_meta(profile)  # so that what Python imports on the way is not counted
    torch.ones(64, 64, dtype=torch.bfloat16) @ torch.ones(64, 64, dtype=torch.bfloat16)
    before = _status("VmRSS")
    step, _, _ = _step_of(profile)
    for _ in range(3):
        step()
    return {"memory": _status("VmHWM") - before}


def _step_of(profile: Profile) -> tuple[Callable[[], None], Shape, Batch]:
    """A step of the optimiser on a made-up batch, and what it works on."""
    torch.manual_seed(0)
    shape = build_shape(profile)
    model, settings = shape.model.train(), profile.training
    batch = made_up(shape, settings.batch_size)
    optimizer = build_optimizer(model.trainable_parameters(), settings)
    accelerator = Accelerator(cpu=True)

    def step() -> None:
        optimiser_step(accelerator, model, optimizer, [batch], profile)

    return step, shape, batch


def measure_time(profile: Profile) -> dict[str, Any]:
    """The median seconds of a step in this process, and the rates that predict them."""
    step, shape, batch = _step_of(profile)
    model, settings = shape.model, profile.training
    seconds = timed(step)
    small = torch.nn.Parameter(torch.zeros(1_000_000))
    small.grad = torch.zeros_like(small)
    adam = torch.optim.AdamW([small], fused=True)
    left, right = torch.randn(2, MATRIX, MATRIX, dtype=base_model(model.llm).dtype)  # as the head multiplies
    few = max(1, settings.batch_size // 4)
    assert batch.features is not None
    features = batch.features[:few]

    def block() -> None:
        embeds = torch.randn(settings.batch_size, shape.tokens, width, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            out = decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state.float().sum()
        out.backward()

    def heads() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            out = heads_pass(shape, features)
        out.backward()

    decoder: Any = model.decoder
    width = base_model(model.llm).config.hidden_size
    decoder.layers = decoder.layers[:1]
    rates = {
        "seconds_a_block": statistics.median(timed(block)),
        "seconds_of_heads": statistics.median(timed(heads)),
        "dialogues_of_heads": few,
        "flop_a_second": 2 * MATRIX**3 / statistics.median(timed(lambda: left @ right)),
        "seconds_a_parameter": statistics.median(timed(adam.step)) / len(small),
    }
    quartiles = statistics.quantiles(seconds, n=4)
    return {
        "seconds": statistics.median(seconds),
        "quartiles": [quartiles[0], quartiles[2]],
        "threads": torch.get_num_threads(),
        "rates": rates,
    }


def timed(work: Callable[[], Any]) -> list[float]:
    """Seconds of `REPEATS` calls, after two that are not counted."""
    seconds = []
    for number in range(REPEATS + 2):
        start = time.perf_counter()
        work()
        if number >= 2:
            seconds.append(time.perf_counter() - start)
    return seconds


def made_up(shape: Shape, dialogues: int) -> Batch:
    """A batch of the shape's sizes: random words, an image a dialogue, every region with box and mask."""
    length, regions = shape.tokens, dialogues * shape.regions
    ids = torch.randint(0, 100, (dialogues, length))
    labels = torch.full_like(ids, -100)
    labels[:, length - shape.answer_tokens :] = ids[:, length - shape.answer_tokens :]
    image = torch.zeros_like(ids, dtype=torch.bool)
    image[:, : shape.image_tokens] = True
    row = torch.arange(dialogues).repeat_interleave(shape.regions)
    position = (length - 1 - 2 * torch.arange(shape.regions)).flip(0).repeat(dialogues)
    here = torch.ones(regions, dtype=torch.bool)
    values: dict[str, Tensor] = {"box": torch.rand(regions, 4) / 2 + 0.1, "depth": torch.rand(regions, 1)}
    if "mask" in shape.model.signals:
        side = int(getattr(shape.model.signals["mask"], "side"))  # noqa: B009
        values["mask"] = torch.rand(regions, side, side)
    tower: Any = shape.model.tower
    size = (dialogues, tower.num_layers, tower.num_tokens, tower.hidden_size)
    return Batch(
        input_ids=ids,
        labels=labels,
        attention_mask=torch.ones_like(image),
        image_mask=image,
        image_index=torch.arange(dialogues),
        vis_row=row,
        vis_position=position,
        vis_is_answer=here,
        targets={name: (values[name], here) for name in shape.model.signals},
        visible={name: here for name in shape.model.input_signals},
        regions=[Region((0.1, 0.1, 0.6, 0.6))] * regions,
        placements=[Placement(10, 10, tower.image_size)] * regions,
        sample_ids=[str(i) for i in range(dialogues)],
        features=torch.randn(size, dtype=torch.bfloat16),
    )


def _status(name: str) -> int:
    """A figure of this process's memory in bytes: `VmRSS`, what it holds, or `VmHWM`, the most that it held."""
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    chosen = _profile_of(sys.argv[2])
    print(json.dumps(measure_memory(chosen) if sys.argv[1] == "memory" else measure_time(chosen)))
