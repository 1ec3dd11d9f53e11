"""Boxes, masks and placements: against pycocotools and a second definition, on degenerate and damaged input too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torchmetrics.functional.classification import binary_jaccard_index

from pgpt_lib import regions
from pgpt_lib.errors import InputError
from pgpt_lib.regions import (
    Placement,
    Region,
    box_area,
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    generalized_iou,
    mask_area,
    mask_bounds,
    mask_iou,
    mask_overlap,
    mask_to_rle,
    mask_union,
    pairwise_iou,
    rle_to_mask,
    to_rle,
)

quick = settings(max_examples=40, deadline=None)  # a busy machine is not an error
unit = st.integers(0, 64).map(lambda v: v / 64)  # a grid, so that touching and degenerate boxes are frequent
seeds = st.integers(0, 2**32 - 1)


@st.composite
def boxes(draw: st.DrawFn, count: int = 5) -> torch.Tensor:
    corners = torch.tensor(draw(st.lists(st.tuples(unit, unit, unit, unit), min_size=count, max_size=count)))
    low, high = torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])
    return torch.cat([low, high], dim=1).double()


@st.composite
def bitmaps(draw: st.DrawFn, count: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(draw(seeds))
    shape = rng.integers(1, 40, 2)
    return [(rng.random(shape) < rng.choice([0, 0.1, 0.5, 0.9, 1])).astype(np.uint8) for _ in range(count)]


def coco_boxes(xyxy: torch.Tensor) -> np.ndarray:
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)


# ------------------------------------------------------------------------------------------------ box algebra
@quick
@given(boxes())
def test_box_formats_are_inverse(xyxy: torch.Tensor) -> None:
    torch.testing.assert_close(box_cxcywh_to_xyxy(box_xyxy_to_cxcywh(xyxy)), xyxy)


@quick
@given(boxes(), boxes())
def test_box_iou_equals_pycocotools(a: torch.Tensor, b: torch.Tensor) -> None:
    solid_a, solid_b = a[box_area(a) > 0], b[box_area(b) > 0]  # pycocotools divides by 0 where neither has an area
    if len(solid_a) and len(solid_b):
        expected = coco_mask.iou(coco_boxes(solid_a), coco_boxes(solid_b), [0] * len(solid_b))
        np.testing.assert_allclose(box_iou(solid_a, solid_b).numpy(), expected, atol=1e-9)
    torch.testing.assert_close(box_iou(a, b).diagonal(), pairwise_iou(a, b))


@quick
@given(boxes(), boxes())
def test_box_iou_equals_torchmetrics(a: torch.Tensor, b: torch.Tensor) -> None:
    pytest.importorskip("torchvision", reason="torchmetrics computes boxes with torchvision")
    from torchmetrics.functional.detection import generalized_intersection_over_union, intersection_over_union

    solid = (box_area(a) > 0) & (box_area(b) > 0)
    if solid.any():
        a, b = a[solid], b[solid]
        torch.testing.assert_close(pairwise_iou(a, b), intersection_over_union(a, b, aggregate=False).diagonal())
        expected = generalized_intersection_over_union(a, b, aggregate=False).diagonal()
        torch.testing.assert_close(generalized_iou(a, b), expected)


@quick
@given(boxes(), boxes())
def test_box_iou_equals_transformers(a: torch.Tensor, b: torch.Tensor) -> None:
    """A second opinion that needs no torchvision: the losses of transformers' detectors."""
    from transformers.loss import loss_for_object_detection as detection

    solid = (box_area(a) > 0) & (box_area(b) > 0)  # it divides by 0 where neither has an area
    if solid.any():
        a, b = a[solid], b[solid]
        torch.testing.assert_close(box_iou(a, b), detection.box_iou(a, b)[0])
        torch.testing.assert_close(generalized_iou(a, b), detection.generalized_box_iou(a, b).diagonal())


@quick
@given(boxes(), boxes())
def test_generalized_iou_by_its_definition(a: torch.Tensor, b: torch.Tensor) -> None:
    giou = generalized_iou(a, b)
    assert ((-1 <= giou) & (giou <= pairwise_iou(a, b) + 1e-12)).all()
    for mine, (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) in zip(giou, a.tolist(), b.tolist(), strict=True):
        inter = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
        union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter
        hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
        expected = (inter / union if union else 0) - ((hull - union) / hull if hull else 0)
        assert mine.item() == pytest.approx(expected, abs=1e-9)


def test_generalized_iou_prefers_the_nearer_box() -> None:
    target = torch.tensor([[0.7, 0.7, 0.9, 0.9]])
    near, far = torch.tensor([[0.4, 0.4, 0.6, 0.6]]), torch.tensor([[0.0, 0.0, 0.2, 0.2]])
    assert pairwise_iou(near, target) == pairwise_iou(far, target) == 0
    assert generalized_iou(near, target) > generalized_iou(far, target)


