"""Sweeps: plans as data, cells that are trained, scored, resumed and marked, and what is read off several of them."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_sweep
from scipy.stats import t as student

from pgpt_lib import project
from pgpt_lib.commands.sweep import _minutes_left, choose, one_cell
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError
from pgpt_lib.files import read_json, write_json
from pgpt_lib.sweeps import cell_run, cells, engine, rates, results, table, worker
from pgpt_lib.sweeps.cells import RunSettings, changed, parse_factors
from pgpt_lib.sweeps.jobs import BUSY, Job, run_jobs, why
from pgpt_lib.sweeps.plans import load_plan, plan_file, plan_names

MAIN = "refshapes-refcoco/val"
L1 = {"terms": "l1", "seed": 0}
BOX = {"representation": "embedding", "rank": 8, "seed": 0}


def cell_of(plan: str, profile: str = "smoke", **factors):
    return load_plan(plan).cell(factors, profile)


def finished(plan: str, acc: float, half: float = 0.0, curve=(), seconds: float = 10.0, **factors) -> dict:
    """A result as `run_cell` makes them."""
    cell = cell_of(plan, "cpu", **factors)
    interval = [acc, acc - half, acc + half]
    return {
        "status": "done",
        "plan": plan,
        "id": cell.id,
        "cell": dict(cell.factors),
        "asked": {"signals": cell.profile().signals},
        "lr": cell.run.lr if isinstance(cell.run.lr, float) else 0.003,
        "metrics": {
            MAIN: {"acc@0.5": interval, "miou_box": interval, "questions": {"all": {"accuracy": [0.7, 0.6, 0.8]}}}
        },
        "before": {"questions": {"all": {"accuracy": [0.75, 0.7, 0.8]}}},
        "curve": [{"step": i, "seconds": s, "expressions": 100 * i, "acc@0.5": [a, a, a]} for i, s, a in curve],
        "parameters": {"trainable": 1000, "llm_trainable": 100, "llm": 9000},
        "seconds": seconds,
        "total_seconds": seconds + 5,
        "expressions": round(cell.run.expressions * cell.run.times),
    }


def test_the_plans_hold_every_comparison_that_the_paper_makes():
    assert plan_names() == ["fusion", "losses", "released_code", "table6"]
    cells = load_plan("table6").cells()
    assert len({c.id for c in cells}) == len(cells)
    for representation in ("embedding", "numerical", "vocabulary"):
        mine = [c.factors for c in cells if c.factors["representation"] == representation]
        for rank in (8, 32, "full"):
            seeds = {f["seed"] for f in mine if (f["rank"], f["budget"], f["fraction"]) == (rank, "samples", 1.0)}
            assert seeds == {0, 1, 2}
        fractions = {f["fraction"] for f in mine if f["budget"] == "samples" and f["rank"] == 8}
        assert fractions == {0.1, 0.25, 0.5, 1.0}
        for budget in ("time", "fourfold"):
            found = [(f["rank"], f["seed"]) for f in mine if f["budget"] == budget]
            assert found == ([] if (representation, budget) == ("embedding", "fourfold") else [(8, 0), (8, 1), (8, 2)])
        tuned = [(f["rank"], f["lr"]) for f in mine if f["budget"] == "tuning"]
        assert len(tuned) == len(set(tuned)) == 16 and {rank for rank, _ in tuned} == {8, 32, "full"}
        assert len([f for f in mine if f["budget"] == "long_tuning"]) == 3
    order = [c.factors["rank"] for c in cells if c.factors["budget"] == "samples" and c.factors["fraction"] == 1.0]
    assert order == [8] * 9 + ["full"] * 9 + [32] * 9
    for name in plan_names():
        assert (project.ROOT / plan_file(name)).exists()
        for cell in load_plan(name).cells():
            assert cell.factors["seed"] in (0, 1, 2, 100)


def test_a_cell_follows_from_its_factors():
    cell = cell_of("table6", "cpu", representation="embedding", rank=32, fraction=0.25, seed=7)
    assert cell.id == "representation=embedding,rank=32,fraction=0.25,seed=7"
    profile = cell.profile()
    assert (profile.llm.lora_rank, profile.llm.tuning, profile.signals) == (32, "lora", ("box",))
    whole = cell_of("table6", "cpu", representation="embedding", rank=32, seed=7).profile()
    assert profile.data.train_scenes * 4 == whole.data.train_scenes and profile.training.steps == whole.training.steps
    per_step = whole.training.batch_size * whole.data.turns
    assert abs(whole.training.steps * per_step - cell.run.expressions) <= per_step
    fourfold = cell_of("table6", "cpu", representation="embedding", rank=8, budget="fourfold", seed=7).profile()
    assert fourfold.training.steps == pytest.approx(4 * whole.training.steps, abs=2)
    assert cell_of("table6", "cpu", representation="embedding", rank="full", seed=7).profile().llm.tuning == "full"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank", "name=value"),
        ("rank=8,rank=32", "rank is given twice"),
        ("representation=embeding,rank=8,seed=1", "representation = 'embeding' .*embedding, numerical, vocabulary"),
        ("representation=embedding,rank=16,seed=1", "rank = 16 .*8, 32, full"),
        ("representation=embedding,rank=8,seed=-1", "seed = -1"),
        ("representation=embedding,rank=8,fraction=2,seed=1", "fraction = 2"),
        ("representation=embedding,rank=8,fraction=half,seed=1", "fraction = 'half' .*a number"),
        ("width=3", "no factor 'width'; it has representation, rank"),
        ("rank=8,seed=77", "fits no cell"),
    ],
)
def test_bad_choices_are_told_with_the_right_ones(text, message):
    with pytest.raises(InputError, match=message):
        choose(load_plan("table6"), text, "smoke")


def test_choices():
    plan = load_plan("table6")
    cells, single = choose(plan, "representation=embedding,rank=8,seed=77", "")
    assert single and cells[0].seed == 77
    cells, single = choose(plan, "rank=full,budget=samples", "")
    assert not single and len(cells) == 9
    with pytest.raises(InputError, match="unknown sweep 'table8'; there are fusion, losses, released_code, table6"):
        load_plan("table8")
    assert parse_factors("a=1,b=x,c=0.5") == {"a": 1, "b": "x", "c": 0.5}


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A tiny cell, trained and scored."""
    out = tmp_path_factory.mktemp("one")
    return out, one_cell(cell_of("table6", **BOX), out)


