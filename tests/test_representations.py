"""The two baselines beside `<vis>`: what they write is read back within its bounds, learnt, decoded, scored alike."""

from __future__ import annotations

import json

import pytest
from conftest import LEFT, MASK_ONLY, RIGHT, dialogue
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pgpt_lib.backbones import resolve
from pgpt_lib.chat import Chat
from pgpt_lib.config import Coordinates, load_profile
from pgpt_lib.data.refshapes import rec_samples
from pgpt_lib.errors import InputError
from pgpt_lib.evaluation.predictions import max_new_tokens
from pgpt_lib.placement import Placement
from pgpt_lib.project import ROOT
from pgpt_lib.regions import Region, mask_iou
from pgpt_lib.representations import Numerical, Representation, Vocabulary, get_representation

AXES = {"form": "axes", "bins": 100}
NOTATIONS = {
    "numerical": ("numerical", {}),
    "points": ("vocabulary", {}),
    "axes": ("vocabulary", AXES),
    "numerical masks": ("numerical", {"target": "mask"}),
    "points masks": ("vocabulary", {"target": "mask"}),
    "axes masks": ("vocabulary", {"target": "mask", **AXES}),
}


def notation(name: str) -> Representation:
    kind, settings_ = NOTATIONS[name]
    return get_representation(kind, Coordinates(**settings_))


@pytest.fixture(scope="session")
def nano() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(resolve("nano"))


@pytest.fixture(scope="session")
def chats(nano) -> dict[str, Chat]:
    return {name: Chat(nano, representation=notation(name)) for name in NOTATIONS}


# ---------------------------------------------------------------- there and back

fractions = st.floats(0, 1, allow_nan=False)
sizes = st.sampled_from([(112, 112), (480, 640), (640, 427), (20, 300), (7, 5)])


def through_tokens(chat: Chat, region: Region, size: tuple[int, int]) -> Region:
    """Region to text, to ids, to the text of an answer, to a region."""
    ids, _ = chat.turn(chat.representation.write(region, size), keep=False)
    assert len(ids) <= chat.representation.region_tokens
    text = chat.decode(ids)
    assert chat.representation.mark(text) == ("<vis>", 0)
    [found] = chat.representation.read(text, [], size)
    return found


