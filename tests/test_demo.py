"""The demo: what is uploaded, what is pointed at, what is answered, and the page in a real browser."""

from __future__ import annotations

import html
import io
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from browser import find_browser, open_page, wait_for_port
from PIL import Image

from pgpt_lib.demo import intake
from pgpt_lib.demo.drawing import answer_figure, numbered, png, shown_jpeg
from pgpt_lib.demo.messages import answer_html, tokens_html
from pgpt_lib.demo.pointing import clicked, dragged_box
from pgpt_lib.demo.session import MAX_QUESTION, OWN, Desk, Speaker, default_checkpoint
from pgpt_lib.errors import InputError
from pgpt_lib.project import ROOT

GREY = Image.new("RGB", (64, 48), (120, 120, 120))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def huge() -> bytes:
    return encoded(Image.new("1", (10_000, 10_000)), "png")


GOOD = {
    "plain.png": (encoded(GREY, "png"), ""),
    "photo.jpeg": (encoded(GREY, "jpeg"), ""),
    "no_ending": (encoded(GREY, "png"), ""),
    "printed.jpg": (encoded(GREY.convert("CMYK"), "jpeg"), "CMYK"),
    "deep.png": (encoded(Image.fromarray(np.full((48, 64), 120 * 257, np.uint16)), "png"), "8 bits"),
    "wrong.jpg": (encoded(GREY, "png"), "by its content it is a PNG"),
    "odd.txt": (encoded(GREY, "png"), "by its content it is a PNG"),
    "moving.gif": (encoded(GREY, "gif", save_all=True, append_images=[Image.new("RGB", (64, 48))]), "of its 2 frames"),
}
BAD = {
    "empty.png": (b"", "empty.png is empty"),
    "letter.png": (b"Dear model,", "letter.png is not a picture"),
    "cut.png": (encoded(Image.effect_noise((64, 64), 50), "png")[:900], "cut.png cannot be read"),
    "huge.png": (huge(), "huge.png is 10000 x 10000, over 50 megapixels"),
    "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "program.png is not a picture"),
}


@pytest.mark.parametrize("name", GOOD)
def test_odd_files_are_read_rightly(name: str) -> None:
    data, note = GOOD[name]
    picture = intake.read_upload(name, data)
    assert picture.pixels.shape == (48, 64, 3) and picture.pixels.dtype == np.uint8
    assert np.abs(picture.pixels.astype(int) - 120).max() <= 2
    assert (note in picture.note) if note else picture.note == ""


def test_a_picture_of_32_bits_is_scaled_to_its_brightest_value() -> None:
    values = np.outer(np.ones(48, np.int32), np.arange(64, dtype=np.int32) << 24)
    picture = intake.read_upload("deep.tiff", encoded(Image.fromarray(values), "tiff"))
    assert np.array_equal(picture.pixels[0, :, 0], np.round(np.arange(64) * 255 / 63)) and "8 bits" in picture.note


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError) as error:
        intake.read_upload(f"C:\\fakepath\\{name}", BAD[name][0])
    assert str(error.value).startswith(BAD[name][1])


