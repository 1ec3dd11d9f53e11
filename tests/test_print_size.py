"""Figures of notebooks 07 to 10 at print size: their widths and texts, and colours that stay apart whoever looks."""

from __future__ import annotations

import itertools
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from pgpt_lib import forest_plot, plots, speed_plots, sweep_plots
from pgpt_lib.project import ROOT

WIDEST, SMALLEST = 7.5, 8  # inches of a page's text, points
FAR = 20  # of CIE 1976's distance in L*a*b*; about 2 can just be seen side by side
SOURCES = [
    *sorted((ROOT / "notebooks/src").glob("0[789]_*.py")),
    *(ROOT / "notebooks/src").glob("10_*.py"),
    *(ROOT / "pgpt_lib" / f"{name}.py" for name in ("sweep_plots", "speed_plots", "forest_plot")),
]
SIGHT = {  # on linear RGB; the last two after Machado, Oliveira and Fernandes 2009, severity 1
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
PALETTES = {
    "representations": plots.REPRESENTATIONS,
    "failures": sweep_plots.FAILURES,
    "strategies": {**sweep_plots.STRATEGIES, **sweep_plots.ONE_SET},
    "weights": dict(enumerate(sweep_plots.SETS)),
    "probes": sweep_plots.PROBES,
    "parts of a decode": speed_plots.STEPS,
    "forest": {"costs": plots.PREDICTION, "gains": plots.TRUTH, "open": forest_plot.UNDECIDED},
}


def lab(color: str, sight: str) -> np.ndarray:
    """CIE L*a*b* of a colour as somebody sees it; white is D65."""
    rgb = np.array(plt.matplotlib.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    to_xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
    x, y, z = to_xyz @ seen / to_xyz.sum(1)
    a, b, c = (np.cbrt(v) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in (x, y, z))
    return np.array([116 * b - 16, 500 * (a - b), 200 * (b - c)])


def distance(one: str, other: str, sight: str) -> float:
    return float(np.linalg.norm(lab(one, sight) - lab(other, sight)))


def test_the_distance_knows_what_is_confused():
    assert distance("#000000", "#ffffff", "normal") == pytest.approx(100, abs=0.1)
    for sight in ("deuteranopia", "protanopia"):
        assert distance("#009E73", "#8A8F94", sight) < distance("#009E73", "#8A8F94", "normal") / 2


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("palette", PALETTES)
def test_colours_of_a_figure_stay_apart(palette, sight):
    for (name, one), (other_name, other) in itertools.combinations(PALETTES[palette].items(), 2):
        assert distance(one, other, sight) > FAR, (name, other_name)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_figures_fit_a_page_and_their_texts_can_be_read_there(source):
    text = source.read_text(encoding="utf-8")
    widths = [float(width) for width in re.findall(r"figsize=\(([\d.]+)", text)]
    assert len(widths) == text.count("figsize="), "a width that is computed cannot be checked here"
    assert all(width <= WIDEST for width in widths), widths
    sizes = [float(size) for size in re.findall(r"fontsize=([\d.]+)", text)]
    assert all(size >= SMALLEST for size in sizes), sizes
