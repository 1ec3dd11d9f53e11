"""Parameters by part, all and trained, counted on a model without weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..config import Profile
from .shapes import Shape, build_shape


def shape_on_meta(profile: Profile, text_tokens: int | None = None) -> Shape:
    """`build_shape` on the meta device, where tensors have sizes and no memory."""
    with torch.device("meta"):
        return build_shape(profile, text_tokens)


def part_of(name: str) -> str:
    """The part that a parameter belongs to, from its name in `PerceptionGPT`."""
    if name.startswith("llm."):
        if "lora_" in name:
            return "lora"
        tables = ("trainable_tokens", "modules_to_save")
        return "token_rows" if any(part in name for part in tables) else "llm"
    first = name.split(".")[0]
    return {"tower": "vision", "mask_fusion": "fusion", "signals": "heads", "state_norm": "heads"}.get(first, first)


def count(shape: Shape) -> tuple[dict[str, int], dict[str, int]]:
    """Parameters by part: all of them, and those that training changes.

    Parts are `llm` (as published, without adapters and added rows), `vision`, `lora`, `token_rows`, `fusion`,
    `projector` and `heads` (the signals' encoders and decoders).
    """
    totals: dict[str, int] = {"llm": 0, "vision": 0}
    trained: dict[str, int] = dict.fromkeys(("lora", "token_rows", "fusion", "projector", "heads"), 0)
    for name, parameter in shape.model.named_parameters():
        part = part_of(name)
        totals[part] = totals.get(part, 0) + parameter.numel()
        if parameter.requires_grad:
            trained[part] = trained.get(part, 0) + parameter.numel()
    totals["llm"] = shape.llm_parameters
    return totals, trained


def with_total(parts: Mapping[str, int]) -> dict[str, int]:
    """The parts and their `total`."""
    return {**parts, "total": sum(parts.values())}
