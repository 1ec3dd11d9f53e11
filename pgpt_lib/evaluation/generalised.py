"""Scores of expressions of any number of targets, none included, as gRefCOCO's authors define them.

GRES (Liu et al., CVPR 2023) scores the union of all masks given against the union of those meant: gIoU, cIoU, N-acc and
T-acc. GREC (He et al., arXiv 2308.16182) asks of boxes that all are found and no other is given. An answer without a
region says that nothing is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics import bootstrap, match_boxes
from ..regions import Region, mask_area, mask_overlap, mask_union
from .grounding import pixel_boxes
from .predictions import Prediction
from .words import images_of


def generalised_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Scores of a whole split, every expression counted alike.

    Returns:
        `n`, and [value, low, high] of each metric, None where it does not apply. `giou`: mean over expressions of the
        masks' IoU; where nothing is meant, 1 for an answer without a region and 0 for any other. `ciou`: intersections
        over unions, each summed over expressions; a right "none" adds to neither, a wrong mask to the union. `n_acc`,
        `t_acc`: share answered without a region where nothing is meant, with one where something is. `pr@f1`: share
        whose boxes are matched one to one with IoU above 0.5, none left over on either side. The first two leave out
        expressions whose objects have no true mask, and do not apply where all regions given are boxes alone.
    """
    meant = np.array([bool(p.truth.regions) for p in predictions], bool)
    said = np.array([p.has_vis for p in predictions], bool)
    masked = np.array([not p.truth.regions or _union(p.truth.regions) is not None for p in predictions], bool)
    if any(p.regions for p in predictions) and not any(_union(p.regions) for p in predictions):
        masked[:] = False
    pixels = np.array([_pixels(p) for p in predictions], np.float64).reshape(-1, 2) * masked[:, None]
    iou = np.where(meant, pixels[:, 0] / np.maximum(pixels[:, 1], 1), ~said)
    sums = {
        "giou": (iou * masked, masked),
        "ciou": (pixels[:, 0], pixels[:, 1]),
        "n_acc": (~meant & ~said, ~meant),
        "t_acc": (meant & said, meant),
        "pr@f1": (np.array([_all_found(p) for p in predictions]), np.ones(len(predictions))),
    }
    return {"n": len(predictions), **bootstrap(images_of(predictions), sums)}


def _pixels(prediction: Prediction) -> tuple[int, int]:
    """Intersection and union of all masks given with all masks meant."""
    given, true = _union(prediction.regions), _union(prediction.truth.regions)
    if given is None or true is None:
        return 0, sum(mask_area(mask) for mask in (given, true) if mask is not None)
    return mask_overlap(given, true)


def _union(regions: Sequence[Region]) -> dict[str, Any] | None:
    masks = [region.mask for region in regions if region.mask is not None]
    return mask_union(masks) if masks else None


def _all_found(prediction: Prediction) -> bool:
    given, true = prediction.regions, prediction.truth.regions
    if prediction.parse_failures or len(given) != len(true) or (not true and prediction.has_vis):
        return False
    size = prediction.sample.size
    return not true or len(match_boxes(pixel_boxes(given, size), pixel_boxes(true, size))) == len(true)
