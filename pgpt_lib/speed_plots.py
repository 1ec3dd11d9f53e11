"""Figures of notebook 09: tokens, what regions lose, where decoding time goes, and Table 7 at its own size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .benchmark.decoding import WITHIN
from .benchmark.tokens import PARTS
from .plots import QUIET, REPRESENTATIONS, TRUTH

SHADES = {"values": 1.0, "signs": 0.55, "marks": 0.25}  # opacity of a bar's parts
STEPS = {"vision": "#009E73", "prefill": "#56B4E9", "decode": "#D55E00", "head": "#000000"}
MARKERS = ("o", "s", "^", "D", "v")


def token_bars(
    counts: Mapping[str, Mapping[str, float]],
    colors: Mapping[str, str],
    ax: Axes,
    paper: Mapping[str, float | None] | None = None,
    title: str = "",
) -> Axes:
    """Horizontal bars of tokens, a row for each name: values, signs and marks, the sum beside them.

    Args:
        counts: a row's name to `count_tokens`.
        colors: a row's name to its colour.
        paper: what the paper prints for a row, drawn as a diamond.
    """
    longest = max(c["all"] for c in counts.values())
    for place, (name, parts) in enumerate(counts.items()):
        left = 0.0
        for part in PARTS:
            ax.barh(place, parts[part], left=left, color=colors[name], alpha=SHADES[part], edgecolor="white")
            left += parts[part]
        printed = (paper or {}).get(name)
        if printed is not None:
            ax.plot(printed, place, marker="D", color="black", markersize=5, linestyle="none")
        ax.text(max(left, printed or 0) + 0.025 * longest, place, f"{left:.3g}", va="center", fontsize=9)
    if paper:
        diamond = Line2D([], [], marker="D", color="black", markersize=5, linestyle="none", label="the paper's count")
        ax.legend(handles=[diamond], loc="lower right")
    ax.set(yticks=range(len(counts)), yticklabels=list(counts), xlabel="tokens", title=title, xlim=(0, 1.15 * longest))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return ax


def loss_by_size(
    losses: Mapping[str, np.ndarray], sides: np.ndarray, colors: Mapping[str, str], ax: Axes, bins: int = 4
) -> Axes:
    """What is lost of regions, 1 - IoU, over their size: a line through the means of equally many, logarithmic.

    Args:
        losses: a name to the IoU of each region with what came back, [R].
        sides: [R].
        colors: a name to its colour.
    """
    groups = [g for g in np.array_split(np.argsort(sides), bins) if len(g)]
    for number, (name, iou) in enumerate(losses.items()):
        means = [max(1 - iou[group].mean(), 1e-6) for group in groups]
        style = ("-", "--", ":", "-.")[number % 4]
        marker = MARKERS[number % len(MARKERS)]
        ax.plot([sides[g].mean() for g in groups], means, marker + style, color=colors[name], label=name)
    ax.set(yscale="log", xlabel="side of the region, as a share of the picture's", ylabel="lost: 1 - IoU")
    ax.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return ax


def time_parts(rows: Sequence[Mapping[str, Any]], ax: Axes, title: str = "") -> Axes:
    """Seconds of a decode by part, measured (solid) above predicted (pale), a pair for each representation.

    Args:
        rows: of `decode_rows`, of one language model, kind and cache.
    """
    for place, row in enumerate(rows):
        for offset, side, alpha in ((-0.2, "measured", 1.0), (0.2, "predicted", 0.45)):
            left = 0.0
            for part, color in STEPS.items():
                seconds = row["parts"][side][part]
                label = part if place == 0 and side == "measured" else None
                ax.barh(place + offset, seconds, 0.36, left=left, color=color, alpha=alpha, label=label)
                left += seconds
        ax.text(left, place, f" {sum(row['parts']['measured'].values()):.2g} s", va="center", fontsize=8)
    names = [f"{row['representation']}\n{row['tokens']} token{'s' * (row['tokens'] > 1)}" for row in rows]
    ax.set(yticks=range(len(rows)), yticklabels=names, xlabel="seconds", title=title)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return ax


def ratio_strip(rows: Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """Measured over predicted time of every row, on a logarithmic axis with the band of 25 %."""
    ax.axvspan(*WITHIN, color=TRUTH, alpha=0.15)
    ax.axvline(1, color=QUIET, linewidth=1)
    names = []
    for place, row in enumerate(rows):
        ax.plot(row["ratio"], place, marker="o" if row["kind"] == "box" else "s", markersize=6,
                color=REPRESENTATIONS[row["representation"]])  # fmt: skip
        cache = "cache" if row["cache"] else "no cache"
        names.append(f"{row['llm']}, {row['representation']} {row['kind']}, {cache}")
    ax.set_yticks(range(len(rows)), names, fontsize=8)
    low, high = min(0.5, *(r["ratio"] for r in rows)), max(2.0, *(r["ratio"] for r in rows))
    ax.set(xscale="log", xlim=(0.9 * low, 1.1 * high), xlabel="measured / predicted")
    ax.set_xticks([0.5, WITHIN[0], 1, WITHIN[1], 2], ["0.5", f"{WITHIN[0]:g}", "1", f"{WITHIN[1]:g}", "2"])
    ax.minorticks_off()
    ax.invert_yaxis()
    return ax


def full_scale(rows: Sequence[Mapping[str, Any]], llm: str, ax: Axes) -> Axes:
    """Predicted seconds of Table 7 beside the printed ones, logarithmic: filled with a cache, open without.

    Args:
        rows: of `full_scale.table7`.
        llm: `7B` or `13B`.
    """
    mine = [r for r in rows if r["llm"] == llm]
    places = {key: i for i, key in enumerate(dict.fromkeys((r["kind"], r["representation"]) for r in mine))}
    cards = list(dict.fromkeys(r["gpu"] for r in mine))
    for r in mine:
        place, number = places[r["kind"], r["representation"]], cards.index(r["gpu"])
        color = REPRESENTATIONS[r["representation"]]
        x = place + 0.16 * (number - (len(cards) - 1) / 2)
        ax.plot(
            x,
            r["predicted"],
            marker=MARKERS[number],
            color=color,
            zorder=2 + r["cache"],
            markerfacecolor=color if r["cache"] else "white",
        )
        ax.plot(place + 0.38, r["paper"], marker="*", color="black", markersize=9)
    for number, name in enumerate(cards):
        ax.plot([], [], marker=MARKERS[number], color=QUIET, linestyle="none", label=name)
    ax.plot([], [], marker="o", color=QUIET, markerfacecolor="white", linestyle="none", label="no cache")
    ax.plot([], [], marker="*", color="black", linestyle="none", label="paper")
    ax.set_xticks(range(len(places)), [f"{kind},\n{name}" for kind, name in places], fontsize=8)
    ax.set(yscale="log", ylabel="seconds", title=f"{llm}: predicted, and the paper's Table 7")
    return ax


def loss_by_tokens(points: Mapping[str, Sequence[tuple[float, float]]], colors: Mapping[str, str], ax: Axes) -> Axes:
    """What is lost, 1 - IoU, over the tokens that are spent, both logarithmic.

    Args:
        points: a name to (tokens, IoU) pairs; several are joined by a line.
    """
    for name, pairs in points.items():
        tokens, lost = zip(*((n, max(1 - iou, 1e-6)) for n, iou in pairs), strict=True)
        ax.plot(tokens, lost, marker="o" if len(pairs) > 1 else "*", markersize=6 if len(pairs) > 1 else 12,
                color=colors[name], label=name)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="tokens of a mask", ylabel="lost: 1 - IoU")
    ax.legend(fontsize=8)
    return ax
