"""Interactive views, each with a static twin, so that nothing is seen only by those who have a live kernel.

view = View(draw, {"layer": Choice(range(1, 13))}, stills=[{"layer": 1}, {"layer": 12}])
run.figure(view.figure(), "layers", alt="...")  # the static twin: the stills side by side
view.show()  # controls where a person watches, one line where none does
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .errors import InputError
from .notebook import headless
from .plots import PREDICTION, TRUTH, draw_mask, feature_image, show_image
from .regions import generalized_iou, pairwise_iou


@dataclass(frozen=True)
class Slider:
    """A number between `low` and `high`; `step` 0 means a hundredth of the range."""

    low: float
    high: float
    value: float
    step: float = 0.0


@dataclass(frozen=True)
class Choice:
    """One of several values; the first is chosen at the start."""

    options: Sequence[Any]

    @property
    def value(self) -> Any:
        """The value at the start."""
        return self.options[0]


class View:
    """A drawing that depends on a few values.

    Args:
        draw: draws on `ax`, given every control's value by name.
        controls: a slider or a choice by name.
        stills: settings of the static twin, one panel each; controls not named keep their start.
        size: (width, height) of a panel in inches.
    """

    def __init__(
        self,
        draw: Callable[..., object],
        controls: Mapping[str, Slider | Choice],
        stills: Sequence[Mapping[str, Any]] = ({},),
        size: tuple[float, float] = (3.4, 3.2),
    ) -> None:
        for still in stills:
            unknown = set(still) - set(controls)
            if unknown:
                raise InputError(f"still {dict(still)}: no control {sorted(unknown)}; there are {', '.join(controls)}")
        self.draw, self.controls, self.stills, self.size = draw, dict(controls), list(stills), size

    def start(self) -> dict[str, Any]:
        """The values at the start, by control."""
        return {name: control.value for name, control in self.controls.items()}

    def figure(self) -> Figure:
        """The static twin: every still in a panel, three a row."""
        columns = min(3, len(self.stills))
        rows = -(-len(self.stills) // columns)
        fig, axes = plt.subplots(rows, columns, figsize=(self.size[0] * columns, self.size[1] * rows), squeeze=False)
        for ax in axes.flat[len(self.stills) :]:
            ax.axis("off")
        for ax, still in zip(axes.flat, self.stills, strict=False):
            self.draw(ax, **{**self.start(), **still})
        return fig

    def widget(self) -> Any:
        """The ipywidgets view: controls above, the drawing below; it is redrawn when a control is let go."""
        import ipywidgets
        from IPython.display import Image, display

        from .notebook import small_png

        def build(name: str, control: Slider | Choice) -> Any:
            if isinstance(control, Choice):
                return ipywidgets.Dropdown(options=list(control.options), value=control.value, description=name)
            step = control.step or (control.high - control.low) / 100
            return ipywidgets.FloatSlider(
                min=control.low,
                max=control.high,
                value=control.value,
                step=step,
                description=name,
                continuous_update=False,
            )

        boxes = {name: build(name, control) for name, control in self.controls.items()}

        def redraw(**values: Any) -> None:
            fig, ax = plt.subplots(figsize=(self.size[0] * 1.5, self.size[1] * 1.5))
            self.draw(ax, **values)
            data = small_png(fig)
            plt.close(fig)
            display(Image(data=data))

        return ipywidgets.VBox([*boxes.values(), ipywidgets.interactive_output(redraw, boxes)])

    def show(self) -> None:
        """Display the widget where a person watches; say in one line where to find it otherwise."""
        if headless():
            print(f"interactive in JupyterLab: {', '.join(self.controls)}")
            return
        from IPython.display import display

        display(self.widget())


def box_view(truth: Sequence[float] = (0.55, 0.35, 0.85, 0.75)) -> View:
    """A box that is moved over a fixed one, with IoU and GIoU in the title. Boxes are xyxy in [0, 1]."""
    fixed = torch.tensor([truth], dtype=torch.float64)

    def draw(ax: Axes, x: float, y: float, size: float) -> None:
        half = size / 2
        moved = torch.tensor([[x - half, y - half, x + half, y + half]], dtype=torch.float64)
        for box, color in ((fixed, TRUTH), (moved, PREDICTION)):
            x1, y1, x2, y2 = box[0].tolist()
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor=color, alpha=0.4, edgecolor=color))
        both = torch.cat([fixed, moved])
        low, high = both[:, :2].min(0).values, both[:, 2:].max(0).values
        corner, (width, height) = (low[0].item(), low[1].item()), (high - low).tolist()
        ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="#555555", linestyle=":"))
        iou, giou = pairwise_iou(moved, fixed).item(), generalized_iou(moved, fixed).item()
        ax.set(xlim=(0, 1), ylim=(1, 0), aspect="equal", xticks=[], yticks=[])
        ax.set_title(f"IoU {iou:.2f}   GIoU {giou:+.2f}")

    controls = {"x": Slider(0.05, 0.95, 0.25), "y": Slider(0.05, 0.95, 0.3), "size": Slider(0.05, 0.8, 0.3)}
    return View(draw, controls, [{"x": 0.2, "y": 0.2}, {"x": 0.5, "y": 0.4}, {"x": 0.7, "y": 0.55}])


def layer_view(image: np.ndarray, layers: torch.Tensor) -> View:
    """A picture's features, layer by layer, as colours.

    Args:
        image: the tower's input, uint8 (size, size, 3).
        layers: [L, N, C], the outputs of the tower's blocks on it.
    """
    count = len(layers)

    def draw(ax: Axes, layer: int) -> None:
        if layer == 0:
            show_image(image, ax, "the picture")
            return
        colours, _ = feature_image(torch.nn.functional.layer_norm(layers[layer - 1].float(), layers.shape[-1:]))
        show_image(colours, ax, f"layer {layer}")

    picked = sorted({0, 1, max(1, count // 4), max(1, count // 2), max(1, 3 * count // 4), count})
    return View(draw, {"layer": Choice(range(count + 1))}, [{"layer": layer} for layer in picked], size=(2.6, 2.7))


def threshold_view(image: np.ndarray, probability: np.ndarray) -> View:
    """A predicted mask at a threshold that can be moved.

    Args:
        image: uint8 (height, width, 3).
        probability: float (height, width) in [0, 1].
    """

    def draw(ax: Axes, threshold: float) -> None:
        mask = probability > threshold
        show_image(image, ax, f"threshold {threshold:.2f}: {mask.mean():.1%} of the picture")
        draw_mask(mask, ax, PREDICTION)

    return View(draw, {"threshold": Slider(0.05, 0.95, 0.5)}, [{"threshold": t} for t in (0.2, 0.5, 0.8)])
