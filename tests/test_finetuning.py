"""Training on from a checkpoint, and the sets that notebook 06 evaluates."""

from pathlib import Path

import pytest

from pgpt_lib import training
from pgpt_lib.checkpoint import find_checkpoint, load_checkpoint
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError
from pgpt_lib.evaluation import series
from pgpt_lib.evaluation.series import MAIN, PHOTOS, evaluation_sets, functions_shown
from pgpt_lib.finetuning import accumulation_for, fine_tune, questions_seen
from pgpt_lib.training import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A smoke model after two steps."""
    settings = {"data.train_scenes": 4, "training.batch_size": 2, "training.log_every": 1}
    return train(load_profile("smoke", settings), tmp_path_factory.mktemp("trained"), 0, steps=2, progress=False)


def test_fine_tuning_goes_on_from_the_checkpoint_and_leaves_it(trained, tmp_path):
    before = {f: f.read_bytes() for f in trained.checkpoint.rglob("*") if f.is_file()}
    tuned = fine_tune(trained.checkpoint, tmp_path / "tuned", {"question": 1}, 2, 0, progress=False)
    assert tuned.steps == 2 and tuned.checkpoint.parent.parent == tmp_path / "tuned"
    assert before == {f: f.read_bytes() for f in trained.checkpoint.rglob("*") if f.is_file()}
    found, state = find_checkpoint(tuned.checkpoint)
    assert questions_seen(found, state) == 2 * questions_seen(*find_checkpoint(trained.checkpoint)) > 0
    again = fine_tune(trained.checkpoint, tmp_path / "tuned", {"question": 1}, 2, 0, progress=False)
    assert again.resumed_from == 2 and again.losses == tuned.losses, "a finished fine-tune is not done again"
    same = {f.name: f.read_bytes() for f in tuned.checkpoint.glob("*.safetensors")}
    assert same != {f.name: f.read_bytes() for f in trained.checkpoint.glob("*.safetensors")}


def test_a_fine_tune_of_another_checkpoint_is_done_anew(trained, tmp_path):
    settings = {"data.train_scenes": 4, "training.batch_size": 2, "training.log_every": 1}
    other = train(load_profile("smoke", settings), tmp_path / "other", 1, steps=2, progress=False)
    for base in (trained, other):
        tuned = fine_tune(base.checkpoint, tmp_path / "tuned", {"question": 1}, 1, 0, progress=False)
        assert tuned.resumed_from == 0


def test_a_killed_fine_tune_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch):
    settings = {"data.train_scenes": 4, "training.batch_size": 2, "training.log_every": 1, "training.save_every": 2}
    base = train(load_profile("smoke", settings), tmp_path / "base", 0, steps=2, progress=False).checkpoint
    whole = fine_tune(base, tmp_path / "whole", {"question": 1}, 5, 0, progress=False)
    schedule = training.learning_rate
    monkeypatch.setattr(training, "learning_rate", lambda step, *rest: schedule(step, *rest) if step < 3 else 1 / 0)
    with pytest.raises(ZeroDivisionError):  # which saves nothing, as SIGKILL would not
        fine_tune(base, tmp_path / "killed", {"question": 1}, 5, 0, progress=False)
    monkeypatch.undo()
    tuned = fine_tune(base, tmp_path / "killed", {"question": 1}, 5, 0, progress=False)
    assert tuned.resumed_from == 2
    for file in tuned.checkpoint.glob("*.safetensors"):
        assert file.read_bytes() == (whole.checkpoint / file.name).read_bytes()


def test_the_rate_of_aligned_weights_is_for_aligned_weights_alone(trained, tmp_path, make_model, monkeypatch):
    """A projector that begins random learns at the whole rate; what a checkpoint's began with is known again."""
    build, groups = training.build_optimizer, []

    def spy(*given):
        groups[:] = build(*given).param_groups
        raise InterruptedError

    monkeypatch.setattr(training, "build_optimizer", spy)
    for model, share in ((make_model(), 1.0), (load_checkpoint(trained.checkpoint)[0], 0.1)):
        slow = model.profile.training.model_copy(update={"aligned_lr": 0.1})
        profile = model.profile.model_copy(update={"training": slow})
        with pytest.raises(InterruptedError):
            training.fit(model, None, None, profile, 0, tmp_path, progress=False)
        shares = {id(p): group["share"] for group in groups for p in group["params"]}
        assert {shares[id(p)] for p in model.projector.parameters()} == {share}
        assert {shares[id(p)] for p in model.signals.parameters() if p.requires_grad} == {1.0}


