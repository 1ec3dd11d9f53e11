"""Tokens counted for Table 4, and what regions lose there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pgpt_lib.benchmark.round_trip import fit_head, region_ious, region_sides, side_errors, through_head, through_text
from pgpt_lib.benchmark.tokens import (
    KINDS,
    RULE,
    SCHEMES,
    by_rule,
    by_tokenizer,
    count_tokens,
    part_of,
    token_table,
)
from pgpt_lib.data.refshapes.scene import make_scene
from pgpt_lib.data.refshapes.tasks import scene_regions
from pgpt_lib.errors import InputError
from pgpt_lib.regions import Placement, Region
from pgpt_lib.report import paper_table
from pgpt_lib.signals import BoxSignal, MaskSignal

NAMED = {scheme.row: scheme for scheme in SCHEMES}


@pytest.fixture(scope="module")
def regions() -> list[Region]:
    return [region for i in range(4) for region in scene_regions(make_scene("cpu", "val", 0, i))]


@pytest.fixture(scope="module")
def size(regions) -> tuple[int, int]:
    height, width = regions[0].mask["size"]
    return height, width


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("[0.123, 1.000]", ["[", "0", ".", "1", "2", "3", ",", "1", ".", "0", "0", "0", "]"]),
        ("<region><loc_12><loc_7></region>", ["<region>", "<loc_12>", "<loc_7>", "</region>"]),
        ("<vis>", ["<vis>"]),
        ("", []),
    ],
)
def test_the_rule_of_digits(text: str, tokens: list[str]) -> None:
    assert by_rule(text) == tokens


@pytest.mark.parametrize(
    ("token", "part"),
    [("7", "values"), ("<loc_3>", "values"), ("<vis>", "values"), ("<code_9>", "values"), (".", "signs"),
     (",", "signs"), (";", "signs"), ("[", "marks"), ("]", "marks"), ("<part>", "marks"), ("</region>", "marks"),
     ("<obj_vis_s>", "marks")],
)  # fmt: skip
def test_every_token_is_a_value_a_sign_or_a_mark(token: str, part: str) -> None:
    assert part_of(token) == part


def test_the_values_alone_are_what_the_paper_counts(regions, size) -> None:
    """Where the paper differs, it leaves out the signs, and half of Unified-IO's and VisionLLM's coordinates."""
    for row, columns in paper_table("table4")["rows"].items():
        for kind in KINDS:
            counts = count_tokens(NAMED[row], kind, regions, size, by_rule)
            if row == "Shikra" and kind == "box":
                assert counts == {"values": 16.0, "signs": 7.0, "marks": 2.0, "all": 25.0} and columns[kind] == 4 * 5
            elif columns[kind] is None:
                assert counts is None
            elif kind == "box" and row in ("Unified-IO", "VisionLLM"):
                assert (counts["values"], columns[kind]) == (4, 2)
            else:
                assert counts["values"] == pytest.approx(columns[kind], abs=0.01)


def test_the_bundled_tokenizer_counts_as_the_rule_does(regions, size) -> None:
    for scheme in SCHEMES:
        tokens = by_tokenizer("nano", scheme)
        for kind in KINDS:
            assert count_tokens(scheme, kind, regions, size, tokens) == count_tokens(
                scheme, kind, regions, size, by_rule
            )


def test_a_tokenizer_that_is_not_there_is_skipped_with_the_reason(regions, size, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PGPT_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    table, skipped = token_table(regions[:1], size, ("nobody/nothing",))
    assert set(table) == {RULE} and "nobody/nothing" in skipped["nobody/nothing"]
    with pytest.raises(InputError, match="no regions"):
        count_tokens(SCHEMES[0], "box", [], size, by_rule)


@pytest.mark.parametrize("row", [s.row for s in SCHEMES if s.writer("box") and not s.writer("box").dynamic])
def test_no_coordinate_is_off_by_more_than_half_a_bin(row: str, regions, size) -> None:
    bins = 1000 if NAMED[row].representation == "numerical" else NAMED[row].coordinates.bins
    back = through_text(NAMED[row].writer("box"), regions, size)
    errors = side_errors(regions, back)
    assert 0.1 / bins < errors.max() <= 0.5 / bins + 1e-9


def test_more_vertices_lose_less(regions, size) -> None:
    from pgpt_lib.config import Coordinates
    from pgpt_lib.representations import get_representation

    means = []
    for vertices in (6, 16, 48):
        writer = get_representation("numerical", Coordinates(target="mask", vertices=vertices))
        means.append(region_ious(regions, through_text(writer, regions, size), "mask").mean())
    assert means[0] < means[1] < means[2] and means[2] > 0.98


def test_what_does_not_come_back_scores_nothing(regions) -> None:
    assert region_ious(regions[:2], [Region(None), regions[1]], "box").tolist() == [0.0, pytest.approx(1.0)]
    assert region_ious(regions[:2], [Region(regions[0].box), regions[1]], "mask").tolist() == [0.0, 1.0]
    assert region_sides([Region((0.0, 0.0, 0.4, 0.9))]) == pytest.approx(0.6)


def test_a_box_head_learns_to_carry_boxes(regions, size) -> None:
    torch.manual_seed(0)
    signal, square = BoxSignal(8, 1, 8, width=64), Placement(*size, 112)
    values, _ = signal.collate(regions, [square] * len(regions))
    before = region_ious(regions, through_head(signal, regions, square), "box").mean()
    fit_head(signal, lambda: (values, None, None), 150, rate=1e-2)
    after = region_ious(regions, through_head(signal, regions, square), "box").mean()
    assert after > max(0.7, before + 0.3) and not signal.training


def test_a_given_decoder_stays_as_it_is(regions, size) -> None:
    torch.manual_seed(0)
    signal, square = MaskSignal(16, 4, 8), Placement(*size, 112)
    features, index = torch.randn(2, 64, 4), torch.arange(len(regions)) % 2
    values, _ = signal.collate(regions, [square] * len(regions))
    held = {name: tensor.clone() for name, tensor in signal.state_dict().items()}
    fit_head(signal, lambda: (values[:4], features, index[:4]), 2, decoder=False)
    changed = {name for name, tensor in signal.state_dict().items() if not torch.equal(tensor, held[name])}
    assert changed and all(name.startswith("encoder.") for name in changed)
    back = through_head(signal, regions, square, features, index)
    assert len(back) == len(regions) and all(r.mask["size"] == list(size) for r in back)
    assert np.isfinite(region_ious(regions, back, "mask")).all()
    with pytest.raises(InputError, match="have no mask"):
        through_head(signal, [Region((0, 0, 1, 1))], square, features, index)
