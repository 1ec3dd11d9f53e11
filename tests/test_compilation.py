"""`training.compile`: the same names, the same losses, exact resumption; and what happens where nothing compiles.

The quick tests trace and differentiate the blocks as for any backend, and run the graphs uncompiled ("aot_eager").
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from conftest import LEFT, RIGHT, TinyTower, dialogue, make_llm
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from pgpt_lib import compilation
from pgpt_lib.checkpoint import load_weights
from pgpt_lib.checkpoint_files import training_digest
from pgpt_lib.config import load_profile
from pgpt_lib.data.sample import Sample
from pgpt_lib.errors import RunError
from pgpt_lib.generation import generate
from pgpt_lib.model import PerceptionGPT, build_model
from pgpt_lib.train_log import TrainLog
from pgpt_lib.training import TrainResult, fit, starting_point

CPU = torch.device("cpu")
ON, OFF = {"training__compile": True}, {"training__compile": False}


class Lengths:
    """Two dialogues a step, with one to three questions, so that every step has another length."""

    images = None
    epoch_length = 10

    def image_ids(self) -> list[str]:
        return []

    def batch(self, step: int, size: int) -> list[Sample]:
        asked = ("where is the red circle ?", ()), ("<vis>", ((LEFT, RIGHT)[step % 2],))
        return [dialogue(f"{step}-{i}", "one", *asked * (1 + (step + i) % 3)) for i in range(size)]


@pytest.fixture(scope="module")
def traced() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compilation, "BACKEND", "aot_eager")
        yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def train(make_model, features):
    """train(out, resume=False, on_log=None, **overrides) -> (result, model)"""

    def run(out: Path, resume: bool = False, on_log=None, **overrides: object) -> tuple[TrainResult, PerceptionGPT]:
        small = {"steps": 4, "batch_size": 2, "accumulation": 1, "save_every": 2, "log_every": 1, "precision": "fp32"}
        model = make_model(**{f"training__{k}": v for k, v in small.items()}, **overrides)
        start = starting_point(out, model.profile, 1, resume)

        def make_batch(samples: Sequence[Sample], draw: torch.Generator):
            return model.collate(samples, features, input_dropout=0.3, generator=draw)

        return fit(model, Lengths(), make_batch, model.profile, 1, out, start, on_log, progress=False), model

    return run


@pytest.fixture(scope="module")
def both(traced, train, tmp_path_factory) -> tuple[TrainResult, TrainResult, PerceptionGPT, dict]:
    """The same training plain and compiled, the second's model, and what was counted while it was compiled."""
    folder = tmp_path_factory.mktemp("both")
    torch._dynamo.reset()
    counters.clear()
    plain, _ = train(folder / "plain", **OFF)
    assert not counters["stats"], "off is off"
    result, model = train(folder / "compiled", **ON)
    return plain, result, model, copy.deepcopy(counters)


def losses(result: TrainResult) -> list[float]:
    return [record["loss"] for record in TrainLog(result.log).records()]


def tensors(result: TrainResult) -> dict[str, torch.Tensor]:
    files = sorted(result.checkpoint.rglob("*.safetensors"))
    return {f"{file.name} {name}": value for file in files for name, value in load_file(file).items()}


def cut_off(result: TrainResult, folder: Path) -> Path:
    """A copy of a training's folder as if it had been killed after the checkpoint of step 2."""
    shutil.copytree(result.log.parent, folder)
    shutil.rmtree(folder / "checkpoint" / "step_4")
    return folder


def test_a_compiled_training_is_the_same_training(both) -> None:
    plain, result, model, counted = both
    assert losses(result) == pytest.approx(losses(plain), rel=1e-4)
    assert counted["stats"]["unique_graphs"] == 2, "the probe's, and one for all blocks and lengths"
    assert not counted["graph_break"] and not counted["recompile_limit"]
    assert tensors(result).keys() == tensors(plain).keys()
    assert not any("_orig_mod" in name for name in model.state_dict())
    assert all(block._compiled_call_impl is None for block in compilation.blocks_of(model)), "left as it was"


def test_its_checkpoint_loads_into_a_plain_model(both, make_model) -> None:
    _, result, model, _ = both
    plain = make_model(**OFF)
    load_weights(result.checkpoint, plain)
    held = plain.trainable_parameters()
    assert all(torch.equal(held[name], value) for name, value in model.trainable_parameters().items())


