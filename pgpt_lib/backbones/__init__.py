"""Pretrained backbones: found by name (`resolve`), loaded strictly (`load_llm`, `load_vision`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .convert import no_bars, require_complete
from .resolver import BACKBONES, BUNDLED, Backbone, cache_dir, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..config import Profile
    from ..precision import Precision
    from ..vision import VisionTower

__all__ = ["BACKBONES", "BUNDLED", "Backbone", "aligned_file", "cache_dir", "load_llm", "load_vision", "resolve"]


def aligned_file(profile: Profile) -> Path:
    """Where fusion and projector lie that were aligned with a profile's backbones, if such weights are bundled."""
    return BUNDLED / profile.llm.name / f"{profile.vision.name}.safetensors"


def load_llm(name: str, precision: Precision = "fp32") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer: any of transformers whose blocks lie in `.model`, as Llama's,
    Qwen's and Mistral's do.

    Args:
        name: a name of `BACKBONES` of kind "llm", a folder, or a hub name.
        precision: of the weights in memory.

    Raises:
        InputError: no source serves, the name is a vision tower's, or keys are missing or unexpected.
    """
    _require_kind(name, "llm")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve(name)
    with no_bars():
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    model, info = loaded
    require_complete(info, folder)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def load_vision(name: str, image_size: int, precision: Precision = "fp32") -> VisionTower:
    """A frozen vision tower for square inputs of `image_size` pixels.

    Args:
        name: a name of `BACKBONES` of kind "vision", a folder, or a hub name.
        image_size: a multiple of the tower's patch size; position embeddings are interpolated.
        precision: "bf16" is faster on CPUs with bfloat16 units and on GPUs; other CPUs take "fp32" in its place.

    Raises:
        InputError: no source serves, the name is a language model's, the size does not fit, or keys do not.
    """
    _require_kind(name, "vision")
    from ..precision import usable_precision
    from ..processes import best_device
    from ..vision import load_tower

    return load_tower(name, resolve(name), image_size, usable_precision(precision, best_device()))


def _require_kind(name: str, kind: str) -> None:
    if name in BACKBONES and BACKBONES[name].kind != kind:
        names = ", ".join(known for known, spec in BACKBONES.items() if spec.kind == kind)
        raise InputError(f"backbone {name!r} is not of kind {kind!r}; of that kind are {names}")