@pytest.mark.parametrize("other", [[0.5, 0.5, 0.5, 0.5], [0.5, 0.2, 0.5, 0.8], [0.1, 0.1, 0.3, 0.3], [0, 0, 1.0, 1]])
@pytest.mark.parametrize("box", [[0.5, 0.5, 0.5, 0.5], [0.2, 0.5, 0.8, 0.5], [0.6, 0.6, 0.4, 0.4]])
def test_degenerate_boxes_have_finite_values_and_gradients(box: list[float], other: list[float]) -> None:
    a = torch.tensor([box], requires_grad=True)
    b = torch.tensor([other])
    for function in (pairwise_iou, generalized_iou):
        value = function(a, b)
        (gradient,) = torch.autograd.grad(value.sum(), a)
        assert torch.isfinite(value).all() and torch.isfinite(gradient).all()


def test_no_boxes() -> None:
    none, one = torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert box_iou(none, one).shape == (0, 1)
    assert generalized_iou(none, none).shape == pairwise_iou(none, none).shape == box_area(none).shape == (0,)


# ------------------------------------------------------------------------------------------------ masks
@quick
@given(bitmaps())
def test_all_forms_of_a_mask_agree(drawn: list[np.ndarray]) -> None:
    bitmap = drawn[0]
    height, width = bitmap.shape
    rle = mask_to_rle(bitmap)
    assert rle["size"] == [height, width] and isinstance(rle["counts"], str)
    np.testing.assert_array_equal(rle_to_mask(rle), bitmap)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], bitmap.ravel(order="F"), [2]])))
    runs = np.diff(np.concatenate([[0], changes]))  # column by column, starting with how many 0 come first
    forms = [
        rle,
        {**rle, "counts": rle["counts"].encode("ascii")},
        {**rle, "counts": runs.tolist()},
        bitmap,
        bitmap.astype(bool),
        np.ascontiguousarray(bitmap * 255),
        [rle, rle],
    ]
    for form in forms:
        assert to_rle(form, height, width) == rle


@quick
@given(bitmaps(count=2))
def test_mask_algebra_equals_pycocotools_and_numpy(pair: list[np.ndarray]) -> None:
    a, b = pair
    rle_a, rle_b = mask_to_rle(a), mask_to_rle(b)
    inter, union = int((a & b).sum()), int((a | b).sum())
    assert mask_overlap(rle_a, rle_b) == (inter, union)
    assert mask_area(rle_a) == a.sum()
    np.testing.assert_array_equal(rle_to_mask(rle_a), coco_mask.decode(rle_a))
    np.testing.assert_array_equal(rle_to_mask(mask_union([rle_a, rle_b])), a | b)
    if union:
        assert mask_iou(rle_a, rle_b) == pytest.approx(inter / union)
        assert mask_iou(rle_a, rle_b) == pytest.approx(coco_mask.iou([rle_a], [rle_b], [0])[0, 0])


@quick
@given(bitmaps(count=2))
def test_mask_iou_equals_torchmetrics(pair: list[np.ndarray]) -> None:
    expected = binary_jaccard_index(*(torch.from_numpy(bitmap) for bitmap in pair))
    assert mask_iou(*(mask_to_rle(bitmap) for bitmap in pair)) == pytest.approx(float(expected), abs=1e-6)


def test_empty_masks() -> None:
    empty = to_rle([], 4, 6)
    assert mask_area(empty) == 0
    assert mask_iou(empty, empty) == 0, "nothing found where nothing is: 0, as in pycocotools"
    assert mask_bounds(rle_to_mask(empty)) is None
    assert mask_area(to_rle([[1, 1, 3, 3]], 4, 6)) == 0, "two points enclose nothing, and are not a box either"
    assert mask_area(to_rle([[]], 4, 6)) == 0


@quick
@given(bitmaps())
def test_bounds_are_those_of_pycocotools(drawn: list[np.ndarray]) -> None:
    bounds = mask_bounds(drawn[0])
    if bounds is None:
        assert not drawn[0].any()
    else:
        x, y, w, h = coco_mask.toBbox(mask_to_rle(drawn[0]))
        assert bounds == (x, y, x + w, y + h)


