"""docs/speed.md and the measurements that it cites, in docs/measured: these are complete, and the page repeats them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pgpt_lib import project
from pgpt_lib.benchmark.comparison import beside_whole
from pgpt_lib.benchmark.decoding import KINDS
from pgpt_lib.benchmark.training import told
from pgpt_lib.config import load_profile
from pgpt_lib.representations import REPRESENTATIONS

TABLE = ("| row | tokens | steps summed, s | one whole decode, s | whole over sum |", "| --- | --- | --- | --- | --- |")


def read_page() -> str:
    return (project.ROOT / "docs" / "speed.md").read_text(encoding="utf-8")


def read_measured(name: str) -> dict[str, Any]:
    """A file of docs/measured; the test is skipped where it was not measured yet."""
    path = project.ROOT / "docs" / "measured" / f"{name}.json"
    if not path.exists():
        pytest.skip(f"there is no docs/measured/{name}.json yet")
    return json.loads(path.read_text(encoding="utf-8"))


def whole_lines(found: dict[str, Any]) -> list[str]:
    """The page's table of decodes whose steps were summed, beside one whole decode where there is one."""
    lines = list(TABLE)
    for row, ratio in zip(found["rows"], beside_whole(found["rows"]), strict=True):
        if row["method"] != "whole decodes":
            name = f"{row['llm']} {row['representation']} {row['kind']}, {'cache' if row['cache'] else 'no cache'}"
            summed = "{:.2f} [{:.2f}, {:.2f}]".format(*row["measured"])
            whole = "longer than a row may take | " if ratio is None else f"{row['whole_decode']:.2f} | {ratio:.2f} "
            lines.append(f"| {name} | {row['tokens']} | {summed} | {whole}|")
    return lines


def made_row(**more: Any) -> dict[str, Any]:
    row = {"llm": "nano", "representation": "numerical", "kind": "mask", "cache": False, "tokens": 385}
    return row | {"method": "steps at 5 lengths, summed", "measured": [8.0, 7.0, 9.0], "whole_decode": 8.4} | more


def test_lines_of_the_table_are_of_summed_steps_only():
    rows = [made_row(), made_row(cache=True, whole_decode=None), made_row(method="whole decodes", whole_decode=None)]
    assert whole_lines({"rows": rows})[2:] == [
        "| nano numerical mask, no cache | 385 | 8.00 [7.00, 9.00] | 8.40 | 1.05 |",
        "| nano numerical mask, cache | 385 | 8.00 [7.00, 9.00] | longer than a row may take | |",
    ]


def test_the_measured_decodes_are_complete_and_long_ones_are_checked():
    found = read_measured("bench_decode")
    rows, budget = found["rows"], found["seconds_a_row"]
    assert budget == 30 and not found["skipped"]
    names = {(row["llm"], row["representation"], row["kind"], row["cache"]) for row in rows}
    assert names == {
        (llm, name, kind, cache)
        for llm in ("nano", "smollm2-135m")
        for name in REPRESENTATIONS
        for kind in KINDS
        for cache in (True, False)
    }
    assert len(rows) == len(names) == found["target"]["of"]
    assert all(row["ratio"] > 0 and row["repeats"] >= (20 if row["cache"] else 3) for row in rows)
    summed = [row for row in rows if row["method"] != "whole decodes"]
    short = [row for row in summed if max(row["predicted"], row["measured"][0]) < budget]
    assert {("nano", 385), ("smollm2-135m", 34)} <= {(row["llm"], row["tokens"]) for row in short if not row["cache"]}
    assert all(row["whole_decode"] for row in short)
    assert all((row["whole_decode"] is None) for row in rows if row not in summed)


def test_the_page_on_speed_has_the_checks_of_long_decodes():
    found = read_measured("bench_decode")
    assert "\n".join(whole_lines(found)) in read_page()


def test_the_page_on_speed_says_what_compiling_costs():
    (row,) = read_measured("bench_train_compile")["levers"]
    assert row["skipped"] is None and told(row).split("; ")[1] in read_page()


def test_the_page_on_speed_says_what_compiled_steps_would_save():
    steps, saved = load_profile("cpu").training.steps, []
    for name in ("avx2", "bf16"):
        (row,) = (row for row in read_measured(f"bench_train_{name}")["levers"] if row["lever"] == "compile")
        saved.append(steps * (row["off"]["seconds_a_step"][0] - row["on"]["seconds_a_step"][0]))
    assert f"`cpu`'s {steps} steps would take {saved[0]:.0f} and {saved[1]:.0f} s less" in read_page()


def test_the_page_on_speed_has_the_measured_ratios():
    page, both = read_page(), [read_measured(f"bench_train_{name}") for name in ("avx2", "bf16")]
    rows = re.findall(r"^\| (.*`\w+`) \| ([\d.]+ \[.+?\]) \| [\d.]+ \| ([\d.]+ \[.+?\]) \| [\d.]+ \|", page, re.M)
    for place, measured in enumerate(both):
        ratios = {f"`{lever['lever']}`": lever["ratio"] for lever in measured["levers"]}
        ratios |= {f"default over `{name}`": loop["ratio"] for name, loop in measured["loops"].items()}
        told = {name: columns[place] for name, *columns in rows}
        assert told == {name: "{:.2f} [{:.2f}, {:.2f}]".format(*ratio) for name, ratio in ratios.items()}
    plain = " and ".join(f"{measured['targets']['plain']['reached']:.2f}" for measured in both)
    assert f"missed, {plain}" in page
    float32, bf16 = (f"{100 * measured['products']['share']:.0f} %" for measured in both)
    assert f"met in float32, {float32}, missed in bfloat16, {bf16}" in page
