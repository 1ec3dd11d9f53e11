"""Readers of the big data sets on small files in their true formats."""

from __future__ import annotations

import os
from pathlib import Path

import big_layouts as layouts
import pytest

from pgpt_lib.data.flickr30k import parse_caption
from pgpt_lib.data.llava import LLaVA
from pgpt_lib.data.phrasings import held_out_phrasing
from pgpt_lib.data.pictures import Pictures, coco_number
from pgpt_lib.data.sam_masks import Mask, MaskFile, SamMasks
from pgpt_lib.data.sources import SOURCES, open_source, present
from pgpt_lib.errors import InputError
from pgpt_lib.regions import mask_area, to_rle

REALDATA = os.environ.get("PGPT_REALDATA")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = layouts.everything(tmp_path_factory.mktemp("data"))
    layouts.karpathy(folder)
    return folder


def texts(sample) -> tuple[str, ...]:
    return tuple(turn.text for turn in sample.turns)


def pixels(region) -> tuple[float, ...]:
    return tuple(round(v * s, 6) for v, s in zip(region.box, (60, 40, 60, 40), strict=True))


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_samples_with_their_pictures(root: Path, name: str) -> None:
    reader = open_source(name, root)
    samples = reader.samples()
    assert len(samples) == len(reader) > 0
    assert len({s.sample_id for s in samples}) == len(samples), "ids are unique"
    for sample in samples:
        assert reader.pictures.load_image(sample.image_id).shape == (*sample.size, 3)
        assert sample.turns[0].role == "user" and sample.turns[-1].role == "assistant"


def test_present_sources(root: Path, tmp_path: Path) -> None:
    assert present(root) == list(SOURCES) and present(tmp_path) == []


def test_coco_captions(root: Path) -> None:
    sample = open_source("coco_captions", root).sample(0)
    assert texts(sample) == (held_out_phrasing("caption"), "A dog number 1.")
    assert sample.image_id == "coco/1" and sample.size == (40, 60)
    assert sample.extra["references"] == ["A dog number 1.", "A dog number 2."]


def test_coco_instances(root: Path) -> None:
    by_task = {}
    for sample in open_source("coco_instances", root).samples():
        by_task.setdefault(sample.task, []).append(sample)
    (several,) = by_task["several"]
    assert "dogs" in several.turns[0].text and several.turns[1].text == "<vis> <vis>"
    left, right = several.turns[1].regions
    assert pixels(left) == (10, 10, 30, 30) and pixels(right) == (30, 5, 40, 15), "from left to right"
    assert mask_area(left.mask) == 400 and mask_area(right.mask) == 0
    asked = [sample.turns[0].text for sample in by_task["rec"]]
    assert len(asked) == 2 and "person" in asked[0] and "dog" in asked[1], "the crowd of picture 2 is left out"
    absent = {sample.image_id: texts(sample) for sample in by_task["none"]}
    assert set(absent) == {"coco/1", "coco/2", "coco/5"} and all(t[1] == "none" for t in absent.values())
    assert "kni" in absent["coco/1"][0], "the one category that picture 1 lacks"


def test_flickr30k(root: Path) -> None:
    samples = open_source("flickr30k", root).samples()
    assert len(samples) == 2, "a caption without phrases is left out"
    words = "<p> Two young guys </p> <vis> <vis> with <p> shaggy hair </p> <vis> look at it in the yard ."
    assert texts(samples[0]) == (held_out_phrasing("spot_caption"), words)
    boxes = [pixels(region) for region in samples[0].turns[1].regions]
    assert boxes == [(0, 0, 10, 20), (30, 5, 40, 15), (4, 4, 8, 8)]
    assert samples[0].extra["phrases"] == ["Two young guys", "Two young guys", "shaggy hair"]


def test_flickr30k_phrases_of_several_types_and_without_boxes() -> None:
    text, phrases = parse_caption("[/EN#1/people/other A man] and [/EN#2/other a hat] .", {"1": [(0, 0, 1, 1)]})
    assert text == "<p> A man </p> <vis> and a hat ." and phrases == [("A man", [(0, 0, 1, 1)])]


