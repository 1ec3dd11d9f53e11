"""From counts to a plan: memory of a card by part, FLOP, hours, tokens a second, disk."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import yaml

from ..config import Profile
from ..errors import InputError
from ..project import ROOT
from .counting import count, shape_on_meta, with_total
from .tracing import Trace, trace

Strategy = Literal["ddp", "fsdp", "zero2"]
RELEASED_CODE = (315_000_000, 328_000_000)  # trained parameters of the released code at 7B, rank 8 to 32, counted
RELEASED_PARTS = {  # what they are, beside LoRA on q and v; counted on its modules, to a tenth of a million
    "embedding and head": 262_200_000,
    "mask decoder": 32_400_000,
    "mask encoder, never used": 4_300_000,
    "box networks": 4_730_000,
    "mapping and adaptor": 7_300_000,
}
FP32, BF16 = 4, 2
KEPT = 3  # checkpoints on disk at once: two are kept while a third is written


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet: memory in GB, dense bf16 in TFLOP/s, memory bandwidth in GB/s.

    `device` is a pattern for the whole name that its driver gives it.
    """

    name: str
    memory: float
    tflops: float
    bandwidth: float
    device: str = ""


def card(name: str) -> Card:
    """A card of `gpus.yaml`; `InputError` names the known ones."""
    known = _cards()
    if name not in known:
        raise InputError(f"unknown GPU {name!r}; there are {', '.join(known)}")
    return known[name]


def card_of_device(device: str) -> Card | None:
    """The card of `gpus.yaml` that a driver calls so; None where none is."""
    return next((known for known in _cards().values() if re.fullmatch(known.device, device)), None)


def _cards() -> dict[str, Card]:
    text = resources.files(__package__).joinpath("gpus.yaml").read_text(encoding="utf-8")
    return {name: Card(name, **figures) for name, figures in yaml.safe_load(text).items()}