@pytest.mark.slow
def test_it_resumes_exactly(both, train, tmp_path: Path) -> None:
    _, whole, _, _ = both
    torch._dynamo.reset()  # as a new process, which meets another length first
    result, _ = train(cut_off(whole, tmp_path / "run"), resume=True, **ON)
    assert result.resumed_from == 2
    want, got = tensors(whole), tensors(result)
    assert want.keys() == got.keys() and all(torch.equal(want[name], got[name]) for name in want)


def test_a_training_may_go_on_uncompiled(both, train, tmp_path: Path) -> None:
    """Only last digits depend on it, and a machine may lack a compiler."""
    plain, whole, _, _ = both
    result, _ = train(cut_off(whole, tmp_path / "run"), resume=True, **OFF)
    assert result.resumed_from == 2 and losses(result) == pytest.approx(losses(plain), rel=1e-4)
    assert training_digest(load_profile("gpu")) == training_digest(load_profile("gpu", {"training.compile": False}))


@pytest.mark.slow
def test_checkpointing_repeats_compiled_blocks(traced, train, tmp_path: Path) -> None:
    counters.clear()
    plain, _ = train(tmp_path / "plain", training__checkpointing=True, **OFF)
    result, _ = train(tmp_path / "compiled", training__checkpointing=True, **ON)
    assert counters["stats"]["unique_graphs"] >= 1 and losses(result) == pytest.approx(losses(plain), rel=1e-4)


def test_scores_taken_in_passing_are_not_compiled(traced, train, tmp_path: Path, monkeypatch) -> None:
    """A sweep's cell decodes at some records of the log; a growing cache would compile the blocks anew each time."""
    graphs: list[int] = []
    held: list[PerceptionGPT] = []
    build = PerceptionGPT.__init__

    def kept(self, *args, **kwargs) -> None:
        build(self, *args, **kwargs)
        held.append(self)

    def score(record) -> None:
        model, features = held[-1].eval(), torch.randn(1, TinyTower.num_layers, TinyTower.num_tokens, 32)
        asked = [dialogue("a", "one", ("where is the star ?", ()))]
        generate(model, asked, lambda image_ids: features, max_new_tokens=3)
        model.train()
        graphs.append(counters["stats"]["unique_graphs"])

    monkeypatch.setattr(PerceptionGPT, "__init__", kept)
    train(tmp_path, on_log=score, **ON)
    assert len(set(graphs)) == 1


def broken(*_: object) -> None:
    raise RuntimeError("no compiler\nfar and wide")


def test_where_nothing_compiles_training_goes_on_without(
    train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, _ = train(tmp_path / "plain", **OFF)
    monkeypatch.setattr(compilation, "BACKEND", broken)
    assert "no compiler" in str(compilation.fault_here(CPU))
    result, _ = train(tmp_path / "compiled", **ON)
    said = capsys.readouterr().err
    assert "no compiler" in said and "far and wide" not in said and "training goes on without it" in said
    assert losses(result) == losses(plain)


def test_a_model_that_does_not_compile_names_the_switch(train, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(compilation, "BACKEND", broken)
    monkeypatch.setattr(compilation, "fault_here", lambda device: None)
    with pytest.raises(RunError, match="does not take this model: .*no compiler.*set training.compile to false"):
        train(tmp_path, **ON)


def test_profiles_say_whether_they_compile() -> None:
    on = {name for name in ("smoke", "cpu", "photos", "gpu", "gpu-refcoco", "paper-7b", "paper-13b")
          if load_profile(name).training.compile}  # fmt: skip
    assert on == {"gpu", "gpu-refcoco"}


@pytest.mark.slow
def test_a_real_compiler_computes_the_same(tokenizer, profile, features, monkeypatch) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "inductor")
    torch._dynamo.reset()
    if fault := compilation.fault_here(CPU):
        pytest.skip(f"torch.compile does not work here: {fault}")
    found = []
    for on in (False, True):
        model = build_model(profile, 0, (make_llm(len(tokenizer)), copy.deepcopy(tokenizer)), TinyTower()).train()
        with compilation.compiled(model, on, CPU, pytest.fail):
            for step in range(3):
                batch = model.collate(Lengths().batch(step, 2), features)
                output = model(batch)
                output.loss.backward()
        found.append([float(output.loss.detach()), *(p.grad for p in model.trainable_parameters().values())])
    (loss, *want), (other, *got) = found
    assert other == pytest.approx(loss, rel=1e-4)
    assert all(torch.allclose(a, b, rtol=1e-2, atol=1e-5) for a, b in zip(want, got, strict=True))
