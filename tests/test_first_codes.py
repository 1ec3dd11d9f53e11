"""How a region's code starts, and how long it is."""

import numpy as np
import pytest
import torch

from pgpt_lib.config import load_profile
from pgpt_lib.model import build_model
from pgpt_lib.optimisation import build_optimizer
from pgpt_lib.regions import Placement, mask_bounds, rle_to_mask
from pgpt_lib.signals.first_codes import at_places, example_regions, place_codes, start_codes


@pytest.fixture(scope="module")
def model():
    return build_model(load_profile("smoke"), seed=0)


def codes_of(model, name, regions):
    size = model.tower.image_size
    values, _ = model.signal(name).collate(regions, [Placement(size, size, size)] * len(regions))
    return model.signal(name).encode(values).detach()


@pytest.mark.parametrize("name", ["box", "mask"])
def test_an_untrained_code_names_its_place(model, name):
    """Regions that the fit has not seen, away from the lines between parts: the nearest words are those of the part."""
    words = place_codes(model.chat, model.embedding_tables()[0]).flatten(0, 1)
    regions = example_regions(model.tower.image_size, np.random.default_rng(99), 300)
    centres = np.array([[(r.box[0] + r.box[2]) / 2, (r.box[1] + r.box[3]) / 2] for r in regions])
    clear = (np.abs(3 * centres[..., None] - (1, 2)) > 0.3).all((1, 2))
    codes = codes_of(model, name, [r for r, keep in zip(regions, clear, strict=True) if keep])
    column, row = np.minimum(2, (3 * centres[clear]).astype(int)).T
    named = torch.cdist(codes, words).argmin(1).numpy()
    assert (named == 3 * row + column).mean() > 0.9


def test_random_start_is_a_switch():
    random = build_model(load_profile("smoke", {"region_codes.start": "random"}), seed=0)
    words = place_codes(random.chat, random.embedding_tables()[0])
    regions = example_regions(random.tower.image_size, np.random.default_rng(99), 50)
    targets = at_places(words, torch.tensor([r.box for r in regions]))
    assert (codes_of(random, "box", regions) - targets).norm(dim=1).mean() > targets.norm(dim=1).mean() / 2


def test_words_are_interpolated_between_the_parts(model):
    words = place_codes(model.chat, model.embedding_tables()[0])
    sixth = 1 / 6
    boxes = torch.tensor([[0, 0, 2 * sixth, 2 * sixth], [0, 0, 4 * sixth, 2 * sixth], [0.9, 0.9, 1, 1]])
    expected = torch.stack([words[0, 0], (words[0, 0] + words[0, 1]) / 2, words[2, 2]])
    assert torch.allclose(at_places(words, boxes), expected, atol=1e-5)


def test_a_tokenizer_without_the_words_changes_nothing(model, monkeypatch):
    signal = model.signal("box")
    before = {k: v.clone() for k, v in signal.state_dict().items()}
    monkeypatch.setattr(model.chat, "words", lambda text: [1])
    start_codes([signal], model.chat, model.embedding_tables()[0], 112, seed=1)
    assert all(torch.equal(before[k], v) for k, v in signal.state_dict().items())


@pytest.mark.parametrize("scale", [1.0, 500.0])
def test_a_code_is_as_long_as_a_word(model, scale):
    table = model.embedding_tables()[0].detach()[: model.chat.base_vocabulary]
    last = model.signal("box").encoder[-1]
    weight = last.weight.detach().clone()
    with torch.no_grad():
        last.weight.mul_(scale)
    box = torch.tensor([[0.2, 0.3, 0.1, 0.1]])
    code = model.region_codes({"box": box}, {"box": torch.tensor([True])}).detach()
    with torch.no_grad():
        last.weight.copy_(weight)
    assert code.square().mean().sqrt() == pytest.approx(table.square().mean().sqrt().item(), rel=1e-3)


def test_the_length_is_a_switch(model, monkeypatch):
    loose = model.profile.model_copy(
        update={"region_codes": model.profile.region_codes.model_copy(update={"normalise": False})}
    )
    monkeypatch.setattr(model, "profile", loose)
    box, seen = torch.tensor([[0.2, 0.3, 0.1, 0.1]]), torch.tensor([True])
    assert torch.allclose(model.region_codes({"box": box}, {"box": seen}), model.signal("box").encode(box))


def test_a_region_of_which_nothing_is_seen_has_no_code(model):
    box, seen = torch.tensor([[0.2, 0.3, 0.1, 0.1]]), torch.tensor([False])
    assert not model.region_codes({"box": box}, {"box": seen}).any()


def test_encoders_have_a_rate_of_their_own(model):
    settings = model.profile.training.model_copy(update={"encoder_lr": 0.04, "aligned_lr": 0.1})
    names = {id(p): name for name, p in model.trainable_parameters().items()}
    for group in build_optimizer(model.trainable_parameters(), settings).param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            share = 0.1 if name.startswith(("fusion.", "projector.")) else 0.04 if ".encoder." in name else 1.0
            assert group["share"] == share, name


def test_examples_lie_inside_the_picture_and_fill_their_boxes():
    for region in example_regions(112, np.random.default_rng(0), 20):
        x1, y1, x2, y2 = mask_bounds(rle_to_mask(region.mask))
        assert min(region.box) >= 0 and max(region.box) <= 1
        assert np.abs(np.array([x1, y1, x2, y2]) - 112 * np.array(region.box)).max() <= 1.5
