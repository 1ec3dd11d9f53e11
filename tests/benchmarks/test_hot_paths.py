"""Microbenchmarks of the paths that dominate a run. In the test suite each runs once, untimed, and checks its result.

`pytest tests/benchmarks --benchmark-enable` times them; `--benchmark-autosave` and `--benchmark-compare` hold two
versions against each other on one machine.
"""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch

from pgpt_lib.benchmark.decoding import build_case
from pgpt_lib.benchmark.levers import full_language_loss
from pgpt_lib.data.refshapes import RefShapesImages
from pgpt_lib.data.refshapes.world import image_id
from pgpt_lib.fusion import LayerFusion
from pgpt_lib.losses import language_loss
from pgpt_lib.regions import Region, mask_to_rle
from pgpt_lib.representations import get_representation
from pgpt_lib.signals import build_signals

WIDTH, CHANNELS, GRID = 128, 384, 8  # the default profile's: nano, DINOv2-S/14 at 112 pixels


@pytest.mark.parametrize("loss", [language_loss, full_language_loss], ids=["gathered", "full logits"])
def test_language_loss(benchmark, loss):
    states, labels = torch.randn(8, 160, WIDTH), torch.full((8, 160), -100)
    labels[:, ::30] = 7
    table = torch.randn(1500, WIDTH)
    found = benchmark(lambda: loss(states, labels, lambda rows: rows @ table.T))
    assert found.isfinite() and found > 0


@pytest.mark.parametrize("normalise", [True, False])
def test_fusion(benchmark, normalise):
    fusion = LayerFusion(12, "learned", normalise)
    layers = torch.randn(4, 12, GRID**2, CHANNELS).bfloat16()
    with torch.no_grad():
        found = benchmark(fusion, layers)
    assert found.shape == (4, GRID**2, CHANNELS)


@pytest.mark.parametrize("name", ["box", "mask"])
def test_a_signal_is_decoded(benchmark, name):
    signal = build_signals((name,), WIDTH, CHANNELS, GRID, {})[name]
    states, features, index = torch.randn(6, WIDTH), torch.randn(1, GRID**2, CHANNELS), torch.zeros(6, dtype=torch.long)
    with torch.no_grad():
        found = benchmark(signal.decode, states, features, index)
    assert len(found) == 6


@pytest.mark.parametrize("cached", [True, False])
def test_a_step_of_decoding(benchmark, make_model, cached):
    case = build_case(make_model().eval(), "embedding", "box")
    case.embeds = torch.cat([case.embeds, case.embeds[:, -1:].repeat(1, 7, 1)], 1)
    with torch.no_grad():
        run = case.step(7, cached)
        benchmark(run)
        assert case.forward(0, case.prompt + 7, None).isfinite().all()


def test_collating(benchmark, make_model, samples, features):
    model = make_model()
    batch = benchmark(lambda: model.collate(copy.copy(samples), features))
    assert len(batch.input_ids) == len(samples)


@pytest.mark.parametrize("name", ["numerical", "vocabulary"])
def test_a_mask_is_written_and_read(benchmark, profile, name):
    y, x = np.mgrid[:112, :112]
    mask = ((x - 50) ** 2 + (y - 60) ** 2 < 30**2).astype(np.uint8)
    settings = profile.coordinates.model_copy(update={"target": "mask", "vertices": 32})
    representation = get_representation(name, settings)
    region = Region(None, mask_to_rle(mask))
    found = benchmark(lambda: representation.read(representation.write(region, (112, 112)), [], (112, 112)))
    assert len(found) == 1 and found[0].mask is not None


def test_a_scene_is_made_and_drawn(benchmark):
    images, numbers = RefShapesImages(), itertools.count()
    found = benchmark(lambda: images.load_image(image_id("cpu", "val", 7, next(numbers))))
    assert found.shape == (112, 112, 3) and found.std() > 0