def test_a_cell_is_trained_and_scored(one):
    out, result = one
    assert json.loads(json.dumps(result["cell"])) == dict(cell_of("table6", **BOX).factors)
    assert len(result["metrics"]) == 8 and result["metrics"][MAIN]["n"] > 0
    assert result["metrics"][MAIN]["ciou"] is None  # boxes alone
    assert result["metrics"][MAIN]["questions"]["all"]["n"] == result["before"]["questions"]["all"]["n"] > 0
    assert [p["step"] for p in result["curve"]] == [1, 2] and result["log"][-1]["step"] == result["steps"] == 2
    weights = result["weights"]
    assert all(w.keys() >= {"step", "llm"} and sum(w["llm"]) == pytest.approx(1, abs=1e-5) for w in weights)
    main, columns = result["metrics"][MAIN], result["metrics"][MAIN]["scenes"]
    assert columns.keys() == {"acc@0.5", "miou_box", "questions.all.accuracy"}
    hits, of = ([float(n) for n in columns["acc@0.5"][name].split()] for name in ("sums", "of"))
    assert sum(of) == main["n"] and sum(hits) / sum(of) == pytest.approx(main["acc@0.5"][0])
    assert result["before"]["scenes"].keys() == {"questions.all.accuracy"}
    assert 0 < len(result["answers"]) == min(main["n"], cell_run.KEPT_ANSWERS)
    assert all(isinstance(a["written"], str) and len(a["true"]) == 4 for a in result["answers"])
    assert sum(a["failure"] == "format" for a in result["answers"]) == main["failures"]["format"]
    assert weights[0]["step"] == 0 and weights[0]["llm"] != weights[-1]["llm"]  # learned
    assert 0 < result["curve"][0]["seconds"] < result["curve"][1]["seconds"] <= result["seconds"] + 1e-6
    assert result["seconds"] < result["total_seconds"] and result["log"][-1]["seconds"] <= result["seconds"] + 1e-6
    assert "giou" in result["log"][0]["losses"] and result["parameters"]["llm_trainable"] < result["parameters"]["llm"]
    folder = engine.sweep_folder(out, "table6")
    assert not worker.work_folder(folder, result["id"]).exists()  # no checkpoint is left
    assert read_json(results.result_file(folder, result["id"]))["metrics"] == worker.read_back(result["metrics"])


