"""The checker: it agrees with the generator on every scene, and rejects every kind of error that is planted."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import random
from pathlib import Path

import pytest

from pgpt_lib import cli
from pgpt_lib.data.refshapes import answers, checker, folder_check, meaning, rec_samples, scene_of
from pgpt_lib.data.refshapes.export import write_refshapes
from pgpt_lib.data.refshapes.tasks import STYLES, make_exchange, scene_regions
from pgpt_lib.data.refshapes.world import RefShapesStream
from pgpt_lib.data.sample import Turn
from pgpt_lib.errors import InputError

FORBIDDEN = ("phrases", "questions", "tasks", "scene", "levels", "vocabulary", "world", "entries", "export")
OPPOSITES = {"left": "right", "above": "below", "top": "bottom", "leftmost": "rightmost", "highest": "lowest"}
OPPOSITES |= {"biggest": "smallest"}
OPPOSITES |= {b: a for a, b in OPPOSITES.items()}


def thing(shape: str, colour: str, size: str, side: int, x: int, y: int, material: str = "plain") -> dict:
    """A square box of `side` pixels around a centre."""
    attributes = {"colour": colour, "size": size, "material": material, "side": side, "layer": 0}
    return {"category": shape, "bbox": [x - side // 2, y - side // 2, side, side], "attributes": attributes}


PICTURE = [
    thing("ring", "red", "small", 26, 15, 15),
    thing("circle", "red", "medium", 40, 78, 25),
    thing("circle", "blue", "small", 26, 50, 80),
    thing("star", "white", "small", 28, 15, 78, "striped"),
    thing("circle", "red", "small", 24, 83, 85),
]
OBJECTS = meaning.see(PICTURE, 100, 100)


@pytest.mark.parametrize("module", [meaning, answers, checker, folder_check])
def test_the_checker_shares_nothing_with_the_generator(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level == 1]
    assert not [node.module for node in imported if (node.module or "").split(".")[0] in ("", *FORBIDDEN)]
    inside = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert inside.isdisjoint({"refer", "describe", "fits", "related", "cell", "third", "Phrase"})


@pytest.mark.parametrize(
    ("text", "referents"),
    [
        ("red circle", [1, 4]),
        ("medium red circle", [1]),
        ("thing", [0, 1, 2, 3, 4]),
        ("striped thing", [3]),
        ("red blue thing", []),
        ("green circle", []),
        ("red circle at the bottom", [4]),
        ("circle on the left", []),
        ("thing at the top left", [0]),
        ("thing at the bottom middle", [2]),
        ("thing in the centre", []),
        ("leftmost circle", [2]),
        ("leftmost blue circle", [2]),
        ("biggest circle", [1]),
        ("thing to the left of the blue circle", [0, 3]),
        ("star below the biggest circle", [3]),
        ("one that you can wear on a finger", [0]),
        ("find all red circles .", [1, 4]),
        ("please locate the star .", [3]),
    ],
)
def test_what_words_mean(text, referents):
    assert checker.judge(text, PICTURE, 100, 100).referents == referents


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rightmost circle", "rightmost is too close"),
        ("smallest circle", "smallest is too close"),
        ("red circle below the blue circle", "relation is too close"),
        ("star above the red circle", "2 objects fit what"),
        ("shiny circle", "'shiny'"),
        ("circle near the star", "'near the star'"),
        ("red", "no noun"),
        ("find all red circle .", "number disagree"),
        ("find the red circles .", "number disagree"),
    ],
)
def test_what_is_unclear_is_said_to_be(text, reason):
    verdict = checker.judge(text, PICTURE, 100, 100)
    assert verdict.referents is None and reason in verdict.reason


def test_a_place_near_a_border_is_unclear_unless_the_other_axis_rules_it_out():
    near = [thing("star", "red", "small", 20, 35, 20)]
    assert checker.judge("star on the left", near, 100, 100).referents is None
    assert checker.judge("star at the top left", near, 100, 100).referents is None
    assert checker.judge("star at the bottom left", near, 100, 100).referents == []
    assert checker.judge("star on the right", near, 100, 100).referents == []


@pytest.mark.parametrize(
    ("error", "text", "right", "planted"),
    [
        ("wrong referent", "blue circle", [2], [1]),
        ("several where one is meant", "medium red circle", [1], [1, 4]),
        ("one target of several missing", "find all circles .", [2, 1, 4], [2, 4]),
        ("a target too many", "find all red circles .", [1, 4], [0, 1, 4]),
        ("several out of order", "find all circles .", [2, 1, 4], [1, 2, 4]),
        ("no target where there is one", "find the blue circle .", [2], []),
        ("a target where there is none", "find the blue star .", [], [3]),
        ("wrong rank", "leftmost circle", [2], [1]),
        ("wrong fact", "one that has five points", [3], [0]),
    ],
)
def test_planted_targets_are_rejected(error, text, right, planted):
    assert checker.expression_error(text, right, OBJECTS) is None
    assert checker.expression_error(text, planted, OBJECTS), error


@pytest.mark.parametrize(
    ("error", "right", "planted", "target"),
    [
        ("dropped word", "medium red circle", "red circle", 1),
        ("dropped anchor word", "star below the biggest circle", "star below the circle", 3),
        ("wrong side", "red circle at the bottom", "red circle at the top", 4),
        ("wrong part", "thing at the bottom left", "thing at the bottom right", 3),
        ("opposite rank", "biggest red circle", "smallest red circle", 1),
        ("swapped relation", "ring to the left of the blue circle", "ring to the right of the blue circle", 0),
        ("relation turned round", "ring above the star", "star above the ring", 0),
        ("plural for one", "blue circle", "blue circles", 2),
        ("wrong colour", "blue circle", "red circle", 2),
    ],
)
def test_planted_words_are_rejected(error, right, planted, target):
    assert checker.expression_error(right, [target], OBJECTS) is None
    assert checker.expression_error(planted, [target], OBJECTS), error


@pytest.mark.parametrize(
    ("question", "right", "planted"),
    [
        ("what colour is the star ?", "white", "red"),
        ("what shape is the white thing ?", "star", "ring"),
        ("what size is the leftmost circle ?", "small", "medium"),
        ("which part holds the ring ?", "top left", "top right"),
        ("how many red circles are there ?", "two", "three"),
        ("is there a blue circle ?", "yes", "no"),
        ("is there an orange ring ?", "no", "yes"),
        ("what is the thing at the bottom left ?", "a small striped white star", "a small white star"),
        ("where exactly is the ring ?", "very high , far left", "very high , left"),
        ("what size is the one that you can wear on a finger ?", "small", "big"),
        ("what shape is the one that has four corners ?", "square", "cross"),
        ("is the star striped ?", "yes", "no"),
        ("list the colours from left to right .", None, "red , white , blue , red , red"),
        ("count the circles , rings , dominoes .", "[ 3 , 1 , 0 ]", "[ 3 , 0 , 1 ]"),
        ("write two as a digit .", "2", "3"),
        ("write 7 as a word .", "seven", "six"),
        ("count on from 2 .", "[ 3 , 4 , 5 ]", "[ 2 , 3 , 4 ]"),
        ("repeat [ 0 . 1 2 , 0 . 3 4 ] .", "[ 0 . 1 2 , 0 . 3 4 ]", "[ 0 . 1 2 ]"),
        ("sort [ 7 , 1 , 3 ] .", "[ 1 , 3 , 7 ]", "[ 7 , 3 , 1 ]"),
        ("is there an blue circle ?", None, "yes"),
        ("how many circle are there ?", None, "three"),
        ("what colour is the circle ?", None, "red"),
        ("why ?", None, "no"),
    ],
)
def test_planted_answers_are_rejected(question, right, planted):
    if right is not None:
        assert answers.answer_error(question, right, OBJECTS) is None
    assert answers.answer_error(question, planted, OBJECTS)


def test_the_nth_thing_is_counted_from_the_side_that_is_named():
    assert answers.answer_error("what shape is the second thing from the left ?", "circle", OBJECTS[1:]) is None
    assert answers.answer_error("what shape is the fourth thing from the right ?", "star", OBJECTS[1:]) is None
    assert answers.answer_error("what shape is the first thing from the right ?", "star", OBJECTS[1:])
    assert "no fifth" in answers.answer_error("what shape is the fifth thing from the left ?", "star", OBJECTS[1:])


def test_captions_name_every_object_once_in_order():
    objects = OBJECTS[1:]
    right = "a striped white star , a blue circle , a red circle and a red circle"
    assert answers.caption_error(right, objects) is None
    assert answers.caption_error(right, objects, "y")
    for planted in (
        "a striped white star , a blue circle and a red circle",
        "a white star , a blue circle , a red circle and a red circle",
        "a blue circle , a striped white star , a red circle and a red circle",
        "a striped white star , a blue circle , a red circle , a red circle",
        "a striped white star , a blue circle , a red circle , a red circle and a red circle",
        "a small striped white star , a blue circle , a red circle and a red circle",
    ):
        assert answers.caption_error(planted, objects), planted


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bbox": [90, 0, 20, 20]}, "does not lie in"),
        ({"category": "blob"}, "blob"),
        ({"attributes": {}}, "colour"),
    ],
)
def test_annotations_that_cannot_be_judged_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        checker.judge("star", [PICTURE[0] | change], 100, 100)


@pytest.mark.parametrize("level", ["smoke", "cpu", "gpu"])
def test_the_generator_is_right_on_every_level(level):
    scenes = 40 if level == "gpu" else 150  # crowded scenes take long to fit
    found = checker.check_scenes(level, "val", 3, scenes)
    wrong = {kind: entry["examples"] for kind, entry in found["kinds"].items() if entry["wrong"]}
    assert wrong == {} and found["right"] == found["checked"] > 25 * scenes


def test_training_dialogues_are_right_too():
    tasks = dict.fromkeys(("rec", "several", "none", "reasoning", "region_caption", "region_question"), 1.0)
    stream = RefShapesStream("cpu", 60, 3, tasks | dict.fromkeys(("caption", "spot_caption", "question"), 1.0), 4)
    for sample in stream.batch(0, 60):
        annotations = checker.plain_annotations(scene_of(sample.image_id))
        for user, assistant in zip(sample.turns[::2], sample.turns[1::2], strict=True):
            assert checker.exchange_error(user, assistant, annotations, *sample.size[::-1]) is None, user.text


@pytest.mark.parametrize("style", STYLES)
def test_every_other_object_and_every_opposite_word_is_rejected(style):
    swapped = 0
    for sample in rec_samples(style, "val", 40, 3, "cpu", kinds=False):
        annotations = checker.plain_annotations(scene_of(sample.image_id))
        objects, text = meaning.see(annotations, 112, 112), sample.extra["expression"]
        for i in range(len(objects)):
            assert (checker.expression_error(text, [i], objects) is None) == (i == sample.extra["object"])
        words = text.split()
        for k, word in enumerate(words):
            if word in OPPOSITES:
                planted = " ".join((*words[:k], OPPOSITES[word], *words[k + 1 :]))
                # An opposite in an anchor may leave the target the same; one in the phrase itself never does.
                own = not any(w in ("above", "below", "of") for w in words[:k])
                swapped += own
                assert not own or checker.expression_error(planted, [sample.extra["object"]], objects), planted
    assert swapped > 20 or style == "refcoco+"


def test_planted_regions_are_rejected():
    scenes = (scene_of(f"cpu-val-3-{i}") for i in range(20))
    scene = next(s for s in scenes if len({(t.colour, t.shape) for t in s.things}) == len(s.things) > 3)
    annotations, regions = checker.plain_annotations(scene), scene_regions(scene)
    for task in ("region_caption", "region_question", "spot_caption", "several", "none", "reasoning"):
        rng = random.Random(4)
        tries = (make_exchange(task, scene, rng) for _ in range(99))
        made = next((m for m in tries if m and (not m.user.regions or "wrong" in m.extra)), None)
        if made is None:
            continue
        user, assistant = made.user, made.assistant
        assert checker.exchange_error(user, assistant, annotations, 112, 112) is None
        if user.regions:
            planted = (Turn("user", user.text, (made.extra["wrong"],)), assistant)
        elif assistant.regions:
            planted = (user, Turn("assistant", assistant.text, assistant.regions[1:] + assistant.regions[:1]))
            if len(assistant.regions) == 1:
                other = next(r for r in regions if r != assistant.regions[0])
                planted = (user, Turn("assistant", assistant.text, (other,)))
        else:
            planted = (user, Turn("assistant", "<vis>", regions[:1]))
        assert checker.exchange_error(*planted, annotations, 112, 112), task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("refshapes")
    write_refshapes(root, 20, 3)
    return root


def test_a_written_folder_is_right(folder, capfd):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["data", "check", "--root", str(folder), "--json"])
    found = json.loads(capfd.readouterr().out)
    assert found["wrong"] == 0 and found["kinds"]["captions"]["checked"] == 60
    assert {"refcoco", "refcoco+", "refcocog", "several", "none"} <= set(found["kinds"])
    assert {"reasoning", "region_caption", "region_question", "spot_caption", "question: place"} <= set(found["kinds"])


def test_scenes_are_checked_without_a_folder(capfd):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["data", "check", "--scenes", "12", "--seed", "3", "--level", "smoke", "--json"])
    found = json.loads(capfd.readouterr().out)
    assert found["scenes"] == 12 and found["wrong"] == 0
    assert {"refcoco", "several", "none", "reasoning", "region_caption", "question: count"} <= set(found["kinds"])


@pytest.mark.parametrize("arguments", [[], ["--root", "there", "--scenes", "3"]])
def test_a_folder_or_scenes_are_checked_not_both(arguments, capfd):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["data", "check", *arguments])
    assert "one of --root" in capfd.readouterr().err


def _drop_a_colour(refs: list[dict]) -> None:
    """The first expression that loses its only mark with its colour."""
    sentence = next(s for ref in refs for s in ref["sentences"] if s["sent"].split()[0] in meaning.COLOURS)
    sentence["sent"] = "thing"


@pytest.mark.parametrize(
    ("name", "kind", "change"),
    [
        ("refcoco/refs(unc).p", "refcoco", _drop_a_colour),
        ("refcoco+/refs(unc).p", "refcoco+", lambda refs: refs[0]["sentences"][0].update(sent="leftmost thing")),
        ("grefcoco/grefs(unc).json", "several", lambda refs: _meaning(refs, True)["ann_id"].pop()),
        ("grefcoco/grefs(unc).json", "several", lambda refs: _meaning(refs, True)["ann_id"].reverse()),
        ("grefcoco/grefs(unc).json", "none", lambda refs: _meaning(refs, False)["sentences"][0].update(sent="things")),
        ("captions.json", "captions", lambda c: c["annotations"][0].update(caption="a red circle")),
        ("questions.json", "question: count", lambda c: _of(c, "count").update(answer="nine")),
        ("questions.json", "question: existence", lambda c: _of(c, "existence").update(answer="perhaps")),
        ("dialogues.json", "reasoning", lambda c: _asked(c, "reasoning")[0].update(text="find the thing .")),
        ("dialogues.json", "region_caption", lambda c: _asked(c, "region_caption")[1].update(text="a red plate")),
        ("dialogues.json", "region_question", lambda c: _asked(c, "region_question")[0]["ann_ids"].clear()),
        ("dialogues.json", "spot_caption", lambda c: _asked(c, "spot_caption")[1]["ann_ids"].sort(reverse=True)),
    ],
)
def test_planted_errors_in_a_folder_are_found(folder, name, kind, change, capfd):
    path = folder / name
    kept = path.read_bytes()
    content = pickle.loads(kept) if path.suffix == ".p" else json.loads(kept)
    changed = copy.deepcopy(content)
    change(changed)
    path.write_bytes(pickle.dumps(changed) if path.suffix == ".p" else json.dumps(changed).encode())
    try:
        found = folder_check.check_folder(folder)
        assert found["wrong"] == found["kinds"][kind]["wrong"] == len(found["kinds"][kind]["examples"]) == 1
        with pytest.raises(SystemExit, match="1"):
            cli.main(["data", "check", "--root", str(folder)])
        assert "1 wrong" in capfd.readouterr().out
    finally:
        path.write_bytes(kept)


def _of(content: dict, kind: str) -> dict:
    return next(entry for entry in content["questions"] if entry["question_type"] == kind)


def _meaning(refs: list[dict], something: bool) -> dict:
    """An expression of gRefCOCO that means several objects, or none."""
    return next(ref for ref in refs if ref["no_target"] != something)


def _asked(content: dict, task: str) -> list[dict]:
    """The turns of a task's first dialogue."""
    return next(entry["turns"] for entry in content["dialogues"] if entry["task"] == task)


def test_an_object_of_another_picture_is_an_error_of_the_file(folder):
    path = folder / "dialogues.json"
    kept = path.read_bytes()
    content = json.loads(kept)
    _asked(content, "reasoning")[1]["ann_ids"] = [10**6]
    path.write_text(json.dumps(content))
    try:
        with pytest.raises(InputError, match="dialogues.json: annotation 1000000 is none of its picture's"):
            folder_check.check_folder(folder)
    finally:
        path.write_bytes(kept)


def test_a_folder_that_was_not_written_by_the_project_is_refused(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        folder_check.check_folder(tmp_path / "nothing")
