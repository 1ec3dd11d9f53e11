"""A forest plot: one row a comparison, its effect and interval, and a line where there is none."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from matplotlib.axes import Axes

from .plots import PREDICTION, QUIET, TRUTH

Interval = Sequence[float]  # value, low, high
UNDECIDED = "#555555"  # a lighter grey is too near to the green for who sees no green


def forest(
    rows: Mapping[str, Interval | str | None],
    ax: Axes,
    title: str = "",
    xlabel: str = "",
    missing: str = "not there yet",
    hollow: Collection[str] = (),
) -> Axes:
    """Effects with their intervals, from top to bottom, and the line of no effect.

    An interval wholly above 0 is drawn in the colour of errors, one wholly below in that of truth, others in grey; the
    marker's form says the same.

    Args:
        rows: a name to value, low, high (what follows is passed over); a text stands in the row's place, and `missing`
            where there is None.
        hollow: names of rows whose marker is left empty, as their values say little.
    """
    ax.axvline(0, color="black", linewidth=1)
    for place, (name, found) in enumerate(rows.items()):
        if found is None or isinstance(found, str):
            ax.annotate(
                found or missing, (0, place), (4, 0), textcoords="offset points", va="center", color=QUIET, fontsize=8
            )
            continue
        value, low, high = found[:3]
        color, marker = (PREDICTION, "s") if low > 0 else (TRUTH, "D") if high < 0 else (UNDECIDED, "o")
        ax.errorbar(
            value,
            place,
            xerr=[[max(value - low, 0)], [max(high - value, 0)]],
            fmt=marker,
            color=color,
            markerfacecolor="white" if name in hollow else color,
            capsize=3,
            markersize=6,
        )
    known = [v for found in rows.values() if found and not isinstance(found, str) for v in found[:3]]
    reach = 1.15 * max([abs(v) for v in known] + [0.01])
    ax.set(yticks=range(len(rows)), yticklabels=list(rows), xlim=(-reach, reach), title=title, xlabel=xlabel)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    return ax
