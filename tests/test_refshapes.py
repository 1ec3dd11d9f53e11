"""RefShapes: scenes, pictures, words and files."""

import hashlib
import json
import pickle
from collections import Counter

import numpy as np
import pytest

from pgpt_lib.cli import main
from pgpt_lib.data.phrasings import PHRASINGS
from pgpt_lib.data.refshapes import (
    RefShapesStream,
    question_samples,
    rec_samples,
    scene_of,
    task_samples,
)
from pgpt_lib.data.refshapes.export import write_refshapes
from pgpt_lib.data.refshapes.levels import LEVELS, ROUND, SHAPES
from pgpt_lib.data.refshapes.phrases import Phrase, describe, refer
from pgpt_lib.data.refshapes.questions import OTHER, SCORED, ask
from pgpt_lib.data.refshapes.render import masks, render
from pgpt_lib.data.refshapes.scene import make_scene, stream
from pgpt_lib.data.refshapes.tasks import scene_regions
from pgpt_lib.data.refshapes.templates import coverage
from pgpt_lib.data.refshapes.vocabulary import SPECIAL, make_tokenizer, words
from pgpt_lib.errors import InputError

GOLDEN = {
    "pictures": "bec38c151bb20185",
    "masks": "2aca1533edbab14e",
    "words": "3f7b8015a6a5b31a",
}
GOLDEN_FILES = {
    "instances": "5bf3c185e993c6ae",
    "refs": "8d407752d636186e",
    "texts": "d351b75e4961f883",
    "tasks": "3c799b4d214ab883",
}


def golden() -> dict[str, str]:
    """Hashes over pictures, masks and words of twenty scenes a level."""
    pictures, outlines, text = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for level in LEVELS:
        for index in range(20):
            scene = make_scene(level, "golden", 1, index)
            pictures.update(render(scene).tobytes())
            outlines.update(np.packbits(masks(scene)).tobytes())
            for kind in (*SCORED, *OTHER):
                text.update(repr(ask(scene, stream("golden", kind, index), kind)).encode())
    return {"pictures": pictures.hexdigest()[:16], "masks": outlines.hexdigest()[:16], "words": text.hexdigest()[:16]}


def test_the_same_bytes_on_every_platform():
    assert golden() == GOLDEN


def golden_files(folder) -> dict[str, str]:
    """Hashes over what stands in the annotation files of twenty scenes a level: boxes, masks, sentences, answers."""
    found = {name: hashlib.sha256() for name in GOLDEN_FILES}
    for level in LEVELS:
        write_refshapes(folder / level, 20, 1, level)
        for path in sorted((folder / level).glob("ref*/*")):
            content = pickle.loads(path.read_bytes()) if path.suffix == ".p" else json.loads(path.read_text())
            found["refs" if path.suffix == ".p" else "instances"].update(json.dumps(content, sort_keys=True).encode())
        for kind, name in (
            ("texts", "captions.json"),
            ("texts", "questions.json"),
            ("tasks", "grefcoco/grefs(unc).json"),
            ("tasks", "dialogues.json"),
        ):
            found[kind].update(json.dumps(json.loads((folder / level / name).read_text()), sort_keys=True).encode())
    return {name: sha.hexdigest()[:16] for name, sha in found.items()}


def test_the_same_annotations_on_every_platform(tmp_path):
    assert golden_files(tmp_path) == GOLDEN_FILES


@pytest.mark.parametrize("level", LEVELS)
def test_boxes_and_areas_are_those_of_the_visible_masks(level):
    for index in range(30):
        scene = make_scene(level, "test", 0, index)
        low, high = scene.level.objects
        assert low <= len(scene.things) <= high
        bitmaps = masks(scene)
        assert (bitmaps.sum(0) <= 1).all(), "visible parts do not overlap"
        for thing, bitmap in zip(scene.things, bitmaps, strict=True):
            ys, xs = np.nonzero(bitmap)
            assert thing.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert thing.area == len(xs)
            hidden = 1 - thing.area / np.count_nonzero(thing.template())
            assert 100 * hidden <= scene.level.hidden


def test_scenes_hang_on_nothing_but_their_key():
    there = [make_scene("cpu", "test", 3, i) for i in range(5)]
    back = [make_scene("cpu", "test", 3, i) for i in reversed(range(5))]
    assert there == back[::-1]
    assert make_scene("cpu", "test", 4, 0) != there[0]
    assert make_scene("cpu", "val", 3, 0).things != there[0].things


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_fill_their_side(shape):
    small, large = coverage(shape, 20), coverage(shape, 80)
    assert max(large.shape) in range(72, 81)
    assert abs((small > 7).mean() - (large > 7).mean()) < 0.08, "a shape looks the same at every size"


