"""Checks of notebooks 01 and 04: layer fusion, the decoded state, and what is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Case, Function, Mistake, examine


def check_fusion(solution: Function, seed: int = 0) -> None:
    """`solution(hidden_states[B, L, N, C], logits[L])` -> [B, N, C]: equation 1 with w = softmax(logits)."""
    generator = torch.Generator().manual_seed(seed)
    batch, layers, tokens, channels = 2, int(torch.randint(4, 7, (1,), generator=generator)), 9, 3
    states = torch.randn(batch, layers, tokens, channels, generator=generator)
    drawn = torch.randn(layers, generator=generator)
    cases = [
        Case("equal weights", (states, torch.zeros(layers))),
        Case("different weights", (states, drawn)),
        Case("logits in the hundreds", (states, 100 * drawn + 300)),
    ]

    def weighted(weigh: Function) -> Function:
        return lambda x, a: torch.einsum("blnc,l->bnc", x, weigh(a))

    softmax = weighted(lambda a: a.softmax(0))
    examine(
        "layer fusion",
        solution,
        softmax,
        cases,
        [
            Mistake(
                "your weights are the raw logits: they must be positive and sum to 1, so take their softmax",
                weighted(lambda a: a),
            ),
            Mistake("your logits do nothing: this is the plain mean over layers", lambda x, a: x.mean(1)),
            Mistake(
                "you divide by the number of layers on top of the softmax: the weights no longer sum to 1",
                lambda x, a: softmax(x, a) / len(a),
            ),
            Mistake("you use the last layer only", lambda x, a: x[:, -1]),
            Mistake(
                "your exponential overflows: subtract the largest logit first, or use softmax",
                weighted(lambda a: a.exp() / a.exp().sum()),
            ),
            Mistake(
                "your weights are not normalised: divide the exponentials by their sum", weighted(lambda a: a.exp())
            ),
            Mistake("your weights are sigmoids: each is in [0, 1], but they do not sum to 1", weighted(torch.sigmoid)),
            Mistake("you weigh the layers but do not add them up", lambda x, a: x * a.softmax(0)[None, :, None, None]),
            Mistake("your weights run in the opposite order of the layers", lambda x, a: softmax(x.flip(1), a)),
            Mistake(
                "your weights are sigmoids over their sum: a softmax takes exponentials",
                weighted(lambda a: a.sigmoid() / a.sigmoid().sum()),
            ),
            Mistake(
                "you add up over the tokens: equation 1 adds up over the layers, and every token stays",
                lambda x, a: (x * a.softmax(0)[None, :, None, None]).sum(2),
            ),
        ],
        forbidden=["pgpt_lib.fusion.LayerFusion.forward"],
    )


def check_normalise(solution: Function, seed: int = 0) -> None:
    """`solution(hidden_states[B, L, N, C])`: LayerNorm without affine; every token of every layer on its own."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.3, 3.0, 40.0])[None, :, None, None]
    states = scale * (torch.randn(2, 3, 6, 128, generator=generator) + 2 * torch.randn(2, 3, 6, 1, generator=generator))

    def standard(*axes: int) -> Function:
        return lambda x: (x - x.mean(axes, keepdim=True)) / x.std(axes, keepdim=True)

    def rms(x: Tensor) -> Tensor:
        return x / x.square().mean(-1, keepdim=True).sqrt()

    examine(
        "layer normalisation",
        solution,
        standard(3),
        [Case("layers of very different norms", (states,))],
        [
            Mistake("you did not subtract the mean: that is RMSNorm", rms),
            Mistake(
                "you subtracted the mean but did not divide by the standard deviation",
                lambda x: x - x.mean(3, keepdim=True),
            ),
            Mistake(
                "you divide by the variance; its root, the standard deviation, is meant",
                lambda x: (x - x.mean(3, keepdim=True)) / x.var(3, keepdim=True),
            ),
            Mistake("your statistics run over all tokens of a layer; each token has its own", standard(2, 3)),
            Mistake("your statistics run over the tokens; they belong over the channels", standard(2)),
            Mistake("your statistics run over the layers; they belong over the channels", standard(1)),
            Mistake("your statistics run over everything, so late layers still drown early ones", standard(0, 1, 2, 3)),
            Mistake(
                "you divide by the token's length, not by its standard deviation",
                lambda x: x / x.norm(dim=-1, keepdim=True),
            ),
        ],
        tolerance=0.02,
        forbidden=["pgpt_lib.fusion.LayerFusion.forward"],
    )


