"""RefCOCO from parquet and from MDETR's JSON reads as REFER's own files do; RefCOCO-M with its pictures."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refer_layout as layout
from big_layouts import refcoco_m_row
from flaky_server import FlakyServer

from pgpt_lib.data.datasets import obtain, table
from pgpt_lib.data.leakage import protected_pictures
from pgpt_lib.data.refcoco import RefCOCO
from pgpt_lib.data.refer_formats import from_mdetr, from_parquet, from_refcoco_m
from pgpt_lib.errors import InputError, RunError
from pgpt_lib.regions import mask_to_rle, rle_to_mask
from pgpt_lib.scoring import score_file

COUNTS = {"train": 1, "val": 2, "testA": 1, "testB": 1}  # refs of `original`
HUB = {"train": "train", "val": "validation", "testA": "test", "testB": "testB"}


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """The layout's tiny data set in all splits; every object with a mask: MDETR's masks come from COCO's file."""
    refs = [
        layout.ref(5, 104, 9, "train", {51: "to learn from"}),
        layout.ref(1, 101, 7, "val", {11: "left thing", 12: "the square", 13: "it"}),
        layout.ref(2, 102, 7, "val", {21: "the crowd"}),
        layout.ref(4, 103, 8, "testA", {41: "beyond the border", 42: "that"}),
        layout.ref(6, 105, 10, "testB", {61: "another"}),
    ]
    annotations = [
        layout.annotation(104, 9, [1, 2, 3, 4], layout.SQUARE),
        layout.annotation(105, 10, [4, 3, 2, 1], layout.SQUARE),
        layout.annotation(101, 7, [10, 10, 20, 20], layout.SQUARE),
        layout.annotation(102, 7, [0, 0, 10, 40], {"size": [40, 60], "counts": [0, 400, 2000]}),
        layout.annotation(103, 8, [-2, 5, 20.5, 45.01], [[1, 1, 9, 1, 9, 9]]),
    ]
    sizes = {7: (40, 60), 8: (50, 50), 9: (40, 60), 10: (40, 60)}
    return layout.write(tmp_path / "original", refs, annotations, sizes, pickled=False)


def content(root: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    folder = root / "refcoco"
    return json.loads((folder / "refs(unc).json").read_text()), json.loads((folder / "instances.json").read_text())


def parquet_files(root: Path, folder: Path, split_column: str = "split") -> list[Path]:
    """As on the hub: a row a ref, annotation and image as JSON text, `bbox` as corners."""
    refs, instances = content(root)
    annotations, images = ({e["id"]: e for e in instances[k]} for k in ("annotations", "images"))
    files = []
    for split in dict.fromkeys(ref["split"] for ref in refs):
        rows = []
        for ref in (r for r in refs if r["split"] == split):
            entry = annotations[ref["ann_id"]]
            x, y, w, h = entry["bbox"]
            rows.append(
                {
                    **{k: ref[k] for k in ("sent_ids", "file_name", "ann_id", "ref_id", "image_id", "category_id")},
                    split_column: HUB[split],
                    "sentences": ref["sentences"],
                    "raw_anns": json.dumps(entry),
                    "raw_image_info": json.dumps(images[ref["image_id"]]),
                    "bbox": [x, y, x + w, y + h],
                }
            )
        path = folder / f"{HUB[split]}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
        files.append(path)
    return files


def mdetr_files(root: Path, folder: Path) -> list[Path]:
    """As published: an image entry a sentence, no segmentation; numbers run on over the splits."""
    refs, instances = content(root)
    annotations, sizes = ({e["id"]: e for e in instances[k]} for k in ("annotations", "images"))
    files, number = [], 0
    for split in dict.fromkeys(ref["split"] for ref in refs):
        images, objects = [], []
        for ref in (r for r in refs if r["split"] == split):
            for sentence in ref["sentences"]:
                size = {k: sizes[ref["image_id"]][k] for k in ("height", "width", "file_name")}
                images.append({"id": number, "original_id": ref["image_id"], "caption": sentence["sent"], **size})
                entry = {"bbox": annotations[ref["ann_id"]]["bbox"], "original_id": ref["ann_id"], "id": number}
                objects.append({**entry, "image_id": number, "tokens_positive": [[0, 3]], "iscrowd": 0})
                number += 1
        path = folder / f"finetune_refcoco_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": objects, "categories": []}))
        files.append(path)
    return files


