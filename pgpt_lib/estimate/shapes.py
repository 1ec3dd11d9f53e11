"""A profile's model without its weights, from architecture configurations that ship with the package.

The sizes in `architectures/` are those that the models' authors published; nothing is fetched. Built on torch's meta
device the model takes no memory, so 13 billion parameters are counted on any machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn

from ..adapters import base_model
from ..backbones import BACKBONES, BUNDLED
from ..config import Profile
from ..errors import InputError
from ..model import EAGER_WIDTH, PerceptionGPT
from ..nano_vit import NanoViT, NanoViTConfig
from ..representations import get_representation

# Assumed where nothing else is asked for (`--text-tokens`), in tokens:
FRAME = 40  # of a dialogue's opening, which for Vicuna is two sentences
TURN = 24  # of a question about a region with its answer: a phrasing, an expression, roles, and marks
ANSWER = 4  # of such a turn's answer, supervised: `<vis>`, a word or two, the end


def architecture(name: str) -> dict[str, Any]:
    """The configuration of a backbone: of a name of `BACKBONES`, bundled or shipped, or of a folder.

    Raises:
        InputError: neither is known here.
    """
    shipped = resources.files(__package__).joinpath("architectures", f"{name}.json")
    bundled = BACKBONES[name].bundled if name in BACKBONES else None
    for place in (BUNDLED / bundled if bundled else None, Path(name).expanduser()):
        if place is not None and (place / "config.json").is_file():
            return cast(dict, json.loads((place / "config.json").read_text(encoding="utf-8")))
    if not shipped.is_file():
        known = ", ".join(BACKBONES)
        raise InputError(
            f"the sizes of backbone {name!r} are not known here; give a folder with config.json or {known}"
        )
    return cast(dict, json.loads(shipped.read_text(encoding="utf-8")))


class TowerShape(nn.Module):
    """What the model asks of a tower, and the whole backbone as transformers builds it, untrained."""

    def __init__(self, name: str, image_size: int) -> None:
        super().__init__()
        config = architecture(name)
        self.name, self.image_size = name, image_size
        if config["model_type"] == NanoViT.model_type:
            sizes = NanoViTConfig(**{k: v for k, v in config.items() if k != "model_type"})
            self.model: nn.Module = NanoViT(sizes)
            self.num_layers, self.hidden_size, patch = sizes.num_layers, sizes.hidden_size, NanoViT.patch_size
        else:
            from transformers import AutoConfig, AutoModel

            settings = AutoConfig.for_model(**config)
            settings = getattr(settings, "vision_config", settings)
            self.model = AutoModel.from_config(settings)
            self.num_layers, self.hidden_size = settings.num_hidden_layers, settings.hidden_size
            patch = settings.patch_size
        if image_size % patch:
            raise InputError(f"vision.image_size {image_size} is no multiple of {name}'s patch, {patch}")
        self.model.requires_grad_(False)
        self.grid = image_size // patch
        self.num_tokens = self.grid**2

    def forward(self, pixel_values: torch.Tensor) -> Any:
        """Run the backbone, for its FLOP."""
        if isinstance(self.model, NanoViT):
            return self.model(pixel_values)
        return self.model(pixel_values, interpolate_pos_encoding=True)


class ChatShape(SimpleNamespace):
    """What the model asks of a chat: how many tokens there are, and which were added."""

    def __len__(self) -> int:
        return cast(int, self.vocabulary)


@dataclass
class Shape:
    """A profile's model without weights.

    `llm_parameters` are the language model's before any adapter, `layers` its blocks. A dialogue holds `image_tokens`
    and `text_tokens`, of which `answer_tokens` are supervised, and `regions`.
    """

    profile: Profile
    model: PerceptionGPT
    llm_parameters: int
    image_tokens: int
    text_tokens: int
    answer_tokens: int
    regions: int
    layers: int

    @property
    def tokens(self) -> int:
        """The length of a dialogue."""
        return self.image_tokens + self.text_tokens


def build_shape(profile: Profile, text_tokens: int | None = None) -> Shape:
    """The model of a profile on whatever device, or in whatever mode of torch, is current.

    Args:
        profile: names the backbones.
        text_tokens: of a dialogue, the image's not counted; by default from `data.turns`.

    Raises:
        InputError: a backbone's sizes are not known here.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**architecture(profile.llm.name))
    llm = AutoModelForCausalLM.from_config(config)
    if config.hidden_size <= EAGER_WIDTH:
        llm.set_attn_implementation("eager")
    count = sum(p.numel() for p in llm.parameters())
    if profile.llm.precision == "bf16":
        llm = llm.to(torch.bfloat16)
    # representations that are text need no `<vis>`: their rows are what they add
    representation = get_representation(profile.representation)
    first = config.vocab_size
    special = {token: first + i for i, token in enumerate(representation.tokens)}
    vis = special.get("<vis>") if representation.dynamic else None
    vocabulary = first + len(special)
    if special:
        llm.resize_token_embeddings(vocabulary, mean_resizing=False)
    chat = ChatShape(
        vocabulary=vocabulary, base_vocabulary=first, special_ids=special, vis_id=vis, representation=representation
    )
    tower = TowerShape(profile.vision.name, profile.vision.image_size)
    model = PerceptionGPT(profile, llm, cast(Any, chat), cast(Any, tower))
    turns = profile.data.turns
    return Shape(
        profile=profile,
        model=model,
        llm_parameters=count,
        image_tokens=tower.num_tokens,
        text_tokens=text_tokens or FRAME + turns * TURN,
        answer_tokens=turns * ANSWER,
        regions=turns,
        layers=base_model(model.llm).config.num_hidden_layers,
    )
