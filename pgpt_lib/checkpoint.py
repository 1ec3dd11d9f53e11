"""Checkpoints that are either whole or not there, and from which training goes on to the bit.

    checkpoint/step_120/
        adapter/                what was tuned in the language model, in peft's own format
        perception.safetensors  every other trained parameter: fusion, projector, signals
        optimizer.safetensors   AdamW's moments, keyed `<parameter name>.<moment>`
        rng.safetensors         torch's random state after the step, to compare runs by
        state.json              seed, epoch, step, the profile's settings and digest, versions
        COMPLETE                size and SHA-256 of each file above, written last

A checkpoint is written under `step_N.tmp`, flushed to the disk and renamed, so that a kill at any moment leaves the
earlier ones as they were. Only safetensors and JSON are read: opening a stranger's checkpoint runs no code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .adapters import adapter_state
from .checkpoint_files import COMPLETE, State, checkpoint_hash, find_checkpoint, list_checkpoints, read_state
from .errors import InputError, RunError
from .moments import moments_of, set_moment
from .processes import best_device, whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .model import PerceptionGPT

__all__ = [
    "State",
    "checkpoint_hash",
    "find_checkpoint",
    "list_checkpoints",
    "load_checkpoint",
    "load_optimizer",
    "load_weights",
    "read_state",
    "save_checkpoint",
]

LLM_PREFIX = "llm."


def save_checkpoint(
    folder: Path,
    model: PerceptionGPT,
    optimizer: torch.optim.Optimizer,
    state: State,
    keep: int = 2,
    write: bool = True,
) -> Path:
    """Write `folder/step_N`, then remove all but the last `keep` checkpoints.

    Where several processes train, all of them call this, for each may hold a part of a tensor; one writes.

    Args:
        folder: where the `step_N` stand; made when missing.
        model: has `trainable_parameters() -> dict[name, Parameter]`; those named `llm.…` go to `adapter/`.
        optimizer: AdamW over these parameters.
        state: `state.step` is the N.
        keep: how many to keep, this one included.
        write: whether this process is the one that writes.

    Returns: the checkpoint's path.
    """
    target = folder / f"step_{state.step}"
    parameters = model.trainable_parameters()
    adapter = {name: whole(value) for name, value in adapter_state(model.llm).items()}
    outside = {name: whole(value) for name, value in _outside_llm(parameters).items()}
    moments = {
        f"{name}.{key}": value for name, p in parameters.items() for key, value in moments_of(optimizer, p).items()
    }
    if not write:
        return target
    temporary = folder / f"step_{state.step}.tmp"
    for leftover in folder.glob("step_*.tmp"):  # of a save or a removal that was killed
        shutil.rmtree(leftover)
    (temporary / "adapter").mkdir(parents=True)
    _save_tensors(temporary / "adapter" / _adapter_file(model.llm), adapter)
    if isinstance(model.llm, PeftModel):
        model.llm.peft_config[model.llm.active_adapter].save_pretrained(str(temporary / "adapter"))
    _save_tensors(temporary / "perception.safetensors", outside)
    _save_tensors(temporary / "optimizer.safetensors", moments)
    _save_tensors(temporary / "rng.safetensors", _random_state())
    (temporary / "state.json").write_text(json.dumps(state.to_json(), indent=1), encoding="utf-8")
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    manifest = {path.relative_to(temporary).as_posix(): _fingerprint(path) for path in files}
    (temporary / COMPLETE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in (*files, temporary / COMPLETE, temporary / "adapter", temporary):
        _flush(path)
    if target.exists():  # a resumed run comes by a step that it had saved, but not well
        _remove(target)
    os.replace(temporary, target)
    _flush(folder)
    for _, old in list_checkpoints(folder)[:-keep]:
        _remove(old)
    return target


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint so that a kill in between leaves nothing that looks like one."""
    grave = checkpoint.with_name(f"{checkpoint.name}.old.tmp")
    os.replace(checkpoint, grave)
    shutil.rmtree(grave)


def _adapter_file(llm: PreTrainedModel | PeftModel) -> str:
    return "adapter_model.safetensors" if isinstance(llm, PeftModel) else "model.safetensors"


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}, str(path), {"format": "pt"})


def _random_state() -> dict[str, Tensor]:
    states = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if path.is_dir() and os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_weights(path: Path, model: PerceptionGPT) -> None:
    """Put a checkpoint's weights into a model of the same profile, in place.

    Raises:
        InputError: a parameter is missing, unexpected or of another shape; it is named.
        RunError: the language model's adapter does not hold the saved values afterwards.
    """
    outside, file = _outside_llm(model.trainable_parameters()), path / "perception.safetensors"
    _copy_into(outside, load_file(file), file)
    file = path / "adapter" / _adapter_file(model.llm)
    if not file.is_file():
        raise InputError(f"{file} is missing: the checkpoint's language model was tuned in another way than this one's")
    saved = load_file(file)
    if not isinstance(model.llm, PeftModel):
        _copy_into(adapter_state(model.llm), saved, file)
        return
    _require_same(adapter_state(model.llm), saved, file)
    set_peft_model_state_dict(model.llm, saved)
    # peft converts names while it loads and forgives what it cannot place, so the values themselves are compared.
    for name, value in adapter_state(model.llm).items():
        if not torch.equal(value.detach().cpu(), saved[name]):
            raise RunError(f"{file}: {name} was not taken over by the model")


def load_optimizer(path: Path, model: PerceptionGPT, optimizer: torch.optim.Optimizer) -> None:
    """Put back AdamW's moments of every parameter, by name.

    Raises:
        InputError: moments of a parameter that the model does not train.
    """
    parameters = model.trainable_parameters()
    for key, value in load_file(path / "optimizer.safetensors").items():
        name, _, moment = key.rpartition(".")
        if name not in parameters:
            raise InputError(f"{path / 'optimizer.safetensors'}: {name} is not a trained parameter of this model")
        set_moment(optimizer, parameters[name], moment, value)


def load_checkpoint(path: Path | str) -> tuple[PerceptionGPT, State]:
    """The trained model of a checkpoint, in evaluation mode on the best device here, and its state.

    Args:
        path: as for `find_checkpoint`.

    Raises:
        InputError: nothing usable at the path, or weights that do not fit the model of their own profile.
    """
    from .model import build_model  # here, so that this module is about files and stays light to import

    step, state = find_checkpoint(Path(path))
    model = build_model(state.profile, state.seed, to_load=True)
    load_weights(step, model)
    return model.eval().to(best_device()), state


def _outside_llm(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    return {name: p for name, p in parameters.items() if not name.startswith(LLM_PREFIX)}


def _copy_into(parameters: Mapping[str, Tensor], saved: Mapping[str, Tensor], file: Path) -> None:
    _require_same(parameters, saved, file)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])


def _require_same(wanted: Mapping[str, Tensor], saved: Mapping[str, Tensor], file: Path) -> None:
    problems = [f"{name} is missing" for name in wanted.keys() - saved.keys()]
    problems += [f"{name} is unexpected" for name in saved.keys() - wanted.keys()]
    for name in wanted.keys() & saved.keys():
        if wanted[name].shape != saved[name].shape:
            problems.append(f"{name} is {list(saved[name].shape)}, the model's is {list(wanted[name].shape)}")
    if problems:
        raise InputError(f"{file}: {'; '.join(sorted(problems)[:3])} ({len(problems)} in all)")
