"""First stage of nano's pretraining: the language model alone, on scenes told in words.

The questions come in four levels, each opened by the running accuracy on the one before. All questions from the start
leave the same model on a plateau.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.utils.data import DataLoader

from ..precision import bf16_autocast
from .dialogues import GATES, KINDS, WordBatches
from .nano import WordGrid, answer_loss, make_nano, optimisers, whole_answers
from .state import load_state, save_state

SAVE_EVERY = 300
LEVEL_STEPS = 523  # a level ends after so many steps even if its gate is not reached


class Running:
    """Exponentially forgotten accuracy by kind of question."""

    def __init__(self, values: dict[str, float] | None = None, rate: float = 0.02) -> None:
        self.values, self.rate = dict(values or {}), rate

    def update(self, right: torch.Tensor, kinds: torch.Tensor) -> None:
        """Add one batch of answers: bool and kind number of each."""
        for kind in kinds.unique().tolist():
            share = right[kinds == kind].float().mean().item()
            name = KINDS[kind]
            old = self.values.get(name, 0.0)
            self.values[name] = old + self.rate * (share - old)

    def scored(self) -> float:
        """The mean over the scored kinds seen so far."""
        seen = [v for k, v in self.values.items() if k in ("colour", "shape", "place", "size", "count", "existence")]
        return sum(seen) / max(1, len(seen))


def learning_rate(step: int, steps: int, lr: float, warmup: int, decay: float) -> float:
    """Constant after a warm-up, then linear to zero over the last share `decay` of the steps."""
    left = (steps - step) / max(1.0, decay * steps)
    return lr * min(1.0, (step + 1) / warmup, left if decay else 1.0)


def set_rate(optimiser_list: list[torch.optim.Optimizer], rate: float) -> None:
    """Muon runs at ten times the rate of AdamW."""
    for optimiser, factor in zip(optimiser_list, (10.0, 1.0), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = factor * rate * group.get("scale", 1.0)


def log_line(path: Path, record: dict) -> None:
    """Append one JSON line and print it for whoever watches."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(json.dumps(record), file=sys.stderr, flush=True)


def train_words(
    folder: Path,
    seed: int = 0,
    steps: int = 4500,
    batch_size: int = 48,
    length: int = 72,
    lr: float = 1.5e-3,
    compiled: bool = False,
) -> Path:
    """Pretrain the language model on words; returns the folder of its last state. A killed run goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    llm = make_nano()
    grid = WordGrid(llm.config.hidden_size, cast(int, llm.config.pad_token_id))
    modules = nn.ModuleDict({"llm": llm, "grid": grid})
    opts = optimisers([llm, grid], lr)
    saved = load_state(folder / "words", modules, opts) or {
        "step": 0,
        "level": 0,
        "level_step": 0,
        "running": {},
        "seconds": 0.0,
    }
    if compiled:
        llm.model.forward = torch.compile(llm.model.forward)
    step, level, level_step = saved["step"], saved["level"], saved["level_step"]
    running, spent, begun = Running(saved["running"]), saved["seconds"], time.monotonic()
    while step < steps:
        dataset = WordBatches(level, seed, batch_size, length, step, steps - step)
        for batch in DataLoader(dataset, batch_size=None, num_workers=1, prefetch_factor=8):
            set_rate(opts, learning_rate(step, steps, lr, 100, 0.55))
            with bf16_autocast():
                visual = grid(batch["grid"], llm.get_input_embeddings())
                loss, right, answers = answer_loss(llm, visual, batch)
            loss.backward()
            nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
            for optimiser in opts:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            rows = (batch["labels"] >= 0).nonzero()[:, 0]
            running.update(*whole_answers(right, answers, rows))
            step, level_step = step + 1, level_step + 1
            state = {
                "step": step,
                "level": level,
                "level_step": level_step,
                "running": running.values,
                "seconds": spent + time.monotonic() - begun,
            }
            if step % 100 == 0 or step == steps:
                log_line(folder / "words.jsonl", {**state, "loss": loss.item(), "scored": running.scored()})
            if step % SAVE_EVERY == 0 or step == steps:
                save_state(folder / "words", modules, opts, state)
            learnt = level_step >= 150 and running.scored() > GATES[min(level, len(GATES) - 1)]
            if level < len(GATES) and (learnt or level_step >= LEVEL_STEPS):
                level, level_step = level + 1, 0
                log_line(folder / "words.jsonl", {"step": step, "level": level, "seconds": state["seconds"]})
                break
    return folder / "words"
