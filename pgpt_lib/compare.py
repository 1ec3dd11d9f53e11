"""Two reports side by side: is a rerun what was published?

Report A is the published one. A metric of report B agrees where its value lies within A's interval, ends included.
Figures without an interval (times, counts, parameters) are listed where they differ, and not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import read_json
from .report import SERIES

SETTINGS = ("profile", "data", "seed", "commit", "checkpoint", "machine", "versions")
PROFILE = "config."  # a setting of the profile
NAMED = 5  # of many settings or metrics, in one sentence


def compare_reports(a: Path, b: Path) -> dict[str, Any]:
    """What differs between two reports.

    Args:
        a, b: a run's folder, or its `report.json`; `a` is the published one.

    Returns:
        `summary`, one sentence; `within` of `compared` metrics with an interval; `metrics`, those that differ, each
        `{"name", "a", "b", "difference" (b - a, or null), "within"}`, `within` null where there is no interval;
        `only_a`, `only_b`, names that the other lacks; `settings` and `claims`, name to `[a, b]` where they differ.

    Raises:
        InputError: no report there, or a damaged one.
    """
    first, second = read_report(a), read_report(b)
    ours, theirs = (dict(_flat(report["metrics"])) for report in (first, second))
    shared = [name for name in ours if name in theirs]
    rows = [_row(name, ours[name], theirs[name]) for name in shared]
    judged = [row for row in rows if row["within"] is not None]
    settings = _differing(*_comparable(_settings(a, first), _settings(b, second)))
    verdicts = [{k: v["verdict"] for k, v in report.get("claims", {}).items()} for report in (first, second)]
    within = sum(row["within"] for row in judged)
    return {
        "summary": _summary(within, len(judged), settings),
        "within": within,
        "compared": len(judged),
        "metrics": [row for row in rows if row["a"] != row["b"]],
        "only_a": [name for name in ours if name not in theirs],
        "only_b": [name for name in theirs if name not in ours],
        "settings": settings,
        "claims": _differing(*verdicts),
    }


def describe(found: Mapping[str, Any]) -> str:
    """A comparison for a person: the sentence, then what differs."""
    lines = [found["summary"]]
    for title, chosen in (
        ("Outside the published interval", [row for row in found["metrics"] if row["within"] is False]),
        ("Different, within the interval", [row for row in found["metrics"] if row["within"]]),
        ("Different, without an interval", [row for row in found["metrics"] if row["within"] is None]),
    ):
        lines += ["", f"{title}:"] if chosen else []
        lines += [f"  {row['name']}: {_shown(row['a'])} -> {_shown(row['b'])}{_change(row)}" for row in chosen]
    for title, pairs in (("Other settings", found["settings"]), ("Other verdicts", found["claims"])):
        lines += ["", f"{title}:"] if pairs else []
        lines += [f"  {name}: {_shown(a)} -> {_shown(b)}" for name, (a, b) in pairs.items()]
    for title, names in (("Only in the first", found["only_a"]), ("Only in the second", found["only_b"])):
        lines += ["", f"{title}:", *(f"  {name}" for name in names)] if names else []
    return "\n".join(lines)


def read_report(path: Path) -> dict[str, Any]:
    """A report, by its run's folder or its own name.

    Raises:
        InputError: none there, or a damaged one.
    """
    file = path / "report.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"no report at {str(path)!r}: give a run's folder or its report.json")
    report = read_json(file)
    if not isinstance(report, dict) or not isinstance(report.get("metrics"), dict):
        raise InputError(f"{str(file)!r} is no whole report.json: make it again by `python -m pgpt_lib report`")
    return report


def _settings(path: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report was made with; the profile's settings too, where the notebooks' results lie beside it."""
    found = dict(_flat({key: report.get(key) for key in SETTINGS}, separator="."))
    folder = path if path.is_dir() else path.parent
    results = [result for file in sorted(folder.glob(SERIES)) if isinstance(result := read_json(file), dict)]
    return found | (dict(_flat(results[-1]["config"], PROFILE, ".")) if results and "config" in results[-1] else {})


def _comparable(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Both reports' settings; where one of them lies alone, the profile's are unknown, which is no difference."""
    known = [any(name.startswith(PROFILE) for name in side) for side in (a, b)]
    if known[0] == known[1]:
        return [a, b]
    told = {True: "known", False: "unknown, no notebook's result.json beside the report"}
    rest = [{name: value for name, value in side.items() if not name.startswith(PROFILE)} for side in (a, b)]
    return [side | {"profile's settings": told[has]} for side, has in zip(rest, known, strict=True)]


def _flat(values: Mapping[str, Any], prefix: str = "", separator: str = ": ") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}{separator}", separator)
        else:
            yield prefix + name, value


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys([*a, *b])
    return {name: [a.get(name), b.get(name)] for name in names if a.get(name) != b.get(name)}


def _row(name: str, a: Any, b: Any) -> dict[str, Any]:
    value_a, value_b = _value(a), _value(b)
    within = None
    if _is_interval(a):  # a value that has become null is outside
        within = value_b is not None and a[1] <= value_b <= a[2]
    difference = value_b - value_a if value_a is not None and value_b is not None else None
    return {"name": name, "a": a, "b": b, "difference": difference, "within": within}


def _is_interval(metric: Any) -> bool:
    return isinstance(metric, list) and len(metric) == 3 and all(_is_number(v) for v in metric) and (
        metric[1] <= metric[0] <= metric[2]
    )  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _value(metric: Any) -> float | None:
    if _is_interval(metric):
        return float(metric[0])
    return float(metric) if _is_number(metric) else None


def _summary(within: int, compared: int, settings: Mapping[str, Any]) -> str:
    if not compared:
        return "The reports have no metric with an interval in common."
    sentence = f"{within} of {compared} metrics within the published interval"
    other = [name for name in ("profile", "seed") if name in settings]
    other += sorted(name for name in settings if name.startswith(PROFILE))
    if not other:
        return f"{sentence}."
    more = f" and {len(other) - NAMED} more" if len(other) > NAMED else ""
    return f"{sentence}, with another {', '.join(n.removeprefix(PROFILE) for n in other[:NAMED])}{more}."


def _change(row: Mapping[str, Any]) -> str:
    return "" if row["difference"] is None else f" ({row['difference']:+.4g})"


def _shown(value: Any) -> str:
    if _is_interval(value):
        return f"{value[0]:.4f} [{value[1]:.4f}, {value[2]:.4f}]"
    return f"{value:.4g}" if isinstance(value, float) else "nothing" if value is None else str(value)