def test_the_toy_sweep_of_other_tests_has_the_form_of_a_cell(one):
    """What those tests read is what a sweep writes, key by key."""
    real, toy = worker.read_back(one[1]), toy_sweep.result(cell_of("table6", **BOX))

    def keys(found, depth=3):
        return {k: keys(v, depth - 1) for k, v in found.items()} if isinstance(found, dict) and depth else None

    assert keys(toy, 1) == keys(real, 1)
    for part in ("cell", "parameters", "before", "metrics"):
        assert keys(toy[part]) == keys(real[part]), part
    for part in ("curve", "log", "weights"):
        assert keys(toy[part][0], 1) == keys(real[part][0], 1), part


def test_a_finished_cell_is_not_run_again(one, monkeypatch):
    out, result = one
    monkeypatch.setattr(worker, "perform", lambda *_: pytest.fail("run again"))
    assert one_cell(cell_of("table6", **BOX), out)["id"] == result["id"]
    here, other = engine.survey([cell_of("table6", **{**BOX, "seed": seed}) for seed in (0, 1)], out)
    assert (here.state, other.state) == ("done", "to do") and not other.guessed
    assert other.minutes == pytest.approx(result["total_seconds"] / 60)


def test_a_cell_of_other_sizes_no_longer_counts(one):
    out, result = one
    larger = cell_of("table6", **BOX)
    larger = type(larger)(**{**vars(larger), "run": larger.run.model_copy(update={"eval_scenes": 9})})
    [status] = engine.survey([larger], out)
    assert (status.state, status.why) == ("changed", "cell.eval_scenes")
    assert changed({"a": 1, "old": 2}, {"a": 1, "new": 3}) == []


def test_tuning_of_a_profile_does_not_void_its_cells(monkeypatch):
    """What sweeps hold fast, and what they do not use, may change in the profile; what they use may not."""
    cell = cell_of("table6", "cpu", **BOX)
    before = cell.asked()

    def with_profile(**training):
        changes = {f"training.{name}": value for name, value in training.items()} | {"data.eval_scenes": 7}
        monkeypatch.setattr(cells, "load_profile", lambda name, given: load_profile(name, {**changes, **given}))
        return changed(before, cell_of("table6", "cpu", **BOX).asked())

    assert with_profile(save_every=7, log_every=3, lr=0.5, batch_size=6, encoder_lr=1.0, precision="bf16") == []
    assert with_profile(weight_decay=0.5) == ["training.weight_decay"]


def test_another_backbone_voids_a_cell(monkeypatch, tmp_path):
    before = cell_of("table6", "cpu", **BOX).asked()
    assert {name for name in before if name.startswith("weights.")} == {
        "weights.nano/llm/model.safetensors",
        "weights.nano/dinov2-small.safetensors",
    }
    monkeypatch.setattr(cells, "digest", lambda path: f"another {path.name}")
    assert len(changed(before, cell_of("table6", "cpu", **BOX).asked())) == 2


def test_a_cell_whose_rate_is_no_longer_the_best_counts_as_changed(tmp_path):
    folder = engine.sweep_folder(tmp_path, "table6")
    tuned = finished("table6", 0.5, **BOX)
    tuned["asked"] = worker.read_back(cell_of("table6", "cpu", **BOX).asked())
    tried = [
        finished("table6", acc, **{**BOX, "seed": 100}, budget="tuning", lr=lr)
        for lr, acc in ((0.003, 0.4), (0.01, 0.6))
    ]
    for result in (tuned, tried[0]):
        write_json(results.result_file(folder, result["id"]), result)
    [status] = engine.survey([cell_of("table6", "cpu", **BOX)], tmp_path)
    assert status.state == "done"
    write_json(results.result_file(folder, tried[1]["id"]), tried[1])
    [status] = engine.survey([cell_of("table6", "cpu", **BOX)], tmp_path)
    assert (status.state, status.why) == ("changed", "the tuned rate")


def test_rates_are_tuned_before_any_cell_takes_one(tmp_path):
    plan, begun = load_plan("table6"), []
    tuning = plan.cell({**BOX, "seed": 100, "budget": "tuning", "lr": 0.003}, "smoke")
    tuned, other = plan.cell(BOX, "smoke"), plan.cell({**BOX, "seed": 1}, "smoke")
    run = lambda jobs, *_: begun.append([job.name for job in jobs])  # noqa: E731
    engine.run_cells([tuned, tuning, other], tmp_path, log=lambda _: None, run=run)
    assert begun == [[tuning.id], [tuned.id, other.id]]


