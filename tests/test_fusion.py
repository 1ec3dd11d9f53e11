"""Equation 1 and the probe that shows why layers are worth fusing."""

from __future__ import annotations

import pytest
import torch

from pgpt_lib.errors import InputError
from pgpt_lib.fusion import LayerFusion
from pgpt_lib.probing import layer_probe


@pytest.fixture()
def layers() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 5.0, 40.0]).view(1, 3, 1, 1)
    return torch.randn(2, 3, 4, 8, generator=generator) * scale + 1


def normalised(layer: torch.Tensor) -> torch.Tensor:
    """LayerNorm without affine, written out."""
    centred = layer - layer.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def test_learned_fusion_equals_the_sum_by_hand(layers: torch.Tensor) -> None:
    fusion = LayerFusion(3)
    with torch.no_grad():
        fusion.logits.copy_(torch.tensor([0.2, -1.0, 0.7]))
    exponentials = fusion.logits.detach().exp()
    weights = exponentials / exponentials.sum()
    torch.testing.assert_close(fusion.weights().detach(), weights)
    by_hand = sum(weights[index] * normalised(layers[:, index]) for index in range(3))
    torch.testing.assert_close(fusion(layers).detach(), by_hand)


def test_raw_fusion_is_dominated_by_the_layer_of_largest_norm(layers: torch.Tensor) -> None:
    raw = LayerFusion(3, normalise=False)(layers).detach()
    torch.testing.assert_close(raw, layers.mean(1))
    fused = LayerFusion(3)(layers).detach()
    alike = [
        [torch.cosine_similarity(result.flatten(), normalised(layers[:, i]).flatten(), dim=0).item() for i in range(3)]
        for result in (raw, fused)
    ]
    assert alike[0][2] > 0.85 and max(alike[0][:2]) < 0.5
    assert min(alike[1]) > 0.4


FIXED = [("mean", [1 / 3] * 3), ("last", [0, 0, 1]), ("second_last", [0, 1, 0])]


@pytest.mark.parametrize(("strategy", "weights"), FIXED)
def test_fixed_strategies(layers: torch.Tensor, strategy: str, weights: list[float]) -> None:
    fusion = LayerFusion(3, strategy)
    assert not list(fusion.parameters())
    torch.testing.assert_close(fusion.weights(), torch.tensor(weights, dtype=torch.float32))
    by_hand = sum(weights[index] * normalised(layers[:, index]) for index in range(3))
    torch.testing.assert_close(fusion(layers), by_hand)


def test_weights_sum_to_one_start_equal_and_get_gradient(layers: torch.Tensor) -> None:
    fusion = LayerFusion(3)
    torch.testing.assert_close(fusion.weights().detach(), torch.full((3,), 1 / 3))
    (fusion(layers) * torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert fusion.logits.grad is not None and fusion.logits.grad.abs().min() > 0
    assert fusion.logits.grad.sum().abs() < 1e-4  # a softmax does not move along a common shift
    assert fusion.weights().sum().item() == pytest.approx(1)


def test_bfloat16_features_give_a_float32_map(layers: torch.Tensor) -> None:
    half = layers.bfloat16()
    fused = LayerFusion(3)(half)
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused, LayerFusion(3)(half.float()))


def test_bad_input_is_named(layers: torch.Tensor) -> None:
    with pytest.raises(InputError, match="'first'"):
        LayerFusion(3, "first")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="num_layers 1"):
        LayerFusion(1, "second_last")
    with pytest.raises(InputError, match=r"\[2, 3, 4, 8\]"):
        LayerFusion(4)(layers)


def planted(images: int = 40, tokens: int = 16, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of three classes that layer 2 shows and layer 1 does not."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(3, (images, tokens), generator=generator)
    features = torch.randn(images, 2, tokens, width, generator=generator)
    features[:, 1] += 3 * torch.eye(width)[labels]
    return features, labels


def test_probe_finds_the_layer_that_knows() -> None:
    features, labels = planted()
    probe = layer_probe(features.bfloat16(), labels)
    blind, knowing = probe.accuracy
    assert knowing > 0.9 and blind < 0.45 and 0.25 < probe.majority < 0.45
    assert probe.num_train + probe.num_test == labels.numel()
    assert layer_probe(features.bfloat16(), labels) == probe
    assert all(low < value < high and high - low < 0.3 for value, low, high in probe.intervals)
    assert probe.intervals[0][2] < probe.intervals[1][1], "the layers are told apart"


def test_the_interval_of_a_probe_is_over_images() -> None:
    features, labels = planted(images=1, tokens=400)
    (value, low, high), _ = layer_probe(features, labels, split="tokens").intervals
    assert value == low == high, "one image says nothing of others"


def test_probe_leaves_unlabelled_tokens_out_and_can_split_one_picture() -> None:
    features, labels = planted(images=1, tokens=400)
    labels[:, ::4] = -1
    probe = layer_probe(features, labels, split="tokens")
    assert probe.num_train + probe.num_test == 300 and probe.accuracy[1] > 0.9


def test_probe_names_bad_input() -> None:
    features, labels = planted()
    with pytest.raises(InputError, match="labels"):
        layer_probe(features, labels[:, :3])
    with pytest.raises(InputError, match="two classes"):
        layer_probe(features, torch.zeros_like(labels))
    with pytest.raises(InputError, match="split='tokens'"):
        layer_probe(features[:1], labels[:1])
    with pytest.raises(InputError, match="held_out 1"):
        layer_probe(features, labels, held_out=1)
