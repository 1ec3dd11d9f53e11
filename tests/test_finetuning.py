"""Training on from a checkpoint, and the sets that notebook 06 evaluates."""

import pytest

from pgpt_lib.checkpoint import find_checkpoint
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError
from pgpt_lib.evaluation.series import MAIN, PHOTOS, evaluation_sets, functions_shown
from pgpt_lib.finetuning import fine_tune, questions_seen
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
    metrics = {"acc@0.5": [0.6, 0.5, 0.7], "ciou": [0.4, 0.3, 0.5], "caption": {"cider": [1.2, 1, 1.3]}, "several": {}}
    shown = functions_shown(metrics)
    assert shown["Bounding Box"] and not shown["Segmentation"] and shown["Image Caption"]
    assert not shown["Region Caption"] and not shown["Multi-Instance Segmentation"]
