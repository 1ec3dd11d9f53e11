"""Towers behind one interface, and their features on disk."""

from __future__ import annotations

import copy
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from filelock import FileLock
from torch import Tensor, nn
from transformers import Dinov2Config, SiglipVisionConfig

from pgpt_lib import feature_cache
from pgpt_lib.errors import InputError
from pgpt_lib.feature_cache import FeatureCache
from pgpt_lib.nano_vit import NanoViT, NanoViTConfig
from pgpt_lib.vision import VisionTower, load_tower

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 4, "image_size": 16}
MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "dinov2": (lambda: transformers.Dinov2Model(Dinov2Config(**SIZES)), 1),
    "registers": (lambda: transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**SIZES)), 5),
    "clip": (lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(intermediate_size=32, **SIZES)), 1),
    "siglip": (lambda: transformers.SiglipVisionModel(SiglipVisionConfig(intermediate_size=32, **SIZES)), 0),
}


def picture(seed: int, size: int = 112) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def shifted(model: nn.Module) -> nn.Module:
    """Weights other than zero everywhere, so that no part of the model is silent."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture()
def nano(tmp_path: Path) -> VisionTower:
    torch.manual_seed(0)
    NanoViT(NanoViTConfig(hidden_size=16, num_layers=2, num_heads=2, stem_channels=4)).save(tmp_path / "nano")
    return load_tower("nano", tmp_path / "nano", 112)


@pytest.mark.parametrize("kind", MODELS)
def test_layers_are_the_raw_block_outputs_without_prefix_tokens(kind: str, tmp_path: Path) -> None:
    make, prefix = MODELS[kind]
    model = shifted(make())
    model.save_pretrained(tmp_path)
    tower = load_tower(kind, tmp_path, 16)
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.stack(model(pixels, output_hidden_states=True).hidden_states[1:], 1)[:, :, prefix:]
    layers = tower(pixels)
    assert layers.shape == (2, tower.num_layers, tower.num_tokens, tower.hidden_size) == (2, 3, 16, 16)
    torch.testing.assert_close(layers, expected)
    assert all(name.startswith("model.") for name in tower.state_dict())
    twin = copy.deepcopy(tower)
    for parameter in twin.parameters():
        parameter.zero_()
    assert not twin(pixels).any() and torch.equal(tower(pixels), layers)


def test_the_vision_half_of_a_whole_clip_loads_strictly(tmp_path: Path) -> None:
    text = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "hidden_size": 16}
    vision = {"intermediate_size": 32, **SIZES}
    config = transformers.CLIPConfig(text_config={**text, "vocab_size": 9}, vision_config=vision, projection_dim=8)
    model = transformers.CLIPModel(config)
    shifted(model).save_pretrained(tmp_path)
    pixels = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = model.vision_model(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
    torch.testing.assert_close(load_tower("clip", tmp_path, 16)(pixels)[:, -1], expected)


@pytest.mark.parametrize("kind", MODELS)
def test_another_image_size_interpolates_positions(kind: str, tmp_path: Path) -> None:
    shifted(MODELS[kind][0]()).save_pretrained(tmp_path)
    tower = load_tower(kind, tmp_path, 24)
    assert (tower.grid, tower.num_tokens) == (6, 36)
    layers = tower(torch.randn(1, 3, 24, 24))
    assert layers.shape == (1, 3, 36, 16) and layers.isfinite().all()
    with pytest.raises(InputError, match="image_size 18"):
        load_tower(kind, tmp_path, 18)


def test_missing_weights_and_unknown_models_are_refused(tmp_path: Path) -> None:
    model = MODELS["dinov2"][0]()
    state = {name: value for name, value in model.state_dict().items() if "mlp.fc1" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(InputError, match="missing"):
        load_tower("broken", tmp_path, 16)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="'bert'"):
        load_tower("wrong", tmp_path, 16)


def test_tower_stays_frozen_and_in_evaluation_mode(nano: VisionTower) -> None:
    outer = nn.Sequential(nano, nn.Dropout()).train()
    assert outer.training and not any(module.training for module in nano.modules())
    assert not any(parameter.requires_grad for parameter in nano.parameters())
    assert not nano(torch.randn(1, 3, 112, 112, requires_grad=True)).requires_grad


def test_nano_vit_saves_loads_and_takes_other_sizes(nano: VisionTower, tmp_path: Path) -> None:
    assert (nano.num_layers, nano.grid, nano.hidden_size, nano.patch_size) == (2, 8, 16, 14)
    pixels = nano.preprocess([picture(0), picture(1)])
    assert isinstance(nano.model, NanoViT)
    torch.testing.assert_close(torch.stack(nano.model(pixels), 1), nano(pixels))
    assert load_tower("nano", tmp_path / "nano", 168)(torch.randn(1, 3, 168, 168)).shape == (1, 2, 144, 16)
    nano.model.save(tmp_path / "half", torch.float16)
    half = load_tower("half", tmp_path / "half", 112)
    assert half(pixels).dtype == torch.float32
    torch.testing.assert_close(half(pixels), nano(pixels), atol=2e-2, rtol=2e-2)
    (tmp_path / "half" / "config.json").write_text(json.dumps({"model_type": "nano_vit", "num_layers": 9}))
    with pytest.raises(InputError, match="no nano ViT"):
        load_tower("half", tmp_path / "half", 112)


def test_precision_changes_little_but_the_digest(nano: VisionTower, tmp_path: Path) -> None:
    low = load_tower("nano", tmp_path / "nano", 112, "bf16")
    pixels = nano.preprocess([picture(0)])
    exact, rounded = nano(pixels), low(pixels)
    assert rounded.dtype == torch.float32 and 0 < (rounded - exact).norm() / exact.norm() < 0.02
    assert len({nano.digest(), low.digest(), load_tower("nano", tmp_path / "nano", 126).digest()}) == 3
    assert nano.digest() == load_tower("nano", tmp_path / "nano", 112).digest()


def test_preprocess_normalises_and_refuses_other_shapes(nano: VisionTower) -> None:
    grey = np.full((112, 112, 3), 255, np.uint8)
    torch.testing.assert_close(nano.preprocess([grey])[0, :, 0, 0], (1 - nano.mean.flatten()) / nano.std.flatten())
    with pytest.raises(InputError, match=r"\(96, 96, 3\)"):
        nano.preprocess([picture(0, 96)])


def load(image_id: str) -> np.ndarray:
    return picture(int(image_id.split("-")[1]))


def expected(tower: VisionTower, ids: list[str]) -> Tensor:
    return torch.cat([tower(tower.preprocess([load(name)] * 4))[:1] for name in ids]).bfloat16()


def test_cache_returns_the_towers_outputs_in_any_order(nano: VisionTower, tmp_path: Path) -> None:
    cache = FeatureCache(nano, tmp_path / "features", batch_size=4)
    ids = [f"scene-{i}" for i in range(6)]
    assert cache.features([*ids, ids[0]], load, progress=False) == 6
    order = [ids[5], ids[0], ids[3], ids[0]]
    rows = cache.rows(order)
    assert rows.dtype == torch.bfloat16 and rows.shape == (4, 2, 64, 16)
    torch.testing.assert_close(rows, expected(nano, order))
    assert cache.features(ids, load, progress=False) == 0
    assert cache.features([*ids, "scene-9"], load, progress=False) == 1
    torch.testing.assert_close(cache.rows(["scene-9"]), expected(nano, ["scene-9"]))
    assert torch.equal(FeatureCache(nano, tmp_path / "features").rows(order), rows)
    with pytest.raises(InputError, match="scene-77"):
        cache.rows(["scene-77"])


def test_cache_goes_on_after_a_kill(nano: VisionTower, tmp_path: Path) -> None:
    ids = [f"scene-{i}" for i in range(10)]
    whole = FeatureCache(nano, tmp_path / "whole", batch_size=4)
    whole.features(ids, load, progress=False)
    loaded: list[str] = []

    def dies(image_id: str) -> np.ndarray:
        if image_id == "scene-6":
            raise KeyboardInterrupt
        return load(image_id)

    def counts(image_id: str) -> np.ndarray:
        loaded.append(image_id)
        return load(image_id)

    cache = FeatureCache(nano, tmp_path / "cut", batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        cache.features(ids, dies, progress=False)
    # a kill can also leave half a row and half a line
    with cache.data.open("ab") as data, cache.index.open("ab") as index:
        data.write(b"\x01" * (cache.row_bytes + 100))
        index.write(b"123\tscene-")
    again = FeatureCache(nano, tmp_path / "cut", batch_size=4)
    assert again.features(ids, counts, progress=False) == 6
    assert {"scene-4", "scene-9"} <= set(loaded) and "scene-1" not in loaded
    assert torch.equal(again.rows(ids), whole.rows(ids))
    assert again.data.read_bytes() == whole.data.read_bytes() and again.index.read_bytes() == whole.index.read_bytes()


def test_cache_notices_that_pictures_changed(
    nano: VisionTower, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = FeatureCache(nano, tmp_path / "features", batch_size=4)
    ids = [f"scene-{i}" for i in range(3)]
    cache.features(ids, load, progress=False)
    assert cache.features(ids, lambda name: 255 - load(name), progress=False) == 3
    assert "not the one" in capsys.readouterr().err
    assert not torch.equal(cache.rows(ids), expected(nano, ids))


def test_cache_stays_below_its_bound(nano: VisionTower, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "features"
    row = FeatureCache(nano, folder).row_bytes
    bound = 8 * row
    other = FeatureCache(load_tower("nano", tmp_path / "nano", 112, "bf16"), folder, bound, batch_size=4)
    other.features([f"scene-{i}" for i in range(4)], load, progress=False)
    cache = FeatureCache(nano, folder, bound, batch_size=4)
    cache.features([f"scene-{i}" for i in range(6)], load, progress=False)
    assert not other.store.exists() and "longest unused" in capsys.readouterr().err
    kept = cache.rows(["scene-0"])
    cache.features([f"scene-{i}" for i in range(5, 9)], load, progress=False)  # 9 in all: only these four stay
    assert cache.data.stat().st_size == 4 * row and "keeping only" in capsys.readouterr().err
    assert torch.equal(kept, expected(nano, ["scene-0"]))
    with pytest.raises(InputError, match="max_bytes"):
        cache.features([f"scene-{i}" for i in range(9)], load, progress=False)
    with pytest.raises(InputError, match="line break"):
        cache.features(["scene-1\n"], load, progress=False)


@pytest.mark.parametrize(("free", "bound"), [(5, 12), (30, 15), (100, 20)])
def test_the_default_bound_leaves_half_of_the_disk(tmp_path: Path, monkeypatch, free: int, bound: int) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda place: usage._replace(free=free * 2**30))
    assert feature_cache.default_bound(tmp_path / "features" / "not yet") == bound * 2**30


def test_cache_shows_progress_on_standard_error(
    nano: VisionTower, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FeatureCache(nano, tmp_path / "features").features(["scene-0"], load)
    shown = capsys.readouterr()
    assert "encoding images with nano" in shown.err and not shown.out


def test_a_second_writer_waits_and_says_so(
    nano: VisionTower, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = FeatureCache(nano, tmp_path / "features", batch_size=4)
    cache.store.mkdir(parents=True)
    held = threading.Event()

    def first_writer() -> None:
        with FileLock(cache.folder / f".{cache.store.name}.lock"):
            held.set()
            time.sleep(2.5)

    thread = threading.Thread(target=first_writer)
    thread.start()
    held.wait()
    assert cache.features(["scene-0"], load, progress=False) == 1
    thread.join()
    assert "waiting" in capsys.readouterr().err


def test_a_reader_does_not_wait_for_a_writer_of_other_images(nano: VisionTower, tmp_path: Path) -> None:
    cache = FeatureCache(nano, tmp_path / "features", batch_size=4)
    cache.features(["scene-0", "scene-1"], load, progress=False)
    with FileLock(cache.folder / f".{cache.store.name}.lock"):
        assert FeatureCache(nano, tmp_path / "features").features(["scene-1"], load, progress=False) == 0
