"""FLOP and activations of a training step, counted while the real modules run on tensors without data.

Under `FakeTensorMode` every operation only computes shapes. The modules run as in `PerceptionGPT.forward` (which itself
looks at its data, so it cannot); torch counts the FLOP of matrix products and attention; what autograd keeps for the
backward pass is summed up, storage by storage. So adapters, frozen weights that need no gradient, casts of autocast and
attention without stored scores are all accounted for by what the code does, not by a formula about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..adapters import base_model
from ..config import Profile
from .counting import shape_on_meta
from .shapes import Shape


@dataclass
class Trace:
    """A step of `dialogues` dialogues in one process. FLOP are multiply and add counted as two; bytes are bytes.

    Attributes:
        flop: by part: `vision`, `llm`, `lm_head`, `heads` (fusion, projector, signals).
        recomputed: FLOP of the forward passes that checkpointing repeats, in no part above.
        saved: bytes that autograd keeps: `llm`, `heads`, `lm_head`.
        features: bytes of the tower's hidden states.
        block: bytes that one block of the language model keeps.
    """

    dialogues: int
    tokens: int
    flop: dict[str, int]
    recomputed: int
    saved: dict[str, int]
    features: int
    block: int


class Saved:
    """Bytes of the storages that autograd keeps, each counted once, parameters and buffers left out."""

    def __init__(self, model: torch.nn.Module) -> None:
        tensors = [*model.parameters(), *model.buffers()]
        self.ignored = {t.untyped_storage()._cdata for t in tensors}
        self.kept: dict[int, torch.UntypedStorage] = {}

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.ignored:
            self.kept[storage._cdata] = storage  # kept alive, so that no other takes its address
        return tensor

    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.kept.values())


def trace(profile: Profile, dialogues: int, text_tokens: int | None = None) -> Trace:
    """Count one step of a profile's model with `dialogues` dialogues, each about a picture of its own."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    plain = profile.training.model_copy(update={"checkpointing": False})
    shape = shape_on_meta(profile.model_copy(update={"training": plain}), text_tokens)
    with FakeTensorMode():
        to_cpu(shape.model)
        shape.model.train()
        return _Tracer(shape, profile, dialogues).run()


def to_cpu(model: torch.nn.Module) -> None:
    """Put CPU tensors into the places of those on the meta device, for which autocast does nothing."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for held in (cast(dict, module._parameters), cast(dict, module._buffers)):
            for name, old in held.items():
                if old is None:
                    continue
                if id(old) not in made:  # tied weights stay tied
                    new = torch.empty(old.shape, dtype=old.dtype)
                    is_parameter = isinstance(old, torch.nn.Parameter)
                    made[id(old)] = torch.nn.Parameter(new, old.requires_grad) if is_parameter else new
                held[name] = made[id(old)]


def heads_pass(shape: Shape, features: Tensor) -> Tensor:
    """Fusion, projector and every signal both ways with its loss, for as many dialogues as there are features."""
    model = shape.model
    fused = model.fusion(features)
    total = model.projector(fused).float().sum()
    mask_features = fused if model.mask_fusion is None else model.mask_fusion(features)
    regions = len(features) * shape.regions
    state = torch.randn(regions, model.projector.position.shape[1], requires_grad=True)
    index = torch.arange(regions) // shape.regions
    for name in model.signals:
        signal = model.signal(name)
        prediction = signal.decode(state, mask_features, index)
        values = torch.rand(prediction.shape)
        for term in signal.loss_terms(prediction.float(), values).values():
            total = total + term
        if name in model.input_signals:
            total = total + signal.encode(values).float().sum()
    return total


def words_pass(shape: Shape, states: Tensor) -> Tensor:
    """The language loss of supervised states [S, H]."""
    table = shape.model.embedding_tables()[1]
    labels = torch.zeros(len(states), dtype=torch.long)
    return F.cross_entropy(shape.model.logits(states, table), labels)


class _Tracer:
    def __init__(self, shape: Shape, profile: Profile, dialogues: int) -> None:
        self.shape, self.profile, self.dialogues, self.model = shape, profile, dialogues, shape.model
        self.bf16 = profile.training.precision == "bf16"
        self.saved: dict[str, int] = {}
        self.flop: dict[str, int] = {}
        self.forward: dict[str, int] = {}

    def run(self) -> Trace:
        shape, model, profile = self.shape, self.model, self.profile
        tower: Any = model.tower
        pictures = torch.empty(self.dialogues, 3, tower.image_size, tower.image_size)
        seen = 0
        if not profile.training.cache_features:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                tower(pictures)
            seen = counter.get_total_flops()
        stored = torch.bfloat16 if profile.training.cache_features else torch.float32
        size = (self.dialogues, tower.num_layers, tower.num_tokens, tower.hidden_size)
        features = torch.empty(size, dtype=stored)

        with self.part("heads") as leaves:
            leaves.append(heads_pass(shape, features))
        width = base_model(model.llm).config.hidden_size
        dtype = base_model(model.llm).dtype
        embeds = torch.empty(self.dialogues, shape.tokens, width, dtype=dtype, requires_grad=True)
        with self.part("llm") as leaves:
            leaves.append(model.decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state.sum())
        states = torch.empty(self.dialogues * shape.answer_tokens, width, dtype=dtype, requires_grad=True)
        with self.part("lm_head") as leaves:
            leaves.append(words_pass(shape, states))
        forward = self.forward["llm"]
        block = self.saved["llm"] // shape.layers
        recomputed = 0
        if profile.training.checkpointing:
            self.saved["llm"] = shape.layers * embeds.nbytes + block
            recomputed = forward
        flop = {"vision": seen, **self.flop}
        return Trace(self.dialogues, shape.tokens, flop, recomputed, self.saved, features.nbytes, block)

    @contextmanager
    def part(self, name: str) -> Iterator[list[Tensor]]:
        """Count the forward pass inside the block, then the backward pass from the scalars that it leaves."""
        leaves: list[Tensor] = []
        saved = Saved(self.model)
        with FlopCounterMode(display=False) as counter:
            with (
                torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor),
                torch.autocast("cpu", torch.bfloat16, enabled=self.bf16),
            ):
                yield leaves
            self.forward[name] = counter.get_total_flops()
            self.saved[name] = saved.bytes()
            torch.stack([leaf.float() for leaf in leaves]).sum().backward()
        self.flop[name] = counter.get_total_flops()
