"""Weights in foreign containers (ONNX, GGUF) written as folders in Hugging Face format, every key accounted for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def dinov2_from_onnx(source: Path, folder: Path) -> None:
    """Write the DINOv2 backbone of an exported ONNX graph as the folder of a `transformers.Dinov2Model`.

    The graph's initialisers carry the hub's names behind `backbone.`, except those that the exporter transposed or
    split: the weights of linear layers are the second input of a MatMul node that is named after its module
    (`/backbone/encoder/layer.0/mlp/fc1/MatMul`) and are stored [in, out]; the position embeddings are two constants,
    of the class token [1, 1, C] and of the patches [1, 37 * 37, C]. The mask token takes part in pretraining only and
    is zero, as transformers initialises it.

    Args:
        source: the ONNX file.
        folder: an existing folder; `config.json`, `preprocessor_config.json` and `model.safetensors` are written there.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(source)).graph
    constants = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    prefix = "backbone."
    state = {name.removeprefix(prefix): value for name, value in constants.items() if name.startswith(prefix)}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            module = node.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            state[f"{module.removeprefix(prefix)}.weight"] = constants[node.input[1]].T

    hidden_size = state["embeddings.cls_token"].shape[-1]
    positions = [v for name, v in constants.items() if name.startswith("onnx::") and v.dim() == 3 and v.shape[0] == 1]
    class_position, patch_positions = sorted(positions, key=lambda value: value.shape[1])
    state["embeddings.position_embeddings"] = torch.cat([class_position, patch_positions], dim=1)
    state["embeddings.mask_token"] = torch.zeros(1, hidden_size)

    patch_size = state["embeddings.patch_embeddings.projection.weight"].shape[-1]
    num_layers = 1 + max(int(match[1]) for name in state if (match := re.match(r"encoder\.layer\.(\d+)\.", name)))
    config = {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "hidden_size": hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": hidden_size // 64,
        "mlp_ratio": state["encoder.layer.0.mlp.fc1.bias"].shape[0] // hidden_size,
        "patch_size": patch_size,
        "image_size": patch_size * round(patch_positions.shape[1] ** 0.5),
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "qkv_bias": True,
        "dtype": "float32",
    }
    preprocessor = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, "rescale_factor": 1 / 255}
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2), encoding="utf-8")
    tensors = {name: value.contiguous() for name, value in state.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def llm_from_gguf(source: Path, folder: Path) -> None:
    """Write a GGUF language model, de-quantised to float32, with its tokenizer as a folder in Hugging Face format."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with no_bars():
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.parent, gguf_file=source.name, dtype=torch.float32, output_loading_info=True
        )
        model, info = loaded
        require_complete(info, source)
        # the weights are plain float32 by now, but transformers saves no model that remembers a quantised origin
        model.hf_quantizer = None
        del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def no_bars() -> Iterator[None]:
    """Without the progress bars of transformers, which last a second and fill notebooks."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def require_complete(info: dict, source: Path, allow_unexpected: tuple[str, ...] = ()) -> None:
    """Check the loading info of `from_pretrained`: no key missing, mismatched or (but for some prefixes) unexpected.

    Raises:
        InputError: the checkpoint is not that of the model it was loaded into.
    """
    unexpected = [key for key in info["unexpected_keys"] if not key.startswith(allow_unexpected)]
    problems = {"missing": info["missing_keys"], "unexpected": unexpected, "mismatched": info["mismatched_keys"]}
    wrong = "; ".join(f"{len(keys)} {kind} keys, as {sorted(keys)[0]}" for kind, keys in problems.items() if keys)
    if wrong:
        raise InputError(f"weights of {source} do not fit their model: {wrong}; remove that folder to fetch them again")
