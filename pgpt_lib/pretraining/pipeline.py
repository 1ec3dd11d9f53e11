"""The whole of nano's pretraining, from nothing to `data/backbones`: one resumable run, its evaluation and its card."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save
from transformers import LlamaForCausalLM

from ..backbones import BUNDLED, load_llm, load_vision
from ..data.refshapes.vocabulary import save_tokenizer
from ..files import replacing, write_json
from ..nano_vit import NanoViT
from .evaluate import evaluate_nano
from .pixels import Aligned, load_aligned, load_words, train_pixels
from .tags import Tagger, train_tags
from .words import train_words

IMAGE_SIZE = 112


@dataclass(frozen=True)
class Lengths:
    """Steps of each stage. The defaults made the bundled weights."""

    words: int = 4500
    pixels: int = 5000
    tags: int = 1600
    smoke: int = 1500
    scenes: int = 12000
    smoke_scenes: int = 6000


def pretrain(
    work: Path, out: Path = BUNDLED, seed: int = 0, lengths: Lengths = Lengths(), compiled: bool = False
) -> dict:
    """Pretrain nano in words, align it with DINOv2-S, pretrain the nano ViT and align it with the same language model.

    Args:
        work: states and logs of the stages; a killed run goes on from here.
        out: where weights, logs and `card.json` are written at the end, a file at a time, each whole.
        compiled: compile the transformer with torch.compile (needs a C++ compiler).

    Returns:
        the card.
    """
    work.mkdir(parents=True, exist_ok=True)
    words = train_words(work, seed, lengths.words, compiled=compiled)
    tower = load_vision("dinov2-small", IMAGE_SIZE, "bf16")
    pixels = train_pixels(work, tower, words, seed, lengths.pixels, scenes=lengths.scenes, compiled=compiled)
    export_llm(work, out, words, pixels)
    export_aligned(out, "dinov2-small", load_aligned(pixels, tower)[1])
    tags = train_tags(work, seed, lengths.tags)
    export_tower(out, tags)
    nano_vit = load_vision("nano-vit", IMAGE_SIZE)
    smoke = train_pixels(
        work, nano_vit, pixels, seed, lengths.smoke, scenes=lengths.smoke_scenes, frozen=True, compiled=compiled
    )
    export_aligned(out, "nano-vit", load_aligned(smoke, nano_vit)[1])
    return write_card(work, out, seed)


def export_llm(work: Path, out: Path, words: Path, pixels: Path) -> None:
    """Write both language models in Hugging Face format: nano (after pixels), and nano-words (before) in bfloat16."""
    nano = load_aligned(pixels, load_vision("dinov2-small", IMAGE_SIZE, "bf16"))[0]
    before, position = load_words(words)
    for name, llm, dtype in (("nano", nano, torch.float32), ("nano-words", before, torch.bfloat16)):
        folder = out / name / "llm"
        part = folder.with_name("llm.tmp")
        shutil.rmtree(part, ignore_errors=True)
        cast(torch.nn.Module, llm).to(dtype)
        llm.save_pretrained(part)
        save_tokenizer(part)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    _save(out / "nano-words" / "position.safetensors", {"position": position.bfloat16()})


def export_aligned(out: Path, tower: str, aligned: Aligned) -> None:
    """Write a tower's fusion and projector beside the language model."""
    _save(out / "nano" / f"{tower}.safetensors", {k: v.contiguous() for k, v in aligned.state_dict().items()})


def export_tower(out: Path, tags: Path) -> None:
    """Write the nano ViT in bfloat16; it computes in float32."""
    tagger = Tagger()
    state = load_file(tags / "modules.safetensors")
    tagger.load_state_dict({k.removeprefix("tagger."): v for k, v in state.items()})
    tower: NanoViT = tagger.tower
    tower.save(out / "nano-vit", torch.bfloat16)


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with replacing(path) as part:
        part.write_bytes(save(tensors))


def evaluate_bundled(scenes: int, seed: int, tower: str = "dinov2-small", level: str = "cpu") -> dict:
    """Questions of the val split answered by the bundled nano through one of its towers."""
    llm, _ = load_llm("nano")
    llm.set_attn_implementation("eager")
    vision = load_vision(tower, IMAGE_SIZE, "bf16" if tower == "dinov2-small" else "fp32")
    aligned = Aligned(vision, llm.config.hidden_size)
    aligned.load_state_dict(load_file(BUNDLED / "nano" / f"{tower}.safetensors"))
    return evaluate_nano(cast(LlamaForCausalLM, llm), aligned, vision, scenes, seed, level)


def write_card(work: Path, out: Path, seed: int, scenes: int = 1000) -> dict:
    """Evaluate both towers on scenes never seen and write `card.json` and the logs."""
    logs = {p.stem: [json.loads(line) for line in p.read_text().splitlines()] for p in sorted(work.glob("*.jsonl"))}
    seconds = {name: round(lines[-1]["seconds"]) for name, lines in logs.items()}
    main, smoke = (evaluate_bundled(scenes, 1, tower) for tower in ("dinov2-small", "nano-vit"))
    weights = sorted(p for name in ("nano", "nano-words", "nano-vit") for p in (out / name).rglob("*.safetensors"))
    aligned = load_llm("nano")[0]
    card = {
        "name": "nano",
        "command": f"python -m pgpt_lib pretrain --work DIR --seed {seed}",
        "level": "cpu",
        "scenes": scenes,
        "parameters": sum(p.numel() for p in aligned.parameters()),
        "seconds": seconds,
        "written": time.strftime("%Y-%m-%d"),
        "questions": main["questions"],
        "other": main["other"],
        "smoke": smoke,
        "sha256": {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in weights},
    }
    for name in logs:
        shutil.copyfile(work / f"{name}.jsonl", out / "nano" / f"{name}.jsonl")
    write_json(out / "nano" / "card.json", card)
    print(f"wrote {out / 'nano' / 'card.json'}", file=sys.stderr)
    return card