@settings(max_examples=150, deadline=None)
@given(
    corners=st.tuples(fractions, fractions, fractions, fractions), size=sizes, side=st.sampled_from([None, 112, 224])
)
@example((0.0, 0.0, 1.0, 1.0), (112, 112), 112)
@example((1.0, 1.0, 1.0, 1.0), (480, 640), 112)
@pytest.mark.parametrize(("name", "half"), [("numerical", 0.0005), ("points", 0.5 / 32), ("axes", 0.5 / 100)])
def test_boxes_come_back_within_half_a_unit(chats, name, half, corners, size, side) -> None:
    """Half a unit of the last decimal or half a bin, of the square input; so more of an image's shorter side."""
    x1, y1, x2, y2 = corners
    region = Region((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
    chat = chats[name]
    chat.representation.side = side
    found = through_tokens(chat, region, size)
    chat.representation.side = None
    _, _, width, height = Placement(*size, side or max(size)).inner
    square = side or max(size)
    for got, true, length in zip(found.box, region.box, (width, height) * 2, strict=True):
        assert abs(got - true) <= half * square / length + 1e-9
    assert found.mask is None


@settings(max_examples=60, deadline=None)
@given(bins=st.integers(2, 64), corners=st.lists(fractions, min_size=4, max_size=4).map(sorted), axes=st.booleans())
def test_any_number_of_bins_keeps_its_bound(bins, corners, axes) -> None:
    coordinates = Coordinates(bins=bins, form="axes" if axes else "points")
    vocabulary = Vocabulary(coordinates)
    box = (corners[0], corners[1], corners[2], corners[3])
    [found] = vocabulary.read(vocabulary.write(Region(box), (64, 64)), [], (64, 64))
    assert max(abs(a - b) for a, b in zip(found.box, box, strict=True)) <= 0.5 / bins + 1e-9
    assert len(vocabulary.tokens) == 5 + (bins if axes else bins**2)


# Least mean and least single IoU of masks after the way through tokens, at each count of vertices. Measured on 147
# masks of level gpu: numerical (0.861, 0.448), (0.972, 0.841), (0.991, 0.966), (0.997, 0.984); points of 32 bins
# (0.777, 0.426), (0.842, 0.656), (0.846, 0.687), (0.843, 0.687), where the bins are what limits it; axes of 512 bins
# (0.860, 0.445), (0.970, 0.843), (0.990, 0.966), (0.997, 0.986). Axes with 8 vertices are Table 4's location tokens.
COUNTS = (8, 16, 32, 64)
MASK_IOU = {
    "numerical": [(0.84, 0.42), (0.96, 0.82), (0.98, 0.95), (0.985, 0.96)],
    "points": [(0.76, 0.40), (0.83, 0.60), (0.83, 0.62), (0.83, 0.62)],
    "axes": [(0.84, 0.42), (0.96, 0.82), (0.98, 0.95), (0.985, 0.96)],
}
FINE = {"axes": {"form": "axes", "bins": 512}}


@pytest.fixture(scope="module")
def shapes() -> list[tuple[Region, tuple[int, int]]]:
    """Objects of RefShapes, each once."""
    drawn = [s for s in rec_samples("refcoco", "val", 30, 0, "gpu")]
    return [(s.turns[1].regions[0], s.size) for s in drawn]


@pytest.mark.parametrize("name", MASK_IOU)
def test_masks_come_back_the_better_the_more_vertices(nano, shapes, name) -> None:
    means = []
    for vertices, (mean, least) in zip(COUNTS, MASK_IOU[name], strict=True):
        coordinates = Coordinates(target="mask", vertices=vertices, **FINE.get(name, {}))
        representation = get_representation(NOTATIONS[name][0], coordinates)
        chat = Chat(nano, representation=representation)
        ious = [mask_iou(through_tokens(chat, region, size).mask, region.mask) for region, size in shapes]
        means.append(sum(ious) / len(ious))
        assert means[-1] >= mean and min(ious) >= least, (vertices, means[-1], min(ious))
    if name != "points":
        assert means == sorted(means)


def test_what_is_written_of_a_region(chats) -> None:
    """A mask where masks are asked for and there is one; else the box, around the mask if need be."""
    size = (32, 32)
    assert chats["numerical"].representation.write(LEFT, size) == "[0.125,0.250,0.500,0.750]"
    assert chats["numerical"].representation.write(MASK_ONLY, size) == "[0.125,0.250,0.500,0.750]"
    assert chats["numerical masks"].representation.write(Region(LEFT.box), size) == "[0.125,0.250,0.500,0.750]"
    contour = chats["numerical masks"].representation.write(MASK_ONLY, size)
    assert contour.count(",") == 31
    assert chats["points"].representation.write(LEFT, size) == "<region><loc_260><loc_784></region>"
    assert chats["axes"].representation.write(LEFT, size) == "<region><loc_12><loc_25><loc_50><loc_75></region>"
    with pytest.raises(InputError, match="nothing to write"):
        chats["points"].representation.write(Region(None, None, 0.5), size)


# ---------------------------------------------------------------- Table 4


def llama_rule(text: str, tokens: tuple[str, ...]) -> int:
    """Tokens by Llama's rule, each digit and each sign one, and new tokens one each."""
    count = 0
    for token in sorted(tokens, key=len, reverse=True):
        count += text.count(token)
        text = text.replace(token, "")
    return count + len(text)


@pytest.mark.parametrize(
    ("name", "vertices", "tokens", "coordinates"),
    [
        ("numerical", 16, 25, 20),
        ("points", 16, 4, 2),
        ("axes", 16, 6, 4),
        ("points masks", 16, 18, 16),
        ("points masks", 32, 34, 32),
        ("axes masks", 8, 18, 16),
        ("numerical masks", 16, 193, 160),
        ("numerical masks", 32, 385, 320),
    ],
)
def test_tokens_by_nanos_tokenizer_and_llamas_rule(nano, name, vertices, tokens, coordinates) -> None:
    """`coordinates` leaves out brackets, commas and wrappers, as Table 4 does."""
    kind, chosen = NOTATIONS[name]
    representation = get_representation(kind, Coordinates(**{**chosen, "vertices": vertices}))
    text = representation.write(LEFT, (32, 32))
    ids, _ = Chat(nano, representation=representation).turn(text)
    added = () if kind == "numerical" else representation.tokens
    assert len(ids) == llama_rule(text, added) == tokens <= representation.region_tokens
    spelled = text.count("<loc_") or sum(c.isdigit() or c == "." for c in text)
    assert spelled == coordinates


def test_the_papers_counts_are_met() -> None:
    rows = json.loads((ROOT / "data/paper_results.json").read_text())["tables"]["table4"]["rows"]
    assert (rows["Shikra"]["box"], rows["Kosmos-2"]["box"], rows["VisionLLM"]["mask"]) == (20, 2, 16)


# ---------------------------------------------------------------- reading answers

BOX = "[0.100,0.200,0.300,0.400]"
LOCS = "<region> <loc_33> <loc_99> </region>"
SPELLED = ("<loc_5>", "<loc_700>", "<region>", "</region>", "<part>", "<vis>")
MALFORMED = [
    ("numerical", "[0.100,0.200,0.300]"),  # a number is missing
    ("numerical", "[0.100,0.200,0.300,0.400"),  # cut off
    ("numerical", "0.100,0.200,0.300,0.400"),  # no bracket
    ("numerical", "[0.100,0.200,0.300,1.400]"),  # outside
    ("numerical", "[0.100,0.200,star,0.400]"),
    ("numerical", "[0.100,,0.300,0.400]"),
    ("numerical", "[]"),
    ("numerical", "[0.1,0.2,0.3,0.4;0.5,0.6,0.7,0.8]"),  # a contour has three vertices
    ("numerical", "[0.1,0.2,0.3,0.4,0.5,0.6,0.7]"),
    ("points", "<region> <loc_33> </region>"),
    ("points", "<region> <loc_33> <loc_99>"),
    ("points", "<loc_33> <loc_99>"),
    ("points", "<region> <loc_33> <loc_5000> </region>"),
    ("points", "<region> </region>"),
    ("points", "<region> <loc_1> <loc_2> <loc_40> <part> <loc_9> </region>"),
    ("points", "<region>"),
    ("axes", "<region> <loc_1> <loc_2> <loc_40> </region>"),
    ("axes", "</region>"),
]


@pytest.mark.parametrize(("name", "text"), MALFORMED)
def test_malformed_text_gives_no_region_and_is_counted(chats, name, text) -> None:
    representation = chats[name].representation
    marked, failures = representation.mark(f"a star {text}")
    assert representation.read(text, [], (32, 32)) == [] and failures >= 1 and "<vis>" not in marked
    assert marked.startswith("a star ")
    good = representation.write(LEFT, (32, 32))
    both = f"{good} and {text}"
    assert len(representation.read(both, [], (32, 32))) == 1
    assert representation.mark(both)[0].startswith("<vis> and ")


@pytest.mark.parametrize("text", ["none", "a red star , small", "2", "the one at the top . two circles", ""])
def test_words_are_no_attempt_at_a_region(chats, text) -> None:
    for chat in chats.values():
        assert chat.representation.mark(text) == (" ".join(text.split()), 0)
        assert chat.representation.read(text, [], (32, 32)) == []


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(st.sampled_from([*"0123456789.,;[] a", *SPELLED, BOX, LOCS])))
def test_any_text_can_be_read(chats, pieces) -> None:
    """Never an exception, and as many `<vis>` as regions."""
    for chat in chats.values():
        text = "".join(pieces)
        marked, failures = chat.representation.mark(text)
        assert marked.count("<vis>") == len(chat.representation.read(text, [], (20, 30))) and failures >= 0


def test_numbers_of_words_are_read_by_no_one_else() -> None:
    """A list of counts in brackets is no region: its numbers exceed 1 or are too few."""
    for text in ("[ 2 , 1 ]", "[ 1 , 2 , 3 ]", "[ 0 ]"):
        assert Numerical().read(text, [], (32, 32)) == []


def test_any_two_corners_span_a_box(chats) -> None:
    for name, one, other in (
        ("numerical", "[0.100,0.400,0.300,0.200]", BOX),
        ("points", "<region> <loc_97> <loc_35> </region>", LOCS),
    ):
        representation = chats[name].representation
        assert representation.read(one, [], (32, 32)) == representation.read(other, [], (32, 32))


def test_blanks_and_other_decimals_do_not_matter(chats) -> None:
    numerical = chats["numerical"].representation
    [tight] = numerical.read(BOX, [], (32, 32))
    for other in ("[ 0 . 1 0 0 , 0 . 2 0 0 , 0 . 3 0 0 , 0 . 4 0 0 ]", "[.1, .2, 0.30, 0.4]"):
        assert numerical.read(other, [], (32, 32)) == [tight]


# ---------------------------------------------------------------- dialogues

ANSWERS = [
    ("<vis>", (LEFT,)),
    ("<vis> <vis>", (RIGHT, LEFT)),
    ("<p> a red star </p> <vis> and <p> a ring </p> <vis> <vis>", (LEFT, RIGHT, LEFT)),
    ("none", ()),
]


@pytest.mark.parametrize("name", NOTATIONS)
@pytest.mark.parametrize(("text", "regions"), ANSWERS)
def test_every_kind_of_answer_comes_back(chats, name, text, regions) -> None:
    chat = chats[name]
    encoded = chat.encode(dialogue("a", "", ("find the star .", ()), (text, regions)))
    answer = chat.decode([label for label in encoded.labels if label != -100])
    assert encoded.vis == [] and chat.representation.mark(answer) == (text, 0)
    found = chat.representation.read(answer, [], (32, 32))
    for got, true in zip(found, regions, strict=True):
        assert max(abs(a - b) for a, b in zip(got.box, true.box, strict=True)) <= 0.5 / 32 + 0.02
        assert (got.mask is not None) == ("masks" in name)
    task = {1: "rec", 2: "several", 3: "spot_caption", 0: "none"}[len(regions)]
    assert len(encoded.input_ids) <= max_new_tokens(task, chat.region_tokens) + 8


@pytest.mark.parametrize("name", NOTATIONS)
def test_given_regions_are_written_alike(chats, name) -> None:
    chat = chats[name]
    asked, answered = (
        chat.encode(s, generation)
        for s, generation in (
            (dialogue("a", "", ("what is <vis> ?", (LEFT,))), True),
            (dialogue("a", "", ("find it .", ()), ("<vis>", (LEFT,))), False),
        )
    )
    written = [label for label in answered.labels if label != -100][:-1]
    start = next(i for i in range(len(asked.input_ids)) if asked.input_ids[i : i + len(written)] == written)
    assert start > 0 and set(asked.labels) == {-100}


def test_coordinates_are_not_remembered(nano) -> None:
    chat = Chat(nano, representation="numerical")
    for i in range(20):
        box = (i / 40, i / 40, 0.9, 0.9)
        chat.encode(dialogue("a", "", ("what is <vis> ?", (Region(box),)), ("a star", ())))
    assert len(chat._turns) == 1 and not any("[" in word for word in chat._words)


def test_settings_are_checked() -> None:
    for wrong in ({"bins": 65}, {"bins": 1}, {"vertices": 2}, {"form": "polar"}, {"target": "both"}, {"bin": 3}):
        overrides = {f"coordinates.{key}": value for key, value in wrong.items()}
        with pytest.raises(InputError, match=next(iter(wrong))):
            load_profile("smoke", overrides)
    assert load_profile("smoke", {"coordinates.form": "axes", "coordinates.bins": 1000}).coordinates.bins == 1000
    with pytest.raises(InputError, match="'polygons'.*embedding, numerical, vocabulary"):
        get_representation("polygons")
