"""Figures in one quiet style: regions on pictures, layer weights, learning curves, loss landscapes.

Every function takes an optional `ax`, draws on it and returns it, so that figures are put together with plain
matplotlib. Colours are those of Okabe and Ito (2008), which remain distinct for colour-blind readers and in grey.
Diagrams (token streams, the model, dialogues) are in `diagrams.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .errors import InputError
from .regions import Region, rle_to_mask

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
TRUTH, PREDICTION, QUIET = "#009E73", "#D55E00", "#8A8F94"
TINT = 0.13  # of a region's mask: more would change the colour by which its object is named
# One colour a representation, everywhere: the paper's embedding, Shikra's digits, Kosmos-2's location tokens.
REPRESENTATIONS = {"embedding": "#0072B2", "numerical": "#E69F00", "vocabulary": "#CC79A7"}


def use_style() -> None:
    """Set the style of all later figures: white ground, light grid, no frame at top and right, readable in print."""
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
    plt.rcParams.update(
        {
            "figure.dpi": 90,
            "savefig.dpi": 120,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "grid.color": "#E6E8EA",
            "image.cmap": "cividis",
            "svg.fonttype": "none",
        }
    )


def colour(index: int) -> str:
    """The colour of the `index`-th region, series or phrase (they repeat after eight)."""
    return PALETTE[index % len(PALETTE)]


def ink(background: str) -> str:
    """Black or white, whichever reads better on a colour."""
    red, green, blue = plt.matplotlib.colors.to_rgb(background)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"


def show_image(image: np.ndarray, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw a picture, uint8 or float (height, width[, 3]), without ticks."""
    ax = ax or plt.subplots(figsize=(4, 4))[1]
    ax.imshow(image, cmap="gray" if image.ndim == 2 else None)
    ax.set(xticks=[], yticks=[], title=title)
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def draw_mask(mask: np.ndarray, ax: Axes, color: str, alpha: float = 0.3, outline: bool = True) -> None:
    """Tint the pixels of a mask, uint8 or bool (height, width), and trace its outline."""
    red_green_blue = plt.matplotlib.colors.to_rgb(color)
    layer = np.zeros((*mask.shape, 4))
    layer[mask > 0] = (*red_green_blue, alpha)
    ax.imshow(layer, interpolation="nearest")
    if outline and mask.any() and not mask.all():
        ax.contour(mask > 0, levels=[0.5], colors=[color], linewidths=1.2)


def draw_regions(
    image: np.ndarray,
    regions: Sequence[Region],
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
    colors: Sequence[str] | None = None,
    title: str = "",
) -> Axes:
    """Draw boxes and masks of regions over their picture.

    Args:
        image: uint8 (height, width, 3); regions are drawn in its frame, so it must be the original picture.
        regions: boxes are xyxy in [0, 1] of the picture; masks must have its height and width.
        labels: one short text a region, written at its box's corner.
        colors: one colour a region; by default those of `colour`.

    Raises:
        InputError: as many labels or colours as regions are needed, and masks of the picture's size.
    """
    height, width = image.shape[:2]
    for name, given in (("labels", labels), ("colors", colors)):
        if given is not None and len(given) != len(regions):
            raise InputError(f"{len(given)} {name} for {len(regions)} regions; give one a region, or none")
    ax = show_image(image, ax, title)
    for index, region in enumerate(regions):
        color = colors[index] if colors else colour(index)
        corner = (2.0, 2.0)
        if region.mask is not None:
            mask = rle_to_mask(region.mask)
            if mask.shape != (height, width):
                raise InputError(f"the mask of region {index} is {mask.shape}, the picture {(height, width)}")
            draw_mask(mask, ax, color, TINT)
            if mask.any():
                corner = (float(np.where(mask.any(0))[0][0]), float(np.where(mask.any(1))[0][0]))
        if region.box is not None:
            x1, y1, x2, y2 = np.asarray(region.box) * (width, height, width, height)
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=2))
            corner = (x1, y1)
        if labels:  # above its corner, or inside where the picture ends
            ax.text(
                *corner,
                f" {labels[index]} ",
                fontsize=8,
                color=ink(color),
                clip_on=True,
                va="bottom" if corner[1] > 0.07 * height else "top",
                ha="left" if corner[0] < 0.7 * width else "right",
                bbox={"facecolor": color, "edgecolor": "none", "pad": 1},
            )
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return ax


def show_layers(
    weights: Mapping[str, Sequence[float]] | Sequence[float] | torch.Tensor,
    ax: Axes | None = None,
    title: str = "",
    ylabel: str = "weight",
) -> Axes:
    """Bars of the fusion weights of equation 1, one a layer; several named sets stand side by side.

    Args:
        weights: L numbers that sum to 1, or a name to such numbers.
        ylabel: what they are.
    """
    sets = weights if isinstance(weights, Mapping) else {"": weights}
    ax = ax or plt.subplots(figsize=(6, 2.6))[1]
    width = 0.8 / len(sets)
    for index, (name, values) in enumerate(sets.items()):
        heights = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=float)
        layers = np.arange(1, len(heights) + 1)
        ax.bar(layers + (index - (len(sets) - 1) / 2) * width, heights, width, color=colour(index), label=name)
    ax.axhline(1 / len(heights), color=QUIET, linewidth=1, linestyle="--")  # what a plain mean would give
    ax.set(xlabel="layer of the vision tower", ylabel=ylabel, xticks=layers, title=title)
    ax.grid(axis="x", visible=False)
    if any(sets):
        ax.legend()
    return ax


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The records of a training log, one JSON object a line; a torn last line (a killed run) is left out."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                raise InputError(f"line {number} of {path} is not JSON: {line[:60]!r}") from None
    return records


