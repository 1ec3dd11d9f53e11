"""Notebook 08's view of fusion weights: drawn whatever the model answers."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from pgpt_lib.evaluation import predictions
from pgpt_lib.evaluation.predictions import Prediction
from pgpt_lib.fusion_view import fusion_view


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_answers_with_and_without_regions_are_drawn(make_model, samples, features, monkeypatch, answered):
    model = make_model()
    sample = next(s for s in samples if len(s.turns[-1].regions) == 1)
    picture = np.zeros((*sample.size, 3), np.uint8)
    region = sample.turns[-1].regions[0]
    answer = Prediction(sample, "<vis>" * answered, (region,) * answered)
    monkeypatch.setattr(predictions, "predict", lambda *given: [answer])
    monkeypatch.setattr(predictions, "TowerFeatures", lambda *given: features)
    layers = model.fusion.num_layers
    view = fusion_view(model, sample, SimpleNamespace(load_image=lambda _: picture), {"even": [1 / layers] * layers})
    view.figure()
    plt.close("all")
