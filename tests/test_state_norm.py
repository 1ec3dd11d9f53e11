"""States of a pretrained language model, standardised before signals read them."""

import torch

from pgpt_lib.state_norm import LEAST, StateNorm, header_states


def test_calibration_takes_the_common_part_off():
    states = 50 + torch.randn(40, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(8)
    norm = StateNorm(8)
    assert torch.equal(norm(states), states), "before it is calibrated it changes nothing"
    norm.calibrate(states)
    assert norm(states).mean(0).abs().max() < 1e-4
    assert torch.allclose(norm(states).std(0)[1:], torch.ones(7), atol=1e-4)
    assert norm.scale[0] == 1 / LEAST, "a channel that never changes is not magnified without bound"


def test_a_built_model_reads_standardised_states(make_model):
    model, again = (make_model(llm__standardise=True).eval() for _ in range(2))
    with torch.no_grad():
        read = model.state_norm(header_states(model))
    assert read.mean(0).abs().max() < 1e-3 and 0 < read.std(0).mean() <= 1.001
    assert torch.equal(model.state_norm.shift, again.state_norm.shift)
    assert {"state_norm.shift", "state_norm.scale"} <= set(model.perception_state())


def test_without_it_nothing_is_added(make_model):
    assert not any("state_norm" in name for name in make_model().state_dict())
