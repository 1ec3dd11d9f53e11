"""The nano language model and how it is optimised."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from ..data.refshapes.vocabulary import make_tokenizer
from .dialogues import GRID, IGNORE

FUSION_SCALE = 15.0


def make_nano(width: int = 128, layers: int = 4, heads: int = 4, feed_forward: int = 384) -> LlamaForCausalLM:
    """A fresh Llama of about a million parameters, with a start of std 1/sqrt(width).

    The usual 0.02 is far too small for this width and leaves the model on a plateau for hundreds of steps.
    """
    tokenizer = make_tokenizer()
    attention: dict[str, Any] = {"attn_implementation": "eager"}  # every config takes it, though none declares it
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=feed_forward,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        initializer_range=width**-0.5,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **attention,
    )
    return LlamaForCausalLM(config)


def smooth_positions(width: int, waves: int = 3) -> Tensor:
    """A start for the cells' position code [N, H]: a random projection of slow cosines along rows and columns.

    Neighbouring cells get similar codes, so that the mean over an object's cells says where it lies. From independent
    random codes the model takes several times as long to learn its first places.
    """
    at = (torch.arange(GRID) + 0.5) / GRID
    slow = torch.stack([torch.cos(torch.pi * k * at) for k in range(1, waves + 1)], dim=1)
    rows, columns = slow[:, None].expand(GRID, GRID, waves), slow[None].expand(GRID, GRID, waves)
    both = torch.cat([rows, columns], dim=-1).reshape(GRID * GRID, 2 * waves)
    return both @ torch.randn(2 * waves, width) * (1.5 / (waves * width) ** 0.5)


class WordGrid(nn.Module):
    """The words stage's stand-in for tower, fusion and projector: sums of word embeddings plus a learned position."""

    def __init__(self, width: int, pad: int) -> None:
        super().__init__()
        self.position = nn.Parameter(smooth_positions(width))
        self.pad = pad

    def forward(self, grid: Tensor, embedding: nn.Embedding) -> Tensor:
        """[B, N, 5] word ids to [B, N, H]."""
        return (embedding(grid) * (grid != self.pad).unsqueeze(-1)).sum(2) + self.position


def optimisers(modules: list[nn.Module], lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the network at ten times the rate, AdamW for embeddings, head, norms and biases.

    The logits of the layer fusion get a larger rate of their own: a softmax moves little for small steps.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    fusion: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            inner = parameter.ndim == 2 and not any(word in name for word in ("embed_tokens", "lm_head", "position"))
            (fusion if name.endswith("fusion.logits") else matrices if inner else rest).append(parameter)
    groups: list[dict] = [{"params": rest}]
    if fusion:
        groups.append({"params": fusion, "scale": FUSION_SCALE})
    return [
        torch.optim.Muon(matrices, lr=10 * lr, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def answer_loss(llm: LlamaForCausalLM, visual: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of the answers after the visual tokens, only supervised positions through the head.

    Returns:
        loss, which supervised tokens are predicted right (bool), and `answers` at those tokens.
    """
    ids, labels = batch["input_ids"], batch["labels"]
    embedding = llm.get_input_embeddings()
    start = embedding(ids.new_full((len(ids), 1), cast(int, llm.config.bos_token_id)))
    states = llm.model(
        inputs_embeds=torch.cat([start, visual.to(start.dtype), embedding(ids)], dim=1), use_cache=False
    ).last_hidden_state
    states = states[:, visual.shape[1] : -1]  # the state before each word predicts it
    supervised = labels != IGNORE
    logits = llm.lm_head(states[supervised]).float()
    target = labels[supervised]
    return nn.functional.cross_entropy(logits, target), logits.argmax(-1) == target, batch["answers"][supervised]


def whole_answers(right: Tensor, answers: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Which answers are right in every token, end mark included, and the kind of each.

    With the true answer fed in, an answer is right in every token exactly if greedy decoding would write it.
    """
    key = rows * 100_000 + answers
    unique, inverse = key.unique(return_inverse=True)
    wrong = torch.zeros(len(unique), dtype=torch.long).index_add_(0, inverse, (~right).long())
    return wrong == 0, unique % 100