def test_scoring_in_passing_changes_nothing_of_the_training(one, tmp_path, monkeypatch):
    """Without the curve the same cell ends in the same losses and scores."""
    _, result = one
    bare = cell_of("table6", **BOX)
    bare = type(bare)(**{**vars(bare), "run": bare.run.model_copy(update={"curve": ()})})
    again = cell_run.run_cell(bare, tmp_path / "work", tmp_path, progress=False)
    assert [line["losses"] for line in again["log"]] == [line["losses"] for line in result["log"]]
    assert again["metrics"] == result["metrics"] and again["curve"] == []


def test_equal_time_measures_its_schedule_once(tmp_path, monkeypatch):
    cell = cell_of("table6", representation="embedding", rank=8, budget="time", seed=0)
    cell = type(cell)(**{**vars(cell), "run": cell.run.model_copy(update={"minutes": 0.01})})
    calls = []
    monkeypatch.setattr(cell_run, "seconds_a_step", lambda *_: calls.append(1) or 0.2)
    profile = cell_run._scheduled(cell, cell.profile(), 0.001, tmp_path)
    assert (profile.training.steps, profile.training.lr) == (3, 0.001)
    assert cell_run._scheduled(cell, cell.profile(), 0.001, tmp_path).training.steps == 3 and calls == [1]


def test_a_cell_of_one_thread_is_timed_by_the_processor(monkeypatch):
    """So that a busy machine does not lengthen it; the processor seconds of several threads would add up."""
    for threads, clock in ((1, time.process_time), (2, time.monotonic)):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        monkeypatch.setattr(cell_run, "best_device", lambda: torch.device("cpu"))
        assert cell_run.training_clock() is clock
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(cell_run, "best_device", lambda: torch.device("cuda"))
    assert cell_run.training_clock() is time.monotonic  # a step on a card ends after its last call


def test_a_step_is_timed(tmp_path):
    cell = cell_of("table6", **BOX)
    assert 0 < cell_run.seconds_a_step(cell.profile(), 0, tmp_path / "timing") < 5
    assert not (tmp_path / "timing").exists()


def test_a_sweep_side_by_side_with_a_failing_cell(tmp_path):
    """One cell diverges and is marked; the other is done; the table has both; the next sweep tries the failed one."""
    plan = load_plan("table6")
    good = plan.cell({"representation": "embedding", "rank": 8, "seed": 0}, "smoke")
    bad = plan.cell({"representation": "embedding", "rank": 8, "seed": 0, "lr": 1e30}, "smoke")
    lines: list[str] = []
    summary = engine.run_cells([bad, good], tmp_path, jobs=2, log=lines.append)
    assert summary["done"] == [good.id] and list(summary["failed"]) == [bad.id]
    assert "finite" in summary["failed"][bad.id]
    folder = engine.sweep_folder(tmp_path, "table6")
    marked = read_json(results.result_file(folder, bad.id))
    assert marked["status"] == "failed" and marked["error"] == summary["failed"][bad.id]
    assert {s.cell.id: s.state for s in engine.survey([bad, good], tmp_path)} == {bad.id: "failed", good.id: "done"}
    assert "1 failed" in summary["table"].read_text() and len(read_json(folder / "table.json")) == 2
    assert any(line.startswith("2 cells, 0 done, 2 to do") for line in lines)
    tried: list[str] = []
    engine.run_cells([bad, good], tmp_path, log=lines.append, run=lambda jobs, *_: tried.extend(j.name for j in jobs))
    assert tried == [bad.id]


SLOW = """import sys, time
from pathlib import Path
from pgpt_lib.sweeps import cell_run, worker
from pgpt_lib.sweeps.plans import load_plan
point, calls = cell_run.Scorer.point, []
def slow(self):
    calls.append(self)
    if len(calls) == 2:
        Path(sys.argv[1], "reached").touch()
        time.sleep(float(sys.argv[2]))
    return point(self)
cell_run.Scorer.point = slow
cell = load_plan("table6").cell({"representation": "embedding", "rank": 8, "seed": 0}, "smoke")
cell = type(cell)(**{**vars(cell), "overrides": {**cell.overrides, "training.save_every": 1}})
worker.perform(cell, Path(sys.argv[1]))"""


