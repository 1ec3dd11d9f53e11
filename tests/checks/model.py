"""Solutions of notebooks 01 and 04."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from torch import nn

from pgpt_lib import diagrams


def fusion_loop(hidden_states, logits):
    weights = torch.softmax(logits, dim=0)
    return sum(weights[i] * hidden_states[:, i] for i in range(len(weights)))


def fusion_stable_by_hand(hidden_states, logits):
    grown = torch.exp(logits - logits.max())
    return (hidden_states * (grown / grown.sum()).view(1, -1, 1, 1)).sum(dim=1)


def fusion_matmul(hidden_states, logits):
    return (hidden_states.permute(0, 2, 3, 1) @ logits.softmax(-1)).numpy()


def fusion_overflow(hidden_states, logits):
    grown = torch.exp(logits)
    return torch.einsum("blnc,l->bnc", hidden_states, grown / grown.sum())


def fusion_wrong_axis(hidden_states, logits):
    return (hidden_states * logits.softmax(0)[None, :, None, None]).sum(2)


def norm_by_hand(x):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / ((x - mean).pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


def norm_loop(x):
    return torch.stack([torch.stack([nn.LayerNorm(128, elementwise_affine=False)(y) for y in z]) for z in x])


def vis_mask(hidden_states, input_ids, vis_id):
    return hidden_states[:, :-1][input_ids[:, 1:] == vis_id]


def vis_loop(hidden_states, input_ids, vis_id):
    picked = []
    for row, ids in enumerate(input_ids.tolist()):
        for column, token in enumerate(ids):
            if token == vis_id:
                picked.append(hidden_states[row, column - 1])
    return torch.stack(picked)


def vis_roll(hidden_states, input_ids, vis_id):
    return hidden_states[torch.roll(input_ids == vis_id, -1, dims=1)].numpy()


def vis_first(hidden_states, input_ids, vis_id):
    out = []
    for state, ids in zip(hidden_states, input_ids, strict=True):
        if (ids == vis_id).any():
            out.append(state[(ids == vis_id).int().argmax() - 1])
    return torch.stack(out)


def vis_argmax_everywhere(hidden_states, input_ids, vis_id):
    columns = (input_ids == vis_id).int().argmax(1)
    return hidden_states[torch.arange(len(columns)), columns - 1]


def count_generator(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_shapes(model):
    total = 0
    for p in model.parameters():
        total += math.prod(p.shape) * p.requires_grad
    return total


def count_storages(model):
    kept = {
        p.data_ptr(): p.numel()
        for m in model.modules()
        for p in m._parameters.values()
        if p is not None and p.requires_grad
    }
    return torch.tensor(sum(kept.values()))


def count_library(model):
    return diagrams.count(model)[1]


def count_estimate(model):
    """The estimate's count, of a model of one's own: its module is loaded only here."""
    from pgpt_lib.estimate import counting

    return sum(counting.count(SimpleNamespace(model=model, llm_parameters=0))[1].values())


def count_by_module(model):
    return sum(p.numel() for m in model.modules() for p in m.parameters(recurse=False) if p.requires_grad)


RIGHT = {
    "check_fusion": [fusion_loop, fusion_stable_by_hand, fusion_matmul],
    "check_normalise": [norm_by_hand, norm_loop, lambda x: nn.functional.layer_norm(x, x.shape[-1:])],
    "check_vis_position": [vis_mask, vis_loop, vis_roll],
    "check_parameter_count": [count_generator, count_shapes, count_storages],
}
WRONG = {
    "check_fusion": [
        (lambda x, a: (x * a.view(1, -1, 1, 1)).sum(1), "raw logits"),
        (lambda x, a: x.mean(dim=1), "plain mean"),
        (lambda x, a: fusion_loop(x, a) / x.shape[1], "number of layers"),
        (lambda x, a: x[:, len(a) - 1], "last layer only"),
        (fusion_overflow, "overflows"),
        (fusion_wrong_axis, "you add up over the tokens"),
        (lambda x, a: fusion_loop(x, a.sigmoid().log()), "sigmoids over their sum"),
        (lambda x, a: torch.einsum("blnc,l->bnc", x, torch.sigmoid(a)), "sigmoids"),
    ],
    "check_normalise": [
        (lambda x: x / (x**2).mean(-1, keepdim=True).sqrt(), "RMSNorm"),
        (lambda x: x - x.mean(-1, keepdim=True), "did not divide"),
        (lambda x: (x - x.mean(-1, keepdim=True)) / x.var(-1, keepdim=True), "variance"),
        (lambda x: nn.functional.layer_norm(x, x.shape[-2:]), "all tokens of a layer"),
        (lambda x: (x - x.mean(2, keepdim=True)) / x.std(2, keepdim=True), "over the tokens"),
        (lambda x: (x - x.mean()) / x.std(), "over everything"),
        (lambda x: nn.functional.normalize(x, dim=-1), "length"),
    ],
    "check_vis_position": [
        (lambda x, ids, vis: x[ids == vis], "at <vis> itself"),
        (lambda x, ids, vis: x[torch.roll(ids == vis, 1, dims=1)], "the other way"),
        (lambda x, ids, vis: x[:, :-2][ids[:, 2:] == vis], "shift twice"),
        (vis_first, "only the first <vis>"),
        (vis_argmax_everywhere, "where argmax says 0"),
        (lambda x, ids, vis: vis_mask(x[:1], ids[:1], vis), "first dialogue"),
        (lambda x, ids, vis: x[:, -1], "last position"),
    ],
    "check_parameter_count": [
        (lambda m: sum(p.numel() for p in m.parameters()), "frozen parameters too"),
        (lambda m: len([p for p in m.parameters() if p.requires_grad]), "count tensors"),
        (count_by_module, "shared weights twice"),
        (lambda m: sum(p.numel() for p in m.parameters() if p.requires_grad and p.ndim == 2), "biases"),
        (lambda m: sum(t.numel() for t in m.state_dict().values()), "state_dict"),
        (lambda m: sum(len(p) for p in m.parameters() if p.requires_grad), "rows of each tensor"),
        (count_library, "calls count, which is the answer already"),
        (count_estimate, "calls count, which is the answer already"),
    ],
}
