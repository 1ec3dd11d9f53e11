"""Verdicts on the paper's claims, each from evidence written for the test, and two reports compared."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from pgpt_lib import project
from pgpt_lib.claims import listed, verdicts
from pgpt_lib.claims.evidence import MAIN
from pgpt_lib.claims.rules import RULES
from pgpt_lib.cli import main
from pgpt_lib.compare import compare_reports, describe
from pgpt_lib.errors import InputError
from pgpt_lib.files import write_json
from pgpt_lib.report_page import _claims

TOKENS = {"Numerical": {"box": 20, "mask": 320}, "Vocab": {"box": 2, "mask": 64}, "Token Embed": {"box": 1, "mask": 1}}


def metric(value: float) -> list[float]:
    return [value, value - 0.02, value + 0.02]


def good() -> dict:
    """A report in which every claim that a report alone can carry holds."""
    times = {"Numerical": {"box": [3, 2, 4]}, "Vocab": {"box": 2.0}, "Token Embed": {"box": 1.0}}
    return {
        "profile": "cpu",
        "data": "RefShapes",
        "seed": 0,
        "metrics": {
            "02_vis_heads": {
                "box_iou": {"2": 0.5, "8": 0.999},
                "bin_iou": {"32": 0.9, "100": 0.95, "1000": 0.99},
                "mask_iou": {"two-way, 8": 0.9},
                "mask_grid_bound": 0.95,
            },
            MAIN: {
                "acc@0.5": metric(0.8),
                "ciou": metric(0.7),
                "emission_rate": [1.0, 1.0, 1.0],
                "shuffled": {"acc@0.5": metric(0.2)},
                "filled_ciou": {"predicted_box": metric(0.6)},
                "depth": {"mae": metric(0.05), "constant_mae": metric(0.25)},
                "region_caption": {"box": metric(0.9), "mask": metric(0.8), "wrong": metric(0.8)},
                "caption": {"cider": metric(0.9)},
                "several": {"merged_iou": metric(0.9)},
                "false_vis": {"question": [0.0, 0.0, 0.0], "none": None},
            },
        },
        "tables": {
            "table1": {"ours": {"ours": {"Bounding Box": True, "Segmentation": True}}},
            "table4": {"ours": TOKENS},
            "table7": {"ours": {**times, **{f"{name}, uncached": row for name, row in times.items()}}},
        },
    }


def sweep(folder: Path, plan: str, scores: dict[str, float], cells: dict[str, dict], seeds=(0, 1, 2), **more) -> None:
    """Cells of a plan: name to score and to factors; `more` is added to each file."""
    for name, factors in cells.items():
        for seed in seeds:
            values = dict.fromkeys(("acc@0.5", "miou_box", "miou_mask"), metric(scores[name] + 0.001 * seed))
            result = {"cell": {**factors, "seed": seed}, "metrics": {MAIN: values}, "seconds": 100.0, **more}
            write_json(folder / "sweeps" / plan / f"{name}-{seed}.json", result)


def table6(folder: Path, scores: dict[str, float], **more) -> None:
    """Cells named as in `embedding-8`."""
    fixed = {"fraction": 1, "budget": "samples", "lr": "tuned"}
    cells = {n: {"representation": n.split("-")[0], "rank": n.split("-")[1], **fixed} for n in scores}
    sweep(folder, "table6", scores, cells, **more)


AHEAD = {"embedding-8": 0.7, "embedding-full": 0.75, "numerical-8": 0.1, "vocabulary-8": 0.1,
         "numerical-full": 0.4, "vocabulary-full": 0.4}  # fmt: skip
CURVE = [{"seconds": 10.0, "acc@0.5": metric(0.05)}, {"seconds": 20.0, "acc@0.5": metric(0.3)}]


def everything(folder: Path) -> None:
    table6(folder, AHEAD, curve=CURVE, parameters={"trainable": 3, "llm": 100})
    terms = {"l1": 0.4, "l1+giou": 0.6, "bce": 0.4, "bce+dice": 0.6}
    sweep(folder, "losses", terms, {name: {"terms": name, "head": "two_way"} for name in terms})
    kinds = {"learned": 0.8, "last": 0.6, "second_last": 0.6, "mean": 0.6}
    sweep(folder, "fusion", kinds, {n: {"strategy": n, "weights": "two", "start": "aligned"} for n in kinds})


def test_claims_are_listed_and_each_has_a_rule():
    claims = listed()
    ids = [claim["id"] for claim in claims]
    assert len(ids) == len(set(ids)) >= 12 and set(ids) == set(RULES)
    assert {"abstract", "introduction", "conclusion"} <= {claim["section"] for claim in claims}
    texts = " ".join(claim["text"] for claim in claims)
    assert "4 % of the parameters" in texts and "25 % of the training time" in texts
    assert all(set(c) == {"id", "section", "text"} and 0 < len(c["id"].split("-")) <= 3 for c in claims)


def test_all_that_can_be_measured_is_reproduced_where_the_evidence_says_so(tmp_path):
    everything(tmp_path)
    found = verdicts(good(), tmp_path)
    others = {name for name, claim in found.items() if claim["verdict"] != "reproduced"}
    assert others == {"costly-predecessors", "two-stage-limits", "competitive"}
    for claim in found.values():
        assert claim["evidence"] and claim["why"]
        for item in claim["evidence"]:
            report = good()
            assert item in report or item in report["metrics"] or item in report["tables"] or Path(item).is_file()


def test_without_evidence_nothing_is_claimed(tmp_path):
    report = {"profile": "cpu", "data": "RefShapes", "metrics": {}, "tables": {}}
    found = verdicts(report, tmp_path)
    assert {claim["verdict"] for claim in found.values()} == {"not measurable here"}
    assert "sweeps/table6" in found["easier-training"]["why"] and "table7" in found["fast-decoding"]["why"]
    assert "02_vis_heads" in found["precise"]["why"] and "rank=8" in found["easier-training"]["why"]


def test_smoke_is_never_evidence(tmp_path):
    everything(tmp_path)
    found = verdicts(good() | {"profile": "smoke"}, tmp_path)
    assert {claim["verdict"] for claim in found.values()} == {"not measurable here"}


@pytest.mark.parametrize(
    ("claim", "path", "value"),
    [
        ("precise", ("metrics", "02_vis_heads", "bin_iou", "1000"), 0.9995),
        ("mask-embedding", ("metrics", "02_vis_heads", "mask_iou"), {"two-way, 8": 0.8}),
        ("detects", ("metrics", MAIN, "shuffled", "acc@0.5"), metric(0.79)),
        ("segments", ("metrics", MAIN, "filled_ciou", "predicted_box"), metric(0.69)),
        ("decides-when", ("metrics", MAIN, "false_vis", "question"), metric(0.1)),
        ("decides-when", ("metrics", MAIN, "emission_rate"), metric(0.9)),
        ("other-signals", ("metrics", MAIN, "depth", "mae"), metric(0.24)),
        ("reads-regions", ("metrics", MAIN, "region_caption", "wrong"), metric(0.4)),
        ("end-to-end", ("tables", "table1", "ours", "ours", "Segmentation"), False),
        ("one-token", ("tables", "table4", "ours", "Token Embed", "mask"), 2),
        ("redundant-tokens", ("tables", "table4", "ours", "Vocab", "mask"), 30),
        ("fast-decoding", ("tables", "table7", "ours", "Vocab, uncached", "box"), 0.9),
    ],
)
def test_a_figure_on_the_wrong_side_is_not_reproduced(tmp_path, claim, path, value):
    report = copy.deepcopy(good())
    place = report
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert verdicts(good(), tmp_path)[claim]["verdict"] == "reproduced"
    assert verdicts(report, tmp_path)[claim]["verdict"] == "not reproduced"


@pytest.mark.parametrize(
    ("claim", "changed", "more", "verdict"),
    [
        ("easier-training", {"numerical-8": 0.69}, {}, "not reproduced"),  # ahead, but within the interval
        ("full-tuning-needed", {"vocabulary-8": 0.4}, {}, "not reproduced"),
        ("lora-suffices", {"embedding-8": 0.6}, {}, "not reproduced"),
        ("four-percent", {"numerical-full": 0.75}, {}, "not reproduced"),
        ("four-percent", {}, {"parameters": {"trainable": 20, "llm": 100}}, "not measurable here"),
        ("four-percent", {}, {"parameters": None}, "not measurable here"),
        ("quarter-time", {}, {"curve": [{"seconds": 26.0, "acc@0.5": metric(0.3)}]}, "not reproduced"),
        ("quarter-time", {}, {"curve": [{"seconds": 5.0, "acc@0.5": metric(0.05)}]}, "not reproduced"),
        ("quarter-time", {}, {"curve": []}, "not measurable here"),
        ("easier-training", {}, {"seeds": (0,)}, "not measurable here"),
        ("easier-training", {}, {"status": "failed"}, "not measurable here"),
    ],
)
def test_verdicts_from_sweeps(tmp_path, claim, changed, more, verdict):
    usual = {"curve": CURVE, "parameters": {"trainable": 3, "llm": 100}}
    table6(tmp_path, AHEAD | changed, **{**usual, **more})
    assert verdicts(good(), tmp_path)[claim]["verdict"] == verdict


def test_the_page_shows_each_claim(tmp_path):
    page = _claims(verdicts(good(), tmp_path))
    assert page.count("<strong>") == len(listed()) and "evidence</summary>" in page
    assert "two-stage" not in page and "none of which is run here" in page


@pytest.fixture
def pair(tmp_path):
    """Two report folders: B's REC is out of A's interval, its RES within, its seed and learning rate others."""
    a = good()
    b = copy.deepcopy(a) | {"seed": 1}
    b["metrics"][MAIN] |= {"acc@0.5": metric(0.7), "ciou": metric(0.71), "new": metric(0.1), "n": 3}
    a["metrics"][MAIN] |= {"miou_mask": None, "n": 4}
    for name, report, rate in (("a", a, 1e-3), ("b", b, 2e-3)):
        write_json(tmp_path / name / "report.json", report)
        write_json(tmp_path / name / "05_x" / "result.json", {"config": {"training": {"lr": rate}}})
    return tmp_path / "a", tmp_path / "b"


def test_compare_says_what_differs(pair):
    found = compare_reports(*pair)
    assert found["compared"] - found["within"] == 1
    assert found["summary"].startswith(
        f"{found['within']} of {found['compared']} metrics within the published interval"
    )
    assert found["summary"].endswith("another seed, training.lr.")
    rows = {row["name"]: row for row in found["metrics"]}
    assert set(rows) == {f"{MAIN}: {key}" for key in ("acc@0.5", "ciou", "n")}
    assert rows[f"{MAIN}: acc@0.5"]["within"] is False and rows[f"{MAIN}: ciou"]["within"] is True
    assert rows[f"{MAIN}: acc@0.5"]["difference"] == pytest.approx(-0.1) and rows[f"{MAIN}: n"]["within"] is None
    assert found["only_a"] == [f"{MAIN}: miou_mask"] and found["only_b"] == [f"{MAIN}: new"]
    assert found["settings"] == {"seed": [0, 1], "config.training.lr": [1e-3, 2e-3]}
    text = describe(found)
    assert "acc@0.5: 0.8000 [0.7800, 0.8200] -> 0.7000" in text and "(-0.1)" in text


def test_a_report_agrees_with_itself(pair):
    found = compare_reports(pair[0], pair[0] / "report.json")
    assert found["within"] == found["compared"] > 5 and not found["metrics"] and not found["settings"]
    assert describe(found) == found["summary"]


def test_a_metric_that_became_null_is_outside(pair):
    report = json.loads((pair[1] / "report.json").read_text())
    report["metrics"][MAIN]["ciou"] = None
    write_json(pair[1] / "report.json", report)
    found = compare_reports(*pair)
    assert found["compared"] - found["within"] == 2 and "-> nothing" in describe(found)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_compare_refuses_what_is_no_report(pair, tmp_path, content):
    other = tmp_path / "other.json"
    if content is not None:
        other.write_text(content)
    with pytest.raises(InputError, match="other.json"):
        compare_reports(pair[0], other)


def test_the_command_prints_one_object(pair, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(pair[0]), str(pair[1]), "--json"])
    assert not ended.value.code and json.loads(capsys.readouterr().out)["compared"] > 5


def test_photographs_that_were_asked_for_regions_alone_say_nothing_of_the_rest():
    folder = project.ROOT / "reports" / "photos"
    found = verdicts(json.loads((folder / "report.json").read_text()), folder)
    assert found["end-to-end"]["verdict"] == "not measurable here" and "caption" in found["end-to-end"]["why"]
