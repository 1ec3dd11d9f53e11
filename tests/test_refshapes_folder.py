"""RefShapes in a folder: it holds what the generator makes in memory, and the readers of the big data sets read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from pycocotools.coco import COCO
from results_page import documented, named

from pgpt_lib.data.grefcoco import GRefCOCO
from pgpt_lib.data.phrasings import PHRASINGS, asked, held_out_phrasing
from pgpt_lib.data.refcoco import RefCOCO
from pgpt_lib.data.refshapes import RefShapesImages, rec_samples, task_samples
from pgpt_lib.data.refshapes.entries import DIALOGUES
from pgpt_lib.data.refshapes.export import write_refshapes
from pgpt_lib.data.sample import Sample
from pgpt_lib.files import read_json
from pgpt_lib.project import ROOT
from pgpt_lib.regions import Region, rle_to_mask


def places(sample: Sample) -> tuple:
    """Box and depth of the answer's regions."""
    return tuple((region.box, region.depth) for region in sample.turns[1].regions)


def test_written_layout_is_read_by_the_one_reader(tmp_path):
    world = write_refshapes(tmp_path / "a", 20, 5, "cpu")
    assert json.loads((tmp_path / "a" / "world.json").read_text()) == json.loads(json.dumps(world))
    keys = documented("world.json")
    assert set(world) == set(keys)
    assert all(set(world[key]) == named(keys[key]) for key in ("level", "statistics"))
    coco = COCO(tmp_path / "a" / "refcoco" / "instances.json")
    assert {type(a["segmentation"]) for a in coco.anns.values()} == {list, dict}
    for dataset, split in (("refcoco", "val"), ("refcoco+", "testA"), ("refcocog", "test")):
        reader = RefCOCO(tmp_path / "a", dataset, split)
        memory = rec_samples(dataset, split, 2, 5) if split != "test" else []
        if memory:
            assert [s.text for r in reader.refs for s in r.sentences] == [s.extra["expression"] for s in memory]
            assert [places(s) for s in reader.samples()] == [places(s) for s in memory]
        for sample in reader.samples():
            picture = reader.load_image(sample.image_id)
            assert picture.shape == (112, 112, 3)
            region = sample.turns[1].regions[0]
            ys, xs = np.nonzero(rle_to_mask(region.mask))
            assert np.allclose(np.array(region.box) * 112, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    key = RefCOCO(tmp_path / "a", "refcoco", "val")
    name = coco.imgs[int(key.refs[0].image_id)]["file_name"].removesuffix(".png")
    assert (key.load_image(key.refs[0].image_id) == RefShapesImages().load_image(name)).all()


@pytest.mark.parametrize(("split", "scenes"), [("train", 14), ("val", 2), ("testA", 2), ("testB", 2)])
def test_several_and_no_targets_are_read_by_grefcocos_reader(tmp_path, split, scenes):
    world = write_refshapes(tmp_path, 20, 5, "cpu")
    read = GRefCOCO(tmp_path, split).samples()
    made = [sample for task in ("several", "none") for sample in task_samples(task, split, scenes, 5)]
    phrasing = held_out_phrasing("rec")  # gRefCOCO's questions do not say how many are meant
    meant = {(s.task, asked(phrasing, s.extra["expression"]), places(s)) for s in made}
    assert {(s.task, s.turns[0].text, places(s)) for s in read} == meant
    assert len(read) == len(made) == world["expressions"]["grefcoco"][split]
    assert {s.task for s in read} == {"several", "none"}


def test_dialogues_are_those_of_the_tasks(tmp_path):
    world = write_refshapes(tmp_path, 20, 5, "cpu")
    entries = json.loads((tmp_path / "dialogues.json").read_text())["dialogues"]
    assert world["dialogues"] == Counter(entry["task"] for entry in entries)
    assert {entry["task"] for entry in entries} == set(DIALOGUES)
    content = json.loads((tmp_path / "refcoco" / "instances.json").read_text())
    boxes = {a["id"]: a["bbox"] for a in content["annotations"]}
    for task in DIALOGUES:
        memory = {s.sample_id: s for s in task_samples(task, "testA", 2, 5)}
        written = {e["id"]: e["turns"] for e in entries if (e["task"], e["split"]) == (task, "testA")}
        assert set(written) == set(memory)
        for key, turns in written.items():
            for turn, made in zip(turns, memory[key].turns, strict=True):
                assert (turn["role"], turn["text"]) == (made.role, made.text)
                found = [Region.from_coco(boxes[number], None, 112, 112).box for number in turn["ann_ids"]]
                assert found == [region.box for region in made.regions]
    train = {entry["turns"][0]["text"] for entry in entries if entry["split"] == "train"}
    assert not train & {phrasing[-1] for phrasing in PHRASINGS.values()}, "training is asked in its own words"


def test_two_runs_write_the_same_bytes(tmp_path):
    written = []
    for hashing in ("1", "2"):
        root = tmp_path / hashing
        line = [sys.executable, "-m", "pgpt_lib", "data", "refshapes", "--scenes", "10", "--level", "smoke"]
        done = subprocess.run([*line, "--root", root], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hashing})
        assert done.returncode == 0
        written.append({p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()})
    assert written[0] == written[1] and len(written[0]) == 10 + 12


def test_another_world_in_the_same_folder_leaves_no_picture_of_the_earlier_one(tmp_path):
    own = tmp_path / "images" / "train2014" / "mine.png"
    for scenes, seed in ((10, 0), (5, 1)):
        write_refshapes(tmp_path, scenes, seed, "smoke")
        own.touch()
    listed = {image["file_name"] for image in read_json(tmp_path / "refcoco" / "instances.json")["images"]}
    assert {p.name for p in own.parent.iterdir()} == listed | {"mine.png"} and len(listed) == 5
