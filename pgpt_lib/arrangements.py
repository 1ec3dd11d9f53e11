"""Do weights follow a curve over layers? The curve against its own arrangements, which keep neighbours together.

Neighbouring layers say nearly the same. So L layers are far fewer than L independent numbers, and smooth curves often
correlate by chance. Shifts of the curve, as if the layers stood in a circle, and their mirror images are as smooth as
the curve is. Where chance alone joins weights and curve, the true arrangement is no likelier to fit best than another.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import InputError

EVEN = 1e-9  # the spread of values, and the gap between correlations, that is rounding alone


@dataclass(frozen=True)
class Standing:
    """How well the true arrangement of curves fits some weights, beside all others.

    Attributes:
        rank: arrangements that fit at least as well, the true one included; 1 where it fits best.
        of: arrangements, 2L.
        curve: the one that fits best as it truly stands.
        correlation: of that curve with the mean weights.
    """

    rank: int
    of: int
    curve: str
    correlation: float

    @property
    def follows(self) -> bool:
        """Whether the true arrangement is the best of all; chance alone makes it so once in `of` times at most."""
        return self.rank == 1


def correlation(weights: Sequence[float], values: Sequence[float]) -> float:
    """Pearson's correlation over layers; 0 where one side is even, so that there is nothing to follow."""
    return 0.0 if min(np.std(weights), np.std(values)) < EVEN else statistics.correlation(weights, values)


def arrangements(curve: Sequence[float]) -> np.ndarray:
    """All circular shifts of a curve of L values and their mirror images, [2L, L], the curve itself first."""
    shifts = np.array([np.roll(curve, -by) for by in range(len(curve))])
    return np.concatenate([shifts, shifts[:, ::-1]])


def standing(seeds: Sequence[Sequence[float]], curves: Mapping[str, Sequence[float]]) -> Standing:
    """The rank of the curves' true arrangement among all 2L, by the best correlation with the weights' mean.

    All curves are arranged alike, and each arrangement has its best curve, as the true one has: that the best of
    several is taken favours none of them. One that fits as well as the true one counts against it.

    Args:
        seeds: weights of L layers, a list for each seed; the mean over seeds is what is tested.
        curves: a name to L values, as a probe's accuracy by layer.

    Raises:
        InputError: no weights, no curves, or other numbers of layers.
    """
    sizes = {len(values) for values in (*seeds, *curves.values())}
    if not seeds or not curves or len(sizes) != 1:
        raise InputError(f"weights and curves of one number of layers needed, not of {sorted(sizes)} layers")
    mean = np.mean(seeds, axis=0).tolist()
    found = {name: [correlation(mean, values) for values in arrangements(curve)] for name, curve in curves.items()}
    best = np.max(list(found.values()), axis=0)
    nearest = max(found, key=lambda name: found[name][0])
    return Standing(int((best >= best[0] - EVEN).sum()), len(best), nearest, found[nearest][0])
