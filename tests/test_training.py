"""The loop: exact resume, exact accumulation, and what it says when something goes wrong."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from results_page import documented, named
from safetensors.torch import load_file
from toy_model import ToyModel, ToyStream, make_batch, run_toy, toy_profile

from pgpt_lib import training
from pgpt_lib.batch import Batch
from pgpt_lib.checkpoint import load_checkpoint
from pgpt_lib.cli import main
from pgpt_lib.data.sample import Sample
from pgpt_lib.diagnosis import EmissionWatch
from pgpt_lib.errors import InputError, RunError
from pgpt_lib.optimisation import StepFigures, build_optimizer, is_decayed, learning_rate, optimiser_step, step_seed
from pgpt_lib.train_log import TrainLog
from pgpt_lib.training import fit, with_settings

HERE = Path(__file__).parent


def files(folder: Path) -> dict[str, bytes]:
    """Everything of a checkpoint but its clock."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.safetensors")}


def run_kills(kind: str, folder: Path, steps: int, *kills: str) -> list[Path]:
    """The folders that `kill_resume.py` leaves, the run without a break first."""
    path = os.pathsep.join([str(HERE.parent), str(HERE)])
    environment = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1", PGPT_CACHE=str(folder / "cache"))
    command = [sys.executable, str(HERE / "kill_resume.py"), kind, str(folder), str(steps), *kills]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [folder / "whole", *(folder / str(i) for i in range(len(kills)))]


def test_what_a_stream_prepares_is_not_counted_as_training(tmp_path: Path, monkeypatch) -> None:
    asked: list[tuple[int, int]] = []
    clock = [0.0]

    def prepare(stream: ToyStream, first: int, last: int) -> None:
        asked.append((first, last))
        clock[0] += 1000

    monkeypatch.setattr(training, "prepare_stream", prepare)
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: clock[0] + time.monotonic()))
    done = run_toy(tmp_path, toy_profile(4))
    assert asked == [(0, 4 * 6)] and done.seconds < 1000