def said(root: Path, split: str) -> list[tuple[Any, ...]]:
    """What a split says of which object: all that the forms have in common."""
    data = RefCOCO(root, "refcoco", split)
    samples = data.samples()
    return sorted(
        (s.extra["expression"], s.image_id, s.extra["ann_id"], s.size, str(s.turns[1].regions[0])) for s in samples
    )


def test_parquet_equals_the_original(original: Path, tmp_path: Path) -> None:
    counts = from_parquet(parquet_files(original, tmp_path / "files"), "refcoco", tmp_path / "data")
    assert counts == COUNTS
    for split in counts:
        assert said(tmp_path / "data", split) == said(original, split)
    ids = [s.extra["sent_id"] for s in RefCOCO(tmp_path / "data", "refcoco", "val").samples()]
    assert ids == [11, 12, 13, 21], "REFER's own numbers"


def test_mdetr_equals_the_original_but_for_numbers(original: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "coco" / "annotations").mkdir(parents=True)
    instances = content(original)[1]
    (root / "coco" / "annotations" / "instances_train2014.json").write_text(json.dumps(instances))
    assert from_mdetr(mdetr_files(original, tmp_path / "files"), "refcoco", root) == COUNTS
    for split in COUNTS:
        assert said(root, split) == said(original, split)
    ids = [s.extra["sent_id"] for s in RefCOCO(root, "refcoco", None).samples()]
    assert sorted(ids) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("form", ["parquet", "mdetr"])
def test_flickrs_addresses_reach_the_guard(original: Path, tmp_path: Path, form: str) -> None:
    """Flickr30k knows a photograph of COCO by Flickr's number alone."""
    path, root = original / "refcoco" / "instances.json", tmp_path / "data"
    instances = json.loads(path.read_text())
    next(e for e in instances["images"] if e["id"] == 7)["flickr_url"] = "http://farm1.staticflickr.com/2/81_4e_z.jpg"
    path.write_text(json.dumps(instances))
    layout_of_coco = root / "coco" / "annotations" / "instances_train2014.json"
    layout_of_coco.parent.mkdir(parents=True)
    layout_of_coco.write_text(json.dumps(instances))
    if form == "parquet":
        from_parquet(parquet_files(original, tmp_path / "files"), "refcoco", root)
    else:
        from_mdetr(mdetr_files(original, tmp_path / "files"), "refcoco", root)
    for dataset, by in (("refcoco+", "unc"), ("refcocog", "umd")):
        shutil.copytree(root / "refcoco", root / dataset)
        refs = json.loads((root / "refcoco" / "refs(unc).json").read_text())
        refs += [{**refs[0], "split": "test"}]
        (root / dataset / f"refs({by}).json").write_text(json.dumps(refs))
    assert protected_pictures(root) == {"coco/7", "coco/8", "coco/9", "coco/10", "flickr/81"}


