"""Exchanges about one picture in one sequence, each as if it were asked alone.

Packed, a picture is seen once for all its questions. Left to see each other, a later answer can be copied from an
earlier one, which no single question offers; kept apart, an exchange is trained exactly as it is asked.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHARED, PADDING = 0, -1  # numbers of positions that belong to no exchange: the picture and what comes before; padding


def kept_apart(exchange: Tensor) -> tuple[Tensor, Tensor]:
    """What each position may look at, and where it stands, when exchanges do not see each other.

    Args:
        exchange: [B, T], `SHARED` first, then k on the k-th exchange, counted from 1, then `PADDING`.

    Returns:
        Whether a position looks at another, bool [B, 1, T, T]: what is shared and its own exchange, itself included,
        nothing behind it. And its position [B, T]: each exchange follows directly on what is shared.
    """
    length = exchange.shape[1]
    at = torch.arange(length, device=exchange.device)
    same = exchange[:, :, None] == exchange[:, None, :]
    looks = (same | (exchange[:, None, :] == SHARED)) & (at[:, None] >= at)
    begins = torch.ones_like(exchange, dtype=torch.bool)
    begins[:, 1:] = exchange[:, 1:] != exchange[:, :-1]
    start = torch.where(begins, at, 0).cummax(1).values
    shared = (exchange == SHARED).sum(1, keepdim=True)
    return looks[:, None], torch.where(exchange == SHARED, at, shared + at - start)


def attention_mask(looks: Tensor, implementation: str) -> Tensor:
    """`looks` as an attention implementation of transformers wants it: added to the scores where it is "eager"."""
    if implementation != "eager":
        return looks
    return torch.zeros(looks.shape, device=looks.device).masked_fill(~looks, torch.finfo(torch.float32).min)