@pytest.mark.slow
def test_a_killed_cell_goes_on_and_ends_alike(one, tmp_path):
    """SIGKILL at the second point of the curve: the first step's checkpoint is taken up."""
    command = [sys.executable, "-c", SLOW, str(tmp_path)]
    work = worker.work_folder(tmp_path, cell_of("table6", **BOX).id)
    process = subprocess.Popen([*command, "60"], cwd=project.ROOT, stderr=subprocess.DEVNULL)
    began = time.time()
    while not (tmp_path / "reached").exists():
        assert process.poll() is None and time.time() - began < 60
        time.sleep(0.05)
    held = worker.perform(cell_of("table6", **BOX), tmp_path)
    assert held is None  # another process is at it
    process.kill()
    process.wait()
    again = subprocess.run([*command, "0"], cwd=project.ROOT, check=True, stderr=subprocess.PIPE, text=True)
    assert "going on from" in again.stderr and "step_1" in again.stderr
    result = read_json(results.result_file(tmp_path, cell_of("table6", **BOX).id))
    assert [line["losses"] for line in result["log"]] == [line["losses"] for line in one[1]["log"]]
    assert result["metrics"] == worker.read_back(one[1]["metrics"]) and not work.exists()


def test_jobs_that_die_or_stop_are_told_apart(tmp_path):
    ended: dict[str, int] = {}
    jobs = [Job(name, {"kind": "cell", "plan": name}, tmp_path / name) for name in ("table8", "losses")]
    run_jobs(jobs, 2, lambda job, status: ended.update({job.name: status}), print)
    assert ended == {"table8": 2, "losses": 1}
    assert why(jobs[0], 2).startswith("unknown sweep 'table8'") and "factors" in why(jobs[1], 1)
    assert why(jobs[0], -signal.SIGKILL) == "ended by SIGKILL (out of memory, perhaps)"
    assert BUSY not in (0, 1, 2)


TELL = (
    "import os, time; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('OMP_NUM_THREADS')); time.sleep(0.5)"
)


@pytest.mark.parametrize(
    ("given", "cards", "count", "expected"),
    [
        ("4,7,9", 3, 2, {"4 1", "7 1"}),
        (None, 2, 2, {"0 1", "1 1"}),
        (None, 1, 2, {"0 1"}),
        (None, 0, 2, {"None 1"}),
        (None, 2, 1, {"None None"}),
    ],
)
def test_jobs_side_by_side_have_a_card_each(tmp_path, monkeypatch, given, cards, count, expected):
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    monkeypatch.setattr("pgpt_lib.sweeps.jobs.worker_command", lambda orders: [sys.executable, "-S", "-c", TELL])
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    jobs = [Job(str(n), {}, tmp_path / str(n)) for n in range(2 * count)]
    run_jobs(jobs, count, lambda job, status: None, print)
    told = [job.log.read_text().strip() for job in jobs]
    assert set(told[:count]) == set(told) == expected, "the later ones take the places of those that ended"


ORPHAN = """import subprocess, sys, time
child = "import time\\nfrom pgpt_lib.sweeps.worker import follow_parent\\n"
child += "follow_parent(); print('up', flush=True); time.sleep(60)"
process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
process.stdout.readline()
print(process.pid, flush=True)
time.sleep(60)"""


@pytest.mark.slow
def test_a_worker_does_not_outlive_its_sweep():
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True, cwd=project.ROOT)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    began = time.time()
    while time.time() - began < 15:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the worker lives on")


def test_tuned_rates_come_from_the_cells_of_the_same_kind(tmp_path):
    def tuning(representation: str, rank: object, lr: float, acc: float) -> None:
        made = finished("table6", acc, representation=representation, rank=rank, budget="tuning", lr=lr, seed=100)
        (tmp_path / f"{made['id']}.json").write_text(json.dumps(made))

    cell = cell_of("table6", "cpu", representation="numerical", rank=8, seed=0)
    assert rates.best_rate(cell, []) is None
    for rank, best in ((8, 0.003), (32, 0.001), ("full", 0.0003)):
        for representation in ("embedding", "numerical"):
            for lr in (0.0003, 0.001, 0.003):
                tuning(
                    representation, rank, lr, 0.6 if lr == (best if representation == "numerical" else 0.001) else 0.5
                )
    assert rates.learning_rate_of(cell, tmp_path)["lr"] == 0.003
    for rank, wanted in (("full", 0.0003), (32, 0.001)):
        other = cell_of("table6", "cpu", representation="numerical", rank=rank, seed=0)
        assert rates.learning_rate_of(other, tmp_path)["lr"] == wanted
    unknown = cell_of("table6", "cpu", representation="vocabulary", rank=8, seed=0)
    assert rates.best_rate(unknown, results.finished(tmp_path)) is None
    given = cell_of("table6", "cpu", representation="numerical", rank=8, budget="tuning", lr=0.01, seed=0)
    assert rates.learning_rate_of(given, tmp_path) == {"lr": 0.01, "lr_from": "given"}