def test_polygons_equal_pycocotools() -> None:
    parts = [[10.0, 10.0, 30.5, 12.0, 20.0, 35.0], [40.0, 5.0, 60.0, 5.0, 60.0, 25.0, 40.0, 25.0]]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, 48, 64)))
    np.testing.assert_array_equal(rle_to_mask(to_rle(parts, 48, 64)), expected)
    assert to_rle(parts[0], 48, 64) == to_rle([parts[0]], 48, 64), "one flat polygon"
    assert to_rle([*parts, [1, 1, 2, 2]], 48, 64) == to_rle(parts, 48, 64), "a part of two points adds nothing"
    over = to_rle([[-9.0, -9.0, 80.0, -9.0, 80.0, 60.0, -9.0, 60.0]], 48, 64)
    assert mask_area(over) == 48 * 64, "what lies outside the image is cut off"


def polygons_keep_their_place(draw: Callable[[np.ndarray], dict]) -> bool:
    """Whether masks of small polygons lie, on the mean, where their corners between pixels say."""
    rng, off = np.random.default_rng(0), []
    for centre in rng.uniform(10, 30, (100, 2)):
        corners = centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * rng.uniform(1.5, 3.5, 2)
        ys, xs = np.nonzero(rle_to_mask(draw(corners)))
        off.append((xs.mean() + 0.5 - centre[0], ys.mean() + 0.5 - centre[1]))
    return bool(np.abs(np.mean(off, axis=0)).max() < 0.2)


def test_corners_between_pixels_are_not_cut_off() -> None:
    """The released code cuts coordinates to whole numbers, which moves small objects by half a pixel."""
    assert polygons_keep_their_place(lambda corners: to_rle([corners.ravel().tolist()], 40, 40))
    assert not polygons_keep_their_place(lambda corners: to_rle([corners.astype(int).ravel().tolist()], 40, 40))


BAD_SEGMENTATIONS = {
    "odd": [[1, 1, 5, 1, 5]],
    "nan": [[1, 1, 5, float("nan"), 5, 5]],
    "huge": [[1, 1, 1e9, 1, 5, 5]],
    "words": [["a", "b", "c", "d", "e", "f"]],
    "text": "polygon",
    "number": 3,
    "size": {"size": [9, 9], "counts": [81]},
    "no size": {"counts": [48]},
    "no counts": {"size": [6, 8]},
    "short": {"size": [6, 8], "counts": [10, 5]},
    "long": {"size": [6, 8], "counts": [10, 500]},
    "negative": {"size": [6, 8], "counts": [50, -2]},
    "fraction": {"size": [6, 8], "counts": [10.5, 37.5]},
    "garbage": {"size": [6, 8], "counts": "\x01\x02 hello"},
    "cut": {"size": [6, 8], "counts": mask_to_rle(np.eye(6, 8))["counts"][:-2]},
    "empty text": {"size": [6, 8], "counts": ""},
    "overlong": {"size": [6, 8], "counts": "o" * 40 + "0"},
    "bitmap": np.ones((8, 6)),
    "cube": np.ones((6, 8, 3)),
}


@pytest.mark.parametrize("name", BAD_SEGMENTATIONS)
def test_damaged_segmentations_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        to_rle(BAD_SEGMENTATIONS[name], 6, 8)


def test_masks_of_two_sizes_are_not_compared() -> None:
    with pytest.raises(InputError, match="cannot be compared"):
        mask_iou(mask_to_rle(np.ones((2, 3))), mask_to_rle(np.ones((3, 2))))


# ------------------------------------------------------------------------------------------------ Region
def test_region_round_trip() -> None:
    polygon = [[10.0, 10.0, 40.0, 10.0, 40.0, 30.0]]
    region = Region.from_coco([10, 10, 30, 20], polygon, 60, 80, depth=0.25)
    assert region.box == (10 / 80, 10 / 60, 40 / 80, 30 / 60) and region.depth == 0.25
    back = region.to_coco(60, 80)
    assert back["bbox"] == pytest.approx([10, 10, 30, 20])
    assert Region.from_coco(back["bbox"], back["segmentation"], 60, 80).mask == region.mask


def test_region_is_cut_off_at_the_border() -> None:
    assert Region.from_coco([-5, 50, 30, 20.02], None, 60, 80).box == (0, 50 / 60, 25 / 80, 1)


def test_region_without_box_or_mask() -> None:
    assert Region.from_coco(None, None, 4, 4).to_coco(4, 4) == {"bbox": None, "segmentation": None}


@pytest.mark.parametrize(
    "bbox",
    [[0, 0, 1], [0, 0, 1, 1, 1], [0, 0, float("nan"), 1], [0, 0, float("inf"), 1], ["0", 0, 1, 1], [True, 0, 1, 1]]
    + ["0011", [0, 0, 10**400, 1], [0, 0, -1, 1], [90, 0, 5, 5], {}, 4],
)
def test_bad_coco_boxes(bbox: object) -> None:
    with pytest.raises(InputError, match="bbox"):
        Region.from_coco(bbox, None, 60, 80)  # type: ignore[arg-type]


