"""The mixture: shares, batches as functions of the step, and no picture of a test split in training."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from collections import Counter
from pathlib import Path

import big_layouts as layouts
import pytest

from pgpt_lib.cli import main
from pgpt_lib.config import load_profile
from pgpt_lib.data import leakage
from pgpt_lib.data.mixture import BLOCK, MixtureStream, shares
from pgpt_lib.data.phrasings import held_out_phrasing
from pgpt_lib.data.sources import SOURCES, open_source
from pgpt_lib.data.streams import build_stream
from pgpt_lib.errors import InputError

ALL = dict.fromkeys(SOURCES, 1.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = layouts.everything(tmp_path_factory.mktemp("data"))
    layouts.karpathy(root)
    return root


def source_of(sample) -> str:
    return sample.sample_id.split("/")[0]


def test_protected_pictures_have_all_their_names(root: Path) -> None:
    found = leakage.protected_pictures(root)
    karpathys = {"coco/3", "coco/4", "flickr30k/1009434119", "flickr/1009434119"}
    assert found == {"coco/5", "coco/6", "coco/4", f"flickr/{layouts.FLICKR_OF_5}"} | karpathys


EXPECTED = {  # records, removed, pictures; by hand from `big_layouts`
    "coco_captions": (12, 8, 4),
    "coco_karpathy": (2, 0, 0),
    "coco_instances": (6, 2, 1),
    "flickr30k": (2, 1, 1),
    "flickr30k_captions": (1, 0, 0),
    "visual_genome": (4, 2, 1),
    "llava": (2, 1, 1),
    "vqav2": (2, 1, 1),
    "okvqa": (2, 1, 1),
    "refcoco": (3, 1, 1),
    "refcoco+": (3, 0, 0),
    "refcocog": (3, 0, 0),
    "grefcoco": (3, 0, 0),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_guard_removes_and_counts(root: Path, name: str) -> None:
    protected = leakage.protected_pictures(root)
    reader = open_source(name, root)
    kept, removed = leakage.guard(reader, protected)
    records, gone, pictures = EXPECTED[name]
    assert removed.as_dict() == {"records": records, "removed": gone, "removed_pictures": pictures}
    assert len(kept) == records - gone
    assert all(protected.isdisjoint(reader.aliases(int(i))) for i in kept)


def test_no_batch_holds_a_protected_picture(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = MixtureStream(root, ALL, seed=0)
    printed = capsys.readouterr().err
    assert "leakage guard: coco_captions: 8 of 12 records removed (4 pictures)" in printed
    assert {name: (r.records, r.records - r.kept, r.pictures) for name, r in stream.removed.items()} == EXPECTED
    seen = {sample.image_id for step in range(40) for sample in stream.batch(step, 25)}
    forbidden = {"coco/3", "coco/4", "coco/5", "coco/6", "visual_genome/72", f"flickr30k/{layouts.FLICKR_OF_5}"}
    assert not seen & forbidden and seen <= set(stream.image_ids()) and not forbidden & set(stream.image_ids())
    assert all(stream.images.load_image(key).shape == (40, 60, 3) for key in stream.image_ids())


def test_without_the_test_splits_nothing_is_trained_on(root: Path, tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    with pytest.raises(InputError, match=r"no .*refcoco: its val and test pictures .*data refcoco --root"):
        MixtureStream(tmp_path, {"coco_captions": 1}, seed=0)


@pytest.mark.parametrize(
    ("dataset", "split", "by"), [("refcoco", "testA", "unc"), ("refcoco+", "val", "unc"), ("refcocog", "test", "umd")]
)
def test_a_set_without_an_official_split_protects_nothing(tmp_path: Path, dataset: str, split: str, by: str) -> None:
    layouts.refcoco(tmp_path)
    path = tmp_path / dataset / f"refs({by}).p"
    path.write_bytes(pickle.dumps([ref for ref in pickle.loads(path.read_bytes()) if ref["split"] != split]))
    with pytest.raises(InputError, match=f"has no expression of {split}: .*--fresh") as problem:
        MixtureStream(tmp_path, {"refcoco": 1}, seed=0)
    assert str(tmp_path / dataset) in str(problem.value)


def test_shares_are_exact(root: Path) -> None:
    stream = MixtureStream(root, {"refcoco": 2, "vqav2": 1, "coco_captions": 1}, seed=3)
    block = [source_of(s) for s in stream.batch(0, BLOCK)]
    assert Counter(block) == {"refcoco": 500, "vqav2": 250, "coco_captions": 250}
    assert Counter(block[:100])["refcoco"] < 75, "sources are mixed within a block"
    assert shares({"refcoco": 1, "llava": 1, "vqav2": 1}) in (
        {"refcoco": 334, "llava": 333, "vqav2": 333},
        {"refcoco": 333, "llava": 334, "vqav2": 333},
        {"refcoco": 333, "llava": 333, "vqav2": 334},
    )


def test_a_batch_is_a_function_of_seed_and_step(root: Path) -> None:
    stream = MixtureStream(root, ALL, seed=0)
    whole = [sample for step in range(8) for sample in stream.batch(step, 5)]
    assert MixtureStream(root, ALL, seed=0).batch(0, 40) == whole
    assert stream.batch(2, 5) == whole[10:15] and MixtureStream(root, ALL, seed=1).batch(0, 40) != whole


def test_a_source_gives_every_record_once_before_it_repeats_one(root: Path) -> None:
    stream = MixtureStream(root, {"grefcoco": 1, "coco_captions": 1, "llava": 1}, seed=0, turns=2)
    for source in stream.sources.values():
        count = source.dialogues
        epochs = [[source.dialogue(number) for number in range(e * count, (e + 1) * count)] for e in (0, 1)]
        answers = [sorted(t.text for s in epoch for t in s.turns if t.role == "assistant") for epoch in epochs]
        kept = leakage.guard(source.reader, leakage.protected_pictures(root))[0]
        assert (
            answers[0]
            == answers[1]
            == sorted(t.text for i in kept for t in source.reader.sample(int(i)).turns if t.role == "assistant")
        )
        assert {s.sample_id for s in epochs[0]}.isdisjoint({s.sample_id for s in epochs[1]})
    given = [
        [n * stream.counts[name] // BLOCK - s.dialogues for name, s in stream.sources.items()]
        for n in (stream.epoch_length - 1, stream.epoch_length)
    ]
    assert min(given[0]) < 0 <= min(given[1]), "an epoch is as long as the source that needs longest"
    longest = max(len(s.turns) for s in stream.batch(0, 60) if source_of(s) == "grefcoco")
    assert longest == 4, "two expressions of a picture in a dialogue"
    assert all(len(s.turns) == 2 for s in stream.batch(0, 60) if source_of(s) == "coco_captions")


def test_a_phrase_is_not_asked_for_after_it_was_said(root: Path) -> None:
    """Finding a region by its phrase and describing that region do not share a dialogue."""
    stream = MixtureStream(root, {"visual_genome": 1}, seed=0)
    assert {len(s.turns) for s in stream.batch(0, 20)} == {2}
    assert {bool(s.turns[0].regions) for s in stream.batch(0, 20)} == {True, False}


def test_training_never_asks_in_the_held_out_phrasing(root: Path) -> None:
    stream = MixtureStream(root, {"coco_captions": 1, "vqav2": 1}, seed=0)
    asked = {sample.turns[0].text for step in range(4) for sample in stream.batch(step, 25)}
    assert held_out_phrasing("caption") not in asked
    assert not any(text.endswith(held_out_phrasing("vqa").removeprefix("{x} ")) for text in asked)


def test_pictures_that_were_not_laid_out_are_named_at_the_start(tmp_path: Path) -> None:
    layouts.everything(tmp_path)
    shutil.rmtree(tmp_path / "flickr30k" / "images")
    with pytest.raises(InputError, match="no picture 'flickr30k/1000092795'.*looked for flickr30k/images"):
        MixtureStream(tmp_path, {"flickr30k": 1}, seed=0)


def test_pictures_that_llava_took_from_visual_genome_have_their_coco_names(tmp_path: Path) -> None:
    layouts.refcoco(tmp_path)
    layouts.visual_genome(tmp_path)
    talk = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]
    names = [
        "vg/VG_100K_2/72.jpg",
        "gqa/images/72.jpg",
        "vg/VG_100K/71.jpg",
        "gqa/images/71.jpg",
        "ocr_vqa/images/72.jpg",
    ]
    entries = [{"id": str(i), "image": name, "conversations": talk} for i, name in enumerate(names)]
    layouts.write(tmp_path / "llava" / "llava_instruct_150k.json", entries)
    kept, removed = leakage.guard(open_source("llava", tmp_path), leakage.protected_pictures(tmp_path))
    assert kept.tolist() == [2, 3, 4] and removed.pictures == 2, "72 is COCO's 5"
    (tmp_path / "visual_genome" / "image_data.json").unlink()
    with pytest.raises(InputError, match="only .*image_data.json tells"):
        leakage.guard(open_source("llava", tmp_path), leakage.protected_pictures(tmp_path))


def test_a_model_trains_on_every_source_and_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = layouts.everything(tmp_path / "data")
    layouts.karpathy(root)
    from pgpt_lib.evaluation.checkpoint import evaluate_checkpoint
    from pgpt_lib.training import train

    monkeypatch.setenv("PGPT_CACHE", str(tmp_path / "cache"))
    data = {"root": str(root), "sources": ALL, "turns": 3}
    profile = load_profile("smoke", {"data": data, "training.batch_size": 16})
    result = train(profile, tmp_path / "run", 0, steps=2, progress=False)
    assert result.steps == 2 and all(math.isfinite(loss) for loss in result.losses.values())
    assert result.losses["l1"] > 0 and result.losses["bce"] > 0, "regions with boxes and with masks came along"
    typed = load_profile("smoke", {"data": data | {"root": os.path.relpath(root)}, "training.batch_size": 16})
    assert train(typed, tmp_path / "run", 0, steps=2, resume=True, progress=False).resumed_from == 2, "the same folder"
    for dataset, split, key in (("okvqa", "val", "vqa"), ("coco", "test", "caption"), ("grefcoco", "val", "acc@0.5")):
        found = evaluate_checkpoint(result.checkpoint, "benchmark", dataset, split, root=root)
        assert found[key] is not None and found["scenes"] > 0
    with pytest.raises(InputError, match="unknown benchmark 'okvqa/train'"):
        evaluate_checkpoint(result.checkpoint, "benchmark", "okvqa", "train", root=root)


# ------------------------------------------------------------------------------------------------------- configuration
def test_a_profile_names_sources(root: Path) -> None:
    profile = load_profile("smoke", {"data": {"root": str(root), "sources": {"refcoco": 3, "llava": 1}, "turns": 2}})
    assert profile.data.name == "mixture"
    stream = build_stream(profile, 0)
    assert isinstance(stream, MixtureStream) and stream.counts == {"refcoco": 750, "llava": 250}
    assert load_profile("smoke").data.name == "refshapes" and load_profile("photos").data.name == "refer"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "mixture"}, "a mixture needs sources"),
        ({"name": "refer", "sources": {"llava": 1}}, "belongs to data.name: mixture"),
        ({"sources": {"llava": -1}}, "data.sources.llava"),
    ],
)
def test_settings_that_contradict_each_other(data: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_profile("smoke", {"data": data})


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"paris": 1}, "unknown source 'paris'; there are coco_captions"),
        ({}, "empty"),
        ({"refcoco": 1, "llava": 1e-9}, "llava = 1e-09 is less than"),
        ({"refcoco": 0}, "refcoco = 0; a share is above 0"),
    ],
)
def test_sources_that_make_no_mixture(root: Path, sources: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MixtureStream(root, sources, seed=0)


def test_a_mixture_needs_a_root() -> None:
    with pytest.raises(InputError, match="trains on llava: give their folder, --root"):
        build_stream(load_profile("smoke", {"data": {"sources": {"llava": 1}}}), 0)


def test_a_source_without_a_record_left(root: Path, tmp_path: Path) -> None:
    layouts.refcoco(tmp_path)
    layouts.write(
        tmp_path / "llava" / "llava_instruct_150k.json",
        [
            {
                "id": "5",
                "image": "000000000005.jpg",
                "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}],
            }
        ],
    )
    with pytest.raises(InputError, match="source llava: no record is left of 1"):
        MixtureStream(tmp_path, {"llava": 1}, seed=0)


def test_the_command_counts_leaks(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["data", "leakage", "--root", str(root), "--json"])
    assert not end.value.code
    found = json.loads(capsys.readouterr().out)
    assert {name: tuple(entry.values()) for name, entry in found["sources"].items()} == EXPECTED
    assert found["removed"] == sum(gone for _, gone, _ in EXPECTED.values())