def learning_curves(
    logs: Mapping[str, str | Path | Iterable[Mapping[str, Any]]],
    keys: Sequence[str],
    x: str = "step",
    smooth: float = 0.0,
    log_scale: bool = False,
) -> Figure:
    """One panel a key, at most four side by side; one line a run.

    Args:
        logs: a run's name to its JSONL file, or to its records.
        keys: numbers to draw; records without a key are passed over. Dots reach into nested objects: `losses.box`.
        x: what the horizontal axis shows, such as `step` or `seconds`.
        smooth: weight of the past in an exponential mean, in [0, 1); the raw curve stays faintly visible.
    """

    def value(record: Mapping[str, Any], key: str) -> Any:
        found: Any = record
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    columns = min(4, len(keys))  # more side by side are shrunk on a page until nobody can read them
    rows = -(-len(keys) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(3.0 * columns, 2.6 * rows), squeeze=False)
    for ax in axes.flat[len(keys) :]:
        ax.remove()
    runs = {name: read_log(log) if isinstance(log, str | Path) else list(log) for name, log in logs.items()}
    for ax, key in zip(axes.flat[: len(keys)], keys, strict=True):
        for index, (name, records) in enumerate(runs.items()):
            points = [(value(r, x), value(r, key)) for r in records if value(r, key) is not None]
            if not points:
                continue
            steps, values = np.asarray(points, dtype=float).T
            ax.plot(steps, values, color=colour(index), alpha=0.3 if smooth else 1, label=None if smooth else name)
            if smooth:
                ax.plot(steps, exponential_mean(values, smooth), color=colour(index), label=name)
        ax.set(xlabel=x, title=key, yscale="log" if log_scale else "linear")
    if any(runs):
        axes[0, 0].legend()
    return fig


def exponential_mean(values: np.ndarray, weight: float) -> np.ndarray:
    """Running mean in which the past counts `weight`; corrected for its start, so that no value is pulled to 0."""
    out, total, norm = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
        out[i] = total / norm
    return out


def landscape(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    x: tuple[float, float],
    y: tuple[float, float],
    ax: Axes | None = None,
    points: int = 61,
    arrows: int = 11,
    title: str = "",
) -> Axes:
    """A loss as a map over two numbers, with arrows down its gradient (dots where the gradient is zero).

    Args:
        loss: takes x[P] and y[P], returns the loss of each point, [P], differentiable.
        x, y: the ranges drawn.
        points, arrows: points and arrows along each side.
    """
    ax = ax or plt.subplots(figsize=(4, 3.6))[1]

    def grid(side: int) -> tuple[torch.Tensor, torch.Tensor]:
        xs, ys = torch.linspace(*x, side, dtype=torch.float64), torch.linspace(*y, side, dtype=torch.float64)
        mesh = torch.meshgrid(xs, ys, indexing="xy")
        return mesh[0].reshape(-1).clone().requires_grad_(), mesh[1].reshape(-1).clone().requires_grad_()

    px, py = grid(points)
    heights = loss(px, py).detach().reshape(points, points)
    filled = ax.contourf(px.detach().reshape(points, points), py.detach().reshape(points, points), heights, 24)
    ax.figure.colorbar(filled, ax=ax, shrink=0.85)
    ax_x, ax_y = grid(arrows)
    values = loss(ax_x, ax_y).sum()
    gx, gy = torch.autograd.grad(values, (ax_x, ax_y), allow_unused=True) if values.requires_grad else (None, None)
    down = torch.stack([torch.zeros_like(ax_x) if g is None else -g for g in (gx, gy)])
    length = down.norm(dim=0)
    moves = length > 1e-9
    direction = down / length.clamp(min=1e-9)
    at_x, at_y = ax_x.detach(), ax_y.detach()
    ax.quiver(
        at_x[moves],
        at_y[moves],
        direction[0, moves],
        direction[1, moves],
        color="white",
        alpha=0.9,
        scale=arrows * 1.6,
        width=0.005,
    )
    ax.plot(at_x[~moves], at_y[~moves], ".", color=PREDICTION, markersize=4)
    ax.set(title=title)
    ax.grid(False)
    return ax


def feature_image(features: torch.Tensor, basis: torch.Tensor | None = None) -> tuple[np.ndarray, torch.Tensor]:
    """Patch features as colours: their first three principal components as red, green and blue.

    Args:
        features: [N, C], N a square number.
        basis: [4, C] from an earlier call (the mean, then three axes), so that two maps share their colours.

    Returns:
        float picture (side, side, 3) in [0, 1], and the basis.
    """
    flat = features.detach().float()
    side = int(flat.shape[0] ** 0.5)
    if side * side != flat.shape[0]:
        raise InputError(f"{flat.shape[0]} patches are no square; drop CLS and register tokens first")
    if basis is None:
        mean = flat.mean(0, keepdim=True)
        axes = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:3]
        axes = axes * torch.where(axes.sum(1, keepdim=True) < 0, -1.0, 1.0)  # SVD leaves the signs open
        basis = torch.cat([mean, axes])
    components = (flat - basis[:1]) @ basis[1:].T
    low, high = components.quantile(0.02, dim=0), components.quantile(0.98, dim=0)
    return ((components - low) / (high - low).clamp(min=1e-6)).clamp(0, 1).reshape(side, side, 3).numpy(), basis
