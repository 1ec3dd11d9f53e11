"""What a training takes of its cards: the most memory, and the share of their arithmetic that serves the model (MFU).

MFU is the FLOP that the model needs, forward and backward, over what the cards could do in the seconds that passed,
waiting for data and writing checkpoints included. What checkpointing repeats does not count. FLOP are those of
`estimate`, counted once for a dialogue of the length that was trained on: the log's `mfu` is the estimate's, measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator

from .config import Profile
from .errors import InputError

GB = 1e9  # bytes, as the makers of cards and `estimate` count


def utilisation(flop: float, seconds: float, cards: int, peak: float) -> float:
    """FLOP that were done in some seconds, as a share of what cards with a peak of so many FLOP a second could do."""
    return flop / (seconds * cards * peak)


def flop_of_dialogue(profile: Profile, positions: float) -> float | None:
    """FLOP of training on one dialogue, repeated ones left out.

    Args:
        profile: whose model.
        positions: tokens of the dialogue, image and padding included.

    Returns:
        None where the sizes of a backbone are not known here, as of one that is named by an address alone.
    """
    from .estimate.counting import shape_on_meta  # here: they import transformers, and only cards need them
    from .estimate.tracing import trace

    try:
        text = max(1, round(positions) - shape_on_meta(profile).image_tokens)
        return float(sum(trace(profile, 1, text).flop.values()))
    except InputError:
        return None


@dataclass
class CardUse:
    """Measures one process's card, and reckons with `cards` of its kind.

    Args:
        cards: how many train together.
        peak: of one of them, in FLOP a second; None where its kind is not known.
        allocated: the most memory, in bytes, that tensors took on any of them so far.
        flop: FLOP of a dialogue from its length, asked once; None where that cannot be told.
    """

    cards: int
    peak: float | None
    allocated: Callable[[], float]
    flop: Callable[[float], float | None]
    _a_position: float | None = field(default=None, init=False)

    def figures(self, dialogues: int, positions: int, seconds: float) -> dict[str, Any]:
        """`peak_memory_gb` so far, and `mfu` over some steps (None where it cannot be told).

        Args:
            dialogues: that all cards together were trained on in these steps.
            positions: their tokens, images and padding included.
            seconds: that the steps took.
        """
        found: dict[str, Any] = {"peak_memory_gb": self.allocated() / GB, "mfu": None}
        if self.peak is None:
            return found
        if self._a_position is None:
            length = positions / dialogues
            self._a_position = (self.flop(length) or 0.0) / length
        if self._a_position:
            found["mfu"] = utilisation(self._a_position * positions, seconds, self.cards, self.peak)
        return found


def card_use(accelerator: Accelerator, profile: Profile) -> CardUse | None:
    """The use of the accelerator's cards from now on; None where it has none of NVIDIA's."""
    if accelerator.device.type != "cuda":
        return None
    from .estimate.plan import card_of_device

    torch.cuda.reset_peak_memory_stats(accelerator.device)
    known = card_of_device(torch.cuda.get_device_name(accelerator.device))
    # One process writes the log; the others need not count.
    peak = known.tflops * 1e12 if known and accelerator.is_main_process else None

    def allocated() -> float:
        mine = torch.tensor(float(torch.cuda.max_memory_allocated(accelerator.device)), device=accelerator.device)
        return float(torch.as_tensor(accelerator.gather(mine[None])).max())

    return CardUse(accelerator.num_processes, peak, allocated, lambda length: flop_of_dialogue(profile, length))
