"""Each cell of the fusion plan starts from fusion and projector of its own, aligned in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from test_chat import byte_level
from test_families import LLMS, SIZES, SPECIALS

from pgpt_lib import training
from pgpt_lib.backbones import load_vision
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError
from pgpt_lib.files import read_json
from pgpt_lib.model import build_model
from pgpt_lib.pretraining import pixels
from pgpt_lib.sweeps import alignment, cell_run
from pgpt_lib.sweeps.plans import load_plan


def cell_of(plan: str, **factors: object):
    return load_plan(plan).cell(factors, "smoke")


def small_cell(strategy: str, **run: object):
    cell = cell_of("fusion", strategy=strategy, seed=3)
    return replace(cell, run=cell.run.model_copy(update={"align_steps": 3, "align_scenes": 48, **run}))


def check_learned(record: dict, path, steps: list[int]) -> None:
    """The track of learned weights starts even and ends in what was saved."""
    track = record["track"]
    assert [point["step"] for point in track] == steps and track[-1]["loss"] == record["loss"] > 0
    even, end = (torch.tensor(track[i]["weights"]) for i in (0, -1))
    torch.testing.assert_close(even, torch.full_like(even, 1 / len(even)))
    torch.testing.assert_close(end, load_file(path)["fusion.logits"].softmax(0))
    assert not torch.equal(even, end)


def test_alignment_in_words_is_cached_resumed_and_loaded(tmp_path, monkeypatch) -> None:
    cell = small_cell("second_last")
    profile = cell.profile()
    assert profile.llm.name == "nano-words"
    whole, record = alignment.aligned_weights(cell, profile, tmp_path / "whole" / "fusion")
    assert record == read_json(whole.with_name("aligned.json")) and record["steps"] == 3 and record["loss"] > 0
    assert [(p["step"], p["weights"]) for p in record["track"]] == [(0, None), (3, None)]  # nothing to learn
    assert record["track"][1]["loss"] == record["loss"]
    assert not list(whole.parent.glob("pixels-*/"))  # the training's state is gone
    monkeypatch.setattr(alignment, "train_pixels", lambda *_, **__: pytest.fail("aligned again"))
    shared = small_cell("second_last", expressions=7)
    assert alignment.aligned_weights(shared, profile, tmp_path / "whole" / "released_code")[0] == whole
    monkeypatch.undo()

    calls: list[int] = []
    answer_loss = pixels.answer_loss
    monkeypatch.setattr(alignment, "SAVE_EVERY", 1)
    monkeypatch.setattr(
        pixels, "answer_loss", lambda *given: calls.append(1) or (answer_loss(*given) if len(calls) < 3 else 1 / 0)
    )
    with pytest.raises(ZeroDivisionError):
        alignment.aligned_weights(cell, profile, tmp_path / "killed" / "fusion")
    monkeypatch.setattr(pixels, "answer_loss", lambda *given: calls.append(1) or answer_loss(*given))
    calls.clear()
    again, _ = alignment.aligned_weights(cell, profile, tmp_path / "killed" / "fusion")
    assert len(calls) == 1 and again.read_bytes() == whole.read_bytes()

    saved = load_file(whole)
    model, plain = build_model(profile, 3, aligned=whole), build_model(profile, 3)
    for name, value in model.projector.state_dict().items():
        assert torch.equal(value, saved[f"projector.{name}"])
    assert not torch.equal(model.projector.fc1.weight, plain.projector.fc1.weight)


def test_a_language_model_of_others_is_aligned_frozen_and_without_regions(tmp_path, monkeypatch) -> None:
    tokenizer = byte_level(SPECIALS["vicuna"])
    model, config = LLMS["llama"]
    llm = model(config(vocab_size=len(tokenizer), head_dim=8, **{**SIZES, "max_position_embeddings": 2048}))
    llm.save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    cell = small_cell("learned_raw", align_scenes=4)
    small = {"llm.name": str(tmp_path / "llm"), "training.batch_size": 2, "data.turns": 2}
    cell = replace(cell, overrides={**cell.overrides, **small})
    profile = cell.profile()
    assert profile.llm.name == str(tmp_path / "llm")
    met: dict[str, object] = {}
    fit = alignment.fit

    def spy(model, stream, maker, profile, seed, *rest):
        met["lora"] = [name for name in model.trainable_parameters() if "lora" in name]
        met["regions"] = [turn.regions for s in stream.batch(0, 8) for turn in s.turns if turn.regions]
        return fit(model, stream, maker, profile, seed, *rest)

    monkeypatch.setattr(alignment, "fit", spy)
    whole, record = alignment.aligned_weights(cell, profile, tmp_path / "whole" / "fusion")
    assert met == {"lora": [], "regions": []}
    assert record["steps"] == 3 and record["loss"] > 0 and record["scored"] is None
    assert not list(whole.parent.glob("checkpoint"))
    check_learned(record, whole, [0, 3])
    monkeypatch.setattr(alignment, "fit", lambda *_: pytest.fail("aligned again"))
    assert alignment.aligned_weights(cell, profile, tmp_path / "whole" / "fusion") == (whole, record)

    monkeypatch.setattr(alignment, "fit", fit)
    monkeypatch.setattr(alignment, "SAVE_EVERY", 2)
    schedule = training.learning_rate
    monkeypatch.setattr(training, "learning_rate", lambda step, *rest: schedule(step, *rest) if step < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        alignment.aligned_weights(cell, profile, tmp_path / "killed" / "fusion")
    monkeypatch.setattr(training, "learning_rate", schedule)
    again, _ = alignment.aligned_weights(cell, profile, tmp_path / "killed" / "fusion")
    assert again.read_bytes() == whole.read_bytes()

    saved, built, plain = load_file(whole), build_model(profile, 3, aligned=whole), build_model(profile, 3)
    assert built.aligned and not plain.aligned
    assert torch.equal(built.fusion.logits, saved["fusion.logits"]) and not torch.equal(
        built.fusion.logits, plain.fusion.logits
    )
    assert not torch.equal(built.projector.fc1.weight, plain.projector.fc1.weight)


def test_each_strategy_seed_and_budget_has_its_own_alignment() -> None:
    cells = [
        small_cell("learned"),
        small_cell("learned_raw"),
        small_cell("mean"),
        small_cell("mean", seed=4),
        small_cell("mean", align_steps=5),
    ]
    names = {alignment.folder_name(alignment.settings(cell, cell.profile())) for cell in cells}
    assert len(names) == 5 and any(name.startswith("learned-raw-seed3-3x48-") for name in names)
    switches = [cell_of("released_code", switch=s, start="aligned", seed=3)
                for s in ("none", "last_layer_excluded", "fusion_raw")]  # fmt: skip
    own = [alignment.settings(cell, cell.profile()) for cell in switches]
    assert [(s["normalise"], s["exclude_last"]) for s in own] == [(True, False), (True, True), (False, False)]
    shared = cell_of("fusion", strategy="learned", weights="shared", seed=3)
    two = cell_of("fusion", strategy="learned", seed=3)
    assert alignment.settings(shared, shared.profile()) == alignment.settings(two, two.profile())
    swapped = cell_of("fusion", strategy="mean", start="swapped", seed=3)
    assert alignment.aligned_weights(swapped, swapped.profile(), None) is None
    assert swapped.profile().llm.name == "nano" and "cell.align_steps" not in swapped.asked()


def test_only_fusion_and_projector_are_aligned_and_raw_fusion_stays_raw(tmp_path, monkeypatch) -> None:
    met: dict[str, object] = {}
    train = alignment.train_pixels

    def spy(folder, tower, start, *given, aligned, **options):
        before = {k: v.clone() for k, v in start[0].state_dict().items()}
        first = aligned.fusion.logits.detach().clone()
        out = train(folder, tower, start, *given, aligned=aligned, **options)
        met["frozen"] = all(torch.equal(v, before[k]) for k, v in start[0].state_dict().items())
        met["moved"] = not torch.equal(first, aligned.fusion.logits)
        met["normalise"] = aligned.fusion.normalise
        return out

    monkeypatch.setattr(alignment, "train_pixels", spy)
    cell = small_cell("learned_raw", align_steps=1)
    path, record = alignment.aligned_weights(cell, cell.profile(), tmp_path / "fusion")
    check_learned(record, path, [0, 1])
    assert met == {"frozen": True, "moved": True, "normalise": False}
    assert load_file(path).keys() >= {"fusion.logits", "projector.position"}


def test_alignment_needs_a_words_stage_and_its_grid() -> None:
    cell = cell_of("fusion", strategy="mean", seed=0)
    with pytest.raises(InputError, match="'nano' has met no words alone; nano-words has"):
        alignment.settings(cell, load_profile("smoke"))
    with pytest.raises(InputError, match="no positions of a words stage"):
        pixels.load_bundled_words("nano")
    tower = load_vision("nano-vit", 56)
    with pytest.raises(InputError, match=r"\[16, 128\], but the language model has met \[64, 128\]"):
        pixels.train_pixels(None, tower, pixels.load_bundled_words(), frozen=True)


def test_a_cell_starts_from_what_was_aligned_for_it(tmp_path, monkeypatch) -> None:
    """Through `run_cell`, without its training and scoring."""
    cell, built = small_cell("mean", align_steps=1), []

    class Reached(Exception):
        pass

    def build(profile, seed, aligned=None):
        built.append((profile.llm.name, seed, load_file(aligned)["projector.fc1.weight"].shape[1]))
        raise Reached

    monkeypatch.setattr(cell_run, "build_model", build)
    with pytest.raises(Reached):
        cell_run.run_cell(cell, tmp_path / "work", tmp_path / "fusion", progress=False)
    assert built == [("nano-words", 3, load_vision("nano-vit", 112).hidden_size)]
