"""Notebooks under papermill in the profiles that are meant for cards, on the CPU: the profiles as they ship, backbones
that are small stand-ins under the hub's names, and small copies of the paper's data sets in their true formats."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import big_layouts as layouts
import pytest
import transformers
from test_chat import byte_level
from test_families import LLMS, SIZES, SPECIALS
from test_vision import shifted

from pgpt_lib.backbones import resolver
from pgpt_lib.checkpoint_files import find_checkpoint
from pgpt_lib.data.benchmarks import TABLES
from pgpt_lib.project import ROOT

TOWER = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 56, "image_size": 224}
EXPECTED = {name for names in TABLES.values() for name in names}
REFER = set(TABLES["table2"])


def in_hub(home: Path, name: str) -> Path:
    """The folder in which the hub's cache holds a repository's files."""
    repository = home / "hub" / f"models--{str(resolver.BACKBONES[name].hub).replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    return repository / "snapshots" / ("0" * 40)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A hub's cache with tiny towers and tiny Llamas in place of CLIP ViT-L/14, DINOv2-S, Vicuna and SmolLM2."""
    home = tmp_path_factory.mktemp("hf")
    config = transformers.CLIPVisionConfig(intermediate_size=32, **TOWER)
    shifted(transformers.CLIPVisionModel(config)).save_pretrained(in_hub(home, "clip-vit-large-patch14"))
    dinov2 = transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=2, **TOWER))
    shifted(dinov2).save_pretrained(in_hub(home, "dinov2-small"))
    for name, family, tied in (("vicuna-7b", "vicuna", False), ("smollm2-135m", "chatml", True)):
        tokenizer, (model, config) = byte_level(SPECIALS[family]), LLMS["llama"]
        sizes = {**SIZES, "max_position_embeddings": 2048, "tie_word_embeddings": tied}
        folder = in_hub(home, name)
        model(config(vocab_size=len(tokenizer), head_dim=8, **sizes)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    own = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PGPT_CACHE": str(home / "pgpt"), "GLOO_SOCKET_IFNAME": "lo"}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_the_papers_profile_trains_by_accelerate_and_fills_its_tables(
    environment: dict[str, str], tmp_path: Path
) -> None:
    root, out = layouts.everything(tmp_path / "data"), tmp_path / "out"
    layouts.karpathy(root)
    layouts.picture(root / "flickr30k" / "images" / "1009434119.jpg")
    command = [sys.executable, "-m", "pgpt_lib", "run", "--profile", "paper-7b", "--root", root, "--out", out]
    command += ["--only", "05_training", "--only", "06_evaluation", "-p", "steps=2", "-p", "processes=2"]
    command += ["-p", "tune_steps=1", "--json"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["published"] is None
    shown = (out / "05_training" / "05_training.ipynb").read_text()
    estimate, command_line, last = (
        shown.index(t) for t in ("paper-7b on 8 x a100-80, ddp", "$ accelerate launch", "step 2 of 2: loss")
    )
    assert estimate < command_line < last and find_checkpoint(out)[1].step == 2
    report = json.loads((out / "report.json").read_text())
    assert "official splits of the paper's data sets" in report["data"]
    scored = {name for name in report["metrics"] if "/" in name}
    assert scored == EXPECTED | {f"tuned-{name}" for name in EXPECTED}
    for table in ("table2", "table3"):
        rows = report["tables"][table]["ours"]
        assert [label.partition("(")[2] for label in rows] == ["mixture)", "fine-tuned on each)"]
        assert all(set(row) <= REFER for row in rows.values())  # nothing learnt: no mask may have been given
    assert all(set(row) == REFER for row in report["tables"]["table2"]["ours"].values())
    (row,) = report["tables"]["table5"]["ours"].values()
    assert set(row) == {"VQAv2", "OK-VQA", "Flickr30k", "COCO"} and all(v is not None for v in row.values())


@pytest.mark.slow
def test_the_profile_for_one_card_trains_by_accelerate(environment: dict[str, str], tmp_path: Path) -> None:
    """Notebook 05 in `gpu`: the estimate, the launched training, its log, the report."""
    command = [sys.executable, "-m", "pgpt_lib", "run", "--profile", "gpu", "--out", str(tmp_path), "--json"]
    command += ["--only", "05_training", "-p", "steps=2", "-p", "processes=1"]
    uncompiled = {**environment, "TORCH_COMPILE_DISABLE": "1"}  # `tests/test_compilation.py` compiles
    done = subprocess.run(command, cwd=ROOT, env=uncompiled, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    shown = (tmp_path / "05_training" / "05_training.ipynb").read_text()
    estimate, command_line, last = (
        shown.index(t) for t in ("gpu on 1 x rtx3090, ddp", "$ accelerate launch", "step 2 of 2: loss")
    )
    assert estimate < command_line < last and find_checkpoint(tmp_path)[1].step == 2
    report = json.loads((tmp_path / "report.json").read_text())
    training = report["metrics"]["05_training"]["training"]
    assert training["steps"] == 2 and training["mfu"] is None, "no card, no figures of one"
    assert report["profiles"]["gpu"]["machine"] and report["profiles"]["paper-13b"] is None
