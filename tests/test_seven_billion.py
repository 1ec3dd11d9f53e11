"""The shapes of `paper-7b` with 2 of its 32 layers on the CPU: trained, decoded, saved and reloaded.

In bf16, as the profile asks, where the processor has units for it. Emulated, one step takes ten minutes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from conftest import BOX_ONLY, LEFT, dialogue
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from pgpt_lib.batch import Batch
from pgpt_lib.checkpoint import State, load_weights, save_checkpoint
from pgpt_lib.config import load_profile
from pgpt_lib.estimate.shapes import architecture
from pgpt_lib.generation import feedback, generate
from pgpt_lib.model import Output, PerceptionGPT, build_model
from pgpt_lib.optimisation import build_optimizer
from pgpt_lib.precision import bf16_autocast, usable_precision

VOCABULARY = 32_000
DTYPE = torch.bfloat16 if usable_precision("bf16", torch.device("cpu")) == "bf16" else torch.float32


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, Vicuna's special tokens, and words that never occur, 32,000 in all."""
    special = ["<unk>", "<s>", "</s>"]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += [f"filler{i}" for i in range(VOCABULARY - len(pieces))]
    core = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return PreTrainedTokenizerFast(tokenizer_object=core)


def vicuna_of_two_layers() -> transformers.LlamaForCausalLM:
    """Vicuna 7B's sizes but for its depth, 0.67 billion parameters. Weights repeat a short random row."""
    config = transformers.LlamaConfig(**{**architecture("vicuna-7b"), "num_hidden_layers": 2})
    with torch.device("meta"):
        llm = transformers.LlamaForCausalLM(config)
    rotary = llm.model.rotary_emb.__class__(config)
    llm = llm.to(DTYPE).to_empty(device="cpu")
    llm.model.rotary_emb = rotary
    noise = 0.02 * torch.randn(2**20 + 7, generator=torch.Generator().manual_seed(0)).to(DTYPE)
    for parameter in llm.parameters():
        flat = parameter.data.view(-1)
        for start in range(0, len(flat), len(noise)):
            part = flat[start : start + len(noise)]
            part.copy_(noise[: len(part)] if parameter.dim() > 1 else torch.ones_like(part))
    return llm


class ClipShape(nn.Module):
    """Stands for CLIP ViT-L/14 at 224 pixels, whose features are given."""

    name, num_layers, hidden_size, grid, num_tokens, image_size = "clip", 24, 1024, 16, 256, 224


def features(image_ids):
    return torch.randn(len(image_ids), 24, 256, 1024, generator=torch.Generator().manual_seed(1)).bfloat16()


def model_7b() -> PerceptionGPT:
    return build_model(load_profile("paper-7b"), 0, (vicuna_of_two_layers(), tokenizer()), ClipShape())


@pytest.mark.slow
def test_seven_billion_shapes_train_decode_and_reload(tmp_path: Path) -> None:
    model = model_7b().train()
    assert {p.dtype for p in model.llm.parameters() if not p.requires_grad} == {DTYPE}
    lora = {name: p for name, p in model.trainable_parameters().items() if "lora_" in name}
    assert sum(p.numel() for p in lora.values()) == 2 * 32 * 2 * 2 * 4096  # layers, rank, q and v, A and B
    samples = [dialogue("a", "one", ("and <vis> ?", (BOX_ONLY,)), ("a cat <vis>", (LEFT,)))]
    batch = model.collate(samples, features)
    optimizer = build_optimizer(model.trainable_parameters(), model.profile.training)
    losses = []
    for _ in range(2):
        with bf16_autocast():
            output = model(batch)
        assert output.states.shape == (1, 4096) and output.states.isfinite().all()
        assert output.losses.keys() == {"language", "l1", "giou", "bce", "dice"}
        assert all(term.isfinite() for term in output.losses.values())
        output.loss.backward()
        gradients = {name: p.grad for name, p in model.trainable_parameters().items()}
        assert all(g is not None and g.isfinite().all() for g in gradients.values())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(output.loss.detach()))
    assert losses[1] < losses[0]

    asked = [dialogue("a", "one", ("where is the cat ?", ()))]
    usual, vis = PerceptionGPT.logits, model.chat.vis_id
    steps: list[torch.Tensor] = []
    fed: list[torch.Tensor] = []

    def vis_first(model: PerceptionGPT, states: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        found = usual(model, states, table)
        found[:, vis] = float("-inf") if steps else float("inf")
        steps.append(found)
        return found

    def read(*given) -> torch.Tensor:
        fed.append(feedback(*given))
        return fed[-1]

    with bf16_autocast(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(PerceptionGPT, "logits", vis_first)
        patch.setattr("pgpt_lib.generation.feedback", read)
        answer, *_ = generate(model, asked, features, max_new_tokens=3)
    assert answer.token_ids[0] == vis and 2 <= len(answer.token_ids) <= 3
    assert all(0 <= token < VOCABULARY + 3 for token in answer.token_ids)
    assert [row.shape for row in fed] == [(1, 4096)] and fed[0].isfinite().all() and fed[0].any()
    (region,) = answer.regions
    assert region.box is not None and region.mask is not None and region.mask["size"] == list(asked[0].size)

    path = save_checkpoint(tmp_path, model, optimizer, State(model.profile, 0, 2))
    assert sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) < 600e6  # nothing frozen is in it
    want = evaluated(model, batch)
    again = model_7b()
    assert not all(torch.equal(p, again.trainable_parameters()[name]) for name, p in lora.items())
    load_weights(path, again)
    got = evaluated(again, batch)
    assert torch.equal(got.states, want.states)
    assert all(torch.equal(got.losses[name], want.losses[name]) for name in want.losses)


def evaluated(model: PerceptionGPT, batch: Batch) -> Output:
    with torch.no_grad(), bf16_autocast():
        return model.eval()(batch)
