"""A cell's own fusion and projector, aligned in words before it is tuned.

The bundled backbone met pixels through learned, normalised fusion, so that another fusion swapped in starts behind.
Here each starts alike: from the language model that has met words alone and stays frozen, with captions and questions
and never a region, for the same number of steps. Cells that differ in nothing else share what was aligned, those of
other sweeps too.

The bundled language model has its words stage beside it, and the pretraining's own loop. One that others pretrained
has met words alone by itself; it is aligned by the library's loop, with the cell's settings.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save

from ..backbones import BUNDLED, load_vision
from ..checkpoint_files import training_digest
from ..config import Profile, Released
from ..data.streams import build_stream
from ..errors import InputError
from ..files import digest, read_json, write_bytes, write_json
from ..fusion import LayerFusion
from ..model import build_model
from ..pretraining.pixels import Aligned, load_bundled_words, train_pixels
from ..train_log import TrainLog
from ..training import batch_maker, fit, starting_point
from .cells import Cell, has_words_stage
from .weights import WeightTrack

LEVEL = "cpu"  # of the pictures, as in the bundled pretraining; `smoke` has them too
SCENE_SEED = 0  # all seeds meet the same pictures, whose features are cached once; dialogues and weights differ
SAVE_EVERY = 100
TASKS = {"caption": 1.0, "question": 3.0}  # without a region; for a language model that others pretrained
WEIGHTS, RECORD = "aligned.safetensors", "aligned.json"
TRACKED = ("step", "loss", "scored", "weights")


def aligned_weights(cell: Cell, profile: Profile, sweep: Path) -> tuple[Path, dict[str, Any]] | None:
    """The file of a cell's aligned weights, made now where it is missing, and what is known of it.

    Args:
        cell: whose `run` says whether, how long and on how many pictures to align, and with which seed.
        profile: the cell's.
        sweep: the sweep's folder; what was aligned lies beside it, for all sweeps there. A killed alignment goes on
            from its last state; another process waits for it.

    Returns:
        the file, and `steps`, `scenes`, `seconds`, `loss`, `scored` (the running accuracy of scored questions at the
        end, of the bundled language model alone) and `track`: at the start and each line of the log `step`, `loss`,
        `scored` and `weights` (of the fusion, a list of L; null where it has none to learn); None where the cell starts
        from the bundled weights.

    Raises:
        InputError: the bundled language model after its words stage, or a tower of another number of tokens.
    """
    if cell.run.align == "bundled":
        return None
    asked = settings(cell, profile)
    folder = sweep.parent / ".work" / "aligned" / folder_name(asked)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{cell.id}: waiting for another process that aligns {folder.name}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        record = read_json(folder / RECORD)
        if record is None:
            record = (_align if "weights" in asked else _align_by_training)(asked, profile, folder)
            write_json(folder / RECORD, record)
        return folder / WEIGHTS, record
    finally:
        lock.release()


def settings(cell: Cell, profile: Profile) -> dict[str, Any]:
    """Everything that aligned weights depend on."""
    if has_words_stage(profile.llm.name):
        raise InputError(f"cell.align=words: {profile.llm.name!r} has met no words alone; {profile.llm.name}-words has")
    bundled = BUNDLED / profile.llm.name
    if (bundled / "position.safetensors").is_file():
        by = {"weights": digest(bundled / "llm" / "model.safetensors")}
    else:
        by = {"training": training_digest(in_words(profile, cell.run.align_steps, cell.run.align_scenes))}
    return {
        "llm": profile.llm.name,
        **by,
        "tower": profile.vision.model_dump(),
        "projector": profile.projector,
        "strategy": profile.fusion.strategy,
        "normalise": profile.fusion.normalise,
        "exclude_last": profile.released.last_layer_excluded,
        "seed": cell.seed,
        "steps": cell.run.align_steps,
        "scenes": cell.run.align_scenes,
    }


def folder_name(asked: dict[str, Any]) -> str:
    """Readable, and another one for other settings."""
    norm = "" if asked["normalise"] else "-raw"
    name = f"{asked['strategy']}{norm}-seed{asked['seed']}-{asked['steps']}x{asked['scenes']}"
    return f"{name}-{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]}"


def in_words(profile: Profile, steps: int, scenes: int) -> Profile:
    """The cell's settings with the language model frozen and no regions, for aligning fusion and projector."""
    training = {"steps": steps, "save_every": SAVE_EVERY, "log_every": min(steps, SAVE_EVERY)}
    return profile.model_copy(
        update={
            "llm": profile.llm.model_copy(update={"tuning": "frozen"}),
            "fusion": profile.fusion.model_copy(update={"shared": True}),  # of two the second one is for regions
            "released": Released(last_layer_excluded=profile.released.last_layer_excluded),
            "data": profile.data.model_copy(update={"tasks": TASKS, "train_scenes": scenes}),
            "training": profile.training.model_copy(update=training),
        }
    )