def estimate(
    profile: Profile,
    gpu: str,
    gpus: int = 1,
    strategy: Strategy = "ddp",
    utilisation: float = 0.4,
    text_tokens: int | None = None,
) -> dict[str, Any]:
    """What training a profile costs, without touching a weight.

    Args:
        profile: whose settings.
        gpu: a name of `gpus.yaml`.
        gpus: how many cards share a step.
        strategy: how weights and moments lie on the cards.
        utilisation: the share of the card's peak that all FLOP, repeated ones included, are done at.
        text_tokens: of a dialogue; by default from `data.turns`.

    Returns:
        `parameters`, `trainable` and `flop` by part, `memory` in bytes of one card by part, `time`, `disk`,
        `compare` with the published numbers, `assumptions`.

    Raises:
        InputError: an unknown GPU, a backbone of unknown size, fewer dialogues than cards, a share out of range.
    """
    device = card(gpu)
    if not 0 < utilisation <= 1:
        raise InputError(f"utilisation is {utilisation:g}; it is a share of the peak, above 0 and at most 1")
    if gpus < 1 or profile.training.batch_size < gpus:
        raise InputError(f"gpus is {gpus}; at least 1, and at most training.batch_size {profile.training.batch_size}")
    shape = shape_on_meta(profile, text_tokens)
    totals, trained = count(shape)
    dialogues = -(-profile.training.batch_size // gpus)
    micro = -(-dialogues // profile.training.accumulation)
    step = trace(profile, micro, text_tokens)
    memory = memory_of(profile, totals, trained, step, shape.layers, gpus, strategy)
    memory["fits"] = memory["total"] <= device.memory * 1e9
    flop = {name: value * profile.training.batch_size // micro for name, value in step.flop.items()}
    recomputed = step.recomputed * profile.training.batch_size // micro
    seconds = (sum(flop.values()) + recomputed) / (gpus * device.tflops * 1e12 * utilisation)
    return {
        "profile": profile.name,
        "gpu": {"name": device.name, "count": gpus, "memory_gb": device.memory, "tflops": device.tflops},
        "strategy": strategy,
        "parameters": with_total(totals),
        "trainable": with_total(trained) | {"share": sum(trained.values()) / sum(totals.values())},
        "compare": published(),
        "memory": memory,
        "flop": {**flop, "a_step": sum(flop.values()), "recomputed": recomputed},
        "time": {
            "seconds_a_step": seconds,
            "hours": seconds * profile.training.steps / 3600,
            "gpu_hours": seconds * profile.training.steps / 3600 * gpus,
            "tokens_a_second": profile.training.batch_size * shape.tokens / seconds,
            "mfu": utilisation * sum(flop.values()) / (sum(flop.values()) + recomputed),
        },
        "disk": disk_of(profile, totals, trained, step),
        "assumptions": {
            "utilisation": utilisation,
            "steps": profile.training.steps,
            "dialogues_a_step": profile.training.batch_size,
            "dialogues_a_gpu": micro,
            "image_tokens": shape.image_tokens,
            "text_tokens": shape.text_tokens,
            "supervised_tokens": shape.answer_tokens,
            "regions": shape.regions,
        },
    }


def memory_of(
    profile: Profile,
    totals: dict[str, int],
    trained: dict[str, int],
    step: Trace,
    layers: int,
    gpus: int = 1,
    strategy: Strategy = "ddp",
) -> dict[str, Any]:
    """Bytes on one card at the worst moment of a step, by part.

    DDP copies everything, gradients twice for their travel; ZeRO-2 shares out gradients and moments; FSDP shares out
    weights too, and gathers a block while the one before is used.
    Activations are what autograd keeps (counted). Beside them stand the tower's hidden states, which exist twice while
    they are stacked, and the gradients of activations: about as much as the part at work has kept.
    """
    tuned = sum(trained.values())
    frozen_bytes = BF16 if profile.llm.precision == "bf16" else FP32
    tower_bytes = BF16 if profile.vision.precision == "bf16" else FP32
    frozen_llm = totals["llm"] if profile.llm.tuning != "full" else 0
    weights_share = gpus if strategy == "fsdp" else 1
    state_share = 1 if strategy == "ddp" else gpus
    parts = {
        "llm": frozen_llm * frozen_bytes // weights_share,
        "vision": totals["vision"] * tower_bytes // weights_share,
        "trained_weights": tuned * FP32 // weights_share,
        "gradients": tuned * FP32 * (2 if strategy == "ddp" and gpus > 1 else 1) // state_share,
        "optimizer": 2 * tuned * FP32 // state_share,
        "activations": sum(step.saved.values()),
        "features": step.features * (1 if profile.training.cache_features else 2),
        "workspace": max(step.block, step.saved["heads"]),
    }
    if strategy == "fsdp":
        parts["gathered_blocks"] = 2 * frozen_llm * frozen_bytes // layers
    return {**parts, "total": sum(parts.values())}


def disk_of(profile: Profile, totals: dict[str, int], trained: dict[str, int], step: Trace) -> dict[str, int]:
    """Bytes on disk by part; the data sets themselves are not in it."""
    checkpoints = KEPT * 3 * FP32 * sum(trained.values())
    backbones = totals["llm"] * BF16 + totals["vision"] * FP32
    features = step.features // step.dialogues * profile.data.train_scenes if profile.training.cache_features else 0
    parts = {"backbones": backbones, "checkpoints": checkpoints, "features": features}
    return {**parts, "total": sum(parts.values())}


def published() -> dict[str, list[int]]:
    """Trained parameters as Table 6 prints them for LoRA, and as the released code counts them: [least, most]."""
    rows = json.loads((ROOT / "data" / "paper_results.json").read_text(encoding="utf-8"))["tables"]["table6"]["rows"]
    printed = [row["trainable parameters"] for name, row in rows.items() if "rank" in name]
    return {"table6": [min(printed), max(printed)], "released_code": list(RELEASED_CODE)}