def test_a_rate_that_finds_objects_beats_one_middling_box_for_all():
    hits, middling = (finished("table6", acc, representation="numerical", rank=8, budget="tuning", lr=lr, seed=100)
                      for acc, lr in ((0.06, 0.01), (0.0, 0.03)))  # fmt: skip
    hits["metrics"][MAIN]["miou_box"], middling["metrics"][MAIN]["miou_box"] = [0.12] * 3, [0.14] * 3
    cell = cell_of("table6", "cpu", representation="numerical", rank=8, seed=0)
    assert rates.best_rate(cell, [middling, hits])["lr"] == 0.01


def test_where_every_score_is_chance_the_loss_decides():
    def tried(lr: float, acc: float, loss: float, exchanged: float = 0.04) -> dict[str, Any]:
        made = finished("table6", acc, representation="numerical", rank=8, budget="tuning", lr=lr, seed=100)
        made["metrics"][MAIN]["shuffled"] = {"acc@0.5": [exchanged, 0.75 * exchanged, 1.25 * exchanged]}
        return {**made, "log": [{"loss": loss}]}

    lucky, learning = tried(0.003, 0.043, 1.02), tried(0.01, 0.041, 0.95)
    assert rates.best_of([lucky, learning])["lr"] == 0.01
    assert rates.best_of([lucky, learning, tried(0.03, 0.06, 1.1)])["lr"] == 0.03, "one that understands is the best"
    passing = tried(0.03, 0.008, 0.99, exchanged=0.006)
    assert rates.best_of([lucky, learning, passing])["lr"] == 0.01, "a low score above a lower chance decides nothing"


def test_where_the_short_tuning_has_learnt_nothing_the_long_one_decides():
    def tried(budget: str, lr: float, acc: float, rank: object = 8) -> dict[str, Any]:
        made = finished("table6", acc, representation="vocabulary", rank=rank, budget=budget, lr=lr, seed=100)
        made["metrics"][MAIN]["shuffled"] = {"acc@0.5": [0.03, 0.02, 0.05]}
        return {**made, "log": [{"loss": 1 - lr}]}  # the highest rate has the least loss

    chance = [tried("tuning", 0.03, 0.04), tried("tuning", 0.01, 0.03)]
    long = [tried("long_tuning", 0.03, 0.02), tried("long_tuning", 0.01, 0.12)]
    learnt = [tried("tuning", 0.03, 0.09), tried("tuning", 0.01, 0.03)]
    cell = cell_of("table6", "cpu", representation="vocabulary", rank=8, seed=0)
    for found, wanted in ((chance, 0.03), (chance + long, 0.01), (learnt + long, 0.03)):
        assert rates.best_rate(cell, found)["lr"] == wanted
    full = cell_of("table6", "cpu", representation="vocabulary", rank="full", seed=0)
    others = [tried("tuning", 0.03, 0.04, "full"), tried("tuning", 0.01, 0.03, "full")]
    assert rates.best_rate(full, others + chance + long)["lr"] == 0.03, "the long tuning has no cells of full tuning"
    assert "cell.tuned_else" not in cell.asked(), "finished cells count as long as their rate is the same"


def test_masks_alone_are_told_from_chance_by_their_own_score():
    def tried(lr: float, found: float, ciou: float, loss: float) -> dict[str, Any]:
        made = finished("losses", 0.0, terms="bce+dice", budget="tuning", lr=lr, seed=100)
        mask = {"p@0.5": [found] * 3, "miou_mask": [ciou] * 3, "ciou": [ciou] * 3, "miou_box": [0.0] * 3}
        made["metrics"][MAIN] |= {**mask, "shuffled": {"acc@0.5": [0.0] * 3, "ciou": [0.14, 0.12, 0.16]}}
        return {**made, "log": [{"loss": loss}]}

    same_for_all, learning = tried(0.01, 0.02, 0.15, 0.94), tried(0.001, 0.01, 0.13, 0.90)
    assert rates.best_of([same_for_all, learning])["lr"] == 0.001
    assert rates.best_of([same_for_all, learning, tried(0.004, 0.4, 0.45, 0.95)])["lr"] == 0.004