@pytest.mark.parametrize(
    ("profile", "processes", "expected"),
    [("paper-7b", 8, 1), ("paper-7b", 16, 1), ("paper-7b", 3, 3), ("paper-13b", 1, 8), ("gpu", 1, 2), ("smoke", 1, 1)],
)
def test_a_card_holds_no_more_than_in_training(profile, processes, expected):
    profile = load_profile(profile)
    assert accumulation_for(profile, processes) == expected
    held = profile.training.batch_size / profile.training.accumulation / profile.budget.gpus
    assert profile.training.batch_size / expected / processes <= held


def test_fewer_cards_fine_tune_in_smaller_parts_and_go_on_elsewhere(trained, tmp_path, monkeypatch):
    sizes, make = [], training.batch_maker

    def spy(*given):
        maker = make(*given)
        return lambda samples, draw: sizes.append(len(samples)) or maker(samples, draw)

    monkeypatch.setattr("pgpt_lib.finetuning.batch_maker", spy)
    monkeypatch.setattr("pgpt_lib.finetuning.accumulation_for", lambda *_: 2)
    tuned = fine_tune(trained.checkpoint, tmp_path / "tuned", {"question": 1}, 1, 0, progress=False, root="data")
    assert sizes == [1, 1]
    assert find_checkpoint(tuned.checkpoint)[1].profile.data.root == str(Path("data").absolute())
    monkeypatch.undo()
    again = fine_tune(trained.checkpoint, tmp_path / "tuned", {"question": 1}, 1, 0, progress=False)
    assert again.resumed_from == 1, "as many micro-batches as there then are"


@pytest.mark.parametrize(("way", "processes", "launched"), [("ddp", 2, True), ("ddp", 1, False), ("here", 2, False)])
def test_the_series_fine_tunes_as_its_profile_trains(trained, tmp_path, monkeypatch, way, processes, launched):
    profile = load_profile("paper-7b", {"budget.launch": way, "data.root": "data"})
    state = type("State", (), {"profile": profile})
    met = []
    monkeypatch.setattr("pgpt_lib.checkpoint.find_checkpoint", lambda path: (path, state))
    monkeypatch.setattr("pgpt_lib.checkpoint.load_checkpoint", lambda path: (path, state))
    monkeypatch.setattr("pgpt_lib.finetuning.fine_tune", lambda *given, progress: met.append(given) or trained)
    monkeypatch.setattr("pgpt_lib.launching.launch_tuning", lambda *given: met.append(given) or "launched")
    monkeypatch.setattr(series, "evaluate_series", lambda model, sets: [(name, model) for name in sets])
    sets = {"refcoco/val": None, "refcoco/testA": None, "grefcoco/val": None}
    found = dict(series.tuned_series(tmp_path, tmp_path / "tuned", sets, 5, 3, processes))
    given = (tmp_path, tmp_path / "tuned" / "refcoco", {"refcoco": 1.0}, 5, 3)
    assert met == [(*given, "ddp", 2, "data") if launched else given]
    assert found == dict.fromkeys(["refcoco/val", "refcoco/testA"], "launched" if launched else trained.checkpoint)


def test_unknown_tasks_are_named(trained, tmp_path):
    with pytest.raises(InputError, match="juggling"):
        fine_tune(trained.checkpoint, tmp_path / "tuned", {"juggling": 1}, 1, 0, progress=False)


def test_sets_of_each_profile():
    shapes = evaluation_sets(load_profile("smoke"), 0, scenes=8)
    assert next(iter(shapes)) == MAIN and len(shapes) == 8
    assert {s.task for s in shapes[MAIN][0]} >= {"rec", "question", "caption", "none", "reasoning"}
    assert {s.task for s in shapes["refshapes-refcocog/test"][0]} == {"rec"}
    photos = evaluation_sets(load_profile("photos"), 0)
    assert tuple(photos) == PHOTOS and all(chosen.samples for chosen in photos.values())


def test_table_1_is_measured():
    metrics = {"acc@0.5": [0.6, 0.51, 0.7], "ciou": [0.6, 0.5, 0.7], "caption": {"cider": [1.2, 1, 1.3]}, "several": {}}
    assert functions_shown(metrics) == {
        "Image Caption": True,
        "Region Caption": None,  # was not asked for
        "Bounding Box": True,
        "Segmentation": False,  # the interval touches one half
        "Multi-Instance Segmentation": None,
        "End-to-End": True,
    }


@pytest.mark.parametrize(("true_box", "segments"), [([0.7, 0.6, 0.8], False), (None, None)])
def test_no_mask_given_is_no_where_there_were_masks_to_find(true_box, segments):
    metrics = {"acc@0.5": [0.0, 0.0, 0.0], "ciou": None, "filled_ciou": {"true_box": true_box, "predicted_box": None}}
    shown = functions_shown(metrics)
    assert shown["Segmentation"] is segments and shown["Bounding Box"] is False
