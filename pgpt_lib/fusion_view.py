"""Drag the weights of equation 1 and see what changes: the fused features, and what the model answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes

from .errors import InputError
from .plots import PREDICTION, TRUTH, draw_regions, feature_image, show_image
from .widgets import Slider, View

if TYPE_CHECKING:
    import numpy as np

    from .data.sample import Images, Sample
    from .evaluation.predictions import Prediction
    from .model import PerceptionGPT

SMALLEST = 1e-6  # of a weight: its logarithm stands in the model


@contextmanager
def fusion_weights(model: PerceptionGPT, weights: Sequence[float]) -> Iterator[None]:
    """The model with other weights of equation 1, for the language model and the mask decoder; afterwards as it was.

    Args:
        model: with learned fusion.
        weights: L numbers from 0, one for each layer, not all 0; they are divided by their sum.

    Raises:
        InputError: another strategy, another number of weights, or nothing above 0.
    """
    fusions = [fusion for fusion in (model.fusion, model.mask_fusion) if fusion is not None]
    if model.fusion.strategy != "learned":
        raise InputError(f"fusion strategy {model.fusion.strategy!r} has no weights to set; 'learned' has")
    given = torch.as_tensor(list(weights), dtype=torch.float32)
    if len(given) != model.fusion.num_layers or given.min() < 0 or given.sum() <= 0:
        raise InputError(f"weights {list(weights)}: {model.fusion.num_layers} numbers from 0 are needed, not all 0")
    before = [fusion.logits.detach().clone() for fusion in fusions]
    try:
        with torch.no_grad():
            for fusion in fusions:
                fusion.logits.copy_((given / given.sum()).clamp(min=SMALLEST).log())
        yield
    finally:
        with torch.no_grad():
            for fusion, logits in zip(fusions, before, strict=True):
                fusion.logits.copy_(logits)


def fusion_view(model: PerceptionGPT, sample: Sample, images: Images, stills: dict[str, Sequence[float]]) -> View:
    """A slider for each layer's weight; drawn are the model's answer on the picture and the fused features as colours.

    Args:
        model: with learned fusion, and a box or mask signal.
        sample: a question with one region for an answer.
        images: hands out its picture.
        stills: a name to L weights, a panel of the static twin each; the first is where the sliders start.
    """
    from .evaluation.predictions import TowerFeatures, predict

    features = TowerFeatures(model.tower, images)
    picture: np.ndarray = images.load_image(sample.image_id)
    layers = features([sample.image_id])
    names = [f"layer {i + 1}" for i in range(model.fusion.num_layers)]
    first = next(iter(stills.values()))
    labels = {tuple(round(float(w), 4) for w in weights): name for name, weights in stills.items()}
    with torch.no_grad():
        _, basis = feature_image(model.fusion(layers)[0])  # all panels share their colours

    def draw(ax: Axes, **weights: float) -> None:
        values = [weights[name] for name in names]
        with fusion_weights(model, values), torch.no_grad():
            [answer] = predict(model, [sample], images, features)
            colours, _ = feature_image(model.fusion(layers)[0], basis)
        ax.axis("off")
        ax.set_title(labels.get(tuple(round(v, 4) for v in values), "your weights") + _verdict(answer), fontsize=9)
        shown = [answer.truth.regions[0], *answer.regions[:1]]  # an answer may have no region
        draw_regions(picture, shown, None, ax.inset_axes((0, 0, 0.49, 1)), [TRUTH, PREDICTION][: len(shown)])
        show_image(colours, ax.inset_axes((0.51, 0, 0.49, 1)))

    sliders = {name: Slider(0, 1, round(float(w), 4), 0.01) for name, w in zip(names, first, strict=True)}
    settings = [dict(zip(names, (round(float(w), 4) for w in weights), strict=True)) for weights in stills.values()]
    return View(draw, sliders, settings, size=(4.6, 2.7))


def _verdict(answer: Prediction) -> str:
    from .evaluation.grounding import box_iou

    if answer.first is None:
        return ": no region"
    return f": IoU {box_iou(answer.first, answer.truth.regions[0], answer.sample.size):.2f}"
