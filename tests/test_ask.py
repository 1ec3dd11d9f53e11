"""`ask`: pictures of every kind, boxes and questions as people type them, and the drawing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pgpt_lib.commands import ask
from pgpt_lib.errors import InputError
from pgpt_lib.regions import Region, mask_to_rle

RED = np.zeros((4, 6, 3), np.uint8) + np.array([200, 30, 30], np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_greyscale_of_eight_and_sixteen_bits(tmp_path: Path) -> None:
    eight = np.full((4, 6), 100, np.uint8)
    picture = ask.read_picture(saved(tmp_path / "8.png", Image.fromarray(eight)))
    assert picture.shape == (4, 6, 3) and picture.dtype == np.uint8 and (picture == 100).all()
    sixteen = np.full((4, 6), 100 * 257, np.uint16)
    assert (ask.read_picture(saved(tmp_path / "16.png", Image.fromarray(sixteen))) == 100).all()


@pytest.mark.parametrize("kind", ["CMYK jpg", "CMYK tif", "P png", "1 png", "YCbCr jpg"])
def test_other_colour_modes(tmp_path: Path, kind: str) -> None:
    mode, suffix = kind.split()
    picture = ask.read_picture(saved(tmp_path / f"a.{suffix}", Image.fromarray(RED).convert(mode)))
    assert picture.shape == RED.shape
    if mode != "1":
        assert np.abs(picture.astype(int) - RED).max() < 40


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    clear = Image.fromarray(np.dstack([RED, np.zeros((4, 6), np.uint8)]))
    assert (ask.read_picture(saved(tmp_path / "a.png", clear)) == 255).all()


def test_exif_turns_the_picture_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was held a quarter turn
    picture = ask.read_picture(saved(tmp_path / "a.jpg", Image.fromarray(RED), exif=exif))
    assert picture.shape == (6, 4, 3)


def test_pictures_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty, text, cut = tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "cut.png"
    empty.touch()
    text.write_text("no picture")
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole, "png")
    cut.write_bytes(whole.getvalue()[:2000])
    missing = tmp_path / "no.png"
    for path, words in ((empty, "0 bytes"), (text, "not a picture"), (cut, "cut off"), (missing, "no such file")):
        with pytest.raises(InputError, match=words) as error:
            ask.read_picture(path)
        assert path.name in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        ask.read_picture(tmp_path)
    monkeypatch.setattr(ask, "MAX_PIXELS", 20)
    with pytest.raises(InputError, match="6 x 4, over 50 megapixels"):
        ask.read_picture(saved(tmp_path / "big.png", Image.fromarray(RED)))


def test_boxes() -> None:
    assert ask.parse_box(None, 10, 20) is None
    assert ask.parse_box("5, 2,10,4", 10, 20).box == (0.25, 0.2, 0.75, 0.6)
    for text in ("1,2,3", "a,b,c,d", "1,2,nan,4", "1,2,-3,4", "30,2,3,4", "1,2,0,4", ""):
        with pytest.raises(InputError, match="--box"):
            ask.parse_box(text, 10, 20)


def test_questions_and_their_slot() -> None:
    region = Region((0, 0, 1, 1))
    assert ask.make_turn("what is <vis> ?", region).regions == (region,)
    assert ask.make_turn("where is it ?", None).regions == ()
    wrong = (("  ", None), ("what is <vis> ?", None), ("what is it ?", region), ("<vis> or <vis> ?", region))
    for question, given in wrong:
        with pytest.raises(InputError, match="--question"):
            ask.make_turn(question, given)


def test_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "DRAWN_SIDE", 30)  # so that the picture is thinned out
    mask = np.zeros((40, 70), np.uint8)
    mask[10:20, 10:30] = 1
    regions = [Region((0.1, 0.2, 0.5, 0.6), mask_to_rle(mask)), Region((0, 0, 1, 1))]
    path = tmp_path / "new" / "out.png"
    ask.draw(path, np.full((40, 70, 3), 90, np.uint8), regions, "costs $5 and $6 ?")
    with Image.open(path) as image:
        assert image.format == "PNG" and min(image.size) > 200