# ------------------------------------------------------------------------------------------------------ resume


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_and_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path) -> None:
    kills = ["step:2", "step:4", "step:11", "save:8:optimizer.safetensors", "save:12:COMPLETE", "prune:12"]
    whole, *others = run_kills("toy", tmp_path, 14, *kills)
    want = files(whole / "checkpoint/step_14")
    assert {"optimizer", "perception", "rng", "adapter/model"} == {name.removesuffix(".safetensors") for name in want}
    curve = [(r["step"], r["lr"]) for r in TrainLog(whole / "train.jsonl").records()]
    for out in others:
        assert files(out / "checkpoint/step_14") == want
        assert [(r["step"], r["lr"]) for r in TrainLog(out / "train.jsonl").records()] == curve
        assert sorted(p.name for p in (out / "checkpoint").iterdir()) == ["step_12", "step_14"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_the_smoke_profile_resumes_to_the_bit(tmp_path: Path) -> None:
    whole, *others = run_kills("smoke", tmp_path, 7, "step:5", "save:6:adapter_model.safetensors")
    want = files(whole / "checkpoint/step_7")
    assert {"adapter/adapter_model.safetensors", "optimizer.safetensors", "perception.safetensors"} < want.keys()
    for out in others:
        assert files(out / "checkpoint/step_7") == want
    model, state = load_checkpoint(whole)
    assert (state.step, state.profile.name, model.training) == (7, "smoke", False)
    saved = load_file(whole / "checkpoint/step_7/perception.safetensors")
    assert saved.keys() == model.perception_state().keys()
    assert all(torch.equal(saved[name], value) for name, value in model.perception_state().items())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_exchanges_kept_apart_with_a_teacher_resume_to_the_bit(tmp_path: Path) -> None:
    whole, resumed = run_kills("smoke-apart", tmp_path, 5, "step:4")
    want = files(whole / "checkpoint/step_5")
    assert "optimizer.safetensors" in want and files(resumed / "checkpoint/step_5") == want
    assert load_checkpoint(whole)[1].profile.data.turns_apart
    assert TrainLog(whole / "train.jsonl").records()[-1]["losses"]["distillation"] > 0


def test_what_train_prints_is_documented(tmp_path: Path) -> None:
    keys = named(documented("What commands print")["train"])
    assert set(vars(run_toy(tmp_path, toy_profile(2)))) == keys - {"step_N", "train.jsonl"}


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    runs = [run_toy(tmp_path / str(i), toy_profile(4), seed) for i, seed in enumerate((1, 1, 2))]
    first, same, other = (files(run.checkpoint) for run in runs)
    assert first == same
    assert all(first[name] != other[name] for name in first)


def test_a_finished_run_is_left_as_it_is_and_an_unasked_one_is_refused(tmp_path: Path) -> None:
    first = run_toy(tmp_path, toy_profile(4))
    with pytest.raises(InputError, match="holds a training up to step_4: go on with --resume"):
        run_toy(tmp_path, toy_profile(4))
    assert run_toy(tmp_path, toy_profile(4), resume=True).checkpoint == first.checkpoint


def test_resume_without_a_usable_checkpoint_starts_anew_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    want = files(run_toy(tmp_path / "new", toy_profile(8), resume=True).checkpoint)
    assert "starts anew" in capsys.readouterr().err
    run_toy(tmp_path / "old", toy_profile(8), seed=7)
    result = run_toy(tmp_path / "old", toy_profile(8), seed=1, resume=True)
    said = capsys.readouterr().err
    assert "step_8: of seed 7, not 1" in said and "starts anew" in said
    assert files(result.checkpoint) == want
    assert (tmp_path / "old/checkpoint/refused/step_8/COMPLETE").exists()  # set aside, not destroyed


def test_a_truncated_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = run_toy(tmp_path, toy_profile(9)).checkpoint
    want = files(last)
    broken = last / "perception.safetensors"
    broken.write_bytes(broken.read_bytes()[:100])
    assert run_toy(tmp_path, toy_profile(9), resume=True).resumed_from == 8
    assert "step_9: perception.safetensors is truncated" in capsys.readouterr().err
    assert files(last) == want


@pytest.mark.parametrize("number, error", [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_an_interrupted_run_saves_first(tmp_path: Path, number: int, error: type[BaseException]) -> None:
    profile = toy_profile(9, save_every=100, log_every=1)
    want = files(run_toy(tmp_path / "whole", profile).checkpoint)

    def stop_at(record: dict) -> None:
        if record["step"] == 5:
            os.kill(os.getpid(), number)

    with pytest.raises(error):
        run_toy(tmp_path / "stopped", profile, on_log=stop_at)
    assert (tmp_path / "stopped/checkpoint/step_5/COMPLETE").exists()
    result = run_toy(tmp_path / "stopped", profile, resume=True)
    assert (result.resumed_from, files(result.checkpoint)) == (5, want)


# -------------------------------------------------------------------------------------------------- one step


def gradients(sizes: Sequence[int]) -> dict[str, torch.Tensor]:
    """What eight samples in micro-batches of these sizes do to the weights, under plain gradient descent."""
    profile = toy_profile(4, grad_clip=1e9)
    model = ToyModel().eval()  # without dropout
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    samples, batches = ToyStream().batch(0, 8), []
    for size in sizes:
        batches.append(make_batch(samples[:size], torch.Generator().manual_seed(0)))
        samples = samples[size:]
    for batch in batches:
        batch.visible["box"][:] = True
    accelerator = Accelerator()
    optimiser_step(accelerator, model, torch.optim.SGD(model.parameters(), lr=1.0), batches, profile)
    return {name: before[name] - p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("sizes", [(4, 4), (1, 7), (3, 3, 2), (1,) * 8])
def test_accumulated_gradients_are_those_of_one_large_batch(sizes: Sequence[int]) -> None:
    whole, parts = gradients([8]), gradients(sizes)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_a_mean_of_means_would_be_caught() -> None:
    model = ToyModel().eval()
    samples = ToyStream().batch(0, 8)
    whole, *parts = (model(make_batch(s, torch.Generator())).losses for s in (samples, samples[:1], samples[1:]))
    for term in ("language", "giou"):
        assert abs(float(whole[term]) - sum(float(p[term]) for p in parts) / 2) > 1e-3


def test_a_run_with_accumulation_follows_the_run_without(tmp_path: Path) -> None:
    plain, split = (run_toy(tmp_path / str(n), toy_profile(4, accumulation=n)).losses for n in (1, 3))
    assert plain.keys() == split.keys()
    assert all(math.isclose(plain[name], split[name], rel_tol=0.05) for name in plain)  # dropout is drawn otherwise


def every_dialogue_is_trained_on(out: Path, make: Callable[..., Batch]) -> bool:
    """Whether each step's batch is the stream's own, with regions or without any."""
    seen = []

    class Watched(ToyModel):
        def forward(self, batch: Batch) -> object:
            seen.extend(batch.sample_ids)
            return super().forward(batch)

    fit(Watched(), ToyStream(), make, toy_profile(6, batch_size=1), 1, out, None, progress=False)
    return seen == [sample.sample_id for step in range(6) for sample in ToyStream().batch(step, 1)]


def test_batches_without_regions_are_not_replaced_by_older_ones(tmp_path: Path) -> None:
    """As the released code does, so that captions and questions train nothing."""
    assert every_dialogue_is_trained_on(tmp_path / "right", make_batch)
    kept: list[Batch] = []

    def replayed(samples: Sequence[Sample], draw: torch.Generator) -> Batch:
        batch = make_batch(samples, draw)
        kept[:] = [batch] if batch.regions or not kept else kept
        return kept[0]

    assert not every_dialogue_is_trained_on(tmp_path / "planted", replayed)


@given(steps=st.integers(1, 500), warmup=st.floats(0, 0.9))
def test_the_learning_rate_rises_then_falls(steps: int, warmup: float) -> None:
    rates = [learning_rate(step, steps, 2.0, warmup) for step in range(steps)]
    top = rates.index(max(rates))
    assert top == math.floor(steps * warmup) and rates[top] == 2.0
    assert all(rate > 0 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)


def test_seeds_of_steps_differ() -> None:
    keys = [(seed, step, purpose) for seed in range(30) for step in range(30) for purpose in ("model", "batch")]
    assert len({step_seed(*key) for key in keys}) == len(keys)


def test_only_matrices_decay(make_model) -> None:
    decayed = {name for name, p in make_model().trainable_parameters().items() if is_decayed(name, p)}
    assert {n for n in decayed if "lora" in n} and "signals.box.encoder.0.weight" in decayed
    assert not [n for n in decayed if n.endswith("bias") or "norm" in n or "trainable_tokens" in n or "fusion." in n]


def test_one_step_changes_every_trained_parameter_of_the_real_model(make_model, samples, features) -> None:
    model = make_model(training__precision="fp32", training__lr=1e-2)
    before = {name: p.detach().clone() for name, p in model.trainable_parameters().items()}
    optimizer = build_optimizer(model.trainable_parameters(), model.profile.training)
    for _ in range(2):  # a LoRA's A stands still while its B is zero
        optimiser_step(Accelerator(), model.train(), optimizer, [model.collate(samples, features)], model.profile)
    still = [name for name, p in model.trainable_parameters().items() if torch.equal(p, before[name])]
    assert not still


# ------------------------------------------------------------------------------------------- what goes wrong


def test_a_loss_that_is_not_finite_names_the_sample(tmp_path: Path) -> None:
    def spoilt(samples: Sequence[Sample], draw: torch.Generator) -> Batch:
        batch = make_batch(samples, draw)
        for number, i in enumerate(batch.vis_row.tolist()):
            if samples[i].sample_id == "toy-13":
                batch.targets["box"][0][number] = math.nan
        return batch

    with pytest.raises(RunError, match=r"step 3: .*Not finite alone: sample\(s\) toy-13;"):
        fit(ToyModel(), ToyStream(), spoilt, toy_profile(4), 1, tmp_path, progress=False)
    assert not (tmp_path / "checkpoint/step_3").exists()


def test_weights_that_are_not_finite_are_told_from_samples(tmp_path: Path) -> None:
    model = ToyModel()
    with torch.no_grad():
        model.llm.lm_head.weight[0] = math.inf
    with pytest.raises(RunError, match="llm.lm_head.weight are no longer finite; lower training.lr"):
        fit(model, ToyStream(), make_batch, toy_profile(4), 1, tmp_path, progress=False)


def test_silence_is_noticed_with_its_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = toy_profile(21, lr=1e-6)
    run_toy(tmp_path / "slow", profile)
    said = capsys.readouterr().err
    assert "after 20 steps the model predicts <vis> at 0 of" in said and "training.lr 1e-06" in said
    dumb = profile.model_copy(update={"losses": profile.losses.model_copy(update={"language": 0.0})})
    run_toy(tmp_path / "dumb", dumb)
    assert "losses.language is 0" in capsys.readouterr().err
    run_toy(tmp_path / "fine", toy_profile(21, lr=0.3))
    assert "predicts <vis>" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("emitted", "first", "told"),
    [
        ({}, 0, "after 100 steps the model predicts <vis> at 0 of 100 places where answers of the last 10 steps"),
        ({100: 1}, 0, "at 1 of 100 places"),  # one lucky guess
        (dict.fromkeys(range(91, 100), 1), 0, None),  # the last step alone was unlucky
        ({99: 10}, 95, None),
        ({}, 95, "after 105 steps"),
        ({}, 985, "after 995 steps"),
    ],
)
def test_no_single_step_decides_whether_the_model_is_silent(emitted: dict, first: int, told: str | None) -> None:
    watch = EmissionWatch(toy_profile(1000), ["lm_head"], first)
    figures = {step: StepFigures({}, 0.0, 0.0, 1, emitted.get(step, 0), 10, 1) for step in range(first + 1, 1001)}
    said = [warning for step, of_step in figures.items() if (warning := watch.after(step, of_step))]
    assert len(said) == (told is not None) and (told or "") in "".join(said)


def test_answers_without_regions_are_no_silence() -> None:
    watch = EmissionWatch(toy_profile(20), ["lm_head"])
    assert not any(watch.after(step, StepFigures({}, 0.0, 0.0, 1, 0, 0, 1)) for step in range(1, 21))


def test_the_epoch_is_counted_in_the_streams_own_dialogues(tmp_path: Path) -> None:
    run_toy(tmp_path, toy_profile(4))
    state = json.loads((tmp_path / "checkpoint/step_4/state.json").read_text())
    assert state["epoch"] == 4 * 6 // ToyStream.epoch_length == 2


def test_a_setting_out_of_range_is_named() -> None:
    with pytest.raises(InputError, match="steps is 0"):
        with_settings(toy_profile(), steps=0)


@pytest.mark.parametrize(
    "options, named",
    [
        (["--profile", "smok"], "smok"),
        (["--profile", "smoke", "--steps", "0"], "steps is 0"),
        (["--profile", "smoke", "--root", "there"], "--root there"),
        (["--profile", "smoke"], "--resume"),
    ],
)
def test_the_command_names_bad_input_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], named: str
) -> None:
    (tmp_path / "checkpoint/step_3").mkdir(parents=True)
    with pytest.raises(SystemExit) as status:
        main(["train", *options, "--out", str(tmp_path), "--seed", "1", "--json"])
    assert status.value.code == 2
    assert named in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- log


@pytest.mark.parametrize(
    "arguments",
    [["train", "--profile", "smoke"], ["finetune", "--checkpoint", "nowhere", "--on", "rec", "--steps", "2"]],
)
def test_a_file_as_the_folder_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(SystemExit) as status:
        main([*arguments, "--out", str(tmp_path / "taken")])
    assert status.value.code == 2
    assert f"--out {tmp_path / 'taken'} is a file" in capsys.readouterr().err


def test_the_log_survives_a_torn_line_and_refuses_a_spoilt_one(tmp_path: Path) -> None:
    log = TrainLog(tmp_path / "train.jsonl")
    for step in (3, 6, 9):
        log.append({"step": step})
    with log.path.open("a") as file:
        file.write('{"step": 1')
    assert [r["step"] for r in log.records()] == [3, 6, 9]
    log.truncate(6)
    assert log.path.read_text() == '{"step": 3}\n{"step": 6}\n'
    log.path.write_text('{"step": 3}\nx\n{"step": 6}\n')
    with pytest.raises(InputError, match="line 2"):
        log.records()


def test_the_curve_goes_to_the_callback_and_the_file(tmp_path: Path) -> None:
    seen: list[dict] = []
    state = torch.get_rng_state()
    result = run_toy(tmp_path, toy_profile(7), on_log=seen.append)
    assert [json.loads(line) for line in result.log.read_text().splitlines()] == seen
    assert [record["step"] for record in seen] == [3, 6, 7]
    assert seen[-1]["losses"] == result.losses
    assert torch.equal(torch.get_rng_state(), state)  # a notebook's own random numbers are left alone
