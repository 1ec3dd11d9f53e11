"""Answers with the true words given: what the released evaluation of the paper measures, printed beside the headline.

The whole true answer stands in the input, so whether the model would emit `<vis>` is not tested, and each later region
sees the true earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..data.sample import Images, Sample
from ..generation import restored
from ..model import PerceptionGPT
from ..processes import merged, own_share
from ..regions import Region
from .predictions import LoadFeatures, Prediction, TowerFeatures, batches


@torch.no_grad()
def predict_teacher_forced(
    model: PerceptionGPT,
    samples: Sequence[Sample],
    images: Images,
    features: LoadFeatures | None = None,
    *,
    batch_size: int = 64,
    on_progress: Callable[[int, int], None] | None = None,
    threshold: float = 0.5,
) -> list[Prediction]:
    """Decode the regions of the last answers at the positions that predict their true `<vis>`.

    Args:
        model: a `PerceptionGPT`; it is put into evaluation mode. A representation that writes regions as text has no
            states to decode; its answers then have no regions.
        samples: of any tasks; the text of each prediction is the true answer's.
        images, features, batch_size, on_progress: as for `predict`.
        threshold: the probability from which a pixel belongs to a mask.
    """
    if features is None:
        features = TowerFeatures(model.tower, images)
    model.eval()
    regions: dict[int, tuple[Region, ...]] = {}
    share = own_share([sample.image_id for sample in samples])
    for picked in batches([samples[i] for i in share], batch_size):
        members = [share[i] for i in picked]
        chosen = [samples[i] for i in members]
        regions.update(zip(members, _decode(model, chosen, features, threshold), strict=True))
        if on_progress is not None:
            on_progress(len(regions), len(share))
    found = merged(regions, len(samples))
    return [Prediction(s, s.turns[-1].text, its) for s, its in zip(samples, found, strict=True)]


def _decode(
    model: PerceptionGPT, samples: Sequence[Sample], features: LoadFeatures, threshold: float
) -> list[tuple[Region, ...]]:
    """The regions of each sample's last answer."""
    batch = model.collate(samples, features).to(next(model.projector.parameters()).device)
    rows = batch.vis_row[batch.vis_is_answer]
    if not len(rows):
        return [()] * len(samples)
    states, (_, seen) = model(batch).states, model.see(batch)
    decoded = model.decode(states, seen, batch.image_index[rows])
    placements = [p for p, answer in zip(batch.placements, batch.vis_is_answer.tolist(), strict=True) if answer]
    found: list[list[Region]] = [[] for _ in samples]
    for k, row in enumerate(rows.tolist()):
        one = {name: prediction[k] for name, prediction in decoded.items()}
        found[row].append(restored(model, one, placements[k], threshold))
    # Earlier answers of a dialogue are decoded too; the last turn's regions are the last ones.
    return [tuple(f[len(f) - len(s.turns[-1].regions) :]) for f, s in zip(found, samples, strict=True)]
