"""Checkpoints: whole or not there, the same values after loading, and clear words about what cannot be used."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from results_page import documented, named
from safetensors.torch import load_file, save_file
from toy_model import ToyModel, ToyStream, run_toy, toy_profile

from pgpt_lib import checkpoint
from pgpt_lib.checkpoint import load_optimizer, load_weights, save_checkpoint
from pgpt_lib.checkpoint_files import (
    State,
    checkpoint_hash,
    find_checkpoint,
    list_checkpoints,
    read_state,
    training_digest,
)
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError
from pgpt_lib.optimisation import build_optimizer

PROFILE = toy_profile(12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 12 steps, saved every 4."""
    out = tmp_path_factory.mktemp("trained")
    run_toy(out, PROFILE)
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_last_two_are_kept_and_hold_what_the_design_says(trained: Path) -> None:
    assert [step for step, _ in list_checkpoints(trained / "checkpoint")] == [8, 12]
    step = trained / "checkpoint/step_12"
    assert sorted(p.name for p in step.iterdir()) == sorted(
        ["adapter", "perception.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json", "COMPLETE"]
    )
    page = documented("Checkpoints")
    assert {p.name + "/" * p.is_dir() for p in step.iterdir()} == set(page)
    assert {p.name for p in (step / "adapter").iterdir()} <= named(page["adapter/"])
    assert set(json.loads((step / "state.json").read_text())) == named(page["state.json"])
    assert all(set(entry) == named(page["COMPLETE"]) for entry in json.loads((step / "COMPLETE").read_text()).values())
    state = json.loads((trained / "checkpoint/step_12/state.json").read_text())
    assert (state["seed"], state["step"], state["epoch"]) == (1, 12, 12 * 6 // ToyStream.epoch_length)
    assert state["digest"] == training_digest(PROFILE)


def test_weights_and_moments_come_back_to_the_bit(trained: Path, tmp_path: Path) -> None:
    path, state = find_checkpoint(trained)
    model = ToyModel(seed=99)
    optimizer = build_optimizer(model.trainable_parameters(), PROFILE.training)
    load_weights(path, model)
    load_optimizer(path, model, optimizer)
    again = save_checkpoint(tmp_path, model, optimizer, state)
    for name in ("perception.safetensors", "optimizer.safetensors", "adapter/model.safetensors"):
        assert (again / name).read_bytes() == (path / name).read_bytes(), name
    assert checkpoint_hash(again) == checkpoint_hash(path)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("tuning", ["lora", "frozen", "full"])
def test_every_kind_of_tuning_comes_back_to_the_bit(make_model, tmp_path: Path, tied: bool, tuning: str) -> None:
    model = make_model(tied=tied, llm__tuning=tuning)
    optimizer = build_optimizer(model.trainable_parameters(), model.profile.training)
    with torch.no_grad():
        for number, parameter in enumerate(model.trainable_parameters().values()):
            parameter.add_(0.01 * (number + 1))  # `<vis>` rows, adapter and heads, each by its own amount
    path = save_checkpoint(tmp_path, model, optimizer, State(model.profile, 0, 1))
    other = make_model(tied=tied, llm__tuning=tuning, seed=1)
    load_weights(path, other)
    for name, parameter in model.trainable_parameters().items():
        assert torch.equal(parameter, other.trainable_parameters()[name]), name
    rows = sorted(model.chat.special_ids.values())
    for ours, theirs in zip(model.embedding_tables(), other.embedding_tables(), strict=True):
        assert torch.equal(ours[rows], theirs[rows])


def outlives_a_save_that_fails(run: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the last checkpoint can still be used after the disk was full while the next one was written."""

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    before = find_checkpoint(run)[1]
    model = ToyModel()
    optimizer = build_optimizer(model.trainable_parameters(), PROFILE.training)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(checkpoint, "_flush", full)
        save_checkpoint(run / "checkpoint", model, optimizer, replace(before, step=before.step + 1), keep=1)
    try:
        return find_checkpoint(run)[1] == before
    except InputError:
        return False


def test_a_save_that_fails_costs_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outlives_a_save_that_fails(run, monkeypatch)
    write = checkpoint._save_tensors

    def removed_first(path: Path, tensors: dict) -> None:  # plant: old ones go before the new one is there
        for _, old in list_checkpoints(run / "checkpoint"):
            shutil.rmtree(old)
        write(path, tensors)

    monkeypatch.setattr(checkpoint, "_save_tensors", removed_first)
    assert not outlives_a_save_that_fails(run, monkeypatch)


def test_a_path_may_be_a_step_a_folder_of_steps_or_a_run(trained: Path) -> None:
    last = trained / "checkpoint/step_12"
    for path in (last, trained / "checkpoint", trained):
        assert find_checkpoint(path)[0] == last
    assert find_checkpoint(trained / "checkpoint/step_8")[1].step == 8


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def claim(path: Path, state: str) -> None:
    """Another `state.json`, listed as it is."""
    (path / "state.json").write_text(state)
    listed = json.loads((path / "COMPLETE").read_text())
    listed["state.json"] = checkpoint._fingerprint(path / "state.json")
    (path / "COMPLETE").write_text(json.dumps(listed))


SPOILT = {
    "truncated weights": (lambda p: truncate(p / "perception.safetensors"), "perception.safetensors is truncated"),
    "truncated moments": (lambda p: truncate(p / "optimizer.safetensors"), "optimizer.safetensors is truncated"),
    "one bit changed": (lambda p: flip(p / "adapter/model.safetensors"), "adapter/model.safetensors was changed"),
    "a file is missing": (lambda p: (p / "rng.safetensors").unlink(), "rng.safetensors is missing"),
    "not complete": (lambda p: (p / "COMPLETE").unlink(), "has no COMPLETE"),
    "empty marker": (lambda p: (p / "COMPLETE").write_text(""), "COMPLETE is no list of files"),
    "empty list": (lambda p: (p / "COMPLETE").write_text("{}"), "COMPLETE does not list adapter/"),
    "a stranger's": (lambda p: claim(p, "[1]"), "state.json is missing or not ours"),
    "a later format": (lambda p: claim(p, '{"format": 9}'), "format 9"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_checkpoint_is_refused_by_name_and_the_one_before_is_taken(run: Path, kind: str) -> None:
    spoil, message = SPOILT[kind]
    last = run / "checkpoint/step_12"
    spoil(last)
    with pytest.raises(InputError, match=message) as error:
        read_state(last)
    assert str(last) in str(error.value)
    refused: list[tuple[Path, str]] = []
    found, state = find_checkpoint(run, on_refused=lambda path, why: refused.append((path, why)))
    assert (found.name, state.step, [path.name for path, _ in refused]) == ("step_8", 8, ["step_12"])
    assert message in refused[0][1]


def test_a_checkpoint_of_another_seed_or_profile_is_refused(run: Path) -> None:
    with pytest.raises(InputError, match="of seed 1, not 2"):
        find_checkpoint(run, matches=(PROFILE, 2))
    with pytest.raises(InputError, match=r"of other settings \(training.lr 0.003, now 0.001\)"):
        find_checkpoint(run, matches=(toy_profile(12, lr=1e-3), 1))
    # what training computes does not depend on how often it speaks or saves
    assert find_checkpoint(run, matches=(toy_profile(12, save_every=5, log_every=1), 1))[1].step == 12


@pytest.mark.parametrize(("name", "moves"), [("gpu-refcoco", True), ("photos", False)])
def test_a_folder_counts_where_it_alone_says_which_data(name: str, moves: bool) -> None:
    """However it is typed; the named sources of a mixture may be moved."""
    roots = ("data", str(Path("data").absolute()), "other")
    typed, whole, other = (training_digest(load_profile(name, {"data.root": root})) for root in roots)
    assert typed == whole and (typed == other) == moves


def test_nothing_usable_is_said_with_the_path(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "none/step_3"):
        with pytest.raises(InputError, match=str(path)):
            find_checkpoint(path)


@pytest.mark.parametrize(
    "change, expected",
    [
        ("missing", "signals.box.encoder.0.bias is missing"),
        ("unexpected", "signals.sound.bias is unexpected"),
        ("shape", r"signals.box.encoder.0.bias is \[3\], the model's is \[8\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(run: Path, change: str, expected: str) -> None:
    path = run / "checkpoint/step_12"
    tensors = load_file(path / "perception.safetensors")
    name = "signals.box.encoder.0.bias"
    if change == "missing":
        del tensors[name]
    elif change == "unexpected":
        tensors["signals.sound.bias"] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(3)
    save_file(tensors, path / "perception.safetensors")
    with pytest.raises(InputError, match=expected):
        load_weights(path, ToyModel())


def test_moments_of_an_unknown_parameter_are_refused(run: Path) -> None:
    path = run / "checkpoint/step_12"
    save_file({"signals.sound.bias.exp_avg": torch.zeros(1)}, path / "optimizer.safetensors")
    model = ToyModel()
    with pytest.raises(InputError, match="signals.sound.bias"):
        load_optimizer(path, model, build_optimizer(model.trainable_parameters(), PROFILE.training))


def test_leftovers_of_a_killed_save_do_no_harm(run: Path) -> None:
    (run / "checkpoint/step_16.tmp/adapter").mkdir(parents=True)
    assert find_checkpoint(run)[1].step == 12
    model = ToyModel()
    optimizer = build_optimizer(model.trainable_parameters(), PROFILE.training)
    save_checkpoint(run / "checkpoint", model, optimizer, State(PROFILE, 1, 16))
    assert sorted(p.name for p in (run / "checkpoint").iterdir()) == ["step_12", "step_16"]
