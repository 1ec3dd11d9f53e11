"""The estimate: published counts, formulas that it never uses, and a seven-billion model's shapes that really run."""

from __future__ import annotations

import json

import pytest
import torch

from pgpt_lib.backbones import BUNDLED
from pgpt_lib.cli import main
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError
from pgpt_lib.estimate import calibration
from pgpt_lib.estimate.counting import count, shape_on_meta
from pgpt_lib.estimate.plan import RELEASED_CODE, RELEASED_PARTS, estimate, memory_of
from pgpt_lib.estimate.shapes import build_shape
from pgpt_lib.estimate.tracing import Saved, heads_pass, trace
from pgpt_lib.model import build_model


@pytest.mark.parametrize(
    "profile, llm, vision",
    [
        ("paper-7b", 6_738_415_616, 303_179_776),
        ("paper-13b", 13_015_864_320, 303_179_776),
        ("gpu", 134_515_008, 22_056_576),
    ],
)
def test_counts_are_the_published_ones(profile: str, llm: int, vision: int) -> None:
    totals, trained = count(shape_on_meta(load_profile(profile)))
    assert (totals["llm"], totals["vision"]) == (llm, vision)
    assert trained.get("llm", 0) == trained.get("vision", 0) == 0


@pytest.mark.parametrize("rank", [8, 32])
def test_lora_on_q_and_v_has_524288_parameters_a_rank(rank: int) -> None:
    totals, trained = count(shape_on_meta(load_profile("paper-7b", {"llm.lora_rank": rank})))
    assert trained["lora"] == 524_288 * rank
    assert trained["token_rows"] == 2 * 3 * 4096  # `<vis>` and two phrase marks, input and output
    assert sum(trained.values()) < 0.04 * sum(totals.values())  # the paper's introduction


def test_the_released_code_trains_both_tables() -> None:
    _, trained = count(shape_on_meta(load_profile("paper-7b-code")))
    assert trained["token_rows"] == 2 * 32_003 * 4096
    assert RELEASED_PARTS["embedding and head"] == pytest.approx(trained["token_rows"], abs=5e4)
    wholes = [sum(RELEASED_PARTS.values()) + 524_288 * rank for rank in (8, 32)]
    assert wholes == pytest.approx(RELEASED_CODE, abs=5e5)


def test_counted_on_meta_is_what_the_real_model_has() -> None:
    smoke = load_profile("smoke")
    totals, trained = count(shape_on_meta(smoke))
    model = build_model(smoke, 0)
    assert sum(trained.values()) == sum(p.numel() for p in model.trainable_parameters().values())
    assert totals["vision"] == sum(p.numel() for p in model.tower.parameters())


def test_flop_follow_the_rule_of_four_a_parameter_and_token() -> None:
    """LoRA: two FLOP a frozen parameter and token forward, two backward; attention adds little at this length."""
    profile = load_profile("paper-7b")
    step = trace(profile, 2)
    block_parameters = 6_738_415_616 - 2 * 32_000 * 4096
    expected = 4 * block_parameters * 2 * step.tokens
    assert step.flop["llm"] == pytest.approx(expected, rel=0.03)
    assert step.recomputed == pytest.approx(expected / 2, rel=0.03)


def test_full_tuning_costs_half_as_much_again() -> None:
    lora, full = (trace(load_profile("photos", {"llm.tuning": tuning}), 2).flop["llm"] for tuning in ("lora", "full"))
    assert 1.3 < full / lora < 1.6


def test_checkpointing_trades_memory_for_time() -> None:
    kept, again = (
        estimate(load_profile("paper-7b", {"training.checkpointing": on}), "a100-80", 8) for on in (False, True)
    )
    assert again["memory"]["activations"] < 0.2 * kept["memory"]["activations"]
    assert again["time"]["hours"] == pytest.approx(1.5 * kept["time"]["hours"], rel=0.03)
    assert kept["time"]["mfu"] == pytest.approx(0.4) and again["time"]["mfu"] < 0.3


