"""The reader of the REFER layout: synthetic corner cases, real photographs, the full size, and hostile files."""

from __future__ import annotations

import copyreg
import json
import os
import pickle
import struct
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import refer_layout as layout
from PIL import Image
from pycocotools.coco import COCO

from pgpt_lib.data.images import read_image
from pgpt_lib.data.phrasings import held_out_phrasing
from pgpt_lib.data.pickles import read_pickle
from pgpt_lib.data.refcoco import RefCOCO
from pgpt_lib.errors import InputError
from pgpt_lib.regions import Region, mask_area, mask_bounds, rle_to_mask, to_rle

REALDATA = os.environ.get("PGPT_REALDATA", "")
HAVE_REALDATA = bool(REALDATA) and Path(REALDATA).is_dir()
real = pytest.mark.skipif(not HAVE_REALDATA, reason="PGPT_REALDATA names no folder of photographs")


# ------------------------------------------------------------------------------------------------ layout
@pytest.mark.parametrize("pickled", [True, False])
def test_reads_refs_and_annotations(tmp_path: Path, pickled: bool) -> None:
    data = RefCOCO(layout.tiny(tmp_path, pickled=pickled), "refcoco", "val")
    assert [ref.ref_id for ref in data.refs] == [1, 2, 3]
    assert [s.text for s in data.refs[0].sentences] == ["left thing", "the square", "it"]
    assert data.sizes == {"7": (40, 60)} and set(data.annotations) == {101, 102}
    assert data.annotations[101].bbox == (10, 10, 20, 20)
    assert data.region(101).box == (10 / 60, 10 / 40, 30 / 60, 30 / 40)
    assert mask_area(data.region(101).mask or {}) == 400
    crowd = rle_to_mask(data.region(102).mask or {})
    assert crowd[:, :10].all() and not crowd[:, 10:].any()


def test_box_at_the_border_and_no_mask(tmp_path: Path) -> None:
    data = RefCOCO(layout.tiny(tmp_path), "refcoco", "testA")
    assert data.annotations[103].bbox == (-2, 5, 20.5, 45.01), "as annotated"
    assert data.region(103) == Region((0, 0.1, 0.37, 1), None), "cut off at the border"


def test_all_splits(tmp_path: Path) -> None:
    data = RefCOCO(layout.tiny(tmp_path), "refcoco", None)
    assert Counter(ref.split for ref in data.refs) == {"val": 3, "testA": 1}


def test_samples(tmp_path: Path) -> None:
    data = RefCOCO(layout.tiny(tmp_path), "refcoco", "val")
    samples = data.samples()
    assert [s.sample_id for s in samples] == [f"refcoco/val/{i}" for i in (11, 12, 13, 21, 31)]
    assert samples[0].turns[0].text == held_out_phrasing("rec").replace("{x}", "left thing")
    assert samples[3].turns[0].text == held_out_phrasing("rec").replace("{x}", "crowd"), "no second article"
    assert samples[0].size == (40, 60) and samples[3].extra["expression"] == "the crowd"
    assert samples[0].turns[1].text == "<vis>" and samples[0].turns[1].regions == (data.region(101),)
    assert samples[4].extra == {"sent_id": 31, "ref_id": 3, "ann_id": 101, "expression": "said by another"}


def test_pictures(tmp_path: Path) -> None:
    data = RefCOCO(layout.tiny(tmp_path), "refcoco", None)
    grey = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60).astype(np.uint8)
    layout.write_picture(tmp_path, 7, grey)
    picture = data.load_image("7")
    assert picture.dtype == np.uint8 and picture.shape == (40, 60, 3)
    assert (picture == grey[..., None]).all(), "greyscale becomes three equal channels"
    path = layout.write_picture(tmp_path, 8, np.zeros((50, 49, 3), np.uint8))
    with pytest.raises(InputError, match="instances.json says"):
        data.load_image("8")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=path.name):
        data.load_image("8")
    path.unlink()
    with pytest.raises(InputError, match=path.name):
        data.load_image("8")
    with pytest.raises(InputError, match="'9'"):
        data.load_image("9")


