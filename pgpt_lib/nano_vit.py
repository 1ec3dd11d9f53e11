"""The nano ViT of the `smoke` profile: small enough to be bundled and to be pretrained in minutes on one core."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .errors import InputError


@dataclass(frozen=True)
class NanoViTConfig:
    """Sizes of a nano ViT. `grid` is the side of the token grid that the position embeddings are learned at."""

    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    mlp_ratio: int = 4
    stem_channels: int = 32
    grid: int = 8


class Block(nn.Module):
    """A pre-norm transformer layer: [B, N, C] to [B, N, C]."""

    def __init__(self, config: NanoViTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        inner = config.mlp_ratio * width
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, hidden: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(hidden)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.proj(attended.transpose(1, 2).flatten(2))
        return hidden + self.mlp(self.norm2(hidden))


class NanoViT(nn.Module):
    """A convolutional stem of stride 14 (2 x 7), learned positions, a few pre-norm layers.

    The stem looks at edges at half resolution before it cuts patches, which a ViT of this size cannot learn from
    patches alone in minutes (compare Xiao et al. 2021, "Early convolutions help transformers see better").
    """

    model_type = "nano_vit"
    patch_size = 14

    def __init__(self, config: NanoViTConfig | None = None) -> None:
        super().__init__()
        self.config = config or NanoViTConfig()
        width, channels = self.config.hidden_size, self.config.stem_channels
        self.hidden_size = width
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 4, stride=2, padding=1),
            nn.GroupNorm(1, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(1, channels),
            nn.GELU(),
            nn.Conv2d(channels, width, 7, stride=7),
        )
        self.position = nn.Parameter(torch.randn(1, width, self.config.grid, self.config.grid) * 0.02)
        self.blocks = nn.ModuleList([Block(self.config) for _ in range(self.config.num_layers)])

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Pixel values [B, 3, S, S], S a multiple of 14, to tokens with positions [B, N, C]."""
        patches = self.stem(pixel_values)
        position: Tensor = self.position
        if patches.shape[-2:] != position.shape[-2:]:
            position = F.interpolate(position, size=patches.shape[-2:], mode="bicubic", align_corners=False)
        return (patches + position).flatten(2).transpose(1, 2)

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """The outputs [B, N, C] of all blocks, with gradient: for pretraining."""
        hidden, outputs = self.embed(pixel_values), []
        for block in self.blocks:
            hidden = block(hidden)
            outputs.append(hidden)
        return outputs

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json` and `model.safetensors` (in `dtype`), each under a temporary name first."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().to("cpu", dtype).contiguous() for name, value in self.state_dict().items()}
        config = {"model_type": self.model_type, **asdict(self.config)}
        save_file(state, folder / ".model.safetensors", {"format": "pt"})
        (folder / ".config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for name in ("model.safetensors", "config.json"):
            (folder / f".{name}").replace(folder / name)

    @classmethod
    def load(cls, folder: Path) -> NanoViT:
        """Read what `save` wrote, as float32.

        Raises:
            InputError: the folder's configuration or weights are not those of a nano ViT.
        """
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings.pop("model_type", None)
        try:
            model = cls(NanoViTConfig(**settings))
            state = load_file(folder / "model.safetensors")
            model.load_state_dict({name: value.float() for name, value in state.items()})
        except (TypeError, RuntimeError, OSError) as error:
            raise InputError(f"{folder} holds no nano ViT: {error}") from error
        return model