def test_saved_bytes_are_those_that_autograd_really_keeps() -> None:
    """The same pass over real tensors of the smoke profile's sizes keeps as many bytes."""
    smoke = load_profile("smoke", {"training.precision": "fp32"})
    traced = trace(smoke, 3).saved["heads"]
    shape = build_shape(smoke)
    tower = shape.model.tower
    features = torch.randn(3, tower.num_layers, tower.num_tokens, tower.hidden_size, dtype=torch.bfloat16)
    saved = Saved(shape.model)
    with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
        kept = heads_pass(shape, features)
    assert saved.bytes() == pytest.approx(traced, rel=0.02) and kept.isfinite()


def test_sharing_takes_memory_off_a_card() -> None:
    profile = load_profile("photos")
    shape, step = shape_on_meta(profile), trace(profile, 1)
    ddp, zero2, fsdp = (
        memory_of(profile, *count(shape), step, shape.layers, 8, strategy) for strategy in ("ddp", "zero2", "fsdp")
    )
    assert ddp["optimizer"] == 8 * sum(count(shape)[1].values())  # two moments of four bytes
    assert 8 * zero2["optimizer"] == 8 * fsdp["optimizer"] == ddp["optimizer"]
    assert 8 * fsdp["llm"] == zero2["llm"] == ddp["llm"]
    assert fsdp["total"] < zero2["total"] < ddp["total"]


@pytest.mark.parametrize("profile", ["smoke", "photos", "paper-7b-code"])
def test_small_and_large_profiles_can_be_estimated(profile: str) -> None:
    found = estimate(load_profile(profile), "rtx3090", 1)
    assert found["memory"]["total"] > 0 and found["time"]["hours"] > 0
    assert found["compare"] == {"table6": [27_000_000, 33_000_000], "released_code": [315_000_000, 328_000_000]}
    assert (found["disk"]["features"] > 0) == load_profile(profile).training.cache_features


@pytest.mark.parametrize("options, named", [(["--gpu", "a1000"], "a1000"), (["--gpus", "0"], "gpus is 0")])
def test_the_command_names_bad_input(capsys: pytest.CaptureFixture[str], options: list[str], named: str) -> None:
    with pytest.raises(SystemExit) as status:
        main(["estimate", "--profile", "smoke", *options])
    assert status.value.code == 2 and named in capsys.readouterr().err


def test_the_command_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    main_status = None
    try:
        main(["estimate", "--profile", "smoke", "--gpu", "l4", "--json"])
    except SystemExit as status:
        main_status = status.code
    found = json.loads(capsys.readouterr().out)
    assert (
        not main_status
        and found["parameters"]["llm"] == json.loads((BUNDLED / "nano" / "card.json").read_text())["parameters"]
    )


@pytest.mark.slow
def test_the_calibration_measures_what_it_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory in a process of its own, as always; time here, with few repeats. How close they are is not asserted."""
    measure = calibration._in_a_process

    def measured(what: str, case: str, environment: dict[str, str]) -> dict:
        if what == "memory":
            return measure(what, case, environment)
        return calibration.measure_time(calibration._profile_of(case))

    monkeypatch.setattr(calibration, "_in_a_process", measured)
    monkeypatch.setattr(calibration, "REPEATS", 2)
    told: list[str] = []
    found = calibration.calibrated("nano", told.append)
    assert told == ["calibrating nano: 2 steps"] and found.keys() == {
        "memory", "seconds", "quartiles", "threads", "rates"
    }  # fmt: skip
    for name in ("memory", "seconds"):
        assert found[name]["predicted"] > 0 and found[name]["measured"] > 0
        assert found[name]["ratio"] == found[name]["predicted"] / found[name]["measured"]
    assert 2e8 < found["memory"]["measured"] < 5e9, "a model and three steps, in bytes"
    assert all(rate > 0 for rate in found["rates"].values()) and len(found["quartiles"]) == 2


def test_a_folder_without_sizes_is_refused() -> None:
    with pytest.raises(InputError, match="'nowhere'"):
        estimate(load_profile("smoke", {"llm.name": "nowhere"}), "l4")
