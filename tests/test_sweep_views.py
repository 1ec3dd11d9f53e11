"""What notebooks 07 and 08 show of a sweep that is missing, half done or whole, from a toy sweep in the true format."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import toy_sweep

from pgpt_lib import plots, reuse, sweep_plots
from pgpt_lib.files import read_json, write_json
from pgpt_lib.sweeps import frames, layers, reading, results
from pgpt_lib.sweeps.engine import sweep_folder
from pgpt_lib.sweeps.weights import moved, reach, with_alignment

NAMES = list(frames.LABELS)


def half(cell) -> bool:
    """Two seeds of the embedding and of digits under LoRA."""
    f = cell.factors
    return f.get("rank") != "full" and f.get("representation") != "vocabulary" and cell.seed in (0, 1, 100)


KEEP = {"missing": lambda cell: False, "half done": half, "whole": lambda cell: True}


@pytest.fixture(scope="module", params=KEEP)
def home(request, tmp_path_factory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("toy")
    for plan in ("table6", "losses", "fusion"):
        toy_sweep.write(out, plan, keep=KEEP[request.param])
    return request.param, out


@pytest.fixture
def state(home) -> str:
    return home[0]


@pytest.fixture(scope="module")
def table6(home) -> reading.Sweep:
    return reading.open_sweep("table6", home[1], "smoke")


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():  # other tests draw in matplotlib's own style
        plots.use_style()
        yield
    plt.close("all")


def texts(fig) -> str:
    """Everything that is written in a figure."""
    fig.canvas.draw()
    return "\n".join(text.get_text() for text in fig.findobj(plt.matplotlib.text.Text))


def of_rank(sweep, rank, **factors):
    return {name: sweep.cells(representation=name, rank=rank, **factors) for name in NAMES}


def means(sweep, **factors):
    return {name: sweep.mean("acc@0.5", representation=name, **factors) for name in NAMES}


def test_means_and_gaps_say_how_many_seeds(state, table6):
    embedding, other = ({"representation": n, "rank": 8} for n in ("embedding", "vocabulary"))
    seeds = {"missing": None, "half done": 2, "whole": 3}[state]
    found = table6.mean("acc@0.5", **embedding)
    assert (found and found.seeds) == seeds and (found is None) == ("made by" in table6.told(found))
    assert str(table6.mean("acc@0.5", **embedding)).endswith(f", {seeds} seeds" if seeds else "None")
    gap = table6.gap("acc@0.5", embedding, other)
    assert (gap is not None) == (state == "whole")  # half done, no seed of it is there
    if gap:
        assert gap.value == pytest.approx(0.28, abs=0.04) and gap.low > 0 and gap.signed.startswith("+0.")
        growth = table6.growth("acc@0.5", embedding, other, {"rank": "full"})
        assert growth.value == pytest.approx(-0.12, abs=0.04) and growth.seeds == 3
    assert ("made by python -m pgpt_lib sweep table6 --profile smoke" in table6.note) == (state != "whole")


def test_tables_hold_what_is_there_and_dashes(state, table6):
    shown = frames.table6(table6)
    ours = shown.xs("ours", level=1)
    assert ours.shape == (9, 10) and set(ours["seeds"]) == {
        "missing": {"0"}, "half done": {"0", "2"}, "whole": {"3"}}[state]  # fmt: skip
    dashes = (ours["refcoco/val"] == frames.DASH).sum()
    assert dashes == {"missing": 9, "half done": 5, "whole": 0}[state]
    assert shown.xs("paper", level=1).loc["Embed, rank 8", "refcoco/val"] == "69.7"
    taken = frames.table6_result(table6)
    assert set(taken) == set(ours.index[ours["refcoco/val"] != frames.DASH])
    for name, row in taken.items():
        middle, low, high = row["refcocog/test"]
        assert row["seeds"] == int(ours.loc[name, "seeds"]) and 0 < low < middle < high < 100
    if state == "whole":
        number, half, parse = ours.loc["Numerical, rank 8", "refcoco/val"].replace("±", "").replace("(", "").split()
        assert 20 < float(number) < 30 and float(half) > 0 and 25 < float(parse.rstrip(")")) < 35


def test_tuned_rates_name_the_best_and_the_edge(state, table6):
    shown = frames.tuned_rates(table6)
    assert shown.shape == (12, 11)
    row = shown.loc[("numerical", "rank 8", "48")]
    assert (row["best"], row["at the edge"]) == ((frames.DASH,) * 2 if state == "missing" else ("0.001", "no"))
    long, other = shown.loc[("numerical", "rank 8", "192")], shown.loc[("vocabulary", "full", "48")]
    assert long["0.001"] == frames.DASH, "a length has its own rates"
    if state == "whole":
        assert (long["best"], long["at the edge"]) == ("0.003", "yes")
        assert other["best"] in ("0.0003", "0.001", "0.003", "0.01", "0.03", "0.1") and other["least loss"] != "–"
    else:
        assert other["best"] == frames.DASH


def test_rates_of_losses_are_judged_by_what_each_learns(state, home):
    shown = frames.tuned_rates(reading.open_sweep("losses", home[1], "smoke"))
    assert shown.shape == (7, 10 + (state != "missing")) and shown.index.is_unique
    for kind, exchanged in (("bce+dice", "dot_product"), "0.150"), (("l1+giou", "two_way"), "0.100"):
        row = shown.loc[(*kind, "96")]
        if state == "missing":
            assert (row["best"], row["exchanged"]) == (frames.DASH,) * 2
        else:
            assert (row["best"], row["at the edge"]) == ("0.004", "no")
            assert row["exchanged"].startswith(f"{exchanged} [")
            assert (row["cIoU"] == frames.DASH) == (kind[0] == "l1+giou")


def test_effort_failures_and_forgetting(state, table6):
    curves = of_rank(table6, 8)
    effort = frames.effort(curves, {"0.25": 0.25, "0.9": 0.9})
    seconds, seeds = effort.loc[("embedding", "0.9"), "seconds"], effort.loc[("embedding", "0.25"), "seeds"]
    assert (seconds, seeds) == {"missing": ("–", "–"), "half done": ("never", "2 of 2"), "whole": ("never", "3 of 3")}[
        state
    ]
    failed = frames.failures(curves)
    assert failed.loc["vocabulary", "answers"] == ("2,700" if state == "whole" else frames.DASH)
    if curves["numerical"]:
        row, cells = failed.loc["numerical"], len(curves["numerical"])
        missed = sum(int(row[k].replace(",", "")) for k in ("format", "wrong object", "imprecise"))
        assert row["mostly"] == "format" and missed / (900 * cells) == pytest.approx(
            1 - float(row["Acc@0.5"][:5]), abs=0.01
        )
        assert sum(frames.failure_shares(curves["numerical"]).values()) == pytest.approx(missed / (900 * cells))
    wrong = frames.wrong_answers(curves, 4)
    assert len(wrong.loc["embedding"]) == (1 if state == "missing" else 4)
    if state == "missing":
        assert set(wrong.loc[("embedding", 1)]) == {frames.DASH}
    else:
        assert wrong.loc["embedding", "failure"].tolist() == ["wrong object", "format", "imprecise", "wrong object"]
        assert wrong.loc[("embedding", 1), "true box"] == "10 20 30 40"
        assert wrong.loc[("embedding", 2), ["box read", "written"]].tolist() == [frames.DASH, "<vis> 2"]
    old = [{key: value for key, value in cell.items() if key != "answers"} for cell in curves["embedding"]]
    assert set(frames.wrong_answers({"old": old}).loc[("old", 1)]) == {frames.DASH}
    kept = frames.words_kept(of_rank(table6, "full"))
    assert kept.loc["embedding", "change"].startswith("-0.120" if state == "whole" else frames.DASH)


@pytest.mark.parametrize("what", ["scores", "forest", "curves", "failures"])
def test_every_figure_is_drawn_in_every_state(state, table6, what):
    fig, ax = plt.subplots()
    if what == "scores":
        groups = {how: means(table6, rank=rank) for rank, how in frames.RANKS.items()}
        sweep_plots.scores(groups, ax, table6.note)
        assert sum(text.get_text() == "–" for text in ax.texts) == {"missing": 9, "half done": 5, "whole": 0}[state]
        assert {t.get_text() for t in ax.texts} >= {"half done": {"2"}, "whole": {"3"}, "missing": set()}[state]
    elif what == "forest":
        sweep_plots.forest(means(table6, rank=8), ax, table6.note, plots.REPRESENTATIONS)
    elif what == "curves":
        sweep_plots.score_curves(of_rank(table6, 8), ax, note=table6.note)
        lines = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"]
        assert len(lines) == {"missing": 0, "half done": 4, "whole": 9}[state]
    else:
        shares = {n: frames.failure_shares(cells) if cells else {} for n, cells in of_rank(table6, 8).items()}
        sweep_plots.failure_bars(shares, ax, table6.note)
        assert len(ax.patches) == {"missing": 0, "half done": 6, "whole": 9}[state]
    assert ("not run yet; made by python -m pgpt_lib sweep table6" in texts(fig).replace(";\n", "; ")) == (
        state != "whole"
    )
    assert what == "forest" or ax.get_ylim()[0] >= 0 or ax.yaxis_inverted()


def test_representations_keep_their_colours(table6):
    fig, ax = plt.subplots()
    sweep_plots.scores({"rank 8": means(table6, rank=8)}, ax, table6.note)
    bars = [plt.matplotlib.colors.to_hex(bar.get_facecolor()).upper() for bar in ax.patches]
    assert bars == [c for n, c in plots.REPRESENTATIONS.items() if table6.cells(representation=n, rank=8)]
    assert not set(plots.REPRESENTATIONS.values()) & {*sweep_plots.STRATEGIES.values(), *sweep_plots.FAILURES.values()}


def test_weights_as_heat_map_and_bars(home):
    fusion = reading.open_sweep("fusion", home[1], "smoke")
    cells = fusion.cells(strategy="learned")
    assert len(cells) == {"missing": 0, "half done": 2, "whole": 3}[home[0]]
    for cell in cells:
        ax = sweep_plots.weight_map(cell["weights"], plt.subplots()[1], "mask", top=0.5)
        assert ax.images[0].get_array().shape == (4, 11) and ax.images[0].get_clim() == (0, 0.5)
    if cells:
        track = [{"step": s, "loss": 1.0, "scored": None, "weights": [0.25] * 4} for s in (0, 100, 150)]
        whole = with_alignment({**cells[0], "aligned": {"track": track}})
        assert [p["step"] for p in whole[:3]] == [-150, -50, 0] and whole[2:] == cells[0]["weights"]
        ax = sweep_plots.weight_map(whole, plt.subplots()[1], "llm")
        assert ax.images[0].get_array().shape == (4, 13) and ax.lines[0].get_xdata()[0] == 1.5
        assert sweep_plots.weight_map(whole, plt.subplots()[1], "mask").images[0].get_array().shape == (4, 11)
        fixed = {"track": [{**point, "weights": None} for point in track]}
        assert with_alignment({**cells[0], "aligned": fixed}) == with_alignment(cells[0]) == cells[0]["weights"]
        final = [cell["weights"][-1]["llm"] for cell in cells]
        fig = sweep_plots.weights_beside_probe({"language model": final}, {"colour": [0.9, 0.8, 0.7, 0.6]})
        assert len(fig.axes[0].patches) == 4 and fig.axes[1].lines[0].get_ydata().tolist() == [0.9, 0.8, 0.7, 0.6]


def test_how_far_weights_moved_in_each_stage(home):
    for cell in reading.open_sweep("fusion", home[1], "smoke").cells(strategy="learned"):
        assert moved(cell) == {"tuning": pytest.approx(max(abs(b - 0.25) for b in cell["weights"][-1]["llm"]))}
        track = [{"step": s, "weights": w} for s, w in ((0, [0.4, 0.2, 0.2, 0.2]), (50, [0.25] * 4), (80, [0.25] * 4))]
        whole = {**cell, "aligned": {"track": track, "steps": 80}}
        assert moved(whole) == {**moved(cell), "alignment": pytest.approx(0.15)}
        assert set(moved(whole, "mask")) == {"tuning"} and moved(whole, "mask") != {"tuning": moved(whole)["tuning"]}
        far = reach(cell)  # the rate's whole sum for the mask decoder, a share of it for weights that were aligned
        assert 0 < far["mask"] <= cell["lr"] * cell["steps"]
        assert far["llm"] == pytest.approx(cell["asked"]["training.aligned_lr"] * far["mask"])
        shared = {**cell, "weights": [{"step": p["step"], "llm": p["llm"]} for p in cell["weights"]]}
        assert reach(shared) == {"llm": far["llm"]}


def test_where_weights_were_learnt_is_told_by_what_moved_them():
    def cell(align: float, tune: float, aligned: bool = True) -> dict:
        end = [0.5 + align + tune, 0.5 - align - tune]
        sets = [
            {"step": 0, "llm": [0.5 + align, 0.5 - align], "mask": [0.5, 0.5]},
            {"step": 9, "llm": end, "mask": end},
        ]
        track = [{"step": 0, "weights": [0.5, 0.5]}, {"step": 70, "weights": [0.5 + align, 0.5 - align]}]
        how = {"steps": 70, "track": track} if aligned else None
        return {"weights": sets, "aligned": how, "expressions": 1440, "steps": 9, "lr": 0.004}

    told = layers.learnt_from([cell(0.1, 0.001), cell(0.2, 0.002)], "llm")
    assert told.startswith("learnt from words alone:") and "up to 0.2000, tuning by up to 0.0020" in told
    assert layers.learnt_from([cell(0.1, 0.02)], "llm").startswith("learnt from words, then tuned:")
    assert layers.learnt_from([cell(0, 0.02, aligned=False)], "llm").startswith("taken from the bundled backbone")
    assert "no weight by more than 0.1200 from equal ones" in layers.learnt_from([cell(0.1, 0.02)], "mask")
    assert layers.learnt_from([], "llm") == "not tracked"
    told = "aligned in 70 steps on words, then tuned with 1,440 expressions in 9 steps at a peak rate of 0.004"
    assert layers.budget([cell(0.1, 0.001)] * 2) == told and layers.budget([]) == "–"


def test_masks_stand_beside_scores_that_need_no_outline(home):
    fusion = reading.open_sweep("fusion", home[1], "smoke")
    found = layers.masks(fusion, strategy="learned")
    if home[0] == "missing":
        assert set(found.values()) == {None} and layers.sentence({"learned": None}) == "No mask is scored yet."
        return
    assert found[layers.EXCHANGED].value == pytest.approx(0.15) and found[layers.FILLED] is found[layers.MARGIN] is None
    for cell in fusion.results:
        cell["metrics"][reading.MAIN]["filled_ciou"]["predicted_box"] = [0.5, 0.49, 0.51]
    found = layers.masks(fusion, strategy="learned")
    margin, seeds = found[layers.MARGIN], len(fusion.cells(strategy="learned"))
    assert margin.value == pytest.approx(found[layers.OWN].value - 0.5) and margin.seeds == seeds
    assert margin.low < margin.value < margin.high


def test_the_sentence_names_whose_masks_are_better_than_boxes():
    better, open_, few = reading.OverSeeds(0.1, 0.05, 0.15, 3), reading.OverSeeds(0.1, -0.1, 0.3, 3), 2
    told = layers.sentence({"a": better, "b": open_, "c": better._replace(seeds=few), "d": None})
    assert "for a. Not shown for b and c: " in told and "and d" not in told
    assert "for no strategy. Not shown for b:" in layers.sentence({"b": open_})
    assert "Not shown" not in layers.sentence({"a": better})


def test_a_share_that_a_strategy_loses_is_taken_seed_by_seed(home):
    fusion = reading.open_sweep("fusion", home[1], "smoke")
    whole, part = {"strategy": "learned"}, {"strategy": "last"}
    found = layers.shortfall(fusion, "acc@0.5", whole, part)
    if home[0] == "missing":
        assert found is None and layers.least_lost({"REC": None}) == "Nothing to compare yet."
        return
    pairs = list(zip(*(fusion.cells(**factors) for factors in (whole, part)), strict=True))
    scores = [[c["metrics"][reading.MAIN]["acc@0.5"][0] for c in pair] for pair in pairs]
    assert found.value == pytest.approx(sum(1 - b / a for a, b in scores) / len(scores)) and found.seeds == len(pairs)
    assert layers.shortfall(fusion, "acc@0.5", whole, whole)[0] == 0


def test_the_doubt_of_a_share_is_that_of_a_quotient():
    def cells(score: float, half: float) -> list[dict]:
        scores = {"x": [score, score - half, score + half]}
        return [{"cell": {"seed": seed}, "metrics": {"m": scores}} for seed in range(3)]

    value, low, high = results.shortfall(cells(0.8, 0.02), cells(0.4, 0.03), "m.x")
    # Of 1 - b / a to first order: b's half width over a, a's times b over a squared; seeds are alike and add none.
    assert value == pytest.approx(0.5) and high - value == pytest.approx(math.hypot(0.03 / 0.8, 0.02 * 0.4 / 0.64))
    assert results.shortfall(cells(0.0, 0.02), cells(0.4, 0.03), "m.x") is None
    assert results.shortfall(cells(0.8, 0.02), [], "m.x") is None


def test_the_least_share_is_named_with_those_that_may_be_as_small():
    shares = {t: reading.OverSeeds(v, v - 0.1, v + 0.1, 3) for t, v in (("a", 0.5), ("b", 0.1), ("c", 0.25))}
    told = layers.least_lost({**shares, "d": None})
    assert told == "The smallest share is lost in b; tasks whose intervals overlap with its own: c."


def test_marks_stand_on_the_bars_that_they_belong_to():
    values = {"a": reading.OverSeeds(0.5, 0.4, 0.6, 3), "b": reading.OverSeeds(0.3, 0.2, 0.4, 3), "c": None}
    colors = {"a": "#000000", "b": "#D55E00", "c": "#56B4E9"}
    ax = sweep_plots.scores({"": values}, plt.subplots()[1], "none", colors, legend=False)
    sweep_plots.controls(ax, {"lower": values, "none": dict.fromkeys(values)}, colors)
    [marks] = [c for c in ax.collections if c.get_label() == "lower"]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches]
    assert marks.get_offsets()[:, 0].tolist() == pytest.approx(centres)
    assert marks.get_offsets()[:, 1].tolist() == [0.5, 0.3]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["lower"]


def test_tokens_of_an_answer_are_coloured_by_their_representation():
    fig = sweep_plots.token_streams({"embedding": (["<vis>", "<end>"], [True, False])})
    assert "1 token for the region, 2 in all" in texts(fig)


def test_a_live_cell_takes_the_rate_that_the_sweep_took(table6, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(reading, "perform", lambda cell, *_, **more: asked.append((cell, more["tuned_in"])) or {})
    reading.live_cell(table6, tmp_path, representation="embedding", rank=8, budget="short", seed=11)
    [(cell, folder)] = asked
    assert cell.seed == 11 and folder == sweep_folder(table6.home, "table6")


def test_a_cell_of_other_settings_counts_as_missing(tmp_path):
    made = toy_sweep.write(tmp_path, "losses")
    path = sweep_folder(tmp_path, "losses") / f"{made[0]}.json"
    result = read_json(path)
    write_json(path, result | {"asked": result["asked"] | {"training.batch_size": -1}})
    sweep = reading.open_sweep("losses", tmp_path, "smoke")
    assert (sweep.stale, sweep.missing) == ([made[0]], [made[0]])
    assert [r["id"] for r in sweep.results] == made[1:] and "other settings than today's" in sweep.summary()


def test_cells_that_come_later_make_a_notebook_new(tmp_path):
    reads, other = tmp_path / "07_x.ipynb", tmp_path / "01_x.ipynb"
    reads.write_text('sweep = open_sweep("table6", run.out, profile)')
    other.write_text("nothing")
    before = reuse.sweep_inputs(reads, tmp_path)
    write_json(tmp_path / "sweeps" / "table6" / "a.json", {"status": "done"})
    assert reuse.sweep_inputs(reads, tmp_path) != before and reuse.sweep_inputs(other, tmp_path) == {}
