"""Where the project lives, and what a result must say about the machine that made it."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
"""The repository: `notebooks/`, `data/` and `reports/` lie here, beside the package."""

REPORTED = ("torch", "transformers", "peft", "accelerate", "numpy", "pycocotools", "papermill", "ipykernel")
GIB = 2**30


def report_folder(profile: str, out_dir: str | os.PathLike[str] = "") -> Path:
    """The folder of a run: `out_dir`, or `reports/<profile>` in the repository when that is empty. Absolute."""
    return Path(out_dir).expanduser().absolute() if str(out_dir) else ROOT / "reports" / profile


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in REPORTED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, its vector instructions, cores that this process may use, memory in GiB, platform, accelerators.

    Clouds call unlike processors by one name; those of other instructions are not equally fast.
    """
    return {
        "processor": _processor(),
        "instructions": _instructions(),
        "cores": cores(),
        "memory_gb": round(memory_limit() / GIB, 1),
        "platform": f"{platform.system()} {platform.machine()}",
        "accelerators": accelerators(),
    }


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_limit() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit where that is lower."""
    import psutil

    total = psutil.virtual_memory().total
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def accelerators() -> tuple[str, ...]:
    """Names of the accelerators that torch can use; none in a process that never imported torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return ()
    if torch.cuda.is_available():
        return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    if torch.backends.mps.is_available():
        return ("mps",)
    return ()


@functools.cache
def commit() -> str:
    """The commit of the working tree, with `+changes` when code, notebooks or data differ from it; else `unknown`."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", "pgpt_lib", "notebooks", "data")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+changes" if changed else "")


def committed_files(folder: Path) -> set[Path] | None:
    """The files below a folder of the repository in its last commit, by path; None where there is no repository."""
    try:
        names = _git("ls-tree", "-r", "--name-only", "HEAD", "--", f"./{folder.as_posix()}")
    except (OSError, subprocess.SubprocessError):
        return None
    return {Path(name) for name in names.splitlines()}


def committed_text(path: Path) -> str:
    """A file of the last commit, by its path in the repository."""
    return _git("show", f"HEAD:./{path.as_posix()}")


def staged_text(path: Path) -> str | None:
    """A file as it would be committed, by its path in the repository; None where it is not under version control.

    Where there is no repository the file on disk counts.
    """
    try:
        _git("rev-parse", "--git-dir")
    except (OSError, subprocess.SubprocessError):
        return (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else None
    try:
        return _git("show", f":./{path.as_posix()}")
    except subprocess.SubprocessError:
        return None


def describe(settings: Mapping[str, Any]) -> str:
    """A machine in one line, as `Xeon (AVX512), 2 cores, 23.4 GB`."""
    names = ", ".join(settings.get("accelerators") or ())
    kind = f" ({settings['instructions']})" if settings.get("instructions") else ""
    cores = f"{settings['cores']} core{'s' * (settings['cores'] != 1)}"
    text = f"{settings['processor']}{kind}, {cores}, {settings['memory_gb']} GB"
    return f"{text}, {names}" if names else text


def _git(*args: str) -> str:
    done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=20, check=True)
    return done.stdout.strip()


def _instructions() -> str | None:
    """What torch computes with, as `AVX2` or `AVX512, bf16`; None in a process that never imported torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    from .precision import cpu_has_bf16

    return torch.backends.cpu.get_cpu_capability() + (", bf16" if cpu_has_bf16() else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
