"""What a layer knows, read with a linear probe: a ridge regression from its tokens to their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError
from .metrics import Interval, bootstrap
from .regions import Placement

if TYPE_CHECKING:
    from .vision import VisionTower


@dataclass(frozen=True)
class Probe:
    """The result of `layer_probe`.

    Attributes:
        intervals: share of held-out tokens classified rightly, as [share, low, high], one a layer, first block first;
            the 95 % interval is over images, as in `metrics.bootstrap`.
        majority: the same share for always answering the training tokens' most frequent label.
        num_train: labelled tokens that the probe was fitted to.
        num_test: those that it was scored on.
    """

    intervals: tuple[Interval, ...]
    majority: float
    num_train: int
    num_test: int

    @property
    def accuracy(self) -> tuple[float, ...]:
        """The shares alone."""
        return tuple(value for value, _, _ in self.intervals)


def layer_probe(
    features: Tensor,
    labels: Tensor,
    *,
    held_out: float = 0.3,
    split: Literal["images", "tokens"] = "images",
    ridge: float = 1e-3,
    normalise: bool = True,
    seed: int = 0,
) -> Probe:
    """Fit one ridge classifier a layer to some images' tokens and score it on the others'.

    The classifier is the least-squares fit of one-hot labels, with a bias, solved in closed form in float64, so the
    result depends on nothing but its arguments.

    Args:
        features: [I, L, N, C], raw outputs of a tower's blocks.
        labels: [I, N] integers, the class of each token; negative ones are left out.
        held_out: share of the images (or tokens) that are scored.
        split: hold out whole images; or tokens, for a single picture, where neighbours help each other.
        ridge: penalty, relative to the mean squared feature.
        normalise: LayerNorm without affine on each token first, as `LayerFusion` does.
        seed: of the split.

    Raises:
        InputError: shapes that do not belong together, fewer than two classes, or nothing to hold out.
    """
    if features.dim() != 4 or labels.shape != (features.shape[0], features.shape[2]):
        raise InputError(
            f"features [I, L, N, C] and labels [I, N] needed, not {list(features.shape)} and {list(labels.shape)}"
        )
    if not 0 < held_out < 1:
        raise InputError(f"held_out {held_out} is not between 0 and 1")
    if split not in ("images", "tokens"):
        raise InputError(f"split {split!r} is neither 'images' nor 'tokens'")
    labelled = labels >= 0
    units = len(labels) if split == "images" else int(labelled.sum())
    order = torch.randperm(units, generator=torch.Generator().manual_seed(seed))
    chosen = torch.zeros(units, dtype=torch.bool)
    chosen[order[: round(units * held_out)]] = True
    test = torch.zeros_like(labelled)
    if split == "images":
        test = labelled & chosen[:, None]
    else:
        test[labelled] = chosen
    train = labelled & ~test
    classes = torch.unique(labels[train])
    if not test.any() or len(classes) < 2:
        raise InputError(
            f"a probe needs two classes and something held out, not {len(classes)} classes in {int(train.sum())} "
            f"tokens and {int(test.sum())} held out; give more images, or split='tokens'"
        )
    targets = (labels[train][:, None] == classes).double()
    truth = labels[test]
    right: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for number, layer in enumerate(features.unbind(1)):
        known, unseen = (_prepare(layer[mask], normalise) for mask in (train, test))
        mean = known.mean(0)
        known, unseen = known - mean, unseen - mean
        gram = known.T @ known
        penalty = ridge * gram.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
        gram.diagonal().add_(penalty)
        coefficients = torch.linalg.solve(gram, known.T @ (targets - targets.mean(0)))
        scores = unseen @ coefficients + targets.mean(0)
        hits = (classes[scores.argmax(1)] == truth).double().cpu().numpy()
        right[str(number)] = hits, np.ones(len(hits))
    majority = (truth == classes[targets.sum(0).argmax()]).double().mean().item()
    images = [str(image) for image in test.nonzero()[:, 0].tolist()]
    intervals = tuple(found for found in bootstrap(images, right).values() if found is not None)  # never None: N > 0
    return Probe(intervals, majority, int(train.sum()), int(test.sum()))


def _prepare(tokens: Tensor, normalise: bool) -> Tensor:
    tokens = tokens.double()
    return F.layer_norm(tokens, tokens.shape[-1:]) if normalise else tokens


def scene_probes(tower: VisionTower, level: str, scenes: int, seed: int = 0) -> dict[str, Probe]:
    """What each layer of a tower knows of RefShapes objects' `colour` and `shape`, as notebook 01 measures it.

    A token belongs to the object that covers at least half of its patch; others are left out.

    Args:
        tower: the frozen tower.
        level: of RefShapes.
        scenes: of the training split, some of which are held out.
        seed: of scenes and split.
    """
    from .data.refshapes.levels import COLOURS, SHAPES
    from .data.refshapes.render import render
    from .data.refshapes.scene import make_scene
    from .data.refshapes.tasks import scene_regions

    words = {"colour": list(COLOURS), "shape": list(SHAPES)}
    found, labels = [], {word: torch.full((scenes, tower.num_tokens), -1) for word in words}
    for index in range(scenes):
        scene = make_scene(level, "train", seed, index)
        placement = Placement(scene.level.image_size, scene.level.image_size, tower.image_size)
        found.append(tower(tower.preprocess([placement.image(render(scene))])).bfloat16())
        for thing, region in zip(scene.things, scene_regions(scene), strict=True):
            assert region.mask is not None  # RefShapes knows every outline
            covered = torch.from_numpy(placement.mask_to_input(region.mask, tower.grid)).flatten() >= 0.5
            for word, names in words.items():
                labels[word][index, covered] = names.index(getattr(thing, word))
    return {word: layer_probe(torch.cat(found), wanted, seed=seed) for word, wanted in labels.items()}
