"""Second stage of nano's pretraining: a frozen tower's features, through fusion and projector, in place of words.

For the main tower everything but the tower is trained. Another tower (the nano ViT of `smoke`) then feeds the same
language model, frozen, through a fusion and a projector of its own.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import LlamaForCausalLM

from ..backbones import BUNDLED, cache_dir, load_llm
from ..data.refshapes.world import RefShapesImages, image_id
from ..errors import InputError
from ..feature_cache import FeatureCache
from ..fusion import LayerFusion
from ..precision import bf16_autocast
from ..projector import Projector
from ..vision import VisionTower
from .dialogues import PixelBatches
from .nano import answer_loss, make_nano, optimisers, whole_answers
from .state import load_state, save_state
from .words import Running, learning_rate, log_line, set_rate


class Aligned(nn.Module):
    """Fusion (eq. 1) and projector: what stands between a frozen tower and the language model.

    Args:
        tower: gives layers, channels and tokens.
        width: H of the language model.
        fusion: by default a learned, normalised one.
        kind: of projector.
    """

    def __init__(
        self,
        tower: VisionTower,
        width: int,
        fusion: LayerFusion | None = None,
        kind: Literal["mlp", "linear"] = "mlp",
    ) -> None:
        super().__init__()
        self.fusion = fusion or LayerFusion(tower.num_layers)
        self.projector = Projector(tower.hidden_size, width, tower.num_tokens, kind)

    def forward(self, features: Tensor) -> Tensor:
        """[B, L, N, C] to [B, N, H]."""
        return self.projector(self.fusion(features))


def load_words(folder: Path) -> tuple[LlamaForCausalLM, Tensor]:
    """The language model of the words stage and the positions of its grid [N, H]."""
    llm = make_nano()
    state = load_file(folder / "modules.safetensors")
    llm.load_state_dict({k.removeprefix("llm."): v for k, v in state.items() if k.startswith("llm.")})
    return llm, state["grid.position"]


def load_bundled_words(name: str = "nano-words") -> tuple[LlamaForCausalLM, Tensor]:
    """`load_words` of a bundled language model that has met words alone; its weights are rounded to bfloat16.

    Raises:
        InputError: no such backbone, or one without positions beside it.
    """
    path = BUNDLED / name / "position.safetensors"
    if not path.is_file():
        raise InputError(f"language model {name!r} has no positions of a words stage in {path}; nano-words has")
    llm, _ = load_llm(name)
    llm.set_attn_implementation("eager")
    return cast(LlamaForCausalLM, llm), load_file(path)["position"].float()


def scene_features(tower: VisionTower, level: str, scenes: int, seed: int) -> tuple[FeatureCache, list[str]]:
    """The cached features of the pretraining scenes, encoded now where they are missing, and the scenes' keys."""
    keys = [image_id(level, "pretrain", seed, i) for i in range(scenes)]
    cache = FeatureCache(tower, cache_dir() / "features")
    cache.features(keys, RefShapesImages().load_image)
    return cache, keys


