"""The files of checkpoints: which are whole, which belong to a run, and which is the one to take.

Every checkpoint is judged before it is read: sizes and hashes of all files against its COMPLETE, then its state.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from .config import Profile, absolute
from .errors import InputError

FORMAT = 1
COMPLETE = "COMPLETE"
WEIGHTS = ("adapter/", "perception.safetensors")  # what a model is, as against how it goes on training
FILES = (*WEIGHTS, "optimizer.safetensors", "rng.safetensors", "state.json")  # what each checkpoint has
STEP_NAME = re.compile(r"step_(\d+)")
# settings of training that change nothing of what it computes, or, as the last two, its last digits alone
SPOKEN_ONLY = {"save_every", "log_every", "compile", "accumulation"}


def library_versions() -> dict[str, str]:
    """The versions and the thread count on which equality to the bit depends."""
    names = ("torch", "transformers", "peft", "accelerate")
    versions = {name: metadata.version(name) for name in names}
    return {"python": platform.python_version(), **versions, "threads": str(torch.get_num_threads())}


@dataclass(frozen=True)
class State:
    """Where a training stands. With a stream that is a function of the step, (seed, epoch, step) is all of it."""

    profile: Profile
    seed: int
    step: int  # optimiser steps done
    epoch: int = 0
    seconds: float = 0.0  # spent in training so far, over all its sittings
    versions: Mapping[str, str] = field(default_factory=library_versions)

    def to_json(self) -> dict[str, Any]:
        """What `state.json` holds."""
        return {
            "format": FORMAT,
            "seed": self.seed,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "profile": self.profile.model_dump(mode="json"),
            "digest": training_digest(self.profile),
            "versions": dict(self.versions),
        }


def training_digest(profile: Profile) -> str:
    """A hash of the settings that decide what training computes, so not of its name, its budget, how often it saves."""
    settings = _without_folder(profile).model_dump(
        mode="json", exclude={"name": True, "budget": True, "training": SPOKEN_ONLY}
    )
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _without_folder(profile: Profile) -> Profile:
    """The profile without the folder of its data, unless that folder alone says which data they are.

    A mixture's sources are named, and may be moved between two sittings; for `refer` the folder is the data.
    """
    root = absolute(profile.data.root) if profile.data.name == "refer" and profile.data.root else None
    return profile.model_copy(update={"data": profile.data.model_copy(update={"root": root})})


def set_aside(checkpoint: Path) -> Path:
    """Move a checkpoint that cannot be used out of the way, to `refused/` beside it, rather than delete it."""
    target = checkpoint.parent / "refused" / checkpoint.name
    target.parent.mkdir(exist_ok=True)
    if target.exists():  # refused before, and written again since
        shutil.rmtree(target)
    os.replace(checkpoint, target)
    return target


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of every `step_N` in a folder, good or not, in order."""
    if not folder.is_dir():
        return []
    named = ((STEP_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in named if match)


def read_state(path: Path) -> State:
    """Check that a checkpoint is whole, and say where its training stood.

    Raises:
        InputError: not there, unfinished, truncated, changed since, or not one of ours; it names what is wrong.
    """
    if not path.is_dir():
        raise InputError(f"checkpoint {path}: no such folder")
    if not (path / COMPLETE).is_file():
        raise InputError(f"checkpoint {path}: has no {COMPLETE}, so its writing did not end")
    try:
        manifest = json.loads((path / COMPLETE).read_text(encoding="utf-8"))
        wanted = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"checkpoint {path}: {COMPLETE} is no list of files; not a checkpoint of pgpt_lib") from None
    if unlisted := [name for name in FILES if not any(entry.startswith(name) for entry in wanted)]:
        raise InputError(f"checkpoint {path}: {COMPLETE} does not list {unlisted[0]}; not a checkpoint of pgpt_lib")
    for name, (size, sha256) in wanted.items():
        file = path / name
        if not file.is_file():
            raise InputError(f"checkpoint {path}: {name} is missing")
        if file.stat().st_size != size:
            raise InputError(f"checkpoint {path}: {name} is truncated, {file.stat().st_size} of {size} bytes")
        if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            raise InputError(f"checkpoint {path}: {name} was changed after it was saved")
    return _parse_state(path)


def _parse_state(path: Path) -> State:
    try:
        content = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise InputError(f"checkpoint {path}: format {content['format']!r}, this version reads {FORMAT}")
        profile = Profile.model_validate(content["profile"])
        numbers = {name: int(content[name]) for name in ("seed", "epoch", "step")}
        return State(profile, **numbers, seconds=float(content["seconds"]), versions=content["versions"])
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"checkpoint {path}: its profile does not fit this version at {where!r}") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"checkpoint {path}: state.json is missing or not ours ({error!r})") from None


def find_checkpoint(
    path: Path, *, matches: tuple[Profile, int] | None = None, on_refused: Callable[[Path, str], None] | None = None
) -> tuple[Path, State]:
    """The checkpoint that a path means: itself if it is a `step_N`, else the last good one inside it.

    Args:
        path: a `step_N`, a folder of them, or a run's folder with `checkpoint/` inside.
        matches: take only those of this (profile, seed).
        on_refused: told (checkpoint, reason) of each newer one in a folder that was passed over.

    Raises:
        InputError: nothing usable there; with each refused checkpoint's reason.
    """
    path = Path(path)
    if STEP_NAME.fullmatch(path.name):
        return path, _read_matching(path, matches)
    folder = path / "checkpoint" if (path / "checkpoint").is_dir() else path
    refused = []
    for _, candidate in reversed(list_checkpoints(folder)):
        try:
            return candidate, _read_matching(candidate, matches)
        except InputError as error:
            refused.append(str(error))
            if on_refused is not None:
                on_refused(candidate, str(error))
    raise InputError("; ".join([f"no usable checkpoint (step_N with {COMPLETE}) in {path}", *refused]))


def _read_matching(path: Path, matches: tuple[Profile, int] | None) -> State:
    state = read_state(path)
    if matches is None:
        return state
    profile, seed = matches
    if state.seed != seed:
        raise InputError(f"checkpoint {path}: of seed {state.seed}, not {seed}")
    if training_digest(state.profile) != training_digest(profile):
        old, new = (_without_folder(each).model_dump(mode="json") for each in (state.profile, profile))
        changes = ", ".join(_differences(old, new))
        raise InputError(f"checkpoint {path}: of other settings ({changes})")
    return state


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted({*old, *new} - {"budget", *SPOKEN_ONLY}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b and prefix + key != "name":
            found.append(f"{prefix}{key} {a!r}, now {b!r}")
    return found


def checkpoint_hash(path: Path) -> str:
    """One SHA-256 for a checkpoint's weights: equal for equal models, however long they would go on training."""
    manifest = json.loads((path / COMPLETE).read_text(encoding="utf-8"))
    weights = sorted((name, entry["sha256"]) for name, entry in manifest.items() if name.startswith(WEIGHTS))
    return hashlib.sha256(json.dumps(weights).encode()).hexdigest()
