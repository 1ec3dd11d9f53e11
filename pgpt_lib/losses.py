"""The training objective (paper, section 3.2, equations 2 to 6), computed in fp32 whatever the model's precision.

Every function is a mean over its rows, so that a batch's loss does not depend on how many regions it has, and every
function returns a differentiable zero for no rows at all, so that a batch without boxes or masks still trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .regions import box_cxcywh_to_xyxy, generalized_iou

IGNORE_INDEX = -100  # the label of a position that is not supervised


def supervised_positions(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where the language model is asked for a token: (row, column) of the states that *predict* a supervised label.

    Args:
        labels: [B, T] token ids, `IGNORE_INDEX` where not supervised.

    Returns:
        Two index tensors of equal length: the state at (row, column) predicts `labels[row, column + 1]`.
    """
    rows, columns = torch.nonzero(labels[:, 1:] != IGNORE_INDEX, as_tuple=True)
    return rows, columns


def language_loss(hidden_states: Tensor, labels: Tensor, lm_head: Callable[[Tensor], Tensor]) -> Tensor:
    """Equation 6: cross-entropy of the next token, a mean over supervised tokens.

    The states are gathered before the head: in grounding dialogues about one position in thirty is supervised, and the
    logits of the others would be most of the step's memory.

    Args:
        hidden_states: [B, T, H], the last layer's, after the final norm.
        labels: [B, T] token ids, `IGNORE_INDEX` where not supervised; not shifted.
        lm_head: [S, H] -> [S, V].
    """
    rows, columns = supervised_positions(labels)
    logits = lm_head(hidden_states[rows, columns]).float()
    if len(rows) == 0:
        return logits.sum() * 0.0 + hidden_states.float().sum() * 0.0
    return F.cross_entropy(logits, labels[rows, columns + 1])


def distillation_loss(
    hidden_states: Tensor, kept: Tensor, taught: Tensor, lm_head: Callable[[Tensor], Tensor]
) -> Tensor:
    """KL divergence of the next token from a teacher's, a mean over K tokens (Hinton et al. 2015, Li and Hoiem 2016).

    Args:
        hidden_states: [B, T, H], as for `language_loss`.
        kept: [B, T], bool, the K tokens that the teacher was asked for as well.
        taught: [K, V], the teacher's log-probabilities, in the order of `kept` by rows.
        lm_head: [K, H] -> [K, V].
    """
    rows, columns = torch.nonzero(kept[:, 1:], as_tuple=True)
    logits = lm_head(hidden_states[rows, columns]).float()
    if len(rows) == 0:
        return logits.sum() * 0.0 + hidden_states.float().sum() * 0.0
    return F.kl_div(logits.log_softmax(-1), taught.float(), log_target=True, reduction="batchmean")


def l1_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over all R x D numbers of two [R, D] tensors."""
    return _mean((prediction.float() - target.float()).abs())


def giou_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - GIoU (Rezatofighi et al. 2019), a mean over R boxes, in [0, 2].

    Args:
        prediction: [R, 4] boxes as (centre x, centre y, width, height).
        target: [R, 4], likewise.
    """
    return _mean(1.0 - generalized_iou(box_cxcywh_to_xyxy(prediction.float()), box_cxcywh_to_xyxy(target.float())))


def misparsed_giou_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """`giou_loss` of the corners (x1, y1, x2, y2) as if they were centre and size, as in the paper's released code.

    Equal boxes still have a loss of 0, but of others it is not GIoU: two that lie apart may be taken to overlap.
    Arguments as for `giou_loss`.
    """
    return giou_loss(box_cxcywh_to_xyxy(prediction), box_cxcywh_to_xyxy(target))


def bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of mask logits [R, h, w] against coverage in [0, 1], a mean over all pixels."""
    return _mean(F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none"))


def dice_loss(logits: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """1 - DICE (Sudre et al. 2017) of each mask on its own, then a mean over R masks, in [0, 1].

    Per mask, not pooled over the batch: summed over a batch, one large object outweighs every small one.

    Args:
        logits: [R, h, w] mask logits.
        target: [R, h, w] coverage in [0, 1].
        eps: keeps the ratio finite where both masks are empty.
    """
    probability, target = logits.float().sigmoid().flatten(1), target.float().flatten(1)
    overlap = (probability * target).sum(1)
    return _mean(1.0 - (2.0 * overlap + eps) / (probability.sum(1) + target.sum(1) + eps))


def pooled_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """`dice_loss` of all R masks as if they were one, as in the paper's released code; arguments as there."""
    return dice_loss(logits.reshape(1, -1), target.reshape(1, -1))


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Equations 2 to 5: the weighted sum of all terms. A term without a weight counts once, as in the paper."""
    if not terms:
        raise ValueError("total_loss needs at least one term")
    return torch.stack([weights.get(name, 1.0) * value.float() for name, value in terms.items()]).sum()


def _mean(values: Tensor) -> Tensor:
    """The mean, and a differentiable zero for an empty tensor (whose mean would be NaN)."""
    return values.sum() / max(values.numel(), 1)
