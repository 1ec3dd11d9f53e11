"""Photographs as training data: what is held out, and that batches are functions of the step."""

import os
from pathlib import Path

import big_layouts as layouts
import pytest

from pgpt_lib.config import load_profile
from pgpt_lib.data.photo_stream import Photos, PhotoStream, hold_out
from pgpt_lib.data.photos import materialise
from pgpt_lib.data.phrasings import training_phrasings
from pgpt_lib.errors import InputError
from pgpt_lib.report import data_banner

REALDATA = os.environ.get("PGPT_REALDATA")


def test_bundled_photographs_have_a_split_of_their_own():
    photos = PhotoStream(load_profile("photos"), 0).images
    assert photos.own_split and not Photos(materialise()).own_split  # the same files as a folder of somebody's
    seen = {s.image_id for s in photos.train}
    assert len(photos.train) >= 20 and photos.unseen and not seen & {s.image_id for s in photos.unseen}
    assert photos.load_image(photos.unseen[0].image_id).shape[:2] == photos.unseen[0].size
    assert not any(" the the " in s.turns[0].text for s in photos.train + photos.unseen)


def regions(samples):
    """Every region that the samples' answers hold, sorted."""
    return sorted((s.image_id, r.box) for s in samples for turn in s.turns for r in turn.regions)


def test_an_epoch_asks_for_every_expression_once():
    profile = load_profile("photos", {"data.turns": 3})
    stream = PhotoStream(profile, 0)
    epoch = stream.batch(0, stream.epoch_length)
    assert regions(epoch) == regions(stream.images.train)
    assert {len(s.turns) // 2 for s in epoch} <= {2, 3}, "dialogues about a photograph are of like length"
    users = [turn.text for s in epoch for turn in s.turns if turn.role == "user"]
    assert all(text.startswith(tuple(p.split("{x}")[0] for p in training_phrasings("rec"))) for text in users)
    assert regions(stream.batch(1, stream.epoch_length)) == regions(epoch)
    assert stream.batch(1, stream.epoch_length) != epoch


def test_a_batch_is_a_function_of_seed_and_step():
    profile = load_profile("photos")
    stream = PhotoStream(profile, 0)
    whole = [sample for step in range(6) for sample in stream.batch(step, 4)]
    assert whole == PhotoStream(profile, 0).batch(0, 24)
    assert len({s.sample_id for s in whole}) == len(whole)
    assert whole != PhotoStream(profile, 1).batch(0, 24)


def test_the_held_out_photographs_are_always_the_same():
    ids = [str(i) for i in range(12)]
    assert hold_out(ids) == hold_out(ids) and len(hold_out(ids)) == 3 and hold_out(["7"]) == {"7"}


def test_what_another_set_holds_out_is_not_trained_on(tmp_path, capsys):
    """RefCOCO trains on picture 6, which RefCOCOg holds out; all three are to be trained on."""
    layouts.refcoco(tmp_path)
    stream = PhotoStream(load_profile("photos", {"data.root": str(tmp_path)}), 0)
    photos = stream.images
    assert {s.image_id for s in photos.train} == set(stream.image_ids()) == {"1"} and not photos.own_split
    assert sorted(s.sample_id for s in photos.train if s.sample_id.startswith("refcoco/")) == [
        "refcoco/train/1",
        "refcoco/train/2",
    ]
    assert {s.image_id for s in photos.unseen} == {"5", "6"} and len(photos.unseen) == 8
    assert not any("/train/" in s.sample_id for s in photos.unseen)
    printed = capsys.readouterr().err
    assert "leakage guard: refcoco: 1 of 3 records removed (1 pictures)" in printed
    assert "leakage guard: refcocog: 0 of 3 records removed (0 pictures)" in printed


def test_the_banner_calls_a_split_our_own_where_it_is():
    config = load_profile("photos", {"data.root": "/photographs"}).model_dump(mode="json")
    ours, theirs, unknown = (data_banner(config, own_split) for own_split in (True, False, None))
    assert "by a split of our own" in ours and "by the folder's own train split" in theirs
    assert "split" not in unknown and "others held out. It proves" in unknown


def test_a_folder_without_the_layout_is_named(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        Photos(tmp_path)


@pytest.mark.skipif(not REALDATA, reason="PGPT_REALDATA, the folder of real photographs, is not set")
def test_real_photographs_are_divided_whole():
    photos = Photos(Path(REALDATA) / "refer")
    assert photos.own_split
    assert not {s.image_id for s in photos.train} & {s.image_id for s in photos.unseen}
    assert len(photos.train) > len(photos.unseen) > 0
