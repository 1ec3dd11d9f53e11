"""The answer as a figure: regions on the picture, beside it the fusion weights and the token stream."""

from __future__ import annotations

import io
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..commands.ask import thinned
from ..diagrams import token_strip
from ..plots import draw_regions, show_layers
from ..regions import Region
from .intake import Picture
from .session import Reply

CHARACTERS = 62  # a line of the token stream
SHOWN_SIDE = 900  # pixels of a picture to draw on
PART_WIDTH = 4.3  # inches of a figure for the page, where it is about 430 pixels wide, so that 10 points stay legible
GIVEN = "#0B0B0B"
WEIGHTS = "fusion weights (equation 1); dashed: a plain mean"
TOKENS = "tokens: picture (sand), question (blue), answer (green), regions (orange)"


def answer_figure(picture: Picture, reply: Reply) -> Figure:
    """A picture with the answer's regions, numbered in the order of its `<vis>`, and how the answer came about.

    The region that was given is dashed, the answer's are in colour. Like the other figures here it is made without
    pyplot, so that a server's threads share no state.
    """
    runs = [t for i, t in enumerate(reply.tokens) if t != "image" or i == 0 or reply.tokens[i - 1] != "image"]
    lines = 1 + sum(len(token) + 2.1 for token in runs) // CHARACTERS
    low = 0.42 * lines + 0.5
    fig = Figure(figsize=(11, max(4.6, 2.1 + low)), layout="constrained")
    grid = fig.add_gridspec(2, 2, width_ratios=(1, 1.25), height_ratios=(2, low))
    left = fig.add_subplot(grid[:, 0])
    _draw_answer(picture, reply, left)
    said = numbered(reply.text) or "(nothing)"
    left.set_title(
        textwrap.fill(f"Q  {reply.question}", 46) + "\n" + textwrap.fill(f"A  {said}", 46),
        fontsize=10,
        loc="left",
        parse_math=False,
    )
    bars = show_layers(reply.weights, fig.add_subplot(grid[0, 1]))
    bars.set_title(WEIGHTS, fontsize=10, loc="left")
    tiles = token_strip(reply.tokens, reply.kinds, ax=fig.add_subplot(grid[1, 1]), width=CHARACTERS)
    tiles.set_title(TOKENS, fontsize=10, loc="left")
    return fig


def regions_figure(picture: Picture, reply: Reply) -> Figure:
    """The left part of `answer_figure` alone, without its title."""
    height, width = picture.pixels.shape[:2]
    fig = Figure(figsize=(PART_WIDTH, min(max(PART_WIDTH * height / width, 0.6), 2 * PART_WIDTH)), layout="constrained")
    _draw_answer(picture, reply, fig.add_subplot())
    return fig


def weights_figure(reply: Reply) -> Figure:
    """The bars of `answer_figure` alone, without their title."""
    fig = Figure(figsize=(PART_WIDTH, 2.4), layout="constrained")
    show_layers(reply.weights, fig.add_subplot())
    return fig


def _draw_answer(picture: Picture, reply: Reply, ax: Axes) -> None:
    pixels, regions = thinned(picture.pixels, list(reply.regions), SHOWN_SIDE)
    draw_regions(pixels, regions, [str(i + 1) for i in range(len(regions))], ax)
    if reply.given is not None and reply.given.box is not None:
        outline(ax, reply.given, pixels)


def outline(ax: Axes, region: Region, pixels: np.ndarray) -> None:
    """The given region's box, dashed, black on white so that it is seen on any picture."""
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = np.asarray(region.box) * (width, height, width, height)
    for color, style in (("white", "-"), (GIVEN, "--")):
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linestyle=style, linewidth=2))


def numbered(text: str) -> str:
    """An answer with `[1]`, `[2]`, ... in the places of its `<vis>`."""
    first, *rest = text.split("<vis>")
    return first + "".join(f"[{i}]{words}" for i, words in enumerate(rest, 1))


def png(fig: Figure, dpi: int = 100) -> bytes:
    """A figure as PNG, on white."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def shown_jpeg(picture: Picture) -> bytes:
    """The picture as a JPEG of at most 900 pixels a side, for a browser."""
    from PIL import Image

    image = Image.fromarray(picture.pixels)
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=90)
    return buffer.getvalue()
