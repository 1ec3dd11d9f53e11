"""The paper's claims, and a verdict on each from what a report's folder holds.

A verdict is `reproduced`, `not reproduced` or `not measurable here`; it names its evidence and says why in a sentence.
Without the evidence it is `not measurable here`, never a guess. Where intervals judge, the sentence on what is not
reproduced begins with `contradicted: ` or `undecided: `.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import project
from .evidence import CONTRADICTED, NOT_MEASURABLE, NOT_REPRODUCED, UNDECIDED, Evidence, Missing
from .rules import RULES

CLAIMS = project.ROOT / "data" / "claims.json"
SMOKE = "the smoke profile shows that the code runs; its scores mean nothing"


def listed() -> list[dict[str, Any]]:
    """The claims in the paper's order, each with `id`, `section` and `text`.

    One whose rule was changed when the numbers were known also has `rule_changed`, the day, and `before`, the verdicts
    that the rules before gave, the oldest first: a verdict, or `contradicted` or `undecided` of what is not reproduced.
    """
    found: list[dict[str, Any]] = json.loads(CLAIMS.read_text(encoding="utf-8"))["claims"]
    return found


def verdicts(report: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Each claim's id to its `verdict`, `evidence` (keys of the report, or paths), `why`, `section` and `text`.

    With `rule_changed` and `before` where the claim has them.

    Args:
        report: what `report.json` holds besides the claims.
        folder: where it lies; sweeps are read from `sweeps/<plan>/<cell id>.json` below it.
    """
    evidence = Evidence(report, folder)
    return {claim["id"]: _judge(claim, evidence) for claim in listed()}


def counts(claims: Mapping[str, Mapping[str, Any]]) -> str:
    """How often each verdict was given, and how many of what is not reproduced are contradicted or undecided.

    Args:
        claims: as `verdicts` gives them.
    """
    found = [claim["verdict"] for claim in claims.values()]
    text = {verdict: f"{found.count(verdict)} {verdict}" for verdict in sorted(set(found))}
    reasons = [claim["why"] for claim in claims.values() if claim["verdict"] == NOT_REPRODUCED]
    meant = {kind: sum(why.startswith(f"{kind}: ") for why in reasons) for kind in (CONTRADICTED, UNDECIDED)}
    if any(meant.values()):
        text[NOT_REPRODUCED] += f" ({', '.join(f'{count} {kind}' for kind, count in meant.items() if count)})"
    return ", ".join(text.values())


def _judge(claim: Mapping[str, Any], evidence: Evidence) -> dict[str, Any]:
    about = {key: value for key, value in claim.items() if key != "id"}
    try:
        if evidence.report["profile"] == "smoke":
            raise Missing(SMOKE)
        verdict = RULES[claim["id"]](evidence)
    except Missing as missing:
        # Else what the numbers were measured on is the evidence that there is.
        found = list(missing.evidence) or ["data"]
        return {"verdict": NOT_MEASURABLE, "evidence": found, "why": str(missing), **about}
    return {"verdict": verdict.verdict, "evidence": list(verdict.evidence), "why": verdict.why, **about}