@pytest.mark.parametrize("kind", ["gif", "tiff", "jpeg", "bmp", "webp"])
def test_damage_anywhere_is_refused_or_read_never_another_error(kind: str) -> None:
    noise = Image.effect_noise((40, 30), 60)
    several = {"save_all": True, "append_images": [noise]} if kind in ("gif", "tiff", "webp") else {}
    whole = encoded(noise.convert("RGB"), kind, **several)
    refused = 0
    for end in range(1, len(whole), max(1, len(whole) // 150)):
        try:
            intake.read_upload(f"a.{kind}", whole[:end])
        except InputError as error:
            assert str(error).startswith(f"a.{kind} ")
            refused += 1
    assert refused


def test_files_of_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_BYTES", 2**20)
    with pytest.raises(InputError, match="big.bmp has 2 MB, over 1 MB"):
        intake.read_upload("big.bmp", bytes(2 * 2**20))


def test_pointing() -> None:
    assert dragged_box((0.9, 0.2), (-0.3, 1.7)) == (0.0, 0.2, 0.9, 1.0)
    boxes = [(0.1, 0.1, 0.9, 0.9), (0.4, 0.4, 0.6, 0.6)]
    assert [clicked(boxes, 0.5, 0.5), clicked(boxes, 0.2, 0.2), clicked(boxes, 0.95, 0.5)] == [1, 0, None]


@pytest.fixture(scope="module")
def speaker(make_model) -> Speaker:
    return Speaker(make_model(), "tiny")


@pytest.fixture
def desk(speaker: Speaker) -> Desk:
    return Desk(speaker)


def test_every_picture_on_offer_opens_with_objects_and_questions(desk: Desk) -> None:
    assert len(desk.offered) > intake.SCENES
    for name in desk.offered:
        picture = desk.choose(name)
        assert picture.pixels.dtype == np.uint8 and picture.objects and len(picture.questions) >= 3
        assert not any("<vis>" in question or "{" in question for question in picture.questions)
    with pytest.raises(InputError, match="no picture 'moon'"):
        desk.choose("moon")


def test_a_reply_tells_its_stream_and_weights(desk: Desk) -> None:
    desk.mark((0.2, 0.3), (0.6, 0.8))
    reply = desk.ask("what is <vis> ?")
    assert reply.given is desk.region and reply.given.box == (0.2, 0.3, 0.6, 0.8)
    assert len(reply.tokens) == len(reply.kinds)
    asked = reply.tokens[: reply.tokens.index("<assistant>")]
    assert [t for t in asked if t != "image"][-4:] == ["what", "is", "<vis>", "?"]
    assert reply.kinds.count("image") == desk.speaker.model.tower.num_tokens
    assert reply.kinds[asked.index("<vis>")] == "vis"
    assert len(reply.weights) == 3 and sum(reply.weights) == pytest.approx(1)


def test_the_given_region_reaches_the_model(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = desk.speaker.model.region_codes
    monkeypatch.setattr(desk.speaker.model, "region_codes", lambda v, m: seen.append(v["box"]) or original(v, m))
    desk.mark((0.25, 0.25), (0.75, 0.5))
    desk.ask("what is <vis> ?")
    assert seen[0].flatten().tolist() == pytest.approx([0.5, 0.375, 0.5, 0.25])  # middle and size, as a signal reads it
    seen.clear()
    reply = desk.ask("where is the star ?")
    assert reply.given is None and "left aside" in " ".join(reply.notes)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("  ", "ask something"),
        ("a " * MAX_QUESTION, "characters"),
        ("what is <vis> ?", "draw a box"),
        ("is <vis> left of <vis> ?", "write it once"),
    ],
)
def test_questions_that_cannot_be_asked(desk: Desk, question: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        desk.ask(question)


def test_words_that_were_never_taught_are_named(desk: Desk) -> None:
    assert "never taught: zebra." in " ".join(desk.ask("where is the zebra ?").notes)
    assert "never taught: \N{GRINNING FACE}." in " ".join(desk.ask("where is the \N{GRINNING FACE} ?").notes)
    assert "never taught" not in " ".join(desk.ask("Where is the RED star?").notes)


def test_a_model_of_shapes_says_so_of_photographs(desk: Desk) -> None:
    assert "drawn shapes alone" not in " ".join(desk.ask("where is the star ?").notes)
    desk.choose("photograph chelsea")
    assert "drawn shapes alone" in " ".join(desk.ask("where is the star ?").notes)


def test_an_upload_stays_on_offer_until_the_next(desk: Desk) -> None:
    first = desk.upload("plain.png", GOOD["plain.png"][0])
    desk.choose("scene 2")
    assert desk.choose(OWN) is first and desk.chosen == OWN
    second = desk.upload("photo.jpeg", GOOD["photo.jpeg"][0])
    assert desk.choose(OWN) is second and list(desk.offered).count(OWN) == 1


def test_clicks_and_drags(desk: Desk) -> None:
    x1, y1, x2, y2 = desk.picture.objects[-1].box
    middle = (x1 + x2) / 2, (y1 + y2) / 2
    found = desk.mark(middle, middle)
    assert found in desk.picture.objects and found.mask is not None
    desk.upload("plain.png", GOOD["plain.png"][0])
    assert desk.region is None
    with pytest.raises(InputError, match="no object is known"):
        desk.mark((0.5, 0.5), (0.501, 0.5))
    with pytest.raises(InputError, match="no area"):
        desk.mark((1.2, 0.2), (1.6, 0.7))


def test_a_refused_file_leaves_the_desk_as_it_was(desk: Desk) -> None:
    before = desk.picture
    with pytest.raises(InputError):
        desk.upload("letter.png", BAD["letter.png"][0])
    assert desk.picture is before and desk.ask("where is the star ?").tokens


def test_the_drawing_is_a_png_of_bounded_size(desk: Desk) -> None:
    picture = desk.upload("large.png", encoded(Image.new("RGB", (3000, 1500), (9, 9, 9)), "png"))
    desk.mark((0.1, 0.1), (0.5, 0.5))
    reply = desk.ask("what is <vis> ?")
    with Image.open(io.BytesIO(png(answer_figure(picture, reply)))) as drawn:
        assert drawn.format == "PNG" and drawn.width == 1100
    with Image.open(io.BytesIO(shown_jpeg(picture))) as shown:
        assert max(shown.size) == 900


def test_words_of_others_are_no_markup(desk: Desk) -> None:
    assert numbered("<p> a star </p> <vis> and <vis>") == "<p> a star </p> [1] and [2]"
    reply = desk.ask("where is <b>bold</b> ?")
    assert "<b>" not in answer_html(reply) + tokens_html(reply)


def test_the_stream_in_words_is_the_stream(desk: Desk) -> None:
    desk.mark((0.1, 0.1), (0.5, 0.5))
    reply = desk.ask("what is <vis> <vis-like> a a ?")
    tiles = [html.unescape(tile) for tile in re.findall(r'class="token"[^>]*>(.*?)</span>', tokens_html(reply))]
    texts = [token for token, kind in zip(reply.tokens, reply.kinds, strict=True) if kind != "image"]
    picture = f"image ×{reply.kinds.count('image')}"
    assert tiles.count(picture) == 1 and [tile for tile in tiles if tile != picture] == texts


def test_without_any_checkpoint_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgpt_lib.project.ROOT", tmp_path)
    with pytest.raises(InputError, match="--checkpoint DIR.*train"):
        default_checkpoint()


def test_the_notebook_view_draws_asks_and_survives_bad_files(speaker: Speaker) -> None:
    from pgpt_lib.demo.desk_view import DeskView

    def given(name: str, data: bytes) -> tuple[dict[str, object], ...]:
        described = {"name": name, "type": "", "size": len(data), "last_modified": datetime.now()}
        return ({**described, "content": memoryview(data)},)

    view = DeskView(speaker)
    assert view.pad.url.startswith("data:image/jpeg") and view.question.value == view.examples.value
    view.pad.drag = [0.8, 0.7, 0.2, 0.3, 1]
    assert view.pad.box == pytest.approx([0.2, 0.3, 0.8, 0.7]) and "<vis>" in view.question.value
    view.button.click()
    assert bytes(view.drawing.value).startswith(b"\x89PNG") and 'class="said"' in view.words.value
    picture = view.desk.picture
    view.upload.set_trait("value", given("letter.png", b"Dear model,"))
    assert "not a picture" in view.message.value and view.desk.picture is picture
    view.clear.click()
    view.question.value = "what is <vis> ?"
    view.button.click()
    assert "draw a box" in view.message.value
    view.upload.set_trait("value", given("a.png", GOOD["plain.png"][0]))
    assert view.offered.value == OWN and view.desk.picture.name == "a.png"
    view.offered.value = "scene 2"
    assert view.desk.picture.name == "scene 2"
    assert view.drawing.layout.display == "none" and view.message.value == ""


def test_it_listens_on_this_machine_alone_unless_told() -> None:
    import inspect

    from pgpt_lib.commands.demo import demo
    from pgpt_lib.demo.page import free_port

    assert inspect.signature(demo).parameters["host"].default == "127.0.0.1"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="--port 0"):
            free_port("127.0.0.1", taken.getsockname()[1])
    assert free_port("127.0.0.1", 0) > 0
    with pytest.raises(InputError, match="--host 203.0.113.7"):
        free_port("203.0.113.7", 0)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a model that was trained for a moment, served by the command."""
    find_browser()
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "pgpt_lib"]
    train = [*command, "train", "--profile", "smoke", "--steps", "40", "--out", str(folder)]
    subprocess.run(train, cwd=ROOT, check=True, capture_output=True)
    serve = [*command, "demo", "--checkpoint", str(folder / "checkpoint"), "--port", "0", "--json"]
    with subprocess.Popen(serve, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["url"]
        port = int(address.rstrip("/").rpartition(":")[2])
        wait_for_port(port, 10)
        yield address
        server.terminate()


@pytest.mark.slow
def test_page_in_a_browser(url: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    with open_page() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.get_by_role("button", name="Ask").click()
        page.locator(".said").wait_for()
        assert page.locator(".said").inner_text().strip() == "[1]"  # a region, drawn below
        drawn = page.get_by_alt_text("The answer drawn: [1]")
        drawn.wait_for()
        assert drawn.evaluate("image => image.naturalWidth") > 500
        page.get_by_alt_text("Bars of the fusion weights").wait_for()
        assert page.locator(".token").filter(has_text="<vis>").count() == 1

        def at(x: float, y: float) -> tuple[float, float]:
            easel = page.locator(".bk-Figure").first.bounding_box()
            return easel["x"] + x * easel["width"], easel["y"] + y * easel["height"]

        page.mouse.move(*at(0.6, 0.75))
        page.mouse.down()
        page.mouse.move(*at(0.4, 0.4), steps=4)
        page.mouse.move(*at(0.2, 0.25), steps=4)
        page.mouse.up()
        question = page.get_by_label("Your question")
        expect(question).to_have_value("what is the thing in <vis> ?")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator(".said")).to_have_text(re.compile("[a-z]{3}"))  # a caption, not the region alone

        page.get_by_role("button", name="Remove the box").click()
        page.get_by_role("button", name="Ask").click()
        expect(page.locator(".about-question .problem")).to_contain_text("draw a box on the picture")
        scene = intake.pictures("smoke")["scene 1"]()
        x1, y1, x2, y2 = scene.objects[-1].box
        page.mouse.click(*at((x1 + x2) / 2, (y1 + y2) / 2))
        expect(page.get_by_role("button", name="Remove the box")).to_be_enabled()
        page.get_by_role("button", name="Ask").click()
        page.locator(".said").wait_for()

        told = page.locator(".about-picture")
        for name, (data, words) in {**BAD, **GOOD}.items():
            (tmp_path / name).write_bytes(data)
            page.locator("input[type=file]").set_input_files(tmp_path / name)
            expect(told).to_contain_text(words)
            expect(told.locator(".problem")).to_have_count(1 if name in BAD else 0)
        picture = page.get_by_label("Picture", exact=True)
        expect(picture).to_have_value(OWN)
        page.get_by_role("button", name="Ask").click()
        page.locator(".said").wait_for()

        page.set_viewport_size({"width": 390, "height": 844})  # a phone: nothing sticks out
        picture.select_option("photograph rocket")
        expect(page.locator(".said")).to_have_count(0)
        page.wait_for_function("document.documentElement.scrollWidth <= 390")
    assert all(address.startswith((url, url.replace("http", "ws"), "data:", "blob:")) for address in asked)
