"""Peak memory and MFU in the training log: arithmetic on a stand-in for a card, FLOP against the estimate's."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate import Accelerator
from toy_model import run_toy, toy_profile

from pgpt_lib import training
from pgpt_lib.card_use import CardUse, card_use, flop_of_dialogue, utilisation
from pgpt_lib.config import load_profile
from pgpt_lib.estimate.plan import card_of_device, estimate
from pgpt_lib.train_log import TrainLog

TERA = 1e12


def test_mfu_is_a_share_of_what_all_cards_could_do() -> None:
    assert utilisation(flop=300 * TERA, seconds=2, cards=1, peak=300 * TERA) == 0.5
    assert utilisation(flop=300 * TERA, seconds=2, cards=8, peak=300 * TERA) == 0.0625


def test_figures_of_some_steps() -> None:
    asked: list[float] = []

    def flop(positions: float) -> float:
        asked.append(positions)
        return 2 * TERA * positions

    use = CardUse(cards=4, peak=100 * TERA, allocated=lambda: 21.5e9, flop=flop)
    assert use.figures(dialogues=10, positions=1000, seconds=10) == {"peak_memory_gb": 21.5, "mfu": 0.5}
    assert use.figures(dialogues=10, positions=500, seconds=10)["mfu"] == 0.25, "fewer tokens are less work"
    assert asked == [100.0], "counted once, for a dialogue of the mean length"


@pytest.mark.parametrize("peak, flop", [(None, 1e12), (1e12, None)])
def test_what_cannot_be_told_is_none(peak: float | None, flop: float | None) -> None:
    use = CardUse(cards=1, peak=peak, allocated=lambda: 1e9, flop=lambda positions: flop)
    assert use.figures(2, 20, 1.0) == {"peak_memory_gb": 1.0, "mfu": None}


def test_flop_are_the_estimates() -> None:
    """Of a dialogue of the estimate's length, so that both name the same thing MFU."""
    smoke = load_profile("smoke", {"training.checkpointing": True})
    found = estimate(smoke, "l4")
    length = found["assumptions"]["image_tokens"] + found["assumptions"]["text_tokens"]
    each = found["flop"]["a_step"] / found["assumptions"]["dialogues_a_step"]
    assert flop_of_dialogue(smoke, length) == pytest.approx(each, rel=1e-6)
    assert flop_of_dialogue(smoke, 2 * length) > 1.5 * each
    assert flop_of_dialogue(load_profile("smoke", {"llm.name": "somebody/model"}), length) is None


@pytest.mark.parametrize(
    "device, name",
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80"),
        ("NVIDIA A100 80GB PCIe", "a100-80"),
        ("NVIDIA A100-PCIE-40GB", "a100-40"),
        ("NVIDIA H100 80GB HBM3", "h100-80"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA H100 PCIe", None),  # three quarters as fast
        ("NVIDIA A10G", None),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", None),
        ("", None),
    ],
)
def test_a_card_is_known_by_its_whole_name(device: str, name: str | None) -> None:
    found = card_of_device(device)
    assert (found and found.name) == name


def test_the_log_of_a_card_holds_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use = CardUse(cards=1, peak=1e9, allocated=lambda: 3e9, flop=lambda positions: 1e4 * positions)
    monkeypatch.setattr(training, "card_use", lambda accelerator, profile: use)
    told: list[dict] = []
    result = run_toy(tmp_path, toy_profile(6), on_log=told.append)
    records = TrainLog(result.log).records()
    assert [record["peak_memory_gb"] for record in records] == [3.0, 3.0]
    assert all(record["mfu"] > 0 for record in records) and told == records
    assert result.peak_memory_gb == 3.0 and result.mfu == pytest.approx(sum(r["mfu"] for r in records) / 2)


def test_beside_a_cpu_the_log_says_nothing_of_cards(tmp_path: Path) -> None:
    assert card_use(Accelerator(cpu=True), toy_profile()) is None
    result = run_toy(tmp_path, toy_profile(3))
    assert not {"peak_memory_gb", "mfu"} & TrainLog(result.log).records()[-1].keys()
    assert result.peak_memory_gb is None and result.mfu is None


def test_what_is_done_between_windows_is_in_none_of_them(tmp_path: Path) -> None:
    """Scores that are taken at a record, as sweeps do, do not slow the training that the log tells of."""
    import time

    result = run_toy(tmp_path, toy_profile(6, log_every=1), on_log=lambda record: time.sleep(0.3))
    speeds = [record["expressions_per_second"] for record in TrainLog(result.log).records()]
    assert min(speeds[1:]) > 6 / 0.3