def test_mdetr_needs_the_masks_of_coco(original: Path, tmp_path: Path) -> None:
    files = mdetr_files(original, tmp_path / "files")
    with pytest.raises(InputError, match="no masks.*data coco --root"):
        from_mdetr(files, "refcoco", tmp_path / "data")
    folder = tmp_path / "data" / "coco" / "annotations"
    folder.mkdir(parents=True)
    (folder / "instances_train2014.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(InputError, match="finetune_refcoco_train.json: COCO's instances have no annotation 104"):
        from_mdetr(files, "refcoco", tmp_path / "data")
    assert not (tmp_path / "data" / "refcoco").exists()


def served(server: FlakyServer, **files: bytes) -> dict[str, Any]:
    """The real table's entry of RefCOCO, every address turned to the local server, which has only `files`."""
    entry = json.loads(json.dumps(table()["refcoco"]))
    for way in entry["ways"]:
        for file in way["files"]:
            file["urls"] = [f"{server.address}/ok/{file['name']}"]
    server.files.update(files)
    return {"refcoco": entry}


def parquet_under_the_tables_names(original: Path, tmp_path: Path) -> dict[str, bytes]:
    """The hub's files by their names in the table."""
    names = [f["name"] for f in table()["refcoco"]["ways"][1]["files"]]
    of_split = {p.name.split("-")[0]: p.read_bytes() for p in parquet_files(original, tmp_path / "files")}
    return {name: of_split[name.split("-")[1]] for name in names}


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    running = FlakyServer()
    yield running
    running.close()


def test_where_the_archive_is_gone_the_parquet_serves(original: Path, tmp_path: Path, server: FlakyServer) -> None:
    held = parquet_under_the_tables_names(original, tmp_path)
    done = obtain("refcoco", tmp_path / "data", entries=served(server, **held))
    assert done["way"] == "parquet" and said(tmp_path / "data", "val") == said(original, "val")


@pytest.mark.parametrize("fresh", [False, True])
def test_a_kill_before_the_refs_is_made_good(
    original: Path, tmp_path: Path, server: FlakyServer, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    """Killed between instances.json and the refs, at the first call or when it is laid out again."""
    held = parquet_under_the_tables_names(original, tmp_path)
    entries, root = served(server, **held), tmp_path / "data"
    if fresh:
        obtain("refcoco", root, entries=entries)

    def killed(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pgpt_lib.data.refer_formats.write_text", killed)
        obtain("refcoco", root, fresh=fresh, entries=entries)
    assert (root / "refcoco" / "instances.json").is_file()
    assert obtain("refcoco", root, entries=entries)["way"] == "parquet", "not: nothing to do"
    assert said(root, "val") == said(original, "val")
    assert obtain("refcoco", root, entries=entries)["way"] is None


def beside_coco(original: Path, root: Path) -> Path:
    """A folder of data sets that holds COCO's instances, which MDETR's files name pictures by."""
    (root / "coco" / "annotations").mkdir(parents=True)
    (root / "coco" / "annotations" / "instances_train2014.json").write_text(json.dumps(content(original)[1]))
    return root


def test_where_both_are_gone_the_mdetr_archive_serves(original: Path, tmp_path: Path, server: FlakyServer) -> None:
    root = beside_coco(original, tmp_path / "data")
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        for path in mdetr_files(original, tmp_path / "files"):
            out.add(path, f"OpenSource/{path.name}")
        out.add(path, "OpenSource/finetune_refcocog_val.json")
    entries = served(server, **{"mdetr_annotations.tar.gz": archive.read_bytes()})
    done = obtain("refcoco", root, entries=entries)
    assert done["way"] == "MDETR archive" and said(root, "testA") == said(original, "testA")
    assert not list(root.rglob("*refcocog*")), "only what was asked for was unpacked"


def test_an_archive_without_a_split_is_refused(original: Path, tmp_path: Path, server: FlakyServer) -> None:
    root = beside_coco(original, tmp_path / "data")
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        for path in mdetr_files(original, tmp_path / "files"):
            if not path.stem.endswith("testB"):
                out.add(path, f"OpenSource/{path.name}")
    entries = served(server, **{"mdetr_annotations.tar.gz": archive.read_bytes()})
    with pytest.raises(RunError, match=r"tar\.gz does not hold finetune_refcoco_testB\.json"):
        obtain("refcoco", root, entries=entries)
    assert not (root / "refcoco").exists()


def test_bad_parquet_is_named(original: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train-00000.*no column 'split'; it has .*part"):
        from_parquet(parquet_files(original, tmp_path / "files", "part"), "refcoco", tmp_path / "data")
    damaged = tmp_path / "x.parquet"
    damaged.write_bytes(b"PAR1 and nothing PAR1")
    with pytest.raises(InputError, match="x.parquet cannot be read as parquet"):
        from_parquet([damaged], "refcoco", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_refcoco_m(tmp_path: Path) -> None:
    bitmap = np.zeros((40, 60), np.uint8)
    bitmap[5:20, 30:50] = 1
    path = tmp_path / "validation-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([refcoco_m_row(7)]), path)
    assert from_refcoco_m([path], tmp_path) == {"val": 1}
    root = tmp_path / "refcoco_m"
    data = RefCOCO(root, "refcoco", "val")
    assert data.load_image("7").shape == (40, 60, 3)
    assert np.array_equal(rle_to_mask(data.region(9).mask), bitmap)
    predictions = tmp_path / "predictions.json"
    found = {"bbox": [30, 5, 20, 15], "segmentation": mask_to_rle(bitmap)}
    predictions.write_text(json.dumps([{"sent_id": 1, **found}, {"sent_id": 2, **found}]))
    assert score_file(predictions, root, "refcoco", "val")["ciou"][0] == 1
