"""The training benchmark: both sides of each lever compute the same, counts and shares are right; never wall time."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import LEFT, RIGHT, TinyTower, dialogue, make_llm

from pgpt_lib.benchmark import levers, loop, training
from pgpt_lib.benchmark.levers import (
    LEVERS,
    Settings,
    divided,
    exchanges,
    full_language_loss,
    make_optimizer,
    singles,
)
from pgpt_lib.benchmark.memory import peak_bytes
from pgpt_lib.benchmark.operations import KINDS, by_kind, kind_of, profile_step
from pgpt_lib.benchmark.products import ProductCounter, seconds_alone, total_flop
from pgpt_lib.benchmark.training import target, train_rows
from pgpt_lib.commands.bench import _train_text
from pgpt_lib.errors import InputError
from pgpt_lib.losses import language_loss
from pgpt_lib.model import build_model
from pgpt_lib.optimisation import build_optimizer

ASKED = ("where is the red circle ?", ())


class DigestedTower(TinyTower):
    """Can be cached."""

    def digest(self) -> str:
        return "tiny"


class FewPictures:
    """Four dialogues a step, each about its own picture, of one to three questions."""

    images: FewPictures
    epoch_length = 8

    def __init__(self, regions) -> None:
        self.regions, self.images = regions, self

    def load_image(self, image_id: str) -> np.ndarray:
        return np.full((32, 32, 3), int(image_id) * 9, np.uint8)

    def image_ids(self) -> list[str]:
        return [str(i) for i in range(8)]

    def batch(self, step: int, size: int) -> list:
        numbers = range(step * size, (step + 1) * size)
        return [
            dialogue(f"d{i}", str(i % 8), *[ASKED, ("<vis>", (self.regions[i % 2],))] * (1 + i % 3)) for i in numbers
        ]


@pytest.fixture
def stream():
    return FewPictures((LEFT, RIGHT))


def length(sample) -> int:
    return 16 + 10 * len(sample.turns)


def test_single_questions_keep_all_and_neighbours_differ(stream):
    packed = stream.batch(0, 4)
    parted = singles(packed)
    assert exchanges(parted) == exchanges(packed) == len(parted) == 1 + 2 + 3 + 1
    assert len({s.sample_id for s in parted}) == len(parted)
    assert [s.image_id for s in parted] == ["0", "1", "2", "3", "1", "2", "2"]
    assert all(len(s.turns) == 2 and s.turns[0].role == "user" for s in parted)


@pytest.mark.parametrize("packed", [True, False])
def test_micro_batches_hold_about_as_many_tokens(stream, packed):
    samples = stream.batch(0, 6)
    parts = divided(samples, Settings(packed=packed), 2, length)
    assert sum(map(exchanges, parts)) == exchanges(samples)
    assert all(len(part) <= len(samples) for part in parts)
    most = max(sum(map(length, part)) for part in parts)
    assert most < 1.5 * sum(map(length, samples)) / 2


def test_buckets_are_sorted_by_length(stream):
    parts = divided(stream.batch(0, 6), Settings(bucketed=True), 3, length)
    lengths = [length(s) for part in parts for s in part]
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1]


def test_logits_of_every_position_give_the_same_loss_and_gradient():
    torch.manual_seed(0)
    head, labels = torch.nn.Linear(8, 20), torch.full((2, 7), -100)
    labels[0, 3:5], labels[1, 6] = torch.tensor([4, 9]), 2
    gradients = []
    for loss in (language_loss, full_language_loss):
        states = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
        loss(states, labels, head).backward()
        gradients.append(states.grad)
    assert torch.allclose(*gradients, atol=1e-7) and gradients[0].abs().sum() > 0


def test_the_loop_over_tensors_makes_the_same_update(profile):
    made = []
    for fused in (True, False):
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        named = {"fusion.weight": layer.weight, "norm.bias": layer.bias}
        optimizer = make_optimizer(named, profile.training, Settings(fused=fused))
        assert [g["share"] for g in optimizer.param_groups] == [
            g["share"] for g in build_optimizer(named, profile.training).param_groups
        ]
        layer(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        made.append(layer.weight.detach())
    assert torch.allclose(*made, atol=1e-6)


@pytest.mark.parametrize("name", LEVERS)
def test_a_lever_changes_one_setting(name):
    on, off = LEVERS[name].sides(Settings())
    changed = {field for field in vars(on) if vars(on)[field] != vars(off)[field]}
    assert changed == {LEVERS[name].field}
    assert Settings() in (on, off)


def test_the_default_compiles_where_the_trainer_does(make_model, monkeypatch):
    model = make_model(training__compile=True)
    for fault, compiled in ((None, True), ("no compiler", False)):
        monkeypatch.setattr(levers, "fault_here", lambda device, fault=fault: fault)
        assert levers.default_settings(model.profile, model).compiled is compiled
    assert not levers.default_settings(make_model().profile, model).compiled


def test_products_are_counted_forward_and_backward_and_can_be_run_again():
    layer, pixels = torch.nn.Linear(5, 3), torch.randn(1, 2, 6, 6)
    kernel = torch.randn(4, 2, 3, 3, requires_grad=True)
    with ProductCounter() as counter:
        layer(torch.ones(7, 5, requires_grad=True)).sum().backward()  # its gradient is an expanded scalar
        torch.nn.functional.conv2d(pixels, kernel).sum().backward()
    products = 3 * 2 * 7 * 5 * 3  # forward, for the weight, for the input
    convolutions = 2 * 2 * (16 * 2 * 9 * 4)  # forward, for the kernel
    assert total_flop(counter.found) == products + convolutions

    def run(product) -> float:
        product()
        return 2.0

    assert seconds_alone(counter.found, run) == 2.0 * sum(counter.found.values())


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::addmm", "products"),
        ("aten::mkldnn_convolution", "products"),
        ("aten::_softmax_backward_data", "attention"),
        ("aten::_fused_adamw_", "optimiser"),
        ("aten::copy_", "copies and casts"),
        ("aten::index_put_", "gathering"),
        ("aten::native_layer_norm", "elementwise and norms"),
        ("aten::transpose", "bookkeeping"),
    ],
)
def test_operations_have_kinds(operation, kind):
    assert kind_of(operation) == kind


def test_shares_leave_the_rest_to_python():
    shares = by_kind({"aten::mm": 2.0, "aten::bmm": 1.0, "aten::copy_": 1.0}, total=8.0)
    assert shares["products"] == 3 / 8 and shares["copies and casts"] == 1 / 8 and shares["python"] == 0.5
    assert set(shares) == {*KINDS, "python"}


def test_a_profile_names_what_takes_most():
    found = profile_step(lambda: [torch.ones(200, 200) @ torch.ones(200, 200) for _ in range(20)])
    product = next(entry for entry in found["largest"] if entry["operation"] == "aten::mm")
    assert product["calls"] == 20 and 0 < product["share"] <= found["shares"]["products"]


def test_peak_memory_is_of_the_run_alone():
    kept = torch.ones(16 << 20)
    peak = peak_bytes(lambda: float(torch.ones(24 << 20).sum()))
    if peak is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert 0.9 * (96 << 20) < peak < 1.5 * (96 << 20)
    assert kept.sum() > 0


@pytest.mark.parametrize(("reached", "met"), [(None, None), (4.9, False), (5.0, True)])
def test_a_target_is_met_or_not_or_unknown(reached, met):
    assert target(reached, 5.0)["met"] is met


def test_loops_take_turns_and_who_begins_alternates():
    seen = []

    class Told:
        def __init__(self, name: str) -> None:
            self.name = name

        def timed_step(self, step: int) -> dict[str, float]:
            seen.append((self.name, step))
            return {"step": step}

    found = loop.take_turns([Told("a"), Told("b")], 3)
    assert [name for name, _ in seen[:4]] in (["a", "b", "b", "a"], ["b", "a", "a", "b"])
    assert [[f["step"] for f in side] for side in found] == [[loop.WARM_UP + i for i in range(3)]] * 2


class Compiled:
    """A loop whose first two steps compile: 7 s beyond usual ones."""

    learning = (6.0, 3.0, 1.0, 0.9, 1.1)
    settings = Settings()

    def starting(self) -> float:
        return loop.Loop.starting(self)


@pytest.mark.parametrize(
    ("on", "default", "steps", "words"),
    [
        (1.0, "off", 28.0, "compiling takes 7.0 s, earned back after 28 steps"),
        (1.0, "on", 28.0, "earned back after 28 steps"),
        (1.5, "off", None, "never earned back"),
    ],
)
def test_the_lever_of_compilation_says_when_it_is_earned_back(monkeypatch, on, default, steps, words):
    seconds = {True: on, False: 1.25}
    base, other = Compiled(), Compiled()
    base.settings = Settings(compiled=default == "on")
    (base if default == "off" else other).learning = (50.0, 50.0, 1.0)  # the loop that does not compile

    def compared(first, second, *_):
        sides = [{"seconds_a_step": [seconds[which], 0, 9]} for which in (default == "on", default == "off")]
        return {"base": sides[0], "other": sides[1], "ratio": [1.0, 1.0, 1.0], "memory_ratio": None}

    monkeypatch.setattr(training, "compare", compared)
    row = training.lever_row("compile", LEVERS["compile"], base, lambda _: other, 3, 7)
    assert row["compile_seconds"] == 7.0 and row["break_even_steps"] == steps
    assert words in training.told(row)
    plain = training.lever_row("bucket", LEVERS["bucket"], base, lambda _: other, 3, 7)
    assert "compile_seconds" not in plain and training.told(plain) == "on is 1.00 times as fast as off"


@pytest.fixture
def measured(profile, tokenizer, stream, tmp_path, monkeypatch):
    """train_rows on the stand-ins, with torch.compile out of order."""
    monkeypatch.setenv("PGPT_CACHE", str(tmp_path))
    apply = levers.apply_to_model

    def without_compiler(model, settings) -> None:
        if settings.compiled:
            raise RuntimeError("no compiler\nfar and wide")
        apply(model, settings)

    monkeypatch.setattr(loop, "apply_to_model", without_compiler)
    monkeypatch.setattr(loop, "WARM_UP", 0)
    changes = {"batch_size": 4, "accumulation": 2, "precision": "fp32", "cache_features": True}
    losses = profile.losses.model_copy(update={"distillation": 0.5})  # to be left out
    small = profile.model_copy(update={"training": profile.training.model_copy(update=changes), "losses": losses})

    def build(wanted):
        return build_model(wanted, 0, (make_llm(len(tokenizer)), copy.deepcopy(tokenizer)), DigestedTower())

    def run(log=lambda line: None, **options):
        return train_rows(small, steps=1, log=log, stream=stream, build=build, **options)

    return run


def test_every_lever_has_a_row_and_computes_the_same(measured):
    found = measured()
    assert [row["lever"] for row in found["levers"]] == list(LEVERS) and set(found["loops"]) == {"plain", "bare"}
    assert found["samples_a_step"] == 1 + 2 + 3 + 1
    rows = {row["lever"]: row for row in found["levers"]}
    assert "no compiler" in rows.pop("compile")["skipped"]
    assert {name for name, row in rows.items() if row["default"] == "off"} >= {"bf16", "bucket"}
    for name, row in rows.items():
        for side in ("on", "off"):
            median, low, high = row[side]["samples_a_second"]
            assert 0 < low <= median <= high
        ratio = row["on"]["samples_a_second"][0] / row["off"]["samples_a_second"][0]
        assert row["ratio"][0] == pytest.approx(ratio)
        assert row["default_is_faster"] == ((ratio >= 1) == (row["default"] == "on"))
        if name != "pack":  # there a question sees the ones before it
            assert row["loss_difference"] < (0.05 if name in ("bf16", "features") else 1e-4), name
    products = found["products"]
    assert products["flop_a_sample"] == products["flop_a_step"] / 7 > 0
    assert products["share"] == pytest.approx(products["flop_a_second"] / products["flop_a_second_alone"])
    assert found["targets"]["plain"]["reached"] == found["loops"]["plain"]["ratio"][0]
    assert "skipped: torch.compile" in _train_text(found)


def test_a_choice_of_levers_measures_no_others(measured, monkeypatch):
    monkeypatch.setattr(training, "profile_step", lambda run: {"shares": {}})
    monkeypatch.setattr(training, "products_row", lambda *_: {"share": 0.6})
    lines: list[str] = []
    found = measured(log=lines.append, only=("gather",))
    assert lines[0].startswith("without losses.distillation")
    assert [row["lever"] for row in found["levers"]] == ["gather"] and not found["loops"]
    assert found["targets"] == {
        "plain": {"wanted": 5.0, "reached": None, "met": None},
        "products": {"wanted": 0.5, "reached": 0.6, "met": True},
    }


@pytest.mark.parametrize(
    ("options", "message"), [({"only": ("speed",)}, "'speed'.*gather"), ({"steps": 0}, "steps is 0")]
)
def test_bad_input_is_named(profile, options, message):
    with pytest.raises(InputError, match=message):
        train_rows(profile, **options)