def test_domino_has_two_parts_and_ring_a_hole():
    ndimage = pytest.importorskip("scipy.ndimage")
    assert ndimage.label(coverage("domino", 40) > 7)[1] == 2
    ring = coverage("ring", 40) > 7
    assert not ring[20, 20] and ndimage.label(~np.pad(ring, 1))[1] == 2


def test_nearer_objects_stand_lower_and_hide_farther_ones():
    scene = next(
        s
        for s in (make_scene("gpu", "test", 0, i) for i in range(50))
        if any(t.area < np.count_nonzero(t.template()) for t in s.things)
    )
    feet = [t.top + t.template().shape[0] for t in scene.things]
    assert feet == sorted(feet)
    assert np.count_nonzero(scene.things[-1].template()) == scene.things[-1].area, "nothing hides the nearest"


def test_every_word_is_one_token():
    known = set(words())
    for index in range(150):
        scene = make_scene("cpu", "test", 5, index)
        for kind in (*SCORED, *OTHER):
            question = ask(scene, stream("test", kind, index), kind)
            if question:
                assert {w for w in " ".join(question[1:]).split() if not w.isdigit()} <= known
    for task in ("rec", "several", "none", "caption", "region_caption", "region_question", "question", "reasoning"):
        for sample in task_samples(task, "val", 20, 0):
            for turn in sample.turns:
                assert set(turn.text.replace("<vis>", "").split()) <= known | set("0123456789"), turn.text


def test_tokenizer_falls_back_to_characters_and_keeps_digits_apart():
    tokenizer = make_tokenizer()
    assert tokenizer.tokenize("a zebra [0.125]") == [
        "a",
        "z",
        "##e",
        "##b",
        "##r",
        "##a",
        "[",
        "0",
        ".",
        "1",
        "2",
        "5",
        "]",
    ]
    assert tokenizer.decode(tokenizer("what zebra ?").input_ids) == "what zebra ?"
    for mark in SPECIAL:
        assert len(tokenizer.encode(mark)) == 1
    assert "<vis>" not in tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("dataset", "split", "low", "high"),
    [("refcoco", "val", 2.5, 4), ("refcoco+", "val", 2, 4), ("refcocog", "test", 7, 10)],
)
def test_styles_have_the_length_and_the_words_of_their_model(dataset, split, low, high):
    samples = rec_samples(dataset, split, 150, 0)
    lengths = [len(s.extra["expression"].split()) for s in samples]
    assert low <= np.mean(lengths) <= high
    if dataset == "refcoco+":
        places = {
            "left",
            "right",
            "top",
            "bottom",
            "leftmost",
            "rightmost",
            "highest",
            "lowest",
            "above",
            "below",
            "centre",
            "middle",
        }
        assert not any(places & set(s.extra["expression"].split()) for s in samples)


def test_test_splits_differ_in_kind():
    for split, of_kind in (("testA", True), ("testB", False)):
        for sample in rec_samples("refcoco", split, 30, 0):
            assert (scene_of(sample.image_id).things[sample.extra["object"]].shape in ROUND) == of_kind


def test_questions_are_balanced():
    samples = question_samples("val", 300, 0)
    for kind in SCORED:
        answers = Counter(s.turns[1].text for s in samples if s.extra["type"] == kind)
        assert max(answers.values()) <= 0.7 * sum(answers.values()), kind


def test_the_held_out_phrasing_is_never_trained():
    stream_of = RefShapesStream(
        "cpu",
        16,
        0,
        {"rec": 1, "several": 1, "caption": 1, "region_caption": 1, "region_question": 1, "spot_caption": 1},
        6,
    )
    trained = {t.text for step in range(4) for s in stream_of.batch(step, 8) for t in s.turns if t.role == "user"}
    held_out = {s.turns[0].text for task in ("rec", "several", "caption") for s in task_samples(task, "val", 20, 0)}
    assert not trained & held_out
    words = {word for text in trained for word in text.split()} | {"{x}"}
    unseen = PHRASINGS["rec"][-1:] + PHRASINGS["caption"][-1:]
    assert {word for text in unseen for word in text.split()} <= words


def test_a_scene_without_a_question_of_the_tasks_gives_way_to_the_next():
    """Facts are asked only of shapes that a scene has once; some scenes have none."""
    samples = [s for step in range(8) for s in RefShapesStream("smoke", 64, 0, {"fact": 1}, 2).batch(step, 8)]
    assert all(s.turns and s.turns[-1].role == "assistant" for s in samples)
    assert len({s.image_id for s in samples}) < 64  # some stepped aside
    assert samples == [s for step in range(8) for s in RefShapesStream("smoke", 64, 0, {"fact": 1}, 2).batch(step, 8)]