def test_visual_genome(root: Path) -> None:
    find, describe, *_ = open_source("visual_genome", root).samples()
    phrase = "vis sign"
    assert texts(find) == (held_out_phrasing("rec").replace("{x}", phrase), "<vis>"), "no stray mark, no second article"
    assert texts(describe) == (held_out_phrasing("region_caption"), "the vis sign")
    assert pixels(find.turns[1].regions[0]) == (50, 0, 60, 20), "cut off at the border"
    reader = open_source("visual_genome", root)
    assert reader.aliases(2) == ("visual_genome/72", "coco/5") and reader.aliases(0)[1] == "flickr/12"
    assert len(reader) == 4, "a box without area is left out"


def test_llava(root: Path) -> None:
    reader = LLaVA(root)
    first, second = reader.samples()
    assert texts(first) == ("What is it?", "A dog.", "Big?", "Yes.")
    assert (first.image_id, second.image_id) == ("coco/2", "coco/5") and second.turns[0].text == "Where?"
    assert reader.without_picture == 1


@pytest.mark.parametrize("name", ["vqav2", "okvqa"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_vqa(root: Path, name: str, split: str) -> None:
    colour, number = open_source(name, root, split).samples()
    assert texts(colour)[0] == held_out_phrasing("vqa").replace("{x}", "What colour is it?")
    assert (texts(colour)[1], texts(number)[1]) == ("red", "3")
    assert len(colour.extra["answers"]) == 10 and colour.extra["question_id"] == 21


def test_only_okvqa_calls_its_val_a_test_set(root: Path) -> None:
    """The answers to VQAv2's test questions are not public: those of val must not pass for them."""
    assert open_source("okvqa", root, "test").samples() == open_source("okvqa", root, "val").samples()
    with pytest.raises(InputError, match="no split 'test' of 'vqav2'; there are train and val"):
        open_source("vqav2", root, "test")


def test_grefcoco(root: Path) -> None:
    several, one, none = open_source("grefcoco", root).samples()
    assert [s.task for s in (several, one, none)] == ["several", "rec", "none"]
    assert [pixels(r)[0] for r in several.turns[1].regions] == [10, 30] and none.turns[1].text == "none"
    assert several.turns[0].text == held_out_phrasing("rec").replace("{x}", "two dogs")
    with pytest.raises(InputError, match=r"no split 'testA'.*train \(3\).*val \(1\)"):
        open_source("grefcoco", root, "testA")


def test_masks_of_sam_reach_the_regions(tmp_path: Path) -> None:
    for make in (layouts.flickr30k, layouts.visual_genome):
        make(tmp_path)
    flickr, genome = tmp_path / "flickr30k", tmp_path / "visual_genome"
    rle = to_rle([[30, 5, 40, 5, 40, 15, 30, 15]], 40, 60)
    file = MaskFile(flickr / "sam_masks.sqlite", {"model": "x"})
    file.add("flickr30k/1000092795", [Mask((30, 5, 10, 10), rle, 0.9, 1.0), Mask((4, 4, 4, 4), None, 0.1, 0.0)])
    file.close()
    file = MaskFile(genome / "sam_masks.1-of-2.sqlite", {"model": "x"})
    file.add("visual_genome/71", [Mask((50, 0, 10, 20), rle, 0.9, 1.0)])
    file.close()
    regions = open_source("flickr30k", tmp_path).sample(0).turns[1].regions
    assert [region.mask for region in regions] == [None, rle, None]
    assert open_source("visual_genome", tmp_path).sample(0).turns[1].regions[0].mask == rle
    assert SamMasks(flickr).provenance() == [{"model": "x"}] and SamMasks(flickr).finished() == {"flickr30k/1000092795"}
    with pytest.raises(InputError, match="made otherwise .model changed"):
        MaskFile(flickr / "sam_masks.sqlite", {"model": "y"})
    (genome / "sam_masks.sqlite").write_text("no database, whatever its name says " * 99)
    with pytest.raises(InputError, match="no file of SAM masks"):
        MaskFile(genome / "sam_masks.sqlite", {"model": "x"})


@pytest.mark.parametrize(
    "layout", ["train2014/COCO_train2014_{:012d}.jpg", "val2017/{:012d}.jpg", "COCO_val2014_{:012d}.jpg"]
)
def test_coco_pictures_are_found_in_any_layout(tmp_path: Path, layout: str) -> None:
    layouts.picture(tmp_path / "images" / layout.format(154), (7, 9))
    assert Pictures(tmp_path).size("coco/154") == (7, 9) and coco_number(layout.format(154)) == 154


@pytest.mark.parametrize("key", ["coco/155", "coco/x", "paris/1", "flickr30k/1", "llava/../../secret.jpg"])
def test_unknown_pictures_are_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=key.split("/")[0]):
        Pictures(tmp_path).path(key)


DAMAGE = {
    "coco/annotations/captions_train2014.json": (
        "coco_captions",
        '{"images": [], "annotations": [{"id": 1, "image_id": 9, "caption": ""}]}',
        "caption 1 is of image 9",
    ),
    "coco/annotations/instances_train2014.json": ("coco_instances", '{"images": [', "not valid JSON"),
    "visual_genome/region_descriptions.json": (
        "visual_genome",
        '[{"id": 71, "regions": [{"region_id": 1, "x": 0}]}]',
        "has no 'y'",
    ),
    "visual_genome/image_data.json": ("visual_genome", '[{"image_id": 1}]', "0 has no 'width'"),
    "llava/llava_instruct_150k.json": (
        "llava",
        '[{"id": "7", "image": "000000000002.jpg", "conversations": [{"from": "gpt", "value": ""}]}]',
        "conversation 7: turn 0 is from 'gpt'",
    ),
    "vqav2/v2_mscoco_train2014_annotations.json": ("vqav2", '{"annotations": []}', "no answers to question 21"),
    "okvqa/OpenEnded_mscoco_train2014_questions.json": (
        "okvqa",
        '{"questions": [{"question_id": 1}]}',
        "questions 0 has no 'image_id'",
    ),
    "grefcoco/grefs(unc).json": ("grefcoco", '[{"ref_id": 1, "image_id": 1}]', "has no 'ann_id'"),
    "grefcoco/instances.json": ("grefcoco", '{"images": [], "annotations": []}', "no annotation 2, which ref 0 names"),
    "flickr30k/Annotations/1000092795.xml": ("flickr30k", "<annotation><size>", "flickr30k/1000092795-0.*cut off"),
}


@pytest.mark.parametrize("file", DAMAGE)
def test_damaged_files_are_named(tmp_path: Path, file: str) -> None:
    layouts.everything(tmp_path)
    source, content, message = DAMAGE[file]
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=message) as problem:
        open_source(source, tmp_path).samples()
    assert Path(file).name in str(problem.value)


@pytest.mark.parametrize("source", SOURCES)
def test_missing_files_name_the_command(tmp_path: Path, source: str) -> None:
    with pytest.raises(InputError, match=r"no .*(python -m pgpt_lib data|ROOT/)"):
        open_source(source, tmp_path)


@pytest.mark.skipif(not REALDATA, reason="PGPT_REALDATA, the folder of real photographs, is not set")
def test_real_coco_annotations(tmp_path: Path) -> None:
    real = Path(str(REALDATA)) / "coco"
    for kind in ("instances", "captions"):
        place = tmp_path / "coco" / "annotations" / f"{kind}_train2017.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(real / f"{kind}.json")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "train2017").symlink_to(real / "images")
    for name in ("coco_instances", "coco_captions"):
        reader = open_source(name, tmp_path)
        samples = reader.samples()
        assert len(samples) > 300
        pictures = [s for s in samples[:40] if Pictures(tmp_path).load_image(s.image_id).shape[:2] == s.size]
        assert len(pictures) == 40
    masks = [r.mask for s in open_source("coco_instances", tmp_path).samples() for r in s.turns[1].regions]
    assert len(masks) > 500 and all(mask is not None for mask in masks)
