"""Drawings of text and structure: token streams, dialogues with their regions, the model itself."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import nn

from .data.sample import VIS, Turn
from .plots import PALETTE, QUIET, colour, draw_regions, ink
from .regions import Region

if TYPE_CHECKING:
    from .model import PerceptionGPT

KINDS = {  # fill of a tile or a speech bubble
    "text": "#E9ECEF",
    "user": "#DCEAF7",
    "answer": "#DDF1E4",
    "special": "#CFD4DA",
    "image": "#F7E3C3",
    "vis": "#D55E00",
}


def token_strip(
    tokens: Sequence[str],
    kinds: Sequence[str] | None = None,
    values: Sequence[str] | None = None,
    ax: Axes | None = None,
    width: int = 96,
    title: str = "",
    faces: Mapping[str, str] | None = None,
) -> Axes:
    """A stream of tokens as coloured tiles, wrapped into lines.

    Args:
        tokens: the texts; a run of equal image slots is drawn once, with its count.
        kinds: for each token a key of `KINDS`; by default `kind_of` the token.
        values: a short text under each token (a label, a probability); drawn under the first of a run.
        width: characters a line.
        faces: the fill of further kinds.
    """
    fills = {**KINDS, **(faces or {})}
    kinds = kinds or [kind_of(token) for token in tokens]
    tiles: list[tuple[str, str, str]] = []
    start = 0
    for i in range(1, len(tokens) + 1):
        if i < len(tokens) and tokens[i] == tokens[start] and kinds[i] == kinds[start] == "image":
            continue
        count = f" ×{i - start}" if i - start > 1 else ""
        tiles.append((tokens[start] + count, kinds[start], values[start] if values else ""))
        start = i
    lines, x, line = [], 0.0, 0
    for text, kind, value in tiles:
        size = max(len(text), len(value)) + 1.6
        if x and x + size > width:
            x, line = 0.0, line + 1
        lines.append((x, line, size, text, kind, value))
        x += size + 0.5
    step = 2.3 if values else 1.5
    height = (line + 1) * step
    ax = ax or plt.subplots(figsize=(9, 0.28 * height + 0.3))[1]
    for x, row, size, text, kind, value in lines:
        y = -row * step
        face = fills[kind]
        ax.add_patch(
            FancyBboxPatch(
                (x, y - 1), size, 1, boxstyle="round,pad=0,rounding_size=0.2", facecolor=face, edgecolor="none"
            )
        )
        ax.text(x + size / 2, y - 0.52, text, ha="center", va="center", fontsize=8, family="monospace", color=ink(face))
        ax.text(x + size / 2, y - 1.4, value, ha="center", va="center", fontsize=6.5, family="monospace", color=QUIET)
    ax.set(xlim=(-0.5, width + 1), ylim=(-height, 0.3))
    ax.set_title(title)
    ax.axis("off")
    return ax


def kind_of(token: str) -> str:
    """`vis` for `<vis>`, `special` for any other `<...>`, `text` for the rest."""
    if token == VIS:
        return "vis"
    return "special" if token.startswith("<") and token.endswith(">") else "text"


def dialogue_panels(panels: Sequence[tuple[np.ndarray, Sequence[Turn]]], title: str = "") -> Figure:
    """Pictures with the regions of their dialogues, and the words beside them, as in the paper's Figure 3.

    Args:
        panels: for each dialogue its original picture, uint8 (height, width, 3), and its turns. Regions are numbered
            through the dialogue; in the words, `[1]` stands for the `<vis>` of region 1, in its colour.
    """
    fig, axes = plt.subplots(len(panels), 2, figsize=(9, 2.7 * len(panels)), squeeze=False, width_ratios=(1, 1.8))
    for (image, turns), (left, right) in zip(panels, axes, strict=True):
        regions = [region for turn in turns for region in turn.regions]
        draw_regions(image, regions, [str(i + 1) for i in range(len(regions))], left)
        right.axis("off")
        right.set(xlim=(0, 1), ylim=(0, 1))
        y, number = 0.95, 0
        for turn in turns:
            first, *rest = turn.text.split(VIS)
            text = first
            for words in rest:
                number += 1
                text += f"[{number}]{words}"
            face = KINDS["user" if turn.role == "user" else "answer"]
            wrapped = textwrap.fill(text, 62)
            right.text(
                0.0 if turn.role == "user" else 0.06,
                y,
                wrapped,
                va="top",
                fontsize=9.5,
                bbox={"facecolor": face, "edgecolor": "none", "boxstyle": "round,pad=0.4"},
            )
            y -= 0.13 * (wrapped.count("\n") + 1) + 0.1
        for i in range(number):
            right.text(
                0.06 * i,
                0.02,
                f"[{i + 1}]",
                color=ink(colour(i)),
                fontsize=8,
                va="bottom",
                bbox={"facecolor": colour(i), "edgecolor": "none", "pad": 1.5},
            )
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


@dataclass(frozen=True)
class Part:
    """A part of the model: what it is, how large, and how much of it is trained."""

    name: str
    detail: str
    parameters: int
    trainable: int


def count(*modules: nn.Module | None) -> tuple[int, int]:
    """Parameters of modules, all and trainable; a shared tensor counts once."""
    unique = {id(p): p for module in modules if module is not None for p in module.parameters()}
    return sum(p.numel() for p in unique.values()), sum(p.numel() for p in unique.values() if p.requires_grad)


def model_parts(model: PerceptionGPT) -> dict[str, Part]:
    """The parts of the paper's Figure 2 in a live model: `vision`, `fusion`, `projector`, `llm`, and each signal.

    The mask decoder's own fusion counts with `fusion`, the standardisation of decoded states with `llm`.
    """
    tower, fusion = getattr(model, "tower", None), model.fusion
    seen = "features from the cache"
    if tower is not None:
        seen = f"{tower.name}: {tower.num_layers} layers × {tower.hidden_size}, {tower.num_tokens} tokens"
    mask_fusion, state_norm = getattr(model, "mask_fusion", None), getattr(model, "state_norm", None)
    weights = f"eq. 1: {'2 × ' if mask_fusion is not None else ''}{len(fusion.weights())} weights"
    llm = type(getattr(model.llm, "base_model", model.llm)).__name__
    parts = {
        "vision": Part("vision tower", seen, *count(tower)),
        "fusion": Part("layer fusion", weights, *count(fusion, mask_fusion)),
        "projector": Part("projector", type(model.projector).__name__, *count(model.projector)),
        "llm": Part("language model", llm, *count(model.llm, state_norm)),
    }
    config = getattr(model.llm, "config", None)
    if config is not None and hasattr(config, "num_hidden_layers"):
        detail = f"{config.num_hidden_layers} layers × {config.hidden_size}"
        adapted = [m for m in model.llm.modules() if hasattr(m, "lora_A")]
        detail += f", LoRA on {len(adapted)} matrices" if adapted else ""
        parts["llm"] = Part("language model", detail, *count(model.llm, state_norm))
    for name, signal in model.signals.items():
        parts[name] = Part(f"{name} signal", "encoder and decoder", *count(signal))
    return parts


def model_diagram(model: PerceptionGPT, ax: Axes | None = None) -> Axes:
    """The paper's Figure 2, drawn from the modules of a live model, each with its parameters and what is trained."""
    parts = model_parts(model)
    signals = [name for name in parts if name not in ("vision", "fusion", "projector", "llm")]
    rows = max(3, len(signals))
    ax = ax or plt.subplots(figsize=(11, 1.15 * rows))[1]
    middle, wide, right = rows / 2, 2.2, 11.4
    places = {name: (i * 2.65, middle) for i, name in enumerate(("vision", "fusion", "projector", "llm"))}
    places |= {name: (right, rows - (i + 0.5) * rows / len(signals)) for i, name in enumerate(signals)}
    for name, (x, y) in places.items():
        _box(ax, parts[name], x, y, wide)
    chain = list(places.values())[:4]
    for (left, y), (x, _) in zip(chain, chain[1:], strict=False):
        _arrow(ax, (left + wide, y), (x, y))
    llm = chain[-1][0] + wide
    for name in signals:
        _arrow(ax, (llm, middle), (right, places[name][1]), "<->")
    label: dict[str, Any] = {"ha": "center", "va": "center", "backgroundcolor": "white"}
    ax.text((llm + right) / 2, middle, VIS, fontsize=10, color=KINDS["vis"], weight="bold", **label)
    above = (chain[-1][0] + wide / 2, middle + 0.42)
    _arrow(ax, above, (above[0], middle + 0.85), "<->")
    ax.text(above[0], middle + 0.98, "words of question and answer", fontsize=8, color="#444444", **label)
    looking = [name for name in signals if getattr(model.signals[name], "uses_features", False)]
    if looking:
        low, corner = middle - 0.75, chain[1][0] + wide / 2
        for name in looking:
            y = places[name][1] - 0.3
            path = [(corner, middle - 0.42), (corner, low), (right - 0.25, low), (right - 0.25, y), (right, y)]
            ax.plot(*zip(*path, strict=True), color="#444444", linewidth=1, linestyle="--")
        text = f"fused features, for decoders that look at the picture again ({', '.join(looking)})"
        ax.text((corner + right) / 2, low - 0.15, text, fontsize=8, color="#444444", **label)
    ax.set(xlim=(-0.1, right + wide + 0.1), ylim=(-0.05, rows + 0.05))
    ax.axis("off")
    return ax