# ------------------------------------------------------------------------------------------------ bad input
def test_unknown_names(tmp_path: Path) -> None:
    layout.tiny(tmp_path)
    with pytest.raises(InputError, match=r"'refcocoo'.*refcoco, refcoco\+, refcocog"):
        RefCOCO(tmp_path, "refcocoo", "val")
    with pytest.raises(InputError, match=r"'tests'.*val \(3 refs\), testA \(1 refs\)"):
        RefCOCO(tmp_path, "refcoco", "tests")
    with pytest.raises(InputError, match="nowhere"):
        RefCOCO(tmp_path / "nowhere", "refcoco", "val")
    with pytest.raises(InputError, match="refcocog"):
        RefCOCO(tmp_path, "refcocog", "val")
    (tmp_path / "refcoco" / "refs(unc).p").unlink()
    with pytest.raises(InputError, match=r"refs\(unc\)\.p"):
        RefCOCO(tmp_path, "refcoco", "val")


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    layout.tiny(tmp_path)
    instances = tmp_path / "refcoco" / "instances.json"
    whole = instances.read_text()
    cases = {whole[:-20]: "not valid JSON", "[]": "not laid out", "{}": "images", "null": "not laid out"}
    for damaged, reason in cases.items():
        instances.write_text(damaged)
        with pytest.raises(InputError, match=rf"instances\.json.*{reason}"):
            RefCOCO(tmp_path, "refcoco", "val")
    instances.write_text(whole.replace("[10, 10, 20, 20]", "[10, 10, NaN, 20]"))
    with pytest.raises(InputError, match=r"instances\.json.*nan"):
        RefCOCO(tmp_path, "refcoco", "val")
    instances.unlink()
    with pytest.raises(InputError, match=r"instances\.json"):
        RefCOCO(tmp_path, "refcoco", "val")


def test_refs_that_point_nowhere(tmp_path: Path) -> None:
    refs = [layout.ref(1, 5, 7, "val", {1: "it"})]
    sizes = {7: (40, 60), 8: (40, 60)}
    cases: list[tuple[list[dict[str, Any]], str]] = [
        ([], "no annotation 5, which ref 1"),
        ([layout.annotation(5, 8, [0, 0, 1, 1])], "annotation 5 is not in ref 1's image 7"),
    ]
    for objects, message in cases:
        layout.write(tmp_path, refs, objects, sizes)
        with pytest.raises(InputError, match=message):
            RefCOCO(tmp_path, "refcoco", "val")
    layout.write(tmp_path, refs, [layout.annotation(5, 7, [0, 0, 1, 1])], {8: (40, 60)})
    with pytest.raises(InputError, match="no image 7"):
        RefCOCO(tmp_path, "refcoco", "val")
    layout.write(tmp_path, refs, [layout.annotation(5, 7, [0, 0, 1, 1], [[1, 2, 3, 4, 5]])], sizes)
    data = RefCOCO(tmp_path, "refcoco", "val")
    with pytest.raises(InputError, match="annotation 5 .*polygon"):
        data.region(5)
    del refs[0]["sentences"]
    layout.write(tmp_path, refs, [], sizes)
    with pytest.raises(InputError, match=r"refs\(unc\)\.p.*sentences"):
        RefCOCO(tmp_path, "refcoco", "val")


