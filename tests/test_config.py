"""Profiles' settings: what no run could use is refused, with its name, its value and what is allowed."""

import subprocess
import sys

import pytest

from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError
from pgpt_lib.signals import SIGNALS, BoxSignal, register


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("training.lr", float("inf"), "training.lr = inf: Input should be a finite number"),
        ("training.weight_decay", float("nan"), "training.weight_decay = nan: Input should be a finite number"),
        ("losses.giou", float("inf"), "losses.giou = inf: Input should be a finite number"),
        ("budget.memory_gb", float("nan"), "budget.memory_gb = nan: Input should be a finite number"),
        ("data.tasks", {"rec": float("inf")}, "data.tasks.rec = inf: Input should be a finite number"),
        ("data.tasks", {"rec": 1, "sing": 1}, "data.tasks = .*unknown task 'sing'; there are rec, several, none"),
        ("data.tasks", {"rec": 2, "none": -1}, "data.tasks.none = -1: Input should be greater than or equal to 0"),
        ("data.tasks", {"rec": 0, "none": 0}, "data.tasks = .*at least one must be above 0"),
        ("data.tasks", {}, "data.tasks = {}.*at least one must be above 0"),
        ("signals", ["box", "smell"], "signals = .*unknown signal 'smell'; there are box, mask, depth"),
        ("signals", ["box", "box"], "signals = .*twice"),
        ("signals", [], r"signals = \[\].*at least 1 item"),
        ("signal_widths", {"smell": 8}, "signal_widths = .*unknown signal 'smell'; there are box, mask, depth"),
        ("llm.lora_targets", [], r"llm.lora_targets = \[\].*at least 1 item"),
        ("training.steps.first", 3, "training.steps.first = 3: steps = 40 has no settings of its own"),
    ],
)
def test_settings_that_no_run_can_use(setting: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=f"profile smoke: {message}"):
        load_profile("smoke", {setting: value})


def test_a_contradiction_is_told_without_the_whole_profile() -> None:
    with pytest.raises(InputError, match="^profile smoke: released.dice_pooled needs"):
        load_profile("smoke", {"released.dice_pooled": True, "signals": ["box"]})


def test_a_signal_of_ones_own_is_known_once_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scent(BoxSignal):
        name = "scent"
        loss_names = ("scent",)

    monkeypatch.setitem(SIGNALS, "scent", Scent)  # undone after the test
    assert load_profile("smoke", {"signals": ["box", register(Scent).name]}).signals == ("box", "scent")


def test_reading_a_profile_loads_no_torch() -> None:
    code = "import sys; from pgpt_lib.config import load_profile; load_profile('cpu'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
