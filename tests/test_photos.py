"""The bundled annotations of scikit-image's photographs, read by the one REFER reader."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pgpt_lib.data import photos
from pgpt_lib.data.refcoco import RefCOCO
from pgpt_lib.errors import RunError
from pgpt_lib.regions import rle_to_mask


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return photos.materialise(tmp_path_factory.mktemp("photos") / "root")


def test_reader_reads_every_split(root):
    counts = {split: len(RefCOCO(root, "refcoco", split).samples()) for split in ("train", "testA", "val")}
    assert counts == {"train": 22, "testA": 8, "val": 8}


def test_held_out_photographs_share_nothing_with_training(root):
    train, val = (set(RefCOCO(root, "refcoco", split).sizes) for split in ("train", "val"))
    assert train and val and not train & val


def test_boxes_are_the_bounds_of_their_masks(root):
    data = RefCOCO(root, "refcoco", None)
    for ann_id, annotation in data.annotations.items():
        mask = rle_to_mask(data.region(ann_id).mask)
        x, y, w, h = annotation.bbox
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        assert (x, y, x + w, y + h) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), ann_id
        assert mask.shape == data.sizes[annotation.image_id]


def test_pictures_are_as_annotated_and_grey_ones_become_rgb(root):
    data = RefCOCO(root, "refcoco", None)
    for image_id, size in data.sizes.items():
        assert data.load_image(image_id).shape == (*size, 3)
    camera = photos.load_photo("camera")
    assert camera.shape[2] == 3 and (camera[..., 0] == camera[..., 2]).all()


def test_depth_is_measured_by_the_disparity(root):
    data = RefCOCO(root, "refcoco", "train")
    annotations = json.loads((root / "refcoco/instances.json").read_text())["annotations"]
    measured = {a["id"]: a["depth"] for a in annotations if "depth" in a}
    assert len(measured) == 8
    for ann_id, depth in measured.items():
        assert depth == pytest.approx(photos.region_depth(rle_to_mask(data.region(ann_id).mask)), abs=1e-3)
    depth = photos.motorcycle_depth()
    assert np.nanmin(depth) == 0 and np.nanmax(depth) == 1


def test_materialise_is_done_once(root):
    before = (root / "refcoco/instances.json").stat().st_mtime_ns
    assert photos.materialise(root) == root
    assert (root / "refcoco/instances.json").stat().st_mtime_ns == before


def test_unknown_photograph_is_named():
    with pytest.raises(RunError, match="mona_lisa"):
        photos.load_photo("mona_lisa")