def test_means_and_differences_over_seeds():
    a = [finished("losses", acc, 0.03, terms="l1", seed=s) for s, acc in enumerate((0.5, 0.6, 0.7))]
    b = [finished("losses", acc, 0.04, terms="l1+giou", seed=s) for s, acc in enumerate((0.4, 0.5, 0.6))]
    path = f"{MAIN}.acc@0.5"
    found = results.mean(a, path)
    seeds = 4.302652729911275 * 0.1 / 3**0.5  # Student's t with two degrees of freedom
    assert found == pytest.approx([0.6, 0.6 - (seeds**2 + 0.03**2) ** 0.5, 0.6 + (seeds**2 + 0.03**2) ** 0.5])
    assert results.difference(a, b, path) == pytest.approx([0.1, 0.05, 0.15])  # the same for each seed: scenes alone
    wider = [finished("losses", acc, 0.02, terms="bce", seed=s) for s, acc in enumerate((0.4, 0.3))]
    _, low, high = results.difference(a[:2], wider, path)  # 0.1 and 0.3: t of one degree of freedom times 0.1
    assert (high - low) / 2 == pytest.approx(((12.7062 * 0.1) ** 2 + 0.03**2 + 0.02**2) ** 0.5)
    assert results.contrast([(1, a), (-1, b), (-1, a), (1, b)], path)[0] == pytest.approx(0)
    assert results.contrast([(1, a), (-1, b), (-1, b[:0])], path) is None
    assert results.difference(a, b[:0], path) is None and results.mean([], path) is None
    assert results.metric(a[0], f"{MAIN}.questions.all.accuracy") == [0.7, 0.6, 0.8]
    assert results.metric(a[0], f"{MAIN}.nothing.here") is None
    assert [r["cell"]["seed"] for r in results.select([*b, *a], terms="l1")] == [0, 1, 2]
    curve = finished("losses", 0.5, curve=[(1, 2.0, 0.1), (2, 4.0, 0.3)], terms="l1", seed=0)
    assert results.reached(curve, 0.25)["seconds"] == 4.0 and results.reached(curve, 0.4) is None


def by_scenes(hits: list[int], seed: int, images: str = "same", **factors) -> dict:
    """A finished cell with two expressions a scene, of which so many were hit."""
    acc = sum(hits) / (2 * len(hits))
    made = finished("losses", acc, 0.12, seed=seed, **factors)
    column = {"images": images, "sums": " ".join(map(str, hits)), "of": " ".join("2" for _ in hits)}
    made["metrics"][MAIN]["scenes"] = {"acc@0.5": column}
    return made


def test_a_difference_on_the_same_scenes_pairs_them():
    path, hard = f"{MAIN}.acc@0.5", [0, 2] * 32  # every other scene is missed by both sides
    a = [by_scenes([1, *hard[1:]], s, terms="l1") for s in (0, 1)]
    b = [by_scenes(hard, s, terms="bce") for s in (0, 1)]

    def half(a: list, b: list) -> float:
        middle, low, high = results.difference(a, b, path)
        assert middle == pytest.approx(1 / 128) and middle - low == pytest.approx(high - middle)
        return high - middle

    apart = (0.12**2 + 0.12**2) ** 0.5
    one_scene = student.ppf(0.975, 63) * (64 * statistics.variance([1 / 2] + [0] * 63)) ** 0.5 / 64
    assert half(a, b) == pytest.approx(one_scene) and half(a, b) < apart / 5
    others = [by_scenes(hard, s, "others", terms="bce") for s in (0, 1)]
    assert half(a, others) == pytest.approx(apart)
    assert half(a, [b[0], others[1]]) == pytest.approx(apart), "one cell on other scenes"
    bare = [finished("losses", 0.5, 0.12, terms="bce", seed=s) for s in (0, 1)]
    assert half(a, bare) == pytest.approx(apart)
    against = [by_scenes([2 - h for h in hard], s, terms="bce") for s in (0, 1)]
    assert half(a, against) > apart, "what one side hits the other misses"
    assert results.contrast([(1, a), (-1, b), (-1, a), (1, b)], path) == pytest.approx([0, 0, 0])
    differs = [by_scenes([1, 1, *hard[2:]], 0, terms="l1"), by_scenes([2, *hard[1:]], 1, terms="l1")]
    _, low, high = results.difference(differs, b, path)
    assert (high - low) / 2 > 12.7 * 1 / 128, "the seeds' part stays"


