"""Whether weights follow a curve: shifts and mirror images as the rivals, ties against it, even weights nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pgpt_lib.arrangements import arrangements, correlation, standing
from pgpt_lib.errors import InputError

LAYERS = 12
RISE = [0.3, 0.35, 0.45, 0.6, 0.72, 0.8, 0.85, 0.9, 0.88, 0.86, 0.83, 0.8]
FALL = [0.9, 0.8, 0.72, 0.66, 0.6, 0.55, 0.52, 0.5, 0.47, 0.45, 0.44, 0.43]


def test_all_shifts_and_their_mirror_images_stand_once_with_the_curve_first():
    rows = arrangements(RISE)
    assert rows.shape == (2 * LAYERS, LAYERS) and rows[0].tolist() == RISE
    assert len({tuple(row) for row in rows.tolist()}) == 2 * LAYERS
    neighbours = {frozenset(pair) for pair in zip(RISE, RISE[1:] + RISE[:1], strict=True)}
    for row in rows.tolist():
        assert {frozenset(pair) for pair in zip(row, row[1:] + row[:1], strict=True)} == neighbours


def test_weights_that_rise_and_fall_with_a_probe_follow_it():
    noise = np.random.default_rng(0).normal(0, 0.02, (3, LAYERS))
    found = standing((np.array(RISE) + noise).tolist(), {"colour": FALL, "shape": RISE})
    assert found.follows and (found.rank, found.of, found.curve) == (1, 2 * LAYERS, "shape")
    assert found.correlation > 0.95


def test_smooth_weights_that_correlate_with_a_probe_may_follow_nothing():
    """What a bound for independent layers would take for agreement: it is 0.50 for twelve of them."""
    found = standing([np.roll(RISE, 1).tolist()], {"shape": RISE})
    assert found.correlation > 0.6 and not found.follows and found.rank > 1


def test_the_mean_over_seeds_is_what_counts():
    seeds = [(np.array(RISE) + shift).tolist() for shift in (0.0, 0.4)] + [[0.9 - v for v in RISE]]
    alone = standing(seeds[:1], {"shape": RISE})
    assert standing(seeds, {"shape": RISE}).rank == alone.rank == 1
    assert standing(seeds[2:], {"shape": RISE}).correlation == pytest.approx(-1)


def test_even_weights_and_even_probes_follow_nothing():
    even = [1 / LAYERS] * LAYERS
    for seeds, curves in (([even, even], {"colour": FALL, "shape": RISE}), ([RISE], {"shape": even})):
        found = standing(seeds, curves)
        assert (found.rank, found.correlation, found.follows) == (2 * LAYERS, 0.0, False)
    assert correlation(even, RISE) == 0 and correlation(RISE, RISE) == pytest.approx(1)


def test_a_curve_that_is_its_own_mirror_image_is_tied_with_it():
    peak = [1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1]
    assert standing([peak], {"shape": peak}).rank == 2


def test_chance_alone_puts_each_arrangement_first_as_often_as_the_others():
    chance = np.random.default_rng(1)
    smooth = np.cumsum(chance.normal(size=(60, LAYERS)), axis=1)
    curves = {"colour": FALL, "shape": RISE}
    arranged = [arrangements(weights)[chance.integers(2 * LAYERS)].tolist() for weights in smooth]
    first = [standing([weights], curves).follows for weights in arranged]
    assert np.mean(first) < 2.5 / (2 * LAYERS)


@pytest.mark.parametrize(("seeds", "curves"), [([], {"a": RISE}), ([RISE], {}), ([RISE], {"a": RISE[1:]})])
def test_what_does_not_belong_together_is_refused(seeds, curves):
    with pytest.raises(InputError, match="one number of layers"):
        standing(seeds, curves)
