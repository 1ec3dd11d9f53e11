"""Projects: questions without their truth, and a leaderboard that believes predictions only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pgpt_lib.checkpoint_files import State
from pgpt_lib.cli import main
from pgpt_lib.config import load_profile
from pgpt_lib.course import answering
from pgpt_lib.course.leaderboard import claim, leaderboard, skill
from pgpt_lib.course.projects import BOXES, PROJECTS, SIGNAL, project_page
from pgpt_lib.course.splits import DATASET, SPLIT, write_split
from pgpt_lib.data.images import read_image
from pgpt_lib.data.refcoco import RefCOCO
from pgpt_lib.errors import InputError
from pgpt_lib.files import write_json
from pgpt_lib.model import build_model
from pgpt_lib.project import ROOT
from pgpt_lib.scoring import Truth, score_predictions, truths_of
from pgpt_lib.signals import SIGNALS, DepthSignal
from pgpt_lib.signals.base import MLP


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("splits")
    for name, seed in (("open", 5), ("hidden", None)):
        write_split(root / name, pictures=2, seed=seed, level="smoke")
    return {name: root / name for name in ("open", "hidden")}


@pytest.fixture(scope="module")
def truths(splits: dict[str, Path]) -> dict[str, list[Truth]]:
    return {name: truths_of(RefCOCO(folder / "truth", DATASET, SPLIT)) for name, folder in splits.items()}


def boxes(truths: list[Truth], right: int) -> list[dict]:
    """True boxes for the first `right` sentences, none for the others."""
    return [{"sent_id": t.sent_id, "bbox": list(t.bbox) if i < right else None} for i, t in enumerate(truths)]


def hand_in(folder: Path, truths: dict[str, list[Truth]], open_right: int, hidden_right: int, **result) -> Path:
    folder.mkdir(parents=True)
    claim = open_right / len(truths["open"])
    content = {"name": folder.name, "project": "better-boxes", "claimed": {"acc@0.5": claim}}
    content |= {"budget": {"samples": 1000, "parameters": 5000}} | result
    (folder / "result.json").write_text(json.dumps(content))
    (folder / "open.json").write_text(json.dumps(boxes(truths["open"], open_right)))
    (folder / "hidden.json").write_text(json.dumps(boxes(truths["hidden"], hidden_right)))
    return folder


def test_students_cannot_tell_the_scene_from_what_they_get(splits, truths):
    for name, folder in splits.items():
        seed = json.loads((folder / "truth" / "world.json").read_text())["seed"]
        questions = json.loads((folder / "questions" / "questions.json").read_text())
        assert questions and all(set(q) == {"sent_id", "image", "expression"} for q in questions)
        names = {path.name for path in (folder / "questions").iterdir()}
        assert names == {"questions.json", "picture_00001.png", "picture_00002.png"}
        assert {q["image"] for q in questions} == names - {"questions.json"}
        numbers = list(range(1, len(questions) + 1))  # whatever the seed
        assert [q["sent_id"] for q in questions] == numbers
        assert sorted(t.sent_id for t in truths[name]) == sorted(t.ref_id for t in truths[name]) == numbers
        if name == "hidden":
            assert seed > 2**40  # drawn, and not to be found by trying
            assert not any(str(seed) in path.read_text(errors="ignore") for path in (folder / "questions").iterdir())
    with pytest.raises(InputError, match="not an empty folder"):
        write_split(splits["open"], 2)
    with pytest.raises(InputError, match="--pictures is 0"):
        write_split(splits["open"] / "new", 0)


def test_a_questions_number_is_that_of_its_truth_and_says_nothing_of_its_scene(tmp_path):
    write_split(tmp_path, pictures=4, seed=5, level="smoke")
    truth = RefCOCO(tmp_path / "truth", DATASET, SPLIT)
    asked = {q["sent_id"]: q for q in json.loads((tmp_path / "questions" / "questions.json").read_text())}
    for ref in truth.refs:
        for sentence in ref.sentences:
            question = asked.pop(sentence.sent_id)
            assert question["expression"] == sentence.text
            picture = read_image(tmp_path / "questions" / question["image"])
            assert (picture == truth.load_image(ref.image_id)).all()
    assert not asked
    scenes = [int(ref.image_id) for ref in sorted(truth.refs, key=lambda ref: ref.ref_id)]
    assert scenes != sorted(scenes)


def test_the_leaderboard_ranks_by_hidden_scores_and_refuses_false_claims(tmp_path, splits, truths):
    n, hidden = len(truths["open"]), len(truths["hidden"])
    half, most = n // 2, hidden - 1
    handed = tmp_path / "handed"
    base = hand_in(tmp_path / "base", truths, half, hidden // 2)
    hand_in(handed / "good", truths, half, most)
    hand_in(handed / "plain", truths, half, hidden // 2)
    hand_in(handed / "boaster", truths, half, most, claimed={"acc@0.5": 0.99})
    hand_in(handed / "spender", truths, half, most, budget={"samples": 1001, "parameters": 5000})
    hand_in(handed / "vague", truths, half, most, claimed={"acc@0.5": "high"})
    hand_in(handed / "lost", truths, half, most, project="something")
    short = hand_in(handed / "short", truths, half, most)
    (short / "hidden.json").write_text(json.dumps(boxes(truths["hidden"], most)[1:]))
    (hand_in(handed / "empty", truths, half, most) / "open.json").unlink()
    (hand_in(handed / "broken", truths, half, most) / "result.json").write_text("{")
    (handed / "late").mkdir()
    (handed / ".hidden").mkdir()
    (handed / "notes.txt").touch()
    table = leaderboard(handed, splits["open"], splits["hidden"], base)
    rows = {row["folder"]: row for row in table["rows"]}
    assert [row["folder"] for row in table["rows"][:2]] == ["good", "plain"] and table["refused"] == 8
    assert rows["good"]["score"] == pytest.approx(most / hidden)
    assert rows["good"]["points"] == rows["good"]["of"] == 40 and rows["plain"]["points"] == 10
    for name, reason in {
        "boaster": f"score {half / n:.4f} on the open questions, claimed is 0.9900",
        "spender": "1001 samples, the budget is 1000",
        "vague": "'high', not a number",
        "lost": "'something'; there are better-boxes",
        "short": "hidden.json leaves out 1 questions",
        "empty": "open.json",
        "broken": "no JSON object",
        "late": "it holds no result.json",
    }.items():
        assert reason in rows[name]["refused"] and rows[name]["points"] == 0, name
    assert leaderboard(handed, splits["open"], splits["hidden"])["rows"][0]["points"] == 10  # nothing to be better than
    (base / "result.json").write_text("[]")
    with pytest.raises(InputError, match="the baseline .* is refused"):
        leaderboard(handed, splits["open"], splits["hidden"], base)


def test_a_malformed_hand_in_is_refused_and_the_others_are_ranked(tmp_path, splits, truths):
    n, some = len(truths["open"]), 10**400
    signal = {"project": "own-signal", "quantity": "centre", "claimed": {"skill": 1.0}}
    first = {"sent_id": truths["open"][0].sent_id}
    hand_in(tmp_path / "fair", truths, n, 1, name="two\nlines \ud800")
    malformed: dict[str, tuple[dict[str, Any], Any, str]] = {
        "claim": ({"claimed": 0.61}, None, "claimed in result.json is 0.61, not an object"),
        "budget": ({"budget": 1000}, None, "budget in result.json is 1000, not an object"),
        "no budget": ({"budget": None}, None, "budget in result.json is None, not an object"),
        "huge": ({"claimed": {"acc@0.5": some}}, None, "not a number"),
        "endless": ({"claimed": {"acc@0.5": float("inf")}}, None, "is inf, not a number"),
        "project": ({"project": ["better-boxes"]}, None, "['better-boxes']; there are"),
        "number": (signal, [{"sent_id": [1], "value": None}], "unknown or repeated sent_id"),
        "true": (signal, [{"sent_id": True, "value": None}], "unknown or repeated sent_id"),
        "value": (signal, [first | {"value": [some, 0]}], "a list of 2 numbers"),
        "text": (signal, ["\ud800"], "unknown or repeated sent_id"),
        "deep": ({}, "[" * 100_000, "not valid JSON"),
    }
    for name, (result, given, _) in malformed.items():
        folder = hand_in(tmp_path / name, truths, n, 1, **result)
        if given is not None:
            (folder / "open.json").write_text(given if isinstance(given, str) else json.dumps(given))
    deep = hand_in(tmp_path / "deeper", truths, n, 1) / "result.json"
    deep.write_text("[" * 100_000)
    table = leaderboard(tmp_path, splits["open"], splits["hidden"])
    fair, *refused = table["rows"]
    assert (fair["folder"], fair["name"], fair["place"]) == ("fair", "two lines \\ud800", 1)
    assert str(table).encode() and table["refused"] == len(refused) == len(malformed) + 1
    reasons = {row["folder"]: row["refused"] for row in refused}
    assert reasons.pop("deeper") == "result.json is no JSON object"
    for name, reason in reasons.items():
        assert malformed[name][2] in reason and len(reason) < 300, name


def test_each_project_is_ranked_by_itself(tmp_path, splits, truths, capsys):
    n, hidden = len(truths["open"]), len(truths["hidden"])
    signal = {"project": "own-signal", "quantity": "centre", "claimed": {"skill": 1.0}}
    for name, right in (("best", hidden), ("second", 1)):
        hand_in(tmp_path / "teams" / name, truths, n, right)
    folder = hand_in(tmp_path / "teams" / "centred", truths, n, 1, **signal)
    for name, group in truths.items():
        (folder / f"{name}.json").write_text(json.dumps(centres(group)))
    rows = leaderboard(tmp_path / "teams", splits["open"], splits["hidden"])["rows"]
    assert [(row["project"], row["place"], row["folder"]) for row in rows] == [
        ("better-boxes", 1, "best"), ("better-boxes", 2, "second"), ("own-signal", 1, "centred"),
    ]  # fmt: skip
    line = ["course", "leaderboard", "--results", tmp_path / "teams"]
    line += ["--open", splits["open"], "--hidden", splits["hidden"]]
    with pytest.raises(SystemExit):
        main(list(map(str, line)))
    found = [text.split()[:3] for text in capsys.readouterr().out.splitlines()]
    assert found == [["1", "best", "better-boxes"], ["2", "second", "better-boxes"], ["1", "centred", "own-signal"]]
    with pytest.raises(InputError, match="is of own-signal; only better-boxes has one"):
        leaderboard(tmp_path / "teams", splits["open"], splits["hidden"], folder)


def test_the_command_prints_a_table_or_one_object(tmp_path, splits, truths, capsys):
    n = len(truths["open"])
    hand_in(tmp_path / "fair", truths, n, 1)
    hand_in(tmp_path / "boaster", truths, 0, 1, claimed={"acc@0.5": 1})
    line = ["course", "leaderboard", "--results", tmp_path, "--open", splits["open"], "--hidden", splits["hidden"]]
    for flags in ([], ["--json"]):
        with pytest.raises(SystemExit) as end:
            main([*map(str, line), *flags])
        assert end.value.code == 0
        text = capsys.readouterr().out
        if flags:
            assert [row["folder"] for row in json.loads(text)["rows"]] == ["fair", "boaster"]
        else:
            assert text.splitlines()[0].startswith(" 1  fair") and " -  boaster" in text and "refused: its" in text


def test_a_checkpoint_answers_the_questions(tmp_path, monkeypatch, splits, truths):
    profile = load_profile("smoke")
    model = build_model(profile, 0)
    state = State(profile, 0, 40)
    monkeypatch.setattr(answering, "find_checkpoint", lambda path: (path / "mine" / "checkpoint" / "step_40", state))
    monkeypatch.setattr(answering, "load_checkpoint", lambda path: (model, state))
    done = answering.answer_questions(tmp_path, splits["open"] / "questions", tmp_path / "open.json")
    given = json.loads((tmp_path / "open.json").read_text())
    assert [set(entry) for entry in given] == [{"sent_id", "bbox"}] * len(truths["open"])
    assert score_predictions(given, truths["open"])["missing"] == 0 and done["questions"] == len(given)
    own = 40 * profile.training.batch_size * profile.data.turns
    assert done["budget"]["samples"] == own and done["budget"]["parameters"] > 1000
    write_json(tmp_path / "mine" / "base.json", {"checkpoint": "x", "questions": 1000})  # as fine-tuning leaves it
    again = answering.answer_questions(tmp_path, splits["open"] / "questions", tmp_path / "open.json")
    assert again["budget"]["samples"] == 1000 + own
    with pytest.raises(InputError, match="--quantity 'centre' is no signal .* it has box, mask, depth"):
        answering.answer_questions(tmp_path, splits["open"] / "questions", tmp_path / "open.json", "centre")
    with pytest.raises(InputError, match="questions.json"):
        answering.answer_questions(tmp_path, splits["open"] / "truth", tmp_path / "open.json")


class Centre(DepthSignal):
    """The middle of the box, as a student may write it."""

    name, loss_names = "centre", ("centre",)

    def __init__(self, hidden_size, feature_size, grid, width=None):
        super().__init__(hidden_size, feature_size, grid)
        self.encoder, self.decoder = MLP(2, 16, hidden_size), MLP(hidden_size, 2)

    def collate(self, regions, placements):
        values = [p.box_to_input(r.box) if r.box else (0.0,) * 4 for r, p in zip(regions, placements, strict=True)]
        corners = torch.tensor(values, dtype=torch.float32).reshape(-1, 2, 2)
        return corners.mean(1), torch.tensor([r.box is not None for r in regions])

    def restore(self, prediction, placement, threshold=0.5):
        x, y = prediction.tolist()
        return {"centre": placement.box_from_input((x, y, x, y))[:2]}


def test_a_signal_of_ones_own_answers_and_is_claimed(tmp_path, monkeypatch, splits, truths, capsys):
    monkeypatch.setitem(SIGNALS, "centre", Centre)
    profile = load_profile("smoke", {"signals": ["box", "mask", "centre"]})
    model, state = build_model(profile, 0), State(profile, 0, 40)
    monkeypatch.setattr(answering, "find_checkpoint", lambda path: (path, state))
    monkeypatch.setattr(answering, "load_checkpoint", lambda path: (model, state))
    asked, out = splits["open"] / "questions", tmp_path / "open.json"
    logits = type(model).logits

    def pointing(self, states, table):  # an untrained model may say nothing
        return logits(self, states, table).index_fill(1, torch.tensor([self.chat.vis_id]), 1e3)

    monkeypatch.setattr(type(model), "logits", pointing)
    done = answering.answer_questions(tmp_path, asked, out, "centre")
    given = json.loads(out.read_text())
    assert [set(entry) for entry in given] == [{"sent_id", "value"}] * len(truths["open"])
    assert done["emitted"] == len(given) and all(len(entry["value"]) == 2 for entry in given)
    line = ["course", "claim", "--predictions", out, "--open", splits["open"], "--quantity", "centre", "--json"]
    with pytest.raises(SystemExit) as end:
        main(list(map(str, line)))
    assert end.value.code == 0
    claimed = json.loads(capsys.readouterr().out)
    assert claimed == {"project": "own-signal", "skill": pytest.approx(skill(given, truths["open"], "centre"))}
    monkeypatch.setattr(Centre, "restore", lambda self, *given: {"middle": 0.5})
    with pytest.raises(InputError, match="restore must give"):
        answering.answer_questions(tmp_path, asked, out, "centre")


def test_the_claim_is_what_the_leaderboard_finds(tmp_path, splits, truths):
    given = boxes(truths["open"], 2)
    write_json(tmp_path / "open.json", given)
    found = claim(tmp_path / "open.json", splits["open"])
    assert found == {"project": "better-boxes", "acc@0.5": pytest.approx(2 / len(given))}
    write_json(tmp_path / "open.json", given[1:])
    with pytest.raises(InputError, match="leaves out 1 questions"):
        claim(tmp_path / "open.json", splits["open"])
    write_json(tmp_path / "open.json", centres(truths["open"]))
    assert claim(tmp_path / "open.json", splits["open"], "centre")["skill"] == pytest.approx(1)


def centres(truths: list[Truth]) -> list[dict]:
    rows = []
    for t in truths:
        (x, y, w, h), (height, width) = t.bbox, t.size
        rows.append({"sent_id": t.sent_id, "value": [(x + w / 2) / width, (y + h / 2) / height]})
    return rows


def test_a_signal_is_scored_by_its_skill(tmp_path, splits, truths):
    right = {name: centres(group) for name, group in truths.items()}
    folder = hand_in(
        tmp_path / "team", truths, 0, 0, project="own-signal", quantity="centre", claimed={"skill": [1.0, 0.9, 1.0]}
    )
    for name, rows in right.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (row,) = leaderboard(tmp_path, splits["open"], splits["hidden"])["rows"]
    assert row["refused"] == "" and row["score"] == pytest.approx(1) and row["points"] == 40
    some = [entry | {"value": None} if i % 2 else entry for i, entry in enumerate(right["open"])]
    assert skill(some, truths["open"], "centre") < 0
    extent = [{"sent_id": t.sent_id, "value": [0.5]} for t in truths["open"]]
    assert skill(extent, truths["open"], "extent") < 1
    for rows, message in (
        (right["open"][1:], "left out"),
        ([*right["open"], right["open"][0]], "unknown or repeated"),
        ([{"sent_id": right["open"][0]["sent_id"], "value": [0.1]}], "a list of 2 numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            skill(rows, truths["open"], "centre")


def test_the_rubric_that_students_read_is_the_one_that_grades():
    for project in PROJECTS:
        text = project_page(project)
        assert f"{project.points} points" in text and project.metric in text
        assert all(f"| {points} |" in text for points in (10, project.gain_points, project.manual_points))
    lesson = (ROOT / "notebooks" / "src" / "02_vis_heads.py").read_text(encoding="utf-8")
    (named,) = re.findall(r"notebook 02's exercise\s+\"(.+?)\"", project_page(SIGNAL))  # the pattern that it names
    assert re.search(rf"# ### Exercise \d: {re.escape(named)} ", lesson)
    assert score_predictions([], [])["n"] == 0 and BOXES.metric in score_predictions([], [])
