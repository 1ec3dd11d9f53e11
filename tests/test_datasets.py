"""`data NAME` by the table itself: small copies in the true formats, packed as the publishers pack them, served by a
mirror under the table's names, laid out, and read."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import big_layouts as layouts
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flaky_server import FlakyServer

from pgpt_lib.cli import main
from pgpt_lib.data.benchmarks import open_benchmark
from pgpt_lib.data.datasets import table
from pgpt_lib.data.phrasings import held_out_phrasing
from pgpt_lib.data.reader import Reader
from pgpt_lib.data.sources import open_source

# Each file by its name in the table: a file of the layout as it is, or a zip of what matches below a folder.
PACKED: dict[str, dict[str, str | tuple[str, ...]]] = {
    "coco": {
        "annotations_trainval2014.zip": ("coco", "annotations/*"),
        "train2014.zip": ("images", "train2014/*"),
        "val2014.zip": ("images", "val2014/*"),
    },
    "refcoco": {"refcoco.zip": (".", "refcoco/*")},
    "refcoco+": {"refcoco+.zip": (".", "refcoco+/*")},
    "refcocog": {"refcocog.zip": (".", "refcocog/*")},
    "grefcoco": {
        "grefs(unc).json": "grefcoco/grefs(unc).json",
        "grefcoco-instances.json": "grefcoco/instances.json",
    },
    "flickr30k": {
        "flickr30k-annotations.zip": ("flickr30k", "Annotations/*", "Sentences/*"),
        "flickr30k-train.txt": "flickr30k/train.txt",
        "flickr30k-val.txt": "flickr30k/val.txt",
        "flickr30k-test.txt": "flickr30k/test.txt",
    },
    "visual_genome": {
        "region_descriptions.json.zip": ("visual_genome", "region_descriptions.json"),
        "image_data.json.zip": ("visual_genome", "image_data.json"),
        "visual_genome-images.zip": ("visual_genome", "VG_100K/*"),
        "visual_genome-images2.zip": ("visual_genome", "VG_100K_2/*"),
    },
    "llava": {"llava_instruct_150k.json": "llava/llava_instruct_150k.json"},
    "vqav2": {
        "v2_Questions_Train_mscoco.zip": ("vqav2", "v2_OpenEnded_mscoco_train2014_questions.json"),
        "v2_Annotations_Train_mscoco.zip": ("vqav2", "v2_mscoco_train2014_annotations.json"),
        "v2_Questions_Val_mscoco.zip": ("vqav2", "v2_OpenEnded_mscoco_val2014_questions.json"),
        "v2_Annotations_Val_mscoco.zip": ("vqav2", "v2_mscoco_val2014_annotations.json"),
    },
    "okvqa": {
        f"okvqa-{name}.zip": ("okvqa", name)
        for split in ("train2014", "val2014")
        for name in (f"OpenEnded_mscoco_{split}_questions.json", f"mscoco_{split}_annotations.json")
    },
    "karpathy": {"caption_datasets.zip": ("karpathy", "dataset_*.json")},
}
READ = {  # by which sources and benchmarks, where it is not the source of its own name alone
    "coco": ("coco_captions", "coco_instances"),
    "karpathy": ("flickr30k_captions", "coco_karpathy", "coco/test"),
    **{name: (name, f"{name}/val") for name in ("refcoco", "refcoco+", "refcocog", "grefcoco", "vqav2", "okvqa")},
}
BY_HAND = ("images", "flickr30k/images")  # pictures that the commands of other sets bring, or nobody's


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = layouts.everything(tmp_path_factory.mktemp("original"))
    layouts.karpathy(root)
    layouts.picture(root / "images" / "val2014" / "COCO_val2014_000000000009.jpg")
    for split in ("val", "test"):
        (root / "flickr30k" / f"{split}.txt").write_text("1000092795\n")
    return root


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyServer]:
    """An empty mirror, and the table without its own addresses and hashes, which are of the whole files."""
    entries = table()
    for file in (file for entry in entries.values() for way in entry["ways"] for file in way["files"]):
        file["urls"] = []
        file.pop("hash", None)
    monkeypatch.setattr("pgpt_lib.data.datasets.table", lambda: entries)
    running = FlakyServer()
    yield running
    running.close()


def packed(root: Path, how: str | tuple[str, ...]) -> bytes:
    """The bytes of one published file."""
    if isinstance(how, str):
        return (root / how).read_bytes()
    folder, buffer = root / how[0], io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(path for pattern in how[1:] for path in folder.glob(pattern)):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def readers(name: str, root: Path) -> list[Reader]:
    """Whatever reads a data set's files."""
    names = READ.get(name, (name,))
    return [open_benchmark(each, root) if "/" in each else open_source(each, root) for each in names]


def fetched(name: str, root: Path, server: FlakyServer, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the command prints."""
    with pytest.raises(SystemExit) as end:
        main(["data", name, "--root", str(root), "--mirror", f"{server.address}/ok", "--json"])
    out, err = capsys.readouterr()
    assert not end.value.code, err
    return json.loads(out)


@pytest.mark.parametrize("name", PACKED)
def test_what_the_table_names_is_what_the_reader_reads(
    name: str, original: Path, tmp_path: Path, server: FlakyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files.update({file: packed(original, how) for file, how in PACKED[name].items()})
    done = fetched(name, tmp_path, server, capsys)
    assert done["way"] == table()[name]["ways"][0]["name"] and done["files"] >= len(PACKED[name])
    for folder in BY_HAND:
        if not (tmp_path / folder).exists():
            shutil.copytree(original / folder, tmp_path / folder)
    for ours, theirs in zip(readers(name, tmp_path), readers(name, original), strict=True):
        assert ours.samples() == theirs.samples() and len(ours) > 0
        assert all(ours.pictures.load_image(sample.image_id).shape == (*sample.size, 3) for sample in ours.samples())
    assert fetched(name, tmp_path, server, capsys)["way"] is None, "nothing is left to do"


def test_the_redrawn_refcoco_brings_its_pictures(
    tmp_path: Path, server: FlakyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, file in enumerate(table()["refcoco_m"]["ways"][0]["files"], start=7):
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([layouts.refcoco_m_row(number)]), buffer)
        server.files[file["name"]] = buffer.getvalue()
    assert fetched("refcoco_m", tmp_path, server, capsys)["way"] == "parquet"
    reader = open_benchmark("refcoco_m/val", tmp_path)
    texts = [(sample.image_id, sample.turns[0].text) for sample in reader.samples()]
    said = [held_out_phrasing("rec").replace("{x}", words) for words in ("left dog", "it")]
    assert texts == [(f"coco/{number}", text) for number in (7, 8) for text in said]
    assert reader.pictures.load_image("coco/8").shape == (*layouts.SIZE, 3)
    assert fetched("refcoco_m", tmp_path, server, capsys)["way"] is None


def test_no_data_set_of_the_table_is_left_out() -> None:
    assert {*PACKED, "refcoco_m"} == set(table())
