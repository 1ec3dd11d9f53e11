"""Frozen vision towers: one interface over DINOv2, CLIP, SigLIP and the bundled nano ViT.

A tower returns the raw output of every transformer block, from 1 to L, for the patch tokens alone: what equation 1 of
the paper fuses (section 3.1, "multi-layer features"). No final norm, no embedding output, no CLS or register token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .backbones.convert import IMAGENET_MEAN, IMAGENET_STD, no_bars, require_complete
from .errors import InputError
from .nano_vit import NanoViT
from .precision import Precision


class VisionTower(nn.Module):
    """A frozen ViT as a stack of layers to fuse; always in evaluation mode, never with gradient.

    Args:
        name: the backbone's name, for messages.
        model: the whole backbone.
        embed: pixel values [B, 3, S, S] to the first block's input [B, P + N, C], P prefix tokens (CLS, registers)
            first.
        blocks: the L transformer blocks, each [B, P + N, C] to the same (alone or first of a tuple).
        image_size: side S of the square input in pixels, a multiple of `patch_size`.
        patch_size: side of a patch in pixels; the grid has side g = S / patch_size, N = g * g tokens in rows.
        num_prefix_tokens: P.
        mean, std: of the pixel normalisation, for values in [0, 1].
        precision: "bf16" computes linear layers and attention in bfloat16 (the residual stream stays float32).

    Raises:
        InputError: the image size is no multiple of the patch size.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        embed: Callable[[Tensor], Tensor],
        blocks: nn.ModuleList,
        *,
        image_size: int,
        patch_size: int,
        hidden_size: int,
        num_prefix_tokens: int = 0,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__()
        if image_size <= 0 or image_size % patch_size:
            raise InputError(f"image_size {image_size} of tower {name} is no multiple of its patch, {patch_size}")
        self.name, self.image_size, self.patch_size, self.precision = name, image_size, patch_size, precision
        self.hidden_size, self.num_layers, self.grid = hidden_size, len(blocks), image_size // patch_size
        self.num_tokens, self.num_prefix_tokens = self.grid**2, num_prefix_tokens
        self.model = model.requires_grad_(False)
        self._stages = (embed, tuple(blocks))  # in a tuple: modules are registered once, below `model`
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self._digest = self._hash_weights()
        if precision == "bf16":
            # autocast casts frozen weights anew at every call; stored in bfloat16, they are cast once
            for module in self.model.modules():
                if isinstance(module, nn.Linear):
                    module.to(torch.bfloat16)
        self.eval()

    def train(self, mode: bool = True) -> VisionTower:
        """Stay in evaluation mode, whatever the model around does: the tower is frozen."""
        return super().train(False)

    def digest(self) -> str:
        """A short hash of weights, image size and precision: equal digests mean equal features."""
        return self._digest

    def _hash_weights(self) -> str:
        digest = hashlib.sha256(f"{self.image_size} {self.precision}".encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()[:16]

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """Pictures uint8 [S, S, 3] (RGB) to normalised pixel values float32 [B, 3, S, S] on the tower's device."""
        size = (self.image_size, self.image_size, 3)
        for image in images:
            if image.shape != size or image.dtype != np.uint8:
                raise InputError(
                    f"tower {self.name} takes uint8 images {size}, not {image.dtype} {image.shape}; place them first"
                )
        pixels = torch.from_numpy(np.stack(images)).to(self.mean.device).permute(0, 3, 1, 2)
        return (pixels.float() / 255 - self.mean) / self.std

    @torch.no_grad()
    def forward(self, pixel_values: Tensor) -> Tensor:
        """Raw outputs of blocks 1 to L, patches only: [B, 3, S, S] to float32 [B, L, N, C]."""
        with torch.autocast(pixel_values.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            embed, blocks = self._stages
            hidden, outputs = embed(pixel_values), []
            for block in blocks:
                hidden = block(hidden)
                hidden = hidden[0] if isinstance(hidden, tuple) else hidden
                outputs.append(hidden[:, self.num_prefix_tokens :])
        return torch.stack(outputs, dim=1).float()


def load_tower(name: str, folder: Path, image_size: int, precision: Precision = "fp32") -> VisionTower:
    """The tower of a folder in Hugging Face format (or of `NanoViT.save`), loaded strictly, in float32.

    Args:
        name: its name, for messages.
        folder: holds `config.json` and safetensors weights.
        image_size: side of the square input; position embeddings are interpolated to it, as transformers does.
        precision: see `VisionTower`.

    Raises:
        InputError: an unknown kind of model, missing or unexpected weights, or an image size that does not fit.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type")
    shared: dict[str, Any] = {"image_size": image_size, "precision": precision, **_normalisation(folder)}
    if kind == NanoViT.model_type:
        nano = NanoViT.load(folder)
        patch, width = nano.patch_size, nano.hidden_size
        return VisionTower(name, nano, nano.embed, nano.blocks, patch_size=patch, hidden_size=width, **shared)

    import transformers

    classes: dict[str, Any] = {
        "dinov2": transformers.Dinov2Model,
        "dinov2_with_registers": transformers.Dinov2WithRegistersModel,
        "clip": transformers.CLIPVisionModel,
        "clip_vision_model": transformers.CLIPVisionModel,
        "siglip": transformers.SiglipVisionModel,
        "siglip_vision_model": transformers.SiglipVisionModel,
    }
    if kind not in classes:
        known = ", ".join([*classes, NanoViT.model_type])
        raise InputError(f"{folder} holds a model of type {kind!r}, no vision tower; there are {known}")
    with no_bars():
        model, info = classes[kind].from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    # a whole CLIP or SigLIP checkpoint also holds the text tower
    require_complete(info, folder, ("text_", "visual_projection", "logit_", "vision_model.embeddings.position_ids"))
    core, vision = getattr(model, "vision_model", model), model.config
    shared |= {"patch_size": vision.patch_size, "hidden_size": vision.hidden_size}
    if kind.startswith("dinov2"):
        prefix = 1 + getattr(vision, "num_register_tokens", 0)
        return VisionTower(name, model, core.embeddings, core.encoder.layer, num_prefix_tokens=prefix, **shared)

    pre_norm = getattr(core, "pre_layrnorm", nn.Identity())  # CLIP has it, spelt so in transformers
    embed = _Embedding(core.embeddings, pre_norm)
    blocks = nn.ModuleList([_Unmasked(layer) for layer in core.encoder.layers])
    return VisionTower(name, model, embed, blocks, num_prefix_tokens=int(kind.startswith("clip")), **shared)


class _Embedding(nn.Module):
    """Patch embeddings with interpolated positions, and the norm that CLIP puts before its first block."""

    def __init__(self, embeddings: nn.Module, pre_norm: nn.Module) -> None:
        super().__init__()
        self.embeddings, self.pre_norm = embeddings, pre_norm

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.pre_norm(self.embeddings(pixel_values, interpolate_pos_encoding=True))


class _Unmasked(nn.Module):
    """An encoder layer whose attention mask is a required argument, without a mask."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor) -> Tensor:
        return self.layer(hidden, None)


def _normalisation(folder: Path) -> dict[str, Sequence[float]]:
    """Mean and standard deviation of the pixels, from the folder's preprocessor; ImageNet's where it has none."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return {}
    settings = json.loads(path.read_text(encoding="utf-8"))
    return {"mean": settings["image_mean"], "std": settings["image_std"]}