def _align_by_training(asked: dict[str, Any], profile: Profile, folder: Path) -> dict[str, Any]:
    """`_align` for a language model that others pretrained."""
    profile, seed = in_words(profile, asked["steps"], asked["scenes"]), asked["seed"]
    start = starting_point(folder, profile, seed, resume=True)
    model, stream = build_model(profile, seed), build_stream(profile, seed)
    weights = WeightTrack(folder, model, start[1].step if start else 0)
    done = fit(model, stream, batch_maker(model, stream), profile, seed, folder, start, weights.on_log)
    tensors = {
        f"{part}.{k}": v for part in ("fusion", "projector") for k, v in getattr(model, part).state_dict().items()
    }
    write_bytes(folder / WEIGHTS, save({name: value.cpu().contiguous() for name, value in tensors.items()}))
    lines, learned = TrainLog(done.log).records(), {point["step"]: point["llm"] for point in weights.points}
    shutil.rmtree(folder / "checkpoint")
    return _record(asked, learned.get(0), [{**line, "weights": learned.get(line["step"])} for line in lines])


def _align(asked: dict[str, Any], profile: Profile, folder: Path) -> dict[str, Any]:
    """Train, keep fusion and projector alone, and say how it went."""
    tower = load_vision(profile.vision.name, profile.vision.image_size, profile.vision.precision)
    llm, position = load_bundled_words(asked["llm"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked["seed"])
        fusion = LayerFusion(tower.num_layers, asked["strategy"], asked["normalise"], asked["exclude_last"])
        fresh = Aligned(tower, llm.config.hidden_size, fusion, asked["projector"])
        first = fusion.weights().tolist() if fusion.strategy == "learned" else None
        state = train_pixels(
            folder,
            tower,
            (llm, position),
            asked["seed"],
            asked["steps"],
            scenes=asked["scenes"],
            frozen=True,
            level=LEVEL,
            scene_seed=SCENE_SEED,
            aligned=fresh,
            save_every=SAVE_EVERY,
        )
    tensors = load_file(state / "modules.safetensors")
    kept = {k.removeprefix("aligned."): v for k, v in tensors.items() if k.startswith("aligned.")}
    write_bytes(folder / WEIGHTS, save(kept))
    lines = {line["step"]: line for line in TrainLog(folder / f"{state.name}.jsonl").records()}  # a killed one's twice
    shutil.rmtree(state)
    return _record(asked, first, [lines[step] for step in sorted(lines)])


def _record(asked: dict[str, Any], first: list[float] | None, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What is known of an alignment, from the weights at its start and its log."""
    track = [{"step": 0, "weights": first}, *lines]
    return {
        **asked,
        **{key: lines[-1].get(key) for key in ("seconds", "loss", "scored")},
        "track": [{key: line.get(key) for key in TRACKED} for line in track],
    }