def check_ridge(solution: Function, seed: int = 0) -> None:
    """`solution(features[n, C], targets[n, K], strength)` -> [C, K]: ridge regression, the linear probe without a bias.

    It minimises ||features W - targets||^2 + strength ||W||^2, sums of squares both.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: int, channels: int, strength: float) -> tuple[Tensor, Tensor, float]:
        features = torch.randn(rows, channels, generator=generator, dtype=torch.float64)
        return features, torch.randn(rows, 3, generator=generator, dtype=torch.float64), strength

    cases = [
        Case("more tokens than channels", draw(40, 6, 2.0)),
        Case("fewer tokens than channels", draw(5, 9, 0.5)),
        Case("a strong penalty", draw(30, 6, 500.0)),
    ]

    def ridge(scale: Function = lambda x, s: s) -> Function:
        def solve(x: Tensor, y: Tensor, strength: float) -> Tensor:
            penalty = scale(x, strength) * torch.eye(x.shape[1], dtype=x.dtype)
            return torch.linalg.solve(x.T @ x + penalty, x.T @ y)

        return solve

    examine(
        "ridge regression",
        solution,
        ridge(),
        cases,
        [
            Mistake(
                "the penalty is missing: this is least squares, which fewer tokens than channels leave undetermined",
                lambda x, y, s: torch.linalg.pinv(x) @ y,
            ),
            Mistake(
                "your penalty grows with the number of tokens: both terms are sums", ridge(lambda x, s: s * len(x))
            ),
            Mistake(
                "your penalty shrinks with the number of tokens: both terms are sums", ridge(lambda x, s: s / len(x))
            ),
            Mistake("you squared the strength", ridge(lambda x, s: s * s)),
            Mistake("your penalty has the wrong sign", ridge(lambda x, s: -s)),
            Mistake("your penalty counts twice", ridge(lambda x, s: 2 * s)),
            Mistake("your weights are [K, C]: transpose them", lambda x, y, s: ridge()(x, y, s).T),
            Mistake("these are the predictions; the weights are asked for", lambda x, y, s: x @ ridge()(x, y, s)),
            Mistake(
                "the penalty is added to every entry of the matrix: it belongs on the diagonal",
                lambda x, y, s: torch.linalg.solve(x.T @ x + s, x.T @ y),
            ),
        ],
        tolerance=1e-3,
        forbidden=["pgpt_lib.probing.layer_probe"],
    )


def check_vis_position(solution: Function, seed: int = 0) -> None:
    """`solution(hidden_states[B, T, H], input_ids[B, T], vis_id)` -> [K, H]: the states that predict each `<vis>`.

    Row by row, from left to right. A causal model's state at t predicts token t + 1.
    """
    generator = torch.Generator().manual_seed(seed)
    vis = int(torch.randint(50, 90, (1,), generator=generator))
    states = torch.randn(3, 9, 4, generator=generator)
    ids = torch.randint(0, 40, (3, 9), generator=generator)
    several, one = ids.clone(), ids[:1].clone()
    several[0, [2, 6]], several[2, [4, 5]], one[0, 3] = vis, vis, vis
    cases = [
        Case("one <vis>", (states[:1], one, vis)),
        Case("two in a row of the batch, two side by side, and a row without", (states, several, vis)),
    ]

    def shifted(by: int) -> Function:
        def pick(x: Tensor, ids: Tensor, vis: int) -> Tensor:
            rows, columns = torch.nonzero(ids == vis, as_tuple=True)
            return x[rows, columns + by]

        return pick

    def selected(choose: Function) -> Function:
        """Only some of the rows' `<vis>`: `choose` thins out the columns of one row."""

        def pick(x: Tensor, ids: Tensor, vis: int) -> Tensor:
            columns = [choose(torch.nonzero(row == vis).flatten()) for row in ids]
            return torch.cat([state[c - 1] for state, c in zip(x, columns, strict=True)])

        return pick

    examine(
        "position of the decoded state",
        solution,
        shifted(-1),
        cases,
        [
            Mistake(
                "you take the state at <vis> itself, which predicts what comes after it: go one to the left", shifted(0)
            ),
            Mistake("you take the state after <vis>: the shift goes the other way", shifted(1)),
            Mistake("you shift twice: the state two before <vis> predicts the token before it", shifted(-2)),
            Mistake("you take only the first <vis> of each dialogue", selected(lambda c: c[:1])),
            Mistake("you take only the last <vis> of each dialogue", selected(lambda c: c[-1:])),
            Mistake("you take only the first dialogue of the batch", lambda x, i, v: shifted(-1)(x[:1], i[:1], v)),
            Mistake("you take the last position of each dialogue, wherever <vis> is", lambda x, i, v: x[:, -1]),
            Mistake(
                "you take one state a dialogue: one may hold several <vis>, or none, where argmax says 0",
                lambda x, i, v: x[torch.arange(len(i)), (i == v).int().argmax(1) - 1],
            ),
        ],
        forbidden=["pgpt_lib.model.locate_positions"],
    )