def train_pixels(
    folder: Path,
    tower: VisionTower,
    start: Path | tuple[LlamaForCausalLM, Tensor],
    seed: int = 0,
    steps: int = 2000,
    align: int = 500,
    batch_size: int = 48,
    length: int = 72,
    scenes: int = 8000,
    lr: float = 2e-3,
    frozen: bool = False,
    compiled: bool = False,
    level: str = "cpu",
    scene_seed: int | None = None,
    aligned: Aligned | None = None,
    save_every: int = 500,
) -> Path:
    """Align language model and tower on pictures; returns the folder of the last state. A killed run goes on.

    Fusion and projector first learn alone to speak the language model's language, as in LLaVA (Liu et al. 2023): an
    untrained projector would spoil the language model.

    Args:
        folder: where states and logs go, under `pixels-<tower>`.
        start: a state of `train_words`, or of this function when `frozen`; or the language model itself and the
            positions [N, H] that it has met.
        seed: of dialogues and their order, and of initial weights where `aligned` is not given.
        align: steps in which the language model is frozen.
        scenes: how many different pictures; each is met again with new questions.
        lr: of fusion and projector alone; half of it of all together.
        frozen: train fusion and projector only, in all steps.
        compiled: compile the transformer with torch.compile (needs a C++ compiler).
        scene_seed: of the pictures, `seed` by default.
        aligned: untrained, in place of a learned fusion and an mlp.
        save_every: steps between states.

    Raises:
        InputError: the tower has another number of tokens than the language model has met.
    """
    torch.manual_seed(seed)
    scene_seed = seed if scene_seed is None else scene_seed
    llm, position = start if isinstance(start, tuple) else load_met(start) if frozen else load_words(start)
    aligned = aligned or Aligned(tower, llm.config.hidden_size)
    if position.shape != aligned.projector.position.shape:
        wanted, given = list(position.shape), list(aligned.projector.position.shape)
        raise InputError(f"tower {tower.name} has positions {given}, but the language model has met {wanted}")
    with torch.no_grad():  # the language model knows its way about these positions
        aligned.projector.position.copy_(position)
    name = f"pixels-{tower.name}"
    modules = nn.ModuleDict({"llm": llm, "aligned": aligned})
    opts = optimisers([aligned] if frozen else [llm, aligned], lr)
    saved = load_state(folder / name, modules, opts) or {"step": 0, "running": {}, "seconds": 0.0}
    cache, keys = scene_features(tower, level, scenes, scene_seed)
    if compiled:
        llm.model.forward = torch.compile(llm.model.forward)
    step, running, spent, begun = saved["step"], Running(saved["running"]), saved["seconds"], time.monotonic()
    batches = PixelBatches(level, scenes, seed, batch_size, length, step, steps - step, scene_seed)
    for batch in DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=8):
        llm.requires_grad_(not frozen and step >= align)
        set_rate(opts, pixel_rate(step, steps, lr, steps if frozen else align))
        features = cache.rows([keys[i] for i in batch["scenes"].tolist()])
        with bf16_autocast():
            loss, right, answers = answer_loss(llm, aligned(features), batch)
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in modules.parameters() if p.requires_grad], 1.0)
        for optimiser in opts:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        running.update(*whole_answers(right, answers, (batch["labels"] >= 0).nonzero()[:, 0]))
        step += 1
        state = {"step": step, "running": running.values, "seconds": spent + time.monotonic() - begun}
        if step % 100 == 0 or step == steps:
            weights = {"weights": aligned.fusion.weights().tolist()} if aligned.fusion.strategy == "learned" else {}
            log_line(folder / f"{name}.jsonl", {**state, "loss": loss.item(), "scored": running.scored(), **weights})
        if step % save_every == 0 or step == steps:
            save_state(folder / name, modules, opts, state)
    return folder / name


def pixel_rate(step: int, steps: int, lr: float, align: int) -> float:
    """A short warm-up; a constant rate while the language model is frozen; half of it afterwards, then down to zero.

    Where it stays frozen (`align` = `steps`), the last two fifths fall to zero.
    """
    if align == steps:
        return learning_rate(step, steps, lr, 20, 0.4)
    if step < align:
        return lr * min(1.0, (step + 1) / 20)
    return lr / 2 * min(1.0, (steps - step) / (0.6 * (steps - align)))


def load_met(folder: Path) -> tuple[LlamaForCausalLM, Tensor]:
    """The language model of a pixel stage's state and the positions [N, H] that it has met."""
    return load_aligned_llm(folder), load_file(folder / "modules.safetensors")["aligned.projector.position"]


def load_aligned_llm(folder: Path) -> LlamaForCausalLM:
    """The language model of a pixel stage's state."""
    llm = make_nano()
    state = load_file(folder / "modules.safetensors")
    llm.load_state_dict({k.removeprefix("llm."): v for k, v in state.items() if k.startswith("llm.")})
    return llm


def load_aligned(folder: Path, tower: VisionTower) -> tuple[LlamaForCausalLM, Aligned]:
    """Language model, fusion and projector of a pixel stage's state."""
    llm = load_aligned_llm(folder)
    aligned = Aligned(tower, llm.config.hidden_size)
    state = load_file(folder / "modules.safetensors")
    aligned.load_state_dict({k.removeprefix("aligned."): v for k, v in state.items() if k.startswith("aligned.")})
    return llm, aligned
