"""Any tower and any language model of the Llama, Qwen and Mistral architectures, from folders, by one interface."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import LEFT, RIGHT, dialogue
from test_chat import byte_level
from test_vision import MODELS, shifted

from pgpt_lib.backbones import resolver
from pgpt_lib.chat import Chat
from pgpt_lib.chat_templates import TEMPLATES
from pgpt_lib.checkpoint import State, load_checkpoint, save_checkpoint
from pgpt_lib.config import Profile, load_profile, profile_names
from pgpt_lib.errors import InputError
from pgpt_lib.generation import generate
from pgpt_lib.model import PerceptionGPT, build_model
from pgpt_lib.optimisation import build_optimizer
from pgpt_lib.training import train

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLMS = {
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config),
    "qwen3": (transformers.Qwen3ForCausalLM, transformers.Qwen3Config),
    "mistral": (transformers.MistralForCausalLM, transformers.MistralConfig),
}
SPECIALS = {
    "chatml": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "vicuna": ["<unk>", "<s>", "</s>"],
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "mistral": ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
}
CASES = [
    ("llama", "vicuna", False, "clip"),
    ("llama", "llama3", True, "siglip"),
    ("qwen2", "chatml", True, "dinov2"),
    ("qwen3", "chatml", False, "registers"),
    ("mistral", "mistral", False, "clip"),
]
SAMPLES = [
    dialogue("rec", "one", ("where is the star ?", ()), ("<vis>", (LEFT,))),
    dialogue("given", "two", ("what is <vis> ?", (RIGHT,)), ("a square", ())),
]


def save_backbones(folder: Path, kind: str, family: str, tied: bool, tower: str) -> dict[str, str]:
    """A small random language model with its tokenizer, and a tower, saved as the hub would hold them."""
    tokenizer = byte_level(SPECIALS[family])
    model, config = LLMS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        llm = model(config(vocab_size=len(tokenizer), tie_word_embeddings=tied, head_dim=8, **SIZES))
        shifted(MODELS[tower][0]()).save_pretrained(folder / "tower")
    llm.save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm")
    return {"vision.name": str(folder / "tower"), "vision.image_size": "16", "llm.name": str(folder / "llm")}


def model_of(folder: Path, *case: str, **settings: object) -> PerceptionGPT:
    names = save_backbones(folder, *case)  # type: ignore[arg-type]
    overrides = {**names, "vision.image_size": 16, "llm.lora_rank": 4, "signals": ["box", "mask"], **settings}
    return build_model(load_profile("smoke", overrides), 0)


def pixels(model: PerceptionGPT):
    def load(image_ids):
        pictures = [np.full((16, 16, 3), 40 * len(i), np.uint8) for i in image_ids]
        return model.tower.preprocess(pictures)

    return load


def step(model: PerceptionGPT, steps: int = 3) -> torch.optim.Optimizer:
    batch = model.collate(SAMPLES, pixel_values=pixels(model))
    optimizer = build_optimizer(model.trainable_parameters(), model.profile.training)
    model.train()
    for _ in range(steps):
        output = model(batch)
        assert all(term.isfinite() for term in output.losses.values())
        output.loss.backward()
        missing = [name for name, p in model.trainable_parameters().items() if p.grad is None]
        assert not missing
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return optimizer


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_trains_answers_and_reloads_from_folders(case: tuple, tmp_path: Path) -> None:
    model = model_of(tmp_path, *case)
    assert model.chat.template.name == case[1]
    optimizer = step(model)
    asked = [dialogue("rec", "one", ("where is the star ?", ()))]
    answer, *_ = generate(model, asked, pixel_values=pixels(model), max_new_tokens=5)
    uncached, *_ = generate(model, asked, pixel_values=pixels(model), max_new_tokens=5, cached=False)
    assert answer.token_ids == uncached.token_ids and 0 < len(answer.token_ids) <= 5
    path = save_checkpoint(tmp_path / "checkpoint", model, optimizer, State(model.profile, 0, 3))
    again, _ = load_checkpoint(path)
    batch = model.collate(SAMPLES, pixel_values=pixels(model))
    with torch.no_grad():
        first, second = model(batch), again(batch)
    assert torch.equal(first.states, second.states)
    assert all(torch.equal(first.losses[name], second.losses[name]) for name in first.losses)


@pytest.mark.parametrize("rows", ["new", "all"])
@pytest.mark.parametrize("tied", [False, True])
def test_frozen_weights_in_bf16_trained_ones_in_fp32(rows: str, tied: bool, tmp_path: Path) -> None:
    settings = {"llm.precision": "bf16", "llm.token_rows": rows, "training.checkpointing": True}
    model = model_of(tmp_path, "llama", "vicuna", tied, "clip", **settings)
    frozen = {p.dtype for name, p in model.llm.named_parameters() if not p.requires_grad}
    assert frozen == {torch.bfloat16}
    assert {p.dtype for p in model.trainable_parameters().values()} == {torch.float32}
    sizes = {name: p.numel() for name, p in model.trainable_parameters().items() if name.startswith("llm.")}
    tables = sum(size for name, size in sizes.items() if "lora" not in name)
    assert tables == (2 - tied) * 32 * (len(model.chat) if rows == "all" else len(model.chat.special_ids))
    before = model.embedding_tables()[1][model.chat.vis_id].clone()
    with torch.autocast("cpu", torch.bfloat16):
        optimizer = step(model)
    assert not torch.equal(model.embedding_tables()[1][model.chat.vis_id], before)
    path = save_checkpoint(tmp_path / "checkpoint", model, optimizer, State(model.profile, 0, 3))
    again, _ = load_checkpoint(path)
    for mine, theirs in zip(model.embedding_tables(), again.embedding_tables(), strict=True):
        assert torch.equal(mine, theirs)


def test_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    gradients = []
    for number, on in enumerate((False, True)):
        settings = {"training.checkpointing": on}
        model = model_of(tmp_path / str(number), "llama", "vicuna", False, "clip", **settings).train()
        model(model.collate(SAMPLES, pixel_values=pixels(model))).loss.backward()
        gradients.append({name: p.grad for name, p in model.trainable_parameters().items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_pixels_in_place_of_cached_features_train_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPT_CACHE", str(tmp_path / "cache"))
    few = {"data.train_scenes": 4, "training.batch_size": 2, "training.precision": "fp32"}
    kept, live = (
        train(load_profile("smoke", {**few, "training.cache_features": on}), tmp_path / str(on), 0, 2, progress=False)
        for on in (True, False)
    )
    for name, value in kept.losses.items():  # cached features are rounded to bf16
        assert live.losses[name] == pytest.approx(value, rel=0.02, abs=0.01), name
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["features"]


@pytest.mark.parametrize("family", SPECIALS)
def test_each_family_is_told_by_its_tokens(family: str) -> None:
    assert Chat(byte_level(SPECIALS[family])).template.name == family


@pytest.mark.parametrize(("family", "token"), [(f, token) for f, tokens in SPECIALS.items() for token in tokens])
def test_a_token_of_the_family_that_splits_is_an_error_at_start(family: str, token: str) -> None:
    """End, padding, and whatever opens a dialogue or a turn."""
    lacking = byte_level([other for other in SPECIALS[family] if other != token])
    with pytest.raises(InputError, match=f"{re.escape(repr(token))} splits into the ids"):
        Chat(lacking, TEMPLATES[family])


def test_a_sentencepiece_tokenizer_as_vicunas_keeps_special_tokens_whole(tmp_path: Path) -> None:
    import sentencepiece

    text = iter([f"where is the star number {i} , in the picture of a cat ?" for i in range(200)])
    with (tmp_path / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=text, model_writer=file, vocab_size=320, model_type="bpe", byte_fallback=True,
            minloglevel=2,
        )  # fmt: skip
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    settings = '{"tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}'
    (tmp_path / "tokenizer_config.json").write_text(settings)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    chat = Chat(tokenizer, num_image_tokens=2)
    system = tokenizer.encode(chat.template.start.removeprefix("<s>").strip(), add_special_tokens=False)
    assert chat._start == [tokenizer.bos_token_id, *system], "as Vicuna was trained, with a first space"
    assert chat.template.name == "vicuna" and sorted(chat.special_ids.values()) == [320, 321, 322]
    ids, slots = chat.turn("the <vis> star")
    assert slots == [1] and ids == [*chat.words("the"), chat.vis_id, *chat.words("star")]
    assert chat.decode(ids) == "the <vis> star"


def test_weights_without_safetensors_are_taken_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import constants, errors

    asked: list[list[str]] = []

    def snapshot(repo: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("nothing")
        asked.append(allow_patterns)
        return str(tmp_path)

    class Info:
        siblings = [type("File", (), {"rfilename": "pytorch_model-00001-of-00002.bin"})()]

    monkeypatch.setenv("PGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda api, repo, timeout: Info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert resolver.resolve("vicuna-7b") == tmp_path and resolver.PICKLED in asked[-1]
    Info.siblings[0].rfilename = "model.safetensors"
    assert resolver.resolve("vicuna-7b") == tmp_path and resolver.PICKLED not in asked[-1]


# ------------------------------------------------------------------------------------------- the paper's settings


@pytest.mark.parametrize("name", ["paper-7b", "paper-13b", "paper-7b-code"])
def test_each_value_of_the_papers_profiles_says_where_it_comes_from(name: str) -> None:
    text = resources.files("pgpt_lib").joinpath("profiles", f"{name}.yaml").read_text(encoding="utf-8")
    values = [line for line in text.splitlines() if re.search(r":\s*[^\s#]", line) and not line.startswith("#")]
    unmarked = [v for v in values if not re.search(r"# (paper|code|ours)", v) and not v.startswith("budget")]
    assert not unmarked and len(values) > 20


def test_the_papers_profiles_hold_what_section_4_1_says() -> None:
    assert {"gpu", "paper-7b", "paper-13b", "paper-7b-code"} <= set(profile_names())
    paper, large, code = (load_profile(name) for name in ("paper-7b", "paper-13b", "paper-7b-code"))
    assert (paper.llm.lora_rank, paper.llm.lora_targets, paper.training.lr) == (32, ("q_proj", "v_proj"), 3e-4)
    assert paper.training.batch_size == 8 * 32 and (code.llm.lora_rank, code.training.batch_size) == (16, 64)
    same: tuple[Profile, ...] = (paper, large)
    assert (
        len({p.model_copy(update={"name": "", "llm": paper.llm, "budget": paper.budget}).digest() for p in same}) == 1
    )
    assert large.llm.model_copy(update={"name": "vicuna-7b"}) == paper.llm
    assert not code.fusion.normalise and paper.fusion.normalise