def _box(ax: Axes, part: Part, x: float, y: float, width: float) -> None:
    """One part of the model, green and bold-rimmed where something in it is trained."""
    ax.add_patch(
        FancyBboxPatch(
            (x, y - 0.42),
            width,
            0.84,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor="white",
            edgecolor=PALETTE[2] if part.trainable else QUIET,
            linewidth=2 if part.trainable else 1,
        )
    )
    trained = "all trained" if part.trainable == part.parameters else f"{part.trainable:,} trained"
    size = f"{part.parameters:,} parameters, {trained if part.trainable else 'frozen'}"
    lines = [*textwrap.wrap(part.detail, 30), *textwrap.wrap(size, 30)]
    ax.text(x + width / 2, y + 0.28, part.name, ha="center", va="center", fontsize=9.5, weight="bold")
    ax.text(x + width / 2, y - 0.1, "\n".join(lines), ha="center", va="center", fontsize=7, color="#333333")


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], style: str = "->") -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": style, "color": "#555555"})


def region_turns(question: str, answer: str, regions: Sequence[Region], given: Sequence[Region] = ()) -> list[Turn]:
    """A question and an answer as turns; regions beyond the answer's `<vis>` are left out."""
    return [Turn("user", question, tuple(given)), Turn("assistant", answer, tuple(regions[: answer.count(VIS)]))]