def check_parameter_count(solution: Function, seed: int = 0) -> None:
    """`solution(model)` -> how many numbers training changes."""
    generator = torch.Generator().manual_seed(seed)
    a, b, c = (int(v) for v in torch.randint(3, 9, (3,), generator=generator))
    frozen = nn.Sequential(nn.Linear(a, b).requires_grad_(False), nn.BatchNorm1d(b), nn.Linear(b, c))
    tied = nn.ModuleDict({"embedding": nn.Embedding(a + b, c), "head": nn.Linear(c, a + b, bias=False)})
    tied["head"].weight = tied["embedding"].weight
    cases = [
        Case("a model with a frozen layer", (frozen,)),
        Case("a model whose head shares the embedding's weights", (tied,)),
    ]

    def total(model: nn.Module, keep: Function = lambda p: p.requires_grad, size: Function = Tensor.numel) -> int:
        return sum(size(p) for p in model.parameters() if keep(p))

    def by_name(model: nn.Module) -> int:
        named = model.named_parameters(remove_duplicate=False)
        return sum(p.numel() for _, p in named if p.requires_grad)

    examine(
        "trainable parameters",
        solution,
        total,
        cases,
        [
            Mistake("you count frozen parameters too: look at requires_grad", lambda m: total(m, lambda p: True)),
            Mistake("you count tensors: each holds numel() numbers", lambda m: total(m, size=lambda p: 1)),
            Mistake("you count shared weights twice", by_name),
            Mistake(
                "you count weights only: biases are trained too",
                lambda m: total(m, lambda p: p.requires_grad and p.dim() > 1),
            ),
            Mistake(
                "you count the frozen parameters, not the trained ones",
                lambda m: total(m, lambda p: not p.requires_grad),
            ),
            Mistake(
                "you count a state_dict: it holds frozen parameters, buffers and shared weights as well",
                lambda m: sum(t.numel() for t in m.state_dict().values()),
            ),
            Mistake("you count the rows of each tensor, not its numbers", lambda m: total(m, size=len)),
        ],
        tolerance=1e-9,
        forbidden=["pgpt_lib.diagrams.count", "pgpt_lib.estimate.counting.count"],
    )