# ------------------------------------------------------------------------------------------------ pickles
class Trap:
    """Runs a command when it is unpickled carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_does_not_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps([Trap(tmp_path / "trap")], protocol))
    with pytest.raises(InputError, match=r"refs\(unc\)\.p.*not loaded.*system"):
        read_pickle(path)
    assert not (tmp_path / "trap").exists()


def test_other_ways_to_reach_code_are_shut(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    attacks = [
        b"cbuiltins\neval\n(V1+1\ntR.",  # GLOBAL, REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",  # STACK_GLOBAL
        b"Pid\n.",  # persistent id
        b"\x80\x02\x82\x01.",  # extension registry
    ]
    copyreg.add_extension("os", "system", 1)
    try:
        for attack in attacks:
            path.write_bytes(attack)
            with pytest.raises(InputError, match="not loaded"):
                read_pickle(path)
    finally:
        copyreg.remove_extension("os", "system", 1)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_survive(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "plain.p"
    value = {"a": [1, -2.5, True, None, 10**30], "ü": ("x", {"y": ()})}
    if protocol >= 3:  # before, bytes are pickled as a call
        value["b"] = b"\xff"
    if protocol >= 4:  # and sets
        value["c"] = {1, 2}
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_pickle(path) == value


def test_strings_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "old.p"
    for text, encoding in (("café", "utf-8"), ("café", "latin-1"), ("plain", "ascii")):
        raw = text.encode(encoding)
        path.write_bytes(b"\x80\x02]q\x00U" + struct.pack("B", len(raw)) + raw + b"a.")
        assert read_pickle(path) == [text]


@pytest.mark.parametrize("data", [b"", b"hello", pickle.dumps([1, 2, 3])[:-3], b"\x80\x7f.", b"a.", b"(dp0\n"])
def test_damaged_pickles(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.p"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"bad\.p"):
        read_pickle(path)
    with pytest.raises(InputError, match="missing"):
        read_pickle(tmp_path / "missing.p")


# ------------------------------------------------------------------------------------------------ real photographs
SETS = (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd"))


@real
@pytest.mark.parametrize(("dataset", "by"), SETS)
def test_real_refs_equal_the_coco_api(dataset: str, by: str) -> None:
    root = Path(REALDATA) / "refer"
    data = RefCOCO(root, dataset, None)
    expected = {r["ref_id"]: r for r in read_pickle(root / dataset / f"refs({by}).p")}
    coco = COCO(str(root / dataset / "instances.json"))
    assert len(data.refs) == len(expected) > 0
    for ref in data.refs:
        assert {s.sent_id: s.text for s in ref.sentences} == {
            s["sent_id"]: s["sent"] for s in expected[ref.ref_id]["sentences"]
        }
        truth, (height, width) = coco.anns[ref.ann_id], data.sizes[ref.image_id]
        region = data.region(ref.ann_id)
        np.testing.assert_array_equal(rle_to_mask(region.mask or {}), coco.annToMask(truth))
        np.testing.assert_allclose(region.to_coco(height, width)["bbox"], truth["bbox"], atol=1e-2)
        assert data.load_image(ref.image_id).shape == (height, width, 3)
    assert len(data.samples()) == sum(len(r["sentences"]) for r in expected.values())


@real
def test_every_real_annotation_becomes_a_mask() -> None:
    """Polygons, crowds and boxes at the border of 180 photographs, against the COCO API."""
    folder = Path(REALDATA) / "coco"
    coco = COCO(str(folder / "instances.json"))
    crowds = at_border = 0
    apart = []
    for truth in coco.anns.values():
        size = coco.imgs[truth["image_id"]]
        height, width = size["height"], size["width"]
        region = Region.from_coco(truth["bbox"], truth["segmentation"], height, width)
        bitmap = rle_to_mask(region.mask or {})
        np.testing.assert_array_equal(bitmap, coco.annToMask(truth))
        assert to_rle(region.mask, height, width) == region.mask
        crowds += isinstance(truth["segmentation"], dict)
        x, y, w, h = truth["bbox"]
        at_border += x <= 0 or y <= 0 or x + w >= width or y + h >= height
        bounds, box = mask_bounds(bitmap), np.array(region.box) * [width, height, width, height]
        if bounds:
            apart.append(np.abs(box - bounds).max())
    assert crowds and at_border
    assert np.quantile(apart, 0.95) < 1.5, "a pixel of rounding; a few annotations are drawn carelessly"


def looks_grey(path: Path) -> bool:
    """Told from a decoding at an eighth of the size, which is quick."""
    with Image.open(path) as image:
        image.draft("RGB", (image.width // 8, image.height // 8))
        small = np.asarray(image.convert("RGB"))
    return bool((small == small[..., :1]).all())


@real
def test_real_greyscale_picture() -> None:
    folder = Path(REALDATA) / "coco"
    content = json.loads((folder / "instances.json").read_text())
    sizes = {folder / "images" / image["file_name"]: (image["height"], image["width"]) for image in content["images"]}
    grey = [path for path in sizes if looks_grey(path)]
    assert grey
    for path in grey:
        picture = read_image(path)
        assert picture.shape == (*sizes[path], 3) and (picture == picture[..., :1]).all()


@real
def test_full_size(tmp_path: Path) -> None:
    """Every official val and test expression, boxes alone, through the layout and back."""
    entries = json.loads((Path(REALDATA) / "refs_full" / "refs_all.json").read_text())
    by_set = defaultdict(list)
    for entry in entries:
        by_set[entry["dataset"]].append(entry)
    sentences = 0
    for dataset, by in SETS:
        refs, objects, sizes = [], {}, {}
        for entry in by_set[dataset]:
            # Without an id an object is known by its image and box; image sizes are not given: large enough for any.
            ann_id = entry["ann_id"] or -1 - entry["ref_id"]
            numbered = dict(enumerate(entry["sentences"], start=sentences))
            sentences += len(numbered)
            refs.append(layout.ref(entry["ref_id"], ann_id, entry["image_id"], entry["split"], numbered))
            objects[ann_id] = layout.annotation(ann_id, entry["image_id"], entry["bbox"])
            sizes[entry["image_id"]] = (640, 640)
        layout.write(tmp_path, refs, list(objects.values()), sizes, dataset, by)
        data = RefCOCO(tmp_path, dataset, None)
        assert Counter(r.split for r in data.refs) == Counter(r["split"] for r in refs)
        assert len(RefCOCO(tmp_path, dataset, "val").refs) == sum(r["split"] == "val" for r in refs)
        samples = data.samples()
        assert len({s.sample_id for s in samples}) == len(samples) == sum(len(r["sentences"]) for r in refs)
        assert all(s.turns[1].regions[0].mask is None for s in samples)
    assert (len(entries), sentences) == (23_202, 58_679)
