"""Profiles' settings: what no run could use is refused, with its name, its value and what is allowed."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
import yaml

from pgpt_lib.config import Coordinates, Profile, Released, Section, load_profile, profile_names, with_root
from pgpt_lib.errors import InputError
from pgpt_lib.signals import SIGNALS, BoxSignal, register
from pgpt_lib.sweeps.cells import flatten


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


def test_a_folder_for_a_profile_that_reads_none_is_refused_with_the_one_that_does():
    with pytest.raises(InputError, match="gpu trains on refshapes, which reads no folder; gpu-refcoco reads one"):
        with_root(load_profile("gpu"), "data")
    with pytest.raises(InputError, match="smoke trains on refshapes, which reads no folder$"):
        with_root(load_profile("smoke"), "data")
    assert with_root(load_profile("gpu-refcoco"), "data").data.root == str(Path("data").absolute())


NOT_STATED = {  # of a paper's preset
    *("name", "data.root", "data.level", "data.train_scenes", "data.eval_scenes", "data.tasks"),  # RefShapes
    "losses.depth",  # no signal of the paper's
    "coordinates",  # of the other representations
}


def settings_of(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Every setting by its dotted name; a section that holds switches alone, all off by default, is one setting."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section) and kind not in (Released, Coordinates):
            yield from settings_of(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize("name", [name for name in profile_names() if name.startswith("paper-")])
def test_a_papers_preset_states_every_setting(name):
    """What a preset inherits in silence is a choice of ours that its comments do not own up to."""
    text = resources.files("pgpt_lib").joinpath("profiles", f"{name}.yaml").read_text(encoding="utf-8")
    stated = {"released", *(key.rsplit(".", n)[0] for key in flatten(yaml.safe_load(text)) for n in range(3))}
    wanted = set(settings_of(Profile)) - NOT_STATED
    assert "released:" in text and wanted <= stated, sorted(wanted - stated)