@pytest.mark.parametrize("box", [(0.5, 0, 0.4, 1), (0, 0, 1.1, 1), (-0.1, 0, 1, 1), (0, 0, float("nan"), 1), (0, 0, 1)])
def test_bad_boxes(box: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="box"):
        Region(box)  # type: ignore[arg-type]


def test_bad_masks_and_depths() -> None:
    for mask in ({}, {"size": [2, 2]}, {"size": [2, 2], "counts": [4]}, {"size": 4, "counts": "4"}):
        with pytest.raises(InputError, match="RLE"):
            Region(None, mask)
    for depth in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="depth"):
            Region(None, None, depth)
    with pytest.raises(InputError, match="size"):
        Region(None, mask_to_rle(np.ones((2, 3)))).to_coco(3, 2)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = regions.nothing_here


# ------------------------------------------------------------------------------------------------ Placement
sides = st.integers(1, 90)


@quick
@given(sides, sides, st.integers(1, 120), seeds)
def test_boxes_survive_the_round_trip(height: int, width: int, size: int, seed: int) -> None:
    placement = Placement(height, width, size)
    corners = np.random.default_rng(seed).random(4)
    box = (*np.minimum(corners[:2], corners[2:]), *np.maximum(corners[:2], corners[2:]))
    inside = placement.box_to_input(box)
    assert all(0 <= v <= 1 for v in inside)
    assert placement.box_from_input(inside) == pytest.approx(box, abs=1e-9)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 107), (30, 700), (1, 50), (112, 112)])
def test_extreme_aspect_ratios(height: int, width: int) -> None:
    placement = Placement(height, width, 112)
    left, top, w, h = placement.inner
    assert max(w, h) == 112 and min(w, h) >= 1 and left == (112 - w) // 2 and top == (112 - h) // 2
    assert placement.box_from_input((0, 0, 1, 1)) == (0, 0, 1, 1)
    picture = placement.image(np.full((height, width, 3), 200, np.uint8))
    assert picture.shape == (112, 112, 3) and (picture[top : top + h, left : left + w] == 200).all()
    padding = np.ones((112, 112), bool)
    padding[top : top + h, left : left + w] = False
    assert (picture[padding] == 128).all()


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    assert Placement(56, 56, 56).image(picture) is picture


@quick
@given(bitmaps(), st.integers(8, 100), st.integers(1, 30))
def test_coverage_keeps_the_area(drawn: list[np.ndarray], size: int, side: int) -> None:
    bitmap = drawn[0]
    placement = Placement(*bitmap.shape, size)
    cover = placement.mask_to_input(mask_to_rle(bitmap), side)
    assert cover.dtype == np.float32 and cover.shape == (side, side) and cover.min() >= 0 and cover.max() <= 1
    _, _, w, h = placement.inner
    assert cover.mean() == pytest.approx(bitmap.mean() * w * h / size**2, abs=1e-4)


def test_mask_round_trip_and_its_place() -> None:
    bitmap = np.zeros((120, 200), np.uint8)
    bitmap[20:90, 30:120] = 1
    placement, rle = Placement(120, 200, 112), mask_to_rle(bitmap)
    assert mask_iou(placement.mask_from_input(placement.mask_to_input(rle, 112), 0.5), rle) > 0.98
    assert mask_iou(placement.mask_from_input(placement.mask_to_input(rle, 28), 0.5), rle) > 0.94
    # The mask lies where the box of the same object lies.
    x1, y1, x2, y2 = placement.box_to_input((30 / 200, 20 / 120, 120 / 200, 90 / 120))
    bounds = mask_bounds(placement.mask_to_input(rle, 112) > 0.5)
    assert bounds == pytest.approx([v * 112 for v in (x1, y1, x2, y2)], abs=1)


def test_mask_of_a_model_as_large_as_the_image_is_exact() -> None:
    scores = np.random.default_rng(1).normal(size=(32, 32)).astype(np.float32)
    np.testing.assert_array_equal(rle_to_mask(Placement(32, 32, 32).mask_from_input(scores, 0)), scores > 0)


def test_placement_refuses_what_does_not_fit() -> None:
    placement = Placement(4, 6, 8)
    for picture in (np.zeros((6, 4, 3), np.uint8), np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.float32)):
        with pytest.raises(InputError, match="image"):
            placement.image(picture)
    with pytest.raises(InputError, match="size"):
        placement.mask_to_input(mask_to_rle(np.ones((6, 4))), 2)
    with pytest.raises(InputError, match="square"):
        placement.mask_from_input(np.zeros((2, 3)), 0)
    with pytest.raises(InputError, match="positive"):
        Placement(0, 6, 8)
