"""Figures of notebooks 07 and 08: token streams side by side, scores with intervals, curves, failures, fusion weights.

Whatever is missing stays empty and says so; nothing is drawn in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .diagrams import token_strip
from .plots import QUIET, REPRESENTATIONS, ink
from .sweeps.results import point_score

if TYPE_CHECKING:
    from .sweeps.reading import OverSeeds

FAILURES = {"format": "#000000", "wrong_object": "#D55E00", "imprecise": "#56B4E9"}
STRATEGIES = {  # of layer fusion; none of the representations' colours
    "learned": "#009E73",
    "last": "#D55E00",
    "second_last": "#56B4E9",
    "mean": "#555555",
    "learned_raw": "#000000",
}
ONE_SET = {"learned, one set": "#A6E3D0"}  # for language model and mask decoder alike
CONTROLS = ("v", "s")  # markers on bars: what their score is held against
HATCHES = ("", "///", "...", "xx", "\\\\\\", "--")
WIDTH = 0.8  # of a group of bars
MARKERS = {"embedding": "o", "numerical": "s", "vocabulary": "^"}
SETS = ("#009E73", "#56B4E9", "#B4B8BC", "#000000")  # of fusion weights
PROBES = {"colour": "#000000", "shape": "#D55E00"}


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
        len(streams), 1, figsize=(7.2, 0.5 * len(streams) + 0.4 * sum(lines)), height_ratios=lines, squeeze=False
    )
    for ax, (name, (tokens, inside)) in zip(axes[:, 0], streams.items(), strict=True):
        title = f"{name}: {sum(inside)} token{'s' * (sum(inside) != 1)} for the region, {len(tokens)} in all"
        kinds = ["region" if i else "text" for i in inside]
        token_strip(tokens, kinds, ax=ax, width=width, title=title, faces={"region": REPRESENTATIONS[name]})
    return fig


def scores(
    groups: Mapping[str, Mapping[str, OverSeeds | None]],
    ax: Axes,
    note: str,
    colors: Mapping[str, str] = REPRESENTATIONS,
    ylabel: str = "Acc@0.5",
    title: str = "",
    legend: bool = True,
) -> Axes:
    """Bars with intervals, series side by side in each group, the number of seeds at the foot of each.

    Args:
        groups: a group's name (on the axis) to its series' values; None is drawn as a dash.
        note: what a dash means, written below where there is one.
        colors: a series' name to its colour, in the order of drawing.
        legend: off where several panels share one.
    """
    width, named = WIDTH / len(colors), set[str]()
    top = max((v.high for row in groups.values() for v in row.values() if v), default=1.0)
    for i, values in enumerate(groups.values()):
        for number, (series, color) in enumerate(colors.items()):
            if series not in values:
                continue
            place, found = i + _shift(number, len(colors)), values[series]
            if found is None:
                ax.text(place, 0.01 * top, "–", ha="center", va="bottom", color=color, fontsize=12, weight="bold")
                continue
            error = [[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]]
            ax.bar(
                place, found.value, 0.92 * width, color=color, hatch=HATCHES[number % len(HATCHES)], edgecolor="white",
                linewidth=0, yerr=error, capsize=3, error_kw={"linewidth": 1},
                label=None if series in named else series,
            )  # fmt: skip
            box = {"facecolor": color, "edgecolor": "none", "pad": 0.8}
            ax.text(
                place, 0.02 * top, str(found.seeds), ha="center", va="bottom", fontsize=8, color=ink(color), bbox=box
            )
            named.add(series)
    ax.set(xticks=range(len(groups)), xticklabels=list(groups), xlim=(-0.55, len(groups) - 0.45), ylabel=ylabel)
    ax.set_title(title)
    ax.margins(y=0.08)
    if not named:
        ax.set_ylim(0, 1)
    ax.grid(axis="x", visible=False)
    empty = any(found is None for values in groups.values() for found in values.values())
    _note(ax, note if empty else "", "at a bar's foot: seeds" if named else "")
    if named and legend:
        ax.legend(fontsize=8, ncols=len(named), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    return ax


def controls(ax: Axes, values: Mapping[str, Mapping[str, OverSeeds | None]], colors: Mapping[str, str]) -> Axes:
    """White marks on the bars of `scores` with one group: what each bar's score is held against.

    Args:
        values: what is marked, as the legend names it, to its value in each series; None is not drawn.
        colors: those of `scores`, whose order says where a bar stands.
    """
    for (name, row), marker in zip(values.items(), CONTROLS, strict=False):
        known = [(_shift(i, len(colors)), v.value) for i, s in enumerate(colors) if (v := row.get(s)) is not None]
        if known:
            places, heights = zip(*known, strict=True)
            style: dict[str, Any] = {"color": "white", "edgecolor": "black", "linewidth": 1, "zorder": 5}
            ax.scatter(places, heights, marker=marker, s=30, label=name, **style)
    handles = [handle for handle in ax.collections if handle.get_label() in values]
    if handles:
        ax.legend(handles=handles, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    return ax


def _shift(number: int, count: int) -> float:
    """Where a series' bar stands beside its group's place, of so many series."""
    return (number - (count - 1) / 2) * WIDTH / count


def _note(ax: Axes, *notes: str) -> None:
    """Small print below the horizontal axis."""
    if any(notes):
        ax.set_xlabel("\n".join(filter(None, (ax.get_xlabel(), *notes))), fontsize=8, color="#555555")


def forest(
    rows: Mapping[str, OverSeeds | None],
    ax: Axes,
    note: str,
    colors: Mapping[str, str] | None = None,
    xlabel: str = "",
    zero: bool = True,
) -> Axes:
    """A row for each value with its interval, from above; with `zero`, a line where neither side leads.

    Args:
        rows: a row's name to its value; None is drawn as a dash.
        note: what a dash means, written below where there is one.
        colors: a row's name to its colour.
    """
    for place, (name, found) in enumerate(rows.items()):
        color = (colors or {}).get(name, "#000000")
        if found is None:
            ax.text(0.01, place, "–", transform=ax.get_yaxis_transform(), va="center", color=color, weight="bold")
            continue
        error = [[found.value - found.low], [found.high - found.value]]
        ax.errorbar(found.value, place, xerr=error, fmt="o", color=color, capsize=3, markersize=6)
        seeds = f"{found.seeds} seed{'s' * (found.seeds != 1)}"
        ax.annotate(seeds, (1, place), xycoords=ax.get_yaxis_transform(), xytext=(4, 0), textcoords="offset points",
                    fontsize=8, color=QUIET, va="center")  # fmt: skip
    if zero:
        ax.axvline(0, color=QUIET, linewidth=1, linestyle="--")
    ax.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    ax.grid(axis="y", visible=False)
    _note(ax, note if None in rows.values() else "")
    return ax


def score_curves(
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    ax: Axes,
    x: str = "seconds",
    key: str = "acc@0.5",
    levels: Sequence[float] = (0.25, 0.5),
    note: str = "",
) -> Axes:
    """Learning curves: a line a seed, in the colour of its representation, and the levels that are asked for.

    Args:
        results: a representation's name to finished cells.
        x: `seconds` of training, or `expressions` seen.
        note: written in place of the curves of a representation that has none.
    """
    for name, cells in results.items():
        for i, cell in enumerate(cells):
            points = [(p[x], point_score(p[key])) for p in cell["curve"] if p.get(key) is not None]
            if points:
                label = f"{name}, {len(cells)} seed{'s' * (len(cells) != 1)}" if i == 0 else None
                style: dict[str, Any] = {"color": REPRESENTATIONS[name], "marker": MARKERS[name], "markersize": 4}
                ax.plot(*zip(*points, strict=True), alpha=0.8, label=label, **style)
    missing, note = [name for name, cells in results.items() if not cells], note.replace("; ", ";\n")
    if len(missing) == len(results):
        return nothing_yet(ax, note)
    for level in levels:
        ax.axhline(level, color=QUIET, linewidth=1, linestyle="--")
    ax.set(xlabel=f"{x} of training" if x == "seconds" else f"{x} seen", ylabel="Acc@0.5" if key == "acc@0.5" else key)
    ax.set_ylim(0, None)
    _note(ax, f"{', '.join(missing)} {note}" if missing else "")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8)
    return ax


def failure_bars(shares: Mapping[str, Mapping[str, float]], ax: Axes, note: str = "") -> Axes:
    """How answers fail, stacked: a row for each name, the share of all answers for each kind in `FAILURES`.

    A row without shares stays empty but for a dash, which the `note` below explains.
    """
    first = next((name for name, kinds in shares.items() if kinds), None)
    for row, (name, kinds) in enumerate(shares.items()):
        left = 0.0
        if not kinds:
            ax.text(0.01, row, "–", va="center", color=QUIET, weight="bold")
            continue
        for number, (kind, color) in enumerate(FAILURES.items()):
            label = kind.replace("_", " ") if name == first else None
            ax.barh(row, kinds[kind], left=left, color=color, hatch=HATCHES[number], edgecolor="white", label=label)
            left += kinds[kind]
    ax.set(yticks=range(len(shares)), yticklabels=list(shares), xlim=(0, 1), xlabel="share of answers")
    ax.set_ylim(len(shares) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    _note(ax, note if not all(shares.values()) else "")
    if first is not None:
        ax.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return ax


def weight_map(
    track: Sequence[Mapping[str, Any]], ax: Axes, which: str = "llm", title: str = "", top: float | None = None
) -> Axes:
    """Fusion weights by layer (upwards) over the steps of a training, as a heat map; a line parts off steps below 0.

    Args:
        track: points of `step` and weights by name, as a sweep's cell keeps them; those without `which` are left out.
        which: `llm` or `mask`.
        top: the weight that is brightest, for panels that are compared.
    """
    track = [point for point in track if which in point]
    weights = np.array([point[which] for point in track]).T
    steps = [point["step"] for point in track]
    tuned = sum(step < 0 for step in steps)  # where the tuning starts
    picture = ax.imshow(
        weights, aspect="auto", origin="lower", vmin=0, vmax=top, cmap="cividis", interpolation="nearest"
    )
    shown = sorted({0, tuned or len(steps) // 2, len(steps) - 1})
    if tuned:
        ax.axvline(tuned - 0.5, color="white", linewidth=1.5, linestyle="--")
    ax.set(xticks=shown, xticklabels=[steps[i] for i in shown], xlabel="step", ylabel="layer", title=title)
    ax.set_yticks(range(len(weights)), [str(i + 1) for i in range(len(weights))], fontsize=8)
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
    fig, (above, below) = plt.subplots(2, 1, figsize=(7.2, 4.6), sharex=True)
    width, layers = 0.8 / max(len(sets), 1), np.arange(1, len(next(iter(probes.values()))) + 1)
    for number, (name, seeds) in enumerate(sets.items()):
        values = np.array(seeds)
        error = np.abs(values - values.mean(0)).max(0) if len(values) > 1 else None
        place = layers + (number - (len(sets) - 1) / 2) * width
        above.bar(
            place,
            values.mean(0),
            width,
            yerr=error,
            color=SETS[number % len(SETS)],
            capsize=2,
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="white",
            linewidth=0,
            label=name,
        )
    above.axhline(1 / len(layers), color=QUIET, linewidth=1, linestyle="--")
    above.set(ylabel="weight", title="learned weights")
    above.set_xlabel("whiskers: the farthest seed; dashed: a plain mean", fontsize=8, color="#555555")
    above.legend(fontsize=8, ncols=len(sets), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    for number, (name, accuracy) in enumerate(probes.items()):
        below.plot(layers, accuracy, marker="os^D"[number % 4], color=PROBES.get(name), label=name)
    below.set(
        xlabel="layer of the vision tower", ylabel="accuracy", ylim=(0, 1.02), xticks=layers, title="linear probe"
    )
    below.legend(fontsize=8, ncols=len(probes), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    return fig
