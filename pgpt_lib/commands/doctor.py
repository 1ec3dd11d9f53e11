"""`python -m pgpt_lib doctor`: does this machine have what each profile needs?"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from ._output import JsonFlag, results

if TYPE_CHECKING:
    from ..config import Profile


def doctor(json: JsonFlag = False) -> None:
    """Check versions, device, memory and disk against what each profile needs; exit with 1 on a refused version."""
    with results(json) as emit:
        found = examine()
        emit(found, _text(found))
    if found["problems"]:
        raise RunError("; ".join(found["problems"]))


def examine() -> dict[str, Any]:
    """Versions with their problems, the machine, free memory and disk in GiB, and what each profile needs and lacks."""
    import psutil
    import torch  # so that accelerators are seen

    from .. import project
    from ..config import load_profile, profile_names
    from ..precision import usable_precision
    from ..requirements import problems

    free = {
        "memory_gb": min(psutil.virtual_memory().available, project.memory_limit()) / project.GIB,
        "disk_gb": shutil.disk_usage(project.ROOT).free / project.GIB,
    }
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cards = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    return {
        "problems": problems(),
        "versions": {**project.versions(), "torch": torch.__version__},
        "machine": project.machine(),
        "device": device,
        "bf16": usable_precision("bf16", torch.device(device)) == "bf16",
        "free": free,
        "profiles": {name: needs(load_profile(name), free, cards) for name in profile_names()},
    }


def needs(profile: Profile, free: Mapping[str, float], cards: int = 0) -> dict[str, Any]:
    """What a profile asks for, which of it is not free here, and the minutes that its series takes.

    Cards are counted, whatever their name: another than the one that the profile is meant for may do as well.

    `measured` are those of the minutes that the profile's report has measured, on its machine; the others are what
    profile and notebooks expect.
    """
    asked = {"memory_gb": profile.budget.memory_gb, "disk_gb": profile.budget.disk_gb}
    short = {name: value for name, value in asked.items() if value > free[name]}
    lacks = [f"{name[:-3]}: {value:g} GB needed, {free[name]:.1f} free" for name, value in short.items()]
    gpus = profile.budget.gpus if profile.budget.gpu else 0
    if gpus > cards:
        lacks.append(f"cards: {gpus} needed, such as {profile.budget.gpu}, {cards} here")
    return {**asked, "gpus": gpus, **_minutes(profile), "fits": not lacks, "lacks": lacks}


def _minutes(profile: Profile) -> dict[str, Any]:
    from .. import project
    from ..files import read_json
    from ..reproduce import plan

    out = project.report_folder(profile.name)
    seconds = (read_json(out / "report.json") or {}).get("seconds", {})
    steps = plan(profile, out, {})
    measured = sum(seconds[step.slug] for step in steps if step.slug in seconds) / 60
    expected = sum(step.minutes for step in steps if step.slug not in seconds)
    return {"minutes": measured + expected, "measured": measured}


def _text(found: Mapping[str, Any]) -> str:
    from ..project import describe

    lines = [f"machine   {describe(found['machine'])}, device {found['device']}, "]
    lines[0] += "computes in bf16 where a profile asks for it" if found["bf16"] else "no bf16 units: computes in fp32"
    lines.append("versions  " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    lines.append("free      " + ", ".join(f"{value:.1f} GB {name[:-3]}" for name, value in found["free"].items()))
    for name, profile in found["profiles"].items():
        asked = f"{profile['memory_gb']:g} GB memory, {profile['disk_gb']:g} GB disk, "
        asked += f"cards {profile['gpus']}, " * bool(profile["gpus"]) + _spoken_minutes(name, profile)
        lines.append(f"profile   {name}: {'fits' if profile['fits'] else '; '.join(profile['lacks'])} (needs {asked})")
    lines += [f"problem   {problem}" for problem in found["problems"]] or ["no problem found"]
    return "\n".join(lines)


def _spoken_minutes(name: str, profile: Mapping[str, Any]) -> str:
    """The minutes of a series, and where they come from."""
    total, measured = profile["minutes"], profile["measured"]
    source = f"{measured:.0f} of them measured in reports/{name}" if measured else "as its notebooks expect"
    return f"about {total:.0f} min ({source})"
