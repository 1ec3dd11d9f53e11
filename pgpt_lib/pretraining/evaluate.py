"""Nano's held-out questions, by type: one to a prompt, the whole answer exact."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from ..data.refshapes.questions import OTHER, SCORED
from ..data.refshapes.world import RefShapesImages, question_samples
from ..data.sample import Sample
from ..metrics import rate
from ..precision import bf16_autocast
from ..vision import VisionTower
from .dialogues import IGNORE, codes
from .nano import answer_loss, whole_answers

LENGTH = 64


@torch.no_grad()
def answer_all(
    llm: LlamaForCausalLM, visual: Callable[[Sequence[str]], Tensor], samples: Sequence[Sample], batch_size: int = 64
) -> list[bool]:
    """Which questions are answered right, in the order of `samples`.

    The true answer is fed in and every token of it must be the likeliest, end mark included: true exactly if greedy
    decoding writes that answer.

    Args:
        visual: image ids to the visual tokens [B, N, H] of the language model.
    """
    code = codes()
    marks = code.vocabulary
    right: list[bool] = []
    for start in range(0, len(samples), batch_size):
        part = samples[start : start + batch_size]
        ids = torch.full((len(part), LENGTH), marks["<pad>"])
        labels, answers = torch.full_like(ids, IGNORE), torch.full_like(ids, -1)
        for row, sample in enumerate(part):
            prompt = [marks["<user>"], *code.encode(sample.turns[0].text), marks["<assistant>"]]
            answer = [*code.encode(sample.turns[1].text), marks["<end>"]]
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor(prompt + answer)
            labels[row, len(prompt) : end] = torch.tensor(answer)
            answers[row, len(prompt) : end] = 0
        longest = int((ids != marks["<pad>"]).sum(1).max())
        batch = {"input_ids": ids[:, :longest], "labels": labels[:, :longest], "answers": answers[:, :longest]}
        with bf16_autocast():
            _, hits, kinds = answer_loss(llm, visual([s.image_id for s in part]), batch)
        whole, _ = whole_answers(hits, kinds, (batch["labels"] >= 0).nonzero()[:, 0])
        right += whole.tolist()
    return right


def summarise(samples: Sequence[Sample], right: Sequence[bool]) -> dict[str, dict]:
    """Accuracy with its 95 % interval over images, number, and the majority answer's score, by type and for all."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        groups[sample.extra["type"]].append(i)
    groups["all"] = [i for kind in SCORED for i in groups.get(kind, [])]
    out = {}
    for kind, members in groups.items():
        answers = Counter((samples[i].extra["type"], samples[i].turns[1].text) for i in members)
        best: dict[str, int] = defaultdict(int)
        for (of, _), number in answers.items():
            best[of] = max(best[of], number)
        out[kind] = {
            "accuracy": rate([samples[i].image_id for i in members], [right[i] for i in members]),
            "n": len(members),
            "majority": sum(best.values()) / max(1, len(members)),
        }
    return out


def evaluate_nano(
    llm: LlamaForCausalLM, aligned: torch.nn.Module, tower: VisionTower, scenes: int, seed: int, level: str
) -> dict:
    """All kinds of questions on `scenes` scenes of the val split: `{"questions": scored kinds, "other": the rest}`."""
    samples = question_samples("val", scenes, seed, level, tuple(SCORED)) + question_samples(
        "val", scenes, seed, level, tuple(OTHER)
    )
    samples.sort(key=lambda s: s.image_id)  # each picture once
    images = RefShapesImages()
    known: dict[str, Tensor] = {}

    def visual(ids: Sequence[str]) -> Tensor:
        missing = list(dict.fromkeys(i for i in ids if i not in known))
        known_here = {k: known[k] for k in ids if k in known}
        known.clear()
        known.update(known_here)
        for begin in range(0, len(missing), 32):
            part = missing[begin : begin + 32]
            features = tower(tower.preprocess([images.load_image(i) for i in part]))
            known.update(zip(part, aligned(features), strict=True))
        return torch.stack([known[i] for i in ids])

    llm.eval()
    table = summarise(samples, answer_all(llm, visual, samples))
    return {"questions": {k: table[k] for k in ("all", *SCORED)}, "other": {k: table[k] for k in OTHER if k in table}}
