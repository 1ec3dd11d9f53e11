"""Table 7 at its own size: predicted seconds to decode a region with Vicuna 7B and 13B, beside the paper's figures.

Nothing is measured here. A decoding step reads every weight and the cached keys and values, a pass over S positions
computes; the published peaks of a card, times the share of them that is reached, give the seconds. With a key-value
cache a region of n tokens takes t_vision + t_prefill + (n - 1) t_step + t_head. Without one, each token is a new pass
over everything, the picture included: that is what transformers' `generate` does where a model keeps no past.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..adapters import base_model
from ..config import Profile, load_profile
from ..estimate.counting import shape_on_meta
from ..estimate.plan import Card, card
from ..estimate.shapes import FRAME, TURN
from ..estimate.tracing import to_cpu
from ..project import ROOT
from ..representations import REPRESENTATIONS, get_representation

LLMS = {"7B": "paper-7b", "13B": "paper-13b"}
GPUS = ("a100-80", "a40", "h200")
KINDS = ("box", "mask")
VERTICES = 32  # of a mask's contour (section 4.4)
NAMES = {"numerical": "Numerical", "vocabulary": "Vocab", "embedding": "Token Embed"}  # rows of Table 7
CLAIMED = {"numerical": 0.003, "vocabulary": 0.037}  # section 4.4: a mask's time with Token Embed, as a share of theirs
COMPUTE, READ = 0.5, 0.8  # shares of a card's peaks that long passes and single steps reach
BYTES = 2  # of a number in bf16


@dataclass(frozen=True)
class Size:
    """What the formula asks of a model.

    `weights` are the language model's parameters without its input embedding, which is looked up and not read;
    `vision_flop` of tower, fusion and projector for one picture, `head_flop` of each signal's decoder for one region.
    """

    weights: int
    layers: int
    width: int
    prompt: int
    vision_flop: int
    head_flop: dict[str, int]


def size_of(profile: Profile) -> Size:
    """Sizes of a profile's model; FLOP are counted while its own modules run on tensors without data."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    def flop(run: Callable[[], Any]) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        return int(counter.get_total_flops())

    shape = shape_on_meta(profile)
    with FakeTensorMode():
        to_cpu(shape.model)
        model, config = shape.model, base_model(shape.model.llm).config
        tower: Any = model.tower
        pixels = torch.empty(1, 3, tower.image_size, tower.image_size)
        features = torch.empty(1, tower.num_layers, tower.num_tokens, tower.hidden_size)
        seen = flop(lambda: tower(pixels)) + flop(lambda: model.projector(model.fusion(features)))
        state, one = torch.empty(1, config.hidden_size), torch.zeros(1, dtype=torch.long)
        heads = {kind: flop(partial(model.signal(kind).decode, state, features[:, 0], one)) for kind in KINDS}
    return Size(
        weights=shape.llm_parameters - config.vocab_size * config.hidden_size,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        prompt=shape.image_tokens + FRAME + TURN,
        vision_flop=seen,
        head_flop=heads,
    )


def written_tokens(representation: str, kind: str) -> int:
    """Tokens of a region with its brackets, commas and marks; by Llama-2's rule each digit and sign is one."""
    settings = load_profile("paper-7b").coordinates.model_copy(update={"target": kind, "vertices": VERTICES})
    made = get_representation(representation, settings)
    if representation == "vocabulary":  # one contour; `region_tokens` is the most, with as many as there may be
        return (2 if kind == "box" else VERTICES) + 2
    return made.region_tokens


