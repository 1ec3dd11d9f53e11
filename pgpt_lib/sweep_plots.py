"""Figures of notebooks 07 and 08: token streams side by side, scores with intervals, curves, failures, fusion weights.

Whatever is missing stays empty and says so; nothing is drawn in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .diagrams import token_strip
from .plots import PALETTE, QUIET, REPRESENTATIONS, TRUTH
from .sweeps.results import point_score

Interval = Sequence[float]  # value, low, high
FAILURES = {"format": "#000000", "wrong_object": "#D55E00", "imprecise": "#56B4E9"}
STRATEGIES = {  # of layer fusion; none of the representations' colours
    "learned": "#009E73",
    "last": "#D55E00",
    "second_last": "#56B4E9",
    "mean": "#000000",
    "learned_raw": "#F0E442",
}
HATCHES = ("", "///", "...", "xx", "\\\\\\")


def nothing_yet(ax: Axes, text: str) -> Axes:
    """An empty panel that says what is missing."""
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, color=QUIET, fontsize=9, wrap=True)
    ax.set(xticks=[], yticks=[])
    return ax


def token_streams(streams: Mapping[str, tuple[Sequence[str], Sequence[bool]]], width: int = 88) -> Figure:
    """The paper's Figure 1 from real tokens: one answer in each representation, a tile a token.

    Args:
        streams: a representation's name to its tokens, and for each whether it belongs to a region.
        width: characters a line.
    """
    lines = [1 + sum(len(t) + 2 for t in tokens) // width for tokens, _ in streams.values()]
    fig, axes = plt.subplots(
        len(streams), 1, figsize=(9, 0.5 * len(streams) + 0.4 * sum(lines)), height_ratios=lines, squeeze=False
    )
    for ax, (name, (tokens, inside)) in zip(axes[:, 0], streams.items(), strict=True):
        title = f"{name}: {sum(inside)} tokens for the region, {len(tokens)} in all"
        kinds = ["region" if i else "text" for i in inside]
        token_strip(tokens, kinds, ax=ax, width=width, title=title, faces={"region": REPRESENTATIONS[name]})
    return fig


def scores(
    groups: Mapping[str, Mapping[str, Interval | None]],
    ax: Axes,
    colors: Mapping[str, str] = REPRESENTATIONS,
    ylabel: str = "Acc@0.5",
    title: str = "",
) -> Axes:
    """Bars with intervals, series side by side in each group; a series without a value leaves a gap, marked so.

    Args:
        groups: a group's name (on the axis) to its series' values.
        colors: a series' name to its colour, in the order of drawing.
    """
    width = 0.8 / len(colors)
    for number, (series, color) in enumerate(colors.items()):
        places = np.arange(len(groups)) + (number - (len(colors) - 1) / 2) * width
        for i, (place, values) in enumerate(zip(places, groups.values(), strict=True)):
            found = values.get(series)
            if found is None:
                ax.text(place, 0.01, "–", ha="center", va="bottom", color=color, fontsize=11)
                continue
            value, low, high = found
            error = [[max(value - low, 0)], [max(high - value, 0)]]
            ax.bar(
                place, value, 0.92 * width, color=color, hatch=HATCHES[number % len(HATCHES)], edgecolor="white",
                linewidth=0, yerr=error, capsize=3, error_kw={"linewidth": 1}, label=series if i == 0 else None,
            )  # fmt: skip
    ax.set(xticks=range(len(groups)), xticklabels=list(groups), ylabel=ylabel, title=title)
    ax.set_ylim(bottom=0)
    ax.grid(axis="x", visible=False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8)
    return ax


def score_curves(
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    ax: Axes,
    x: str = "seconds",
    key: str = "acc@0.5",
    levels: Sequence[float] = (0.25, 0.5),
) -> Axes:
    """Learning curves: a line a seed, in the colour of its representation, and the levels that are asked for.

    Args:
        results: a representation's name to finished cells.
        x: `seconds` of training, or `expressions` seen.
    """
    for name, cells in results.items():
        for i, cell in enumerate(cells):
            points = [(p[x], point_score(p[key])) for p in cell["curve"] if p.get(key) is not None]
            if points:
                label = f"{name}, {len(cells)} seeds" if i == 0 else None
                ax.plot(*zip(*points, strict=True), color=REPRESENTATIONS[name], marker=".", alpha=0.8, label=label)
    for level in levels:
        ax.axhline(level, color=QUIET, linewidth=1, linestyle="--")
    ax.set(xlabel=f"{x} of training" if x == "seconds" else f"{x} seen", ylabel=key, ylim=(0, None))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8)
    return ax


def failure_bars(shares: Mapping[str, Mapping[str, float]], ax: Axes) -> Axes:
    """How answers fail, stacked: a row for each name, the share of all answers for each kind in `FAILURES`."""
    for row, kinds in enumerate(shares.values()):
        left = 0.0
        for number, (kind, color) in enumerate(FAILURES.items()):
            label = kind.replace("_", " ") if row == 0 else None
            ax.barh(row, kinds[kind], left=left, color=color, hatch=HATCHES[number], edgecolor="white", label=label)
            left += kinds[kind]
    ax.set(yticks=range(len(shares)), yticklabels=list(shares), xlim=(0, 1), xlabel="share of answers")
    ax.invert_yaxis()
    if shares:
        ax.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return ax


def weight_map(track: Sequence[Mapping[str, Any]], ax: Axes, which: str = "llm", title: str = "") -> Axes:
    """Fusion weights by layer (upwards) over the steps of a training, as a heat map.

    Args:
        track: points of `step` and weights by name, as a sweep's cell keeps them.
        which: `llm` or `mask`.
    """
    weights = np.array([point[which] for point in track]).T
    steps = [point["step"] for point in track]
    picture = ax.imshow(weights, aspect="auto", origin="lower", vmin=0, cmap="cividis", interpolation="nearest")
    shown = sorted({0, len(steps) // 2, len(steps) - 1})
    ax.set(xticks=shown, xticklabels=[steps[i] for i in shown], xlabel="step", ylabel="layer", title=title)
    ax.set_yticks(range(len(weights)), [str(i + 1) for i in range(len(weights))], fontsize=7)
    ax.grid(False)
    ax.figure.colorbar(picture, ax=ax, label="weight", shrink=0.9)
    return ax


def weights_beside_probe(
    sets: Mapping[str, Sequence[Sequence[float]]], probes: Mapping[str, Sequence[float]]
) -> Figure:
    """Above the weights by layer, with an interval over seeds; below what a linear probe reads from each layer.

    Args:
        sets: a name to one list of L weights a seed.
        probes: a question to the probe's accuracy by layer.
    """
    fig, (above, below) = plt.subplots(2, 1, figsize=(8, 4.6), sharex=True)
    width, layers = 0.8 / max(len(sets), 1), np.arange(1, len(next(iter(probes.values()))) + 1)
    for number, (name, seeds) in enumerate(sets.items()):
        values = np.array(seeds)
        error = np.abs(values - values.mean(0)).max(0) if len(values) > 1 else None
        place = layers + (number - (len(sets) - 1) / 2) * width
        above.bar(place, values.mean(0), width, yerr=error, color=PALETTE[number], capsize=2, label=name)
    above.axhline(1 / len(layers), color=QUIET, linewidth=1, linestyle="--")
    above.set(ylabel="weight", title="learned weights (whiskers: the farthest seed; dashed: a plain mean)")
    above.legend(fontsize=8)
    for number, (name, accuracy) in enumerate(probes.items()):
        below.plot(layers, accuracy, marker="os^D"[number % 4], color=(TRUTH, "#D55E00")[number % 2], label=name)
    below.set(
        xlabel="layer of the vision tower", ylabel="accuracy", ylim=(0, 1.02), xticks=layers, title="linear probe"
    )
    below.legend(fontsize=8)
    return fig
