"""Tiny stand-ins for the backbones, so that every path of the model is tested in a second and without a download."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: a test that reaches for the network must fail

import copy
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pgpt_lib.config import Profile, load_profile
from pgpt_lib.data.sample import Sample, Turn
from pgpt_lib.regions import Region, mask_to_rle

torch.set_num_threads(1)

WORDS = "a the red blue green circle square star where is what and none small large how many left right of ? . 0 1 2 3"
SPECIAL = ["<pad>", "<unk>", "<bos>", "<user>", "<assistant>", "<end>", "<image>"]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A closed-word tokenizer with characters for the rest, built as the bundled one is."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*SPECIAL, *dict.fromkeys([*WORDS.split(), *letters]), *("##" + c for c in letters)]
    core = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>", "<image>"],
        clean_up_tokenization_spaces=False,
    )


def make_llm(vocabulary: int, tied: bool = False) -> LlamaForCausalLM:
    """A random Llama of two layers, 64 wide, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            initializer_range=0.125,
            tie_word_embeddings=tied,
            attn_implementation="eager",
        )
        return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tiny_llm(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A random Llama, 2 layers x 64, untied. Models change theirs in place: pass them a copy."""
    return make_llm(len(tokenizer))


class TinyTower(nn.Module):
    """Looks like a `VisionTower`: three layers of 32 channels on a 4 x 4 grid of 8-pixel patches."""

    name, num_layers, hidden_size, grid, num_tokens, image_size = "tiny", 3, 32, 4, 16, 32

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.patches = nn.Conv2d(3, self.num_layers * self.hidden_size, 8, stride=8).requires_grad_(False)

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255

    def forward(self, pixel_values: Tensor) -> Tensor:
        out = self.patches(pixel_values).unflatten(1, (self.num_layers, self.hidden_size))
        return out.flatten(3).transpose(2, 3)


@pytest.fixture(scope="session")
def tiny_tower() -> TinyTower:
    return TinyTower()


@pytest.fixture(scope="session")
def features() -> Callable[[Sequence[str]], Tensor]:
    """Hidden states [I, L, N, C] by image key, different for every key."""

    def load(image_ids: Sequence[str]) -> Tensor:
        seeds = [torch.Generator().manual_seed(zlib.crc32(i.encode())) for i in image_ids]
        shape = (TinyTower.num_layers, TinyTower.num_tokens, TinyTower.hidden_size)
        return torch.stack([torch.randn(shape, generator=g) for g in seeds])

    return load


@pytest.fixture(scope="session")
def profile() -> Profile:
    """The smoke profile with all three signals and no bundled backbone; in float32 on any CPU."""
    backbones = {"vision.name": "tiny", "vision.image_size": 32, "llm.name": "tiny", "llm.lora_rank": 4}
    exact = {"training.precision": "fp32"}
    return load_profile("smoke", {**backbones, **exact, "signals": ("box", "mask", "depth")})


@pytest.fixture(scope="session")
def make_model(tokenizer, tiny_tower, profile):
    """Builds a `PerceptionGPT` on the stand-ins: make_model(tied=False, seed=0, **overrides of the profile)."""
    from pgpt_lib.model import build_model

    def make(tied: bool = False, seed: int = 0, **overrides: object):
        settings = profile.model_dump()
        for dotted, value in overrides.items():
            section, _, key = dotted.partition("__")
            if key:
                settings[section][key] = value
            else:
                settings[section] = value
        llm = make_llm(len(tokenizer), tied)
        return build_model(Profile.model_validate(settings), seed, (llm, copy.deepcopy(tokenizer)), tiny_tower)

    return make


def region(box: tuple[float, float, float, float], depth: float = 0.5, size: int = 32) -> Region:
    """A rectangle with its mask."""
    bitmap = np.zeros((size, size), np.uint8)
    x1, y1, x2, y2 = (round(v * size) for v in box)
    bitmap[y1:y2, x1:x2] = 1
    return Region(box, mask_to_rle(bitmap), depth)


LEFT, RIGHT = region((0.125, 0.25, 0.5, 0.75)), region((0.5, 0.5, 0.875, 1.0))
BOX_ONLY = Region((0.25, 0.25, 0.75, 0.5))
MASK_ONLY = Region(None, LEFT.mask)


def dialogue(sample_id: str, image_id: str, *turns: tuple[str, tuple[Region, ...]]) -> Sample:
    """A sample of alternating turns, the user's first."""
    roles = ("user", "assistant")
    made = tuple(Turn(roles[i % 2], text, regions) for i, (text, regions) in enumerate(turns))
    return Sample(sample_id, image_id, (32, 32), made)


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Every kind of dialogue: regions asked for, given, both, none, several turns, several objects, words alone."""
    return [
        dialogue("rec", "one", ("where is the red circle ?", ()), ("<vis>", (LEFT,))),
        dialogue("words", "two", ("how many star ?", ()), ("2", ())),
        dialogue("given", "one", ("what is <vis> ?", (RIGHT,)), ("a blue square", ())),
        dialogue("two", "three", ("where is the star and circle ?", ()), ("<vis> <vis>", (RIGHT, BOX_ONLY))),
        dialogue(
            "spot",
            "two",
            ("what is left ?", ()),
            ("<p> a red circle </p> <vis> and <p> a star </p> <vis>", (LEFT, MASK_ONLY)),
            ("where is <vis> ?", (MASK_ONLY,)),
            ("<vis>", (LEFT,)),
        ),
        dialogue("text", "", ("what is red ?", ()), ("none", ())),
    ]
