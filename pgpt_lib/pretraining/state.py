"""Saving and resuming a pretraining stage: safetensors and JSON, written beside and renamed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def save_state(
    folder: Path, modules: nn.ModuleDict, optimisers: list[torch.optim.Optimizer], state: dict[str, Any]
) -> None:
    """Write modules, optimiser states and a JSON state; an older state is replaced at once or not at all."""
    part = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in modules.state_dict().items()}, part / "modules.safetensors")
    tensors = {}
    for i, optimiser in enumerate(optimisers):
        for j, values in optimiser.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"{i}.{j}.{name}"] = value.contiguous()
    save_file(tensors, part / "optimisers.safetensors")
    (part / "state.json").write_text(json.dumps(state))
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(part, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_state(folder: Path, modules: nn.ModuleDict, optimisers: list[torch.optim.Optimizer]) -> dict[str, Any] | None:
    """Read what `save_state` wrote into modules and optimisers; None where nothing was saved."""
    if not (folder / "state.json").exists():
        old = folder.with_name(folder.name + ".old")  # killed between the two renames
        if not (old / "state.json").exists():
            return None
        os.replace(old, folder)
    modules.load_state_dict(load_file(folder / "modules.safetensors"))
    tensors = load_file(folder / "optimisers.safetensors")
    for i, optimiser in enumerate(optimisers):
        saved = optimiser.state_dict()
        saved["state"] = {}
        for key, value in tensors.items():
            which, j, name = key.split(".", 2)
            if int(which) == i:
                saved["state"].setdefault(int(j), {})[name] = value
        optimiser.load_state_dict(saved)
    return json.loads((folder / "state.json").read_text())
