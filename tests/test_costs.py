"""What the released code's differences cost, read from no cell, some cells and all cells of the sweep."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest

from pgpt_lib.evaluation.series import MAIN
from pgpt_lib.files import write_json
from pgpt_lib.forest_plot import forest
from pgpt_lib.sweeps.costs import (
    ALIGNED,
    DIFFERENCES,
    FORCED,
    METRICS,
    at_floor,
    costs,
    decided,
    is_fixed,
    reading,
    row_title,
)
from pgpt_lib.sweeps.findings import FLOOR
from pgpt_lib.sweeps.plans import load_plan
from pgpt_lib.sweeps.reading import OverSeeds, Sweep, open_sweep
from pgpt_lib.sweeps.results import result_file

PLAN = "released_code"
BASE = {"acc@0.5": 0.70, "ciou": 0.60, "several": 0.50, "region_caption": 0.80}
LOSES = {"giou_misparsed": 0.10, "dice_pooled": -0.08}  # the others nothing


def scored(seed: int, loss: float, half: float = 0.01) -> dict:
    """Metrics as a cell has them, each with the interval of its scenes."""

    def interval(value: float) -> list[float]:
        return [value, value - half, value + half]

    shift = 0.03 * seed - loss  # seeds differ more than the intervals are wide, but both sides share them
    acc, ciou, several, caption = (BASE[k] + shift for k in BASE)
    return {
        "acc@0.5": interval(acc),
        "ciou": interval(ciou),
        "several": {"n": 50, "set_f1": interval(several)},
        "region_caption": {"mask": interval(caption), "n_mask": 100},
        FORCED: {
            "acc@0.5": interval(acc + 0.05),
            "ciou": interval(ciou + 0.05),
            "several": {"n": 50, "set_f1": interval(several + 0.05)},
        },
    }


def written(home, chosen, loss=LOSES) -> Sweep:
    """A sweep's folder with some of the plan's cells, in the format that a finished cell is written in."""
    folder = home / "sweeps" / PLAN
    for cell in load_plan(PLAN).cells("smoke"):
        if not chosen(cell):
            continue
        behind = 0.2 * (cell.factors["start"] == "aligned")  # of both sides, so that it costs nothing
        metrics = scored(cell.seed, loss.get(cell.factors["switch"], 0.0) + behind)
        result = {
            "version": 1, "plan": PLAN, "id": cell.id, "cell": dict(cell.factors), "status": "done",
            "profile": "smoke", "asked": cell.asked(), "metrics": {MAIN: metrics}, "curve": [], "seconds": 1.0,
        }  # fmt: skip
        write_json(result_file(folder, cell.id), result)
    return open_sweep(PLAN, home, "smoke")


def test_without_any_cell_nothing_is_claimed(tmp_path) -> None:
    sweep = written(tmp_path, lambda cell: False)
    assert "0 of" in sweep.summary() and sweep.missing
    for key in METRICS:
        found = costs(sweep, key)
        assert set(found) == set(DIFFERENCES) and set(found.values()) == {None}
    assert reading(None) == "not there yet"


def test_some_cells_give_some_rows(tmp_path) -> None:
    sweep = written(tmp_path, lambda c: c.factors["switch"] in ("none", "giou_misparsed") and c.seed < 2)
    found = costs(sweep, "acc@0.5")
    assert {name for name, interval in found.items() if interval} == {"giou_misparsed", FORCED}
    assert found["giou_misparsed"].low > 0 and decided(found["giou_misparsed"]) == ""  # two seeds decide nothing
    assert decided(found["giou_misparsed"]._replace(seeds=3)) == "costs"
    alone = written(tmp_path / "other", lambda c: c.factors["switch"] == "giou_misparsed")
    assert set(costs(alone, "ciou").values()) == {None}  # nothing to compare with


def test_all_cells_give_all_rows_and_seeds_are_paired(tmp_path) -> None:
    sweep = written(tmp_path, lambda cell: True)
    assert not sweep.missing and not sweep.stale
    for key in ("acc@0.5", "ciou", "several.set_f1"):
        found = costs(sweep, key)
        for name, (value, low, high, seeds) in found.items():
            wanted = -0.05 if name == FORCED else LOSES.get(name, 0.0)
            assert value == pytest.approx(wanted, abs=1e-9) and seeds == 3
            assert high - low == pytest.approx(2 * 0.01 * 2**0.5, rel=1e-6)  # the scenes' alone: seeds cancel
    boxes = costs(sweep, "acc@0.5")
    assert reading(boxes["giou_misparsed"]).startswith("costs +0.100") and decided(boxes["giou_misparsed"]) == "costs"
    assert reading(boxes["dice_pooled"]).startswith("gains -0.080") and decided(boxes["dice_pooled"]) == "gains"
    assert reading(boxes["fusion_raw"]).startswith("open: ") and decided(boxes["fusion_raw"]) == ""
    captions = costs(sweep, "region_caption.mask")
    assert captions["giou_misparsed"] is not None and captions[FORCED] is None  # never asked with the answer given


def test_fusion_is_held_against_a_default_that_was_aligned_like_it(tmp_path) -> None:
    cells = load_plan(PLAN).cells("smoke")
    aligned = {cell.factors["switch"] for cell in cells if cell.run.align == "words"}
    assert aligned == {"none", *ALIGNED}
    assert not [c for c in cells if c.factors["switch"] in ALIGNED and c.run.align == "bundled"]
    without = written(tmp_path, lambda c: (c.factors["switch"], c.factors["start"]) != ("none", "aligned"))
    found = costs(without, "ciou")
    assert {name for name, cost in found.items() if cost is None} == set(ALIGNED)
    assert row_title("fusion_raw").endswith(" *") and row_title("dice_pooled") == DIFFERENCES["dice_pooled"].title


def test_a_row_is_at_the_floor_where_neither_side_is_shown_to_be_above_it(tmp_path) -> None:
    of_several = 0.06  # of the default and of most switches, while one is above the floor with its whole interval
    loss = {switch: BASE["several"] - of_several for switch in ("none", *DIFFERENCES)}
    loss["giou_misparsed"] = BASE["several"] - FLOOR - 0.2
    sweep = written(tmp_path, lambda cell: True, loss)
    floor = at_floor(sweep, "several.set_f1")
    assert floor == set(DIFFERENCES) - {"giou_misparsed"}
    # Forced scores lie 0.05 higher: above the floor on average, not with their interval, so that this row stays in.
    assert sweep.mean(f"{FORCED}.several.set_f1", switch="none").value > FLOOR and FORCED in floor
    assert at_floor(sweep, "ciou") == set(ALIGNED)  # whose sides both have 0.2 less here
    assert at_floor(written(tmp_path / "none", lambda cell: False), "several.set_f1") == set()


def test_a_reading_says_what_lies_at_the_floor_and_what_is_0_by_construction() -> None:
    cost = OverSeeds(0.1, 0.05, 0.15, 3)
    assert "†" in reading(cost, True) and reading(cost, True).startswith(reading(cost)) and "†" not in reading(cost)
    assert reading(None, True) == "not there yet"
    assert is_fixed(OverSeeds(0.0, 0.0, 0.0, 3)) and not is_fixed(OverSeeds(0.0, -0.1, 0.1, 3)) and not is_fixed(cost)


def test_short_cells_do_not_mix_with_the_others(tmp_path) -> None:
    sweep = written(tmp_path, lambda cell: cell.factors["budget"] == "short")
    assert sweep.cells(switch="none") == [] and len(sweep.cells(switch="none", budget="short")) == 3


def test_every_switch_of_the_plan_has_a_row_and_words() -> None:
    switches = {cell.factors["switch"] for cell in load_plan(PLAN).cells()} - {"none"}
    assert set(DIFFERENCES) == switches | {FORCED}
    assert all(d.title and d.paper and d.code for d in DIFFERENCES.values())


def test_the_forest_shows_what_is_decided_and_what_is_missing() -> None:
    rows = {"costs": [0.1, 0.05, 0.15], "gains": [-0.1, -0.2, -0.05], "open": [0.01, -0.02, 0.04], "missing": None}
    fig, ax = plt.subplots()
    forest(rows, ax)
    colors = [container.lines[0].get_color() for container in ax.containers]
    assert len(set(colors)) == 3 and [text.get_text() for text in ax.texts] == ["not there yet"]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(rows)
    assert {container.lines[0].get_markerfacecolor() for container in ax.containers} == set(colors)
    forest(rows, faint := plt.subplots()[1], hollow={"open"})
    faces = [container.lines[0].get_markerfacecolor() for container in faint.containers]
    assert [face == "white" for face in faces] == [False, False, True]
    low, high = ax.get_xlim()
    assert low == -high and high > 0.2
    forest(dict.fromkeys(rows), plt.subplots()[1])  # nothing at all is no error
    plt.close("all")