def test_the_table_joins_seeds():
    made = [finished("losses", acc, terms=t, seed=s) for t, acc in (("l1", 0.5), ("bce", 0.3)) for s in (0, 1)]
    rows = table.rows(made)
    assert [(row["cell"]["terms"], row["seeds"]) for row in rows] == [("l1", [0, 1]), ("bce", [0, 1])]
    assert rows[0]["Acc@0.5 refcoco/val"] == [0.5, 0.5, 0.5] and rows[0]["questions before"] == 0.75
    text = table.markdown(rows)
    assert "| l1 | 2 | 1,000 | 10 | 0.750 | 0.500 ± 0.000 |" in text and "head" not in text
    made[0]["cell"] = {k: v for k, v in made[0]["cell"].items() if k != "head"}
    older = table.markdown(table.rows(made))
    assert "| l1 | – | 1 |" in older and "| l1 | two_way | 1 |" in older, "one from before the plan had mask decoders"


def test_no_number_of_jobs_is_faster_than_the_longest_cell():
    cell = cell_of("losses", "cpu", terms="l1", seed=0)
    states = [("to do", 30.0), ("to do", 90.0), ("failed", 60.0), ("done", 500.0), ("lacking", None)]
    statuses = [engine.Status(cell, state, minutes=minutes) for state, minutes in states]
    assert [_minutes_left(statuses, jobs) for jobs in (1, 2, 256)] == [180, 90, 90]


def test_minutes_are_measured_where_they_can_be():
    cell = cell_of("table6", "cpu", representation="embedding", rank=8, seed=0)
    assert engine.expected_minutes(cell, []) == (pytest.approx(engine.guessed_seconds(cell.run) / 60), True)
    measured = [
        finished("table6", 0.5, seconds=60, representation="embedding", rank=8, seed=1),
        finished("table6", 0.5, seconds=600, representation="embedding", rank="full", seed=1),
    ]
    assert engine.expected_minutes(cell, measured) == (pytest.approx(65 / 60), False)
    slow = finished("table6", 0.5, seconds=90, representation="embedding", rank=8, seed=1, lr=0.01)
    of_rate = cell_of("table6", "cpu", representation="embedding", rank=8, lr=0.01, seed=0)
    assert engine.expected_minutes(of_rate, [*measured, slow]) == (pytest.approx(65 / 60), False)
    for budget, minutes in (("fourfold", 245 / 60), ("time", 4 + 5 / 60)):
        other = cell_of("table6", "cpu", representation="embedding", rank=8, budget=budget, seed=0)
        assert engine.expected_minutes(other, measured) == (pytest.approx(minutes), False)


def test_a_guess_counts_training_scoring_and_alignment():
    def seconds(plan="table6", **factors):
        return engine.guessed_seconds(cell_of(plan, "cpu", **factors).run)

    box = {"representation": "embedding", "rank": 8, "seed": 0}
    run = cell_of("table6", "cpu", **box).run
    scenes = run.eval_scenes * 4.5 + 2 * run.question_scenes + len(run.curve) * run.curve_scenes
    assert seconds(**box) == pytest.approx(run.expressions / 1000 * run.guess + scenes * run.guess_scene)
    digits = seconds(**{**box, "representation": "numerical"})
    assert digits > seconds(**{**box, "representation": "vocabulary"}) > seconds(**box)
    assert seconds(**{**box, "budget": "short"}) < seconds(**box) / 2
    aligned, swapped = (seconds("fusion", strategy="mean", start=s, seed=0) for s in ("aligned", "swapped"))
    run = cell_of("fusion", "cpu", strategy="mean", seed=0).run
    assert aligned - swapped == pytest.approx(run.align_steps * run.guess_align) and run.guess_align > 0


def test_the_page_on_sweeps_has_the_plans_cells_sizes_and_measured_hours():
    page = (project.ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\d+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+|–) \|$", page, re.M)
    assert sorted(name for name, *_ in rows) == plan_names()
    for name, count, expressions, scenes, hours in rows:
        runs = [cell.run for cell in load_plan(name).cells("cpu")]
        sizes = {(run.expressions, run.scenes) for run in runs}
        assert len(runs) == int(count) and sizes == {tuple(int(v.replace(",", "")) for v in (expressions, scenes))}
        done = results.finished(engine.sweep_folder(project.report_folder("cpu"), name))
        assert (hours == "–") == (len(done) < len(runs)), f"{name}: hours are those of all cells, a dash before"
        if hours != "–":
            assert sum(r["total_seconds"] for r in done) / 3600 == pytest.approx(float(hours), abs=0.06), name


def test_sizes_are_checked():
    with pytest.raises(InputError, match="no sizes for profile 'photos'"):
        cell_of("losses", "photos", **L1)
    assert RunSettings.model_fields.keys() >= {"expressions", "eval_scenes", "curve"}