def test_tasks_that_no_scene_allows_are_an_error(monkeypatch):
    from pgpt_lib.data.refshapes import world

    monkeypatch.setattr(world, "make_exchange", lambda *_: None)
    with pytest.raises(InputError, match="none of 5 scenes allows a question of the tasks fact"):
        RefShapesStream("smoke", 5, 0, {"fact": 1}, 2).batch(0, 1)


def test_no_training_answer_with_a_region_reasons():
    from pgpt_lib.config import load_profile

    for profile in ("smoke", "cpu"):
        tasks = load_profile(profile).data.tasks
        assert "reasoning" not in tasks
        stream_of = RefShapesStream("cpu", 64, 0, tasks, 6)
        for sample in (s for step in range(8) for s in stream_of.batch(step, 8)):
            for user, assistant in zip(sample.turns[::2], sample.turns[1::2], strict=True):
                assert not ("one that" in user.text and assistant.regions), user.text


def test_the_stream_is_a_function_of_the_step():
    def make():
        return RefShapesStream("cpu", 20, 7, {"rec": 1, "question": 1}, 3)

    first = make()
    batches = [first.batch(step, 6) for step in range(5)]
    assert make().batch(4, 6) == batches[4]
    seen = [s.image_id for batch in batches[:3] for s in batch]
    assert len(set(seen)) == 18, "each scene once an epoch"
    assert set(s.image_id for b in batches for s in b) <= set(first.image_ids())


def test_a_prepared_stream_makes_no_scene_in_a_batch():
    ready = RefShapesStream("cpu", 30, 4141, {"rec": 1, "several": 1}, 3)

    def made() -> tuple[int, int]:
        return scene_of.cache_info().misses, scene_regions.cache_info().misses

    before = made()
    ready.prepare(12, 24)
    after = made()
    assert [b - a for a, b in zip(before, after, strict=True)] == [12, 12], "not the whole epoch"
    batch = ready.batch(1, 12)
    assert made() == after and len({s.image_id for s in batch}) == 12
    ready.prepare(0, 10**9)
    assert made()[0] - before[0] == 30
    RefShapesStream("cpu", scene_of.cache_info().maxsize + 1, 4142, {"rec": 1}, 3).prepare(0, 12)
    assert made()[0] - before[0] == 30, "more than are remembered"


def test_unclear_descriptions_are_refused():
    scene = make_scene("cpu", "test", 0, 0)
    for index in range(len(scene.things)):
        for style in ("refcoco", "refcoco+", "refcocog"):
            phrase = describe(scene, index, stream("test", style, index), style)
            assert phrase is None or refer(scene, phrase) == [index]
    assert refer(scene, Phrase(shape="circle", colour="red", rank="leftmost", size="big")) in (None, []), (
        "no two such circles"
    )


def test_depth_is_the_layer_order():
    for index in range(10):
        scene = make_scene("cpu", "test", 0, index)
        depths = [region.depth for region in scene_regions(scene)]
        assert depths == sorted(depths, reverse=True) and depths[0] == 1 and depths[-1] == 0


@pytest.mark.parametrize(
    ("scenes", "seed", "level", "named"),
    [(0, 0, "cpu", "0"), (-3, 0, "cpu", "-3"), (5, 0, "cpuu", "cpuu"), (5, -1, "cpu", "seed is -1")],
)
def test_bad_settings_write_nothing(tmp_path, scenes, seed, level, named):
    with pytest.raises(InputError, match=named):
        write_refshapes(tmp_path / "w", scenes, seed, level)
    assert not (tmp_path / "w").exists()


def test_a_seed_below_0_names_no_other_scene():
    with pytest.raises(InputError, match="seed is -1"):
        rec_samples("refcoco", "val", 1, seed=-1)


@pytest.mark.parametrize(
    "arguments",
    [["data", "refshapes", "--root", "there"], ["evaluate", "--checkpoint", "there"], ["pretrain", "--evaluate"]],
)
def test_commands_refuse_a_seed_below_0(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as status:
        main([*arguments, "--seed", "-1"])
    said = capsys.readouterr().err
    assert status.value.code == 2 and "--seed" in said and "-1" in said and not (tmp_path / "there").exists()


@pytest.mark.parametrize("image_id", ["", "cpu-val-0", "tpu-val-0-1", "cpu-val-x-1"])
def test_foreign_image_ids_are_named(image_id):
    with pytest.raises(InputError, match="names no RefShapes picture"):
        scene_of(image_id)
