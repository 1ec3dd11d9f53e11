"""Gathers the results of a run into `report.json`, and that into two pages alike, `index.html` and `report.md`.

`report.json` (version 1) holds `profile`, `data` (what the numbers are measured on), `commit`, `machine`, `versions`,
`seed`, `seconds` (notebook to number), `checkpoint` (the trained model's hash), `metrics`, `tables`, `claims` (the
paper's, each with a verdict), `sweeps` (what they took) and `profiles` (what each profile reached); docs/results.md
describes each key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import project
from .by_profile import by_profile
from .errors import InputError, RunError
from .files import digest, read_json, write_json, write_text

VERSION = 1
PAPER_RESULTS = project.ROOT / "data" / "paper_results.json"
SERIES = "[0-9][0-9]_*/result.json"


def paper_table(name: str) -> dict[str, Any]:
    """A table of the paper: `title`, `unit`, `columns`, and `rows` as row to column to value (null where it has none).

    Raises:
        InputError: no such table.
    """
    tables = json.loads(PAPER_RESULTS.read_text(encoding="utf-8"))["tables"]
    if name not in tables:
        raise InputError(f"the paper has no {name!r}; there are {', '.join(tables)}")
    return tables[name]


def gather(out: Path) -> dict[str, Any]:
    """The content of `report.json`, from every `NN_slug/result.json` in a folder and the sweeps beside them.

    Raises:
        InputError: there is none, or they come from different profiles.
        RunError: two notebooks report the same metric or table, or numbers of different checkpoints.
    """
    from .claims import verdicts

    results = _results(out)
    newest = max(results, key=lambda result: (out / result["slug"] / "result.json").stat().st_mtime)
    metrics: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    for result in results:
        _merge(metrics, _named(result), result["slug"])
        _merge(tables, {name: _with_paper(name, table) for name, table in result["tables"].items()}, result["slug"])
    report = {
        "version": VERSION,
        "profile": newest["profile"],
        "data": data_banner(newest["config"], metrics.get("06_evaluation", {}).get("own_split")),
        "commit": newest["commit"],
        "machine": newest["machine"],
        "versions": newest["versions"],
        "seed": newest["seed"],
        "seconds": {result["slug"]: _seconds(out, result) for result in results},
        "checkpoint": _checkpoint(results),
        "metrics": metrics,
        "tables": tables,
    }
    sweeps = _sweeps(report["profile"], out)
    return report | {"claims": verdicts(report, out), "sweeps": sweeps, "profiles": by_profile(report)}


def write_report(out_dir: str | os.PathLike[str]) -> Path:
    """Write `report.json`, `index.html` and `report.md` into a run's folder. Returns `index.html`."""
    from . import report_markdown, report_page

    out = Path(out_dir)
    report, results = gather(out), _results(out)
    write_json(out / "report.json", report)
    write_text(out / "report.md", report_markdown.render(report, results, out))
    write_text(out / "index.html", report_page.render(report, results, out))
    return out / "index.html"


def data_banner(config: Mapping[str, Any], own_split: bool | None = None) -> str:
    """One sentence on what the numbers of a profile are measured on.

    Args:
        config: a profile's settings.
        own_split: of photographs, whether we divided them, or their files did; None where that is not known.
    """
    data, models = config["data"], f"{config['vision']['name']} and {config['llm']['name']}"
    if data["name"] == "refshapes":
        return (
            f"Measured with {models} on RefShapes, level {data['level']}: a procedural world in RefCOCO's format that "
            "stands in for the paper's data sets. The paper's numbers beside ours are on real photographs."
        )
    if data["name"] == "mixture":
        return (
            f"Measured with {models} on the official splits of the paper's data sets, as far as they were there; "
            f"trained on {', '.join(data['sources'])}."
        )
    where = "a folder of photographs" if data["root"] else "the few bundled photographs"
    split = {True: ", by a split of our own", False: ", by the folder's own train split", None: ""}[own_split]
    return (
        f"Measured with {models} on {where} in the REFER layout, some trained on and others held out{split}. It proves "
        "the path on a real language model; with so few pictures the model memorises them."
    )


def _results(out: Path) -> list[dict[str, Any]]:
    found = [result for path in sorted(out.glob(SERIES)) if (result := read_json(path))]
    if not found:
        raise InputError(f"no NN_slug/result.json in {str(out)!r}: run `python -m pgpt_lib run` first")
    profiles = sorted({result["profile"] for result in found})
    if len(profiles) > 1:
        raise InputError(f"{out} holds results of the profiles {', '.join(profiles)}; give each profile its own folder")
    return found


def _sweeps(profile: str, out: Path) -> dict[str, Any]:
    """By name what each sweep took that the claims rest on: `Sweep.facts`. Empty where a profile runs none."""
    from .sweeps.plans import plan_names, sized
    from .sweeps.reading import open_sweep

    opened = {name: open_sweep(name, out, profile) for name in plan_names()} if sized(profile) else {}
    return {name: sweep.facts() for name, sweep in opened.items() if sweep.results}


def _named(result: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluations (`data-set/split` to a mapping) as they are; a notebook's other figures under its slug."""
    metrics = result["metrics"]
    evaluations = {name: value for name, value in metrics.items() if "/" in name and isinstance(value, dict)}
    others = {name: value for name, value in metrics.items() if name not in evaluations}
    return evaluations | ({result["slug"]: others} if others else {})


def _with_paper(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    complete = dict(table)
    if name.startswith("table") and "paper" not in complete:
        complete["paper"] = paper_table(name)["rows"]
    return complete


def _merge(into: dict[str, Any], more: Mapping[str, Any], slug: str) -> None:
    twice = sorted(set(into) & set(more))
    if twice:
        raise RunError(f"{slug} reports {', '.join(twice)}, which an earlier notebook reports too")
    into.update(more)


def _seconds(out: Path, result: Mapping[str, Any]) -> float:
    """The runner's time, kernel start included, of this very result; else the notebook's own."""
    folder = out / result["slug"]
    record = read_json(folder / "run.json") or {}
    return record["seconds"] if record.get("result") == digest(folder / "result.json") else result["seconds"]


def _checkpoint(results: list[dict[str, Any]]) -> str | None:
    hashes = {result["checkpoint"]: result["slug"] for result in results if result["checkpoint"]}
    if len(hashes) > 1:
        raise RunError(f"results of different checkpoints: {', '.join(f'{s} of {h}' for h, s in hashes.items())}")
    return next(iter(hashes), None)