def predict(
    size: Size, device: Card, tokens: int, kind: str, cached: bool, head: bool, overhead: float = 0.0
) -> dict[str, float]:
    """Seconds by part, `vision`, `prefill`, `decode` and `head`, for one dialogue and one region.

    Args:
        size: of the model.
        device: its published peaks.
        tokens: that the region takes.
        kind: "box" or "mask", whose decoder runs if `head`.
        cached: keep keys and values; else see and read everything anew for each token.
        head: whether a signal's decoder reads the region.
        overhead: seconds that each pass costs whatever its size (Python, kernel launches). 0 is the bound.
    """
    flops, read = device.tflops * 1e12 * COMPUTE, device.bandwidth * 1e9 * READ

    def read_seconds(past: int) -> float:
        return BYTES * (size.weights + 2 * size.layers * size.width * past) / read

    def whole(length: int) -> float:  # a pass over everything so far
        products = 2 * size.weights * length + 4 * size.layers * size.width * length**2
        return max(products / flops, read_seconds(0)) + overhead

    def step(length: int) -> float:  # one position behind `length` - 1 cached ones
        return max(2 * size.weights / flops, read_seconds(length)) + overhead

    vision = size.vision_flop / flops + overhead
    later = range(size.prompt + 1, size.prompt + tokens)
    return {
        "vision": vision,
        "prefill": whole(size.prompt),
        "decode": sum(step(n) if cached else whole(n) + vision for n in later),
        "head": size.head_flop[kind] / flops + overhead if head else 0.0,
    }


def table7(gpus: Sequence[str] = GPUS, overhead: float = 0.0) -> dict[str, Any]:
    """Predicted seconds for 7B and 13B beside the paper's, and what share of the others' time a dynamic token takes.

    Args:
        gpus: names of `estimate/gpus.yaml`.
        overhead: as for `predict`, seconds a pass.

    Returns:
        `rows`, each with llm, gpu, cache, representation, kind, tokens, predicted, parts, and the paper's seconds;
        `shares`, see below; `assumptions`.

    Raises:
        InputError: an unknown GPU.
    """
    cards = [card(name) for name in gpus]
    printed = json.loads((ROOT / "data" / "paper_results.json").read_text(encoding="utf-8"))["tables"]["table7"]["rows"]
    rows: list[dict[str, Any]] = []
    for llm, profile in LLMS.items():
        size = size_of(load_profile(profile))
        for device, cached, representation, kind in product(cards, (True, False), REPRESENTATIONS, KINDS):
            tokens = written_tokens(representation, kind)
            parts = predict(size, device, tokens, kind, cached, representation == "embedding", overhead)
            rows.append(
                {
                    "llm": llm,
                    "gpu": device.name,
                    "cache": cached,
                    "representation": representation,
                    "kind": kind,
                    "tokens": tokens,
                    "prompt_tokens": size.prompt,
                    "predicted": sum(parts.values()),
                    "parts": parts,
                    "paper": printed[NAMES[representation]][f"{llm} {kind}"],
                }
            )
    assumed = {"share_of_flops": COMPUTE, "share_of_bandwidth": READ, "overhead_a_pass": overhead, "precision": "bf16"}
    return {"rows": rows, "shares": shares(rows), "assumptions": assumed}


def shares(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Time with a dynamic token as a share of the time with each other representation.

    Each has llm, gpu, cache, kind and `of` which representation; `predicted`; `tokens`, the share if every token cost
    the same; `table7`, from the paper's seconds; `claimed`, what its section 4.4 says of masks at 7B; `box_time`,
    from its seconds for a box with the dynamic token: 0.15 s of 4.01 s are the 3.7 % that it claims for a mask.
    """
    held = {(r["llm"], r["gpu"], r["cache"], r["kind"], r["representation"]): r for r in rows}
    found = []
    for (llm, gpu, cached, kind, other), row in held.items():
        if other == "embedding":
            continue
        ours = held[llm, gpu, cached, kind, "embedding"]
        found.append(
            {
                "llm": llm,
                "gpu": gpu,
                "cache": cached,
                "kind": kind,
                "of": other,
                "predicted": ours["predicted"] / row["predicted"],
                "tokens": ours["tokens"] / row["tokens"],
                "table7": ours["paper"] / row["paper"],
                "box_time": held[llm, gpu, cached, "box", "embedding"]["paper"] / row["paper"],
                "claimed": CLAIMED[other] if (llm, kind) == ("7B", "mask") else None,
            }
        )
    return found
