"""`python -m pgpt_lib doctor`: does this machine have what each profile needs?"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import typer

from ._output import JsonFlag, results


def doctor(json: JsonFlag = False) -> None:
    """Check versions, device, memory and disk against what each profile needs; exit with 1 on a refused version."""
    with results(json) as emit:
        found = examine()
        emit(found, _text(found))
    if found["problems"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Versions with their problems, the machine, free memory and disk in GiB, and what each profile lacks here."""
    import psutil
    import torch  # so that accelerators are seen

    from .. import project
    from ..config import load_profile, profile_names
    from ..requirements import problems

    free = {
        "memory_gb": min(psutil.virtual_memory().available, project.memory_limit()) / project.GIB,
        "disk_gb": shutil.disk_usage(project.ROOT).free / project.GIB,
    }
    return {
        "problems": problems(),
        "versions": {**project.versions(), "torch": torch.__version__},
        "machine": project.machine(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "free": free,
        "profiles": {name: _fit(load_profile(name).budget, free) for name in profile_names()},
    }


def _fit(budget: Any, free: Mapping[str, float]) -> dict[str, Any]:
    """What a profile needs, and which of it is not free here."""
    needs = {"memory_gb": budget.memory_gb, "disk_gb": budget.disk_gb}
    short = {name: value for name, value in needs.items() if value > free[name]}
    lacks = [f"{name[:-3]}: {value:g} GB needed, {free[name]:.1f} free" for name, value in short.items()]
    return {**needs, "minutes": sum(budget.minutes.values()) or None, "fits": not lacks, "lacks": lacks}


def _text(found: Mapping[str, Any]) -> str:
    from ..project import describe

    lines = [f"machine   {describe(found['machine'])}, device {found['device']}"]
    lines.append("versions  " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    lines.append("free      " + ", ".join(f"{value:.1f} GB {name[:-3]}" for name, value in found["free"].items()))
    for name, profile in found["profiles"].items():
        minutes = f", about {profile['minutes']:.0f} min" if profile["minutes"] else ""
        needs = f"{profile['memory_gb']:g} GB memory, {profile['disk_gb']:g} GB disk{minutes}"
        lines.append(f"profile   {name}: {'fits' if profile['fits'] else '; '.join(profile['lacks'])} (needs {needs})")
    lines += [f"problem   {problem}" for problem in found["problems"]] or ["no problem found"]
    return "\n".join(lines)
