"""What a notebook calls at its start, for its figures, for earlier results, and at its end.

    run = start(profile=profile, out_dir=out_dir, seed=seed, slug="03_losses")
    run.profile                      # validated settings
    run.need("05_training")          # path of an earlier notebook's result.json, made first if it is missing
    run.figure(fig, "giou", alt="GIoU falls on while IoU is already 0")
    run.finish(metrics={"gap": [0.1, 0.05, 0.15]}, tables={})

The same calls work in JupyterLab, under plain papermill and under `python -m pgpt_lib run`.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from . import project
from .config import Profile, absolute, load_profile
from .errors import InputError, RunError
from .files import digest, read_json, replacing, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUN_TOKEN = "PGPT_RUN"
"""Set by the runner for the kernels it starts; a result carries it, so that an old one is never taken for new."""
HEADLESS = "PGPT_HEADLESS"
SLUG = re.compile(r"\d\d_[a-z0-9_]+")
LOCK_SECONDS = 30.0  # a kernel whose runner was killed ends within a second or two
FIGURE_BYTES = 150_000
_locks: dict[Path, FileLock] = {}


@dataclass
class NotebookRun:
    """A notebook at work: its settings, its folder, and what it leaves behind."""

    slug: str
    profile: Profile
    seed: int
    out: Path
    began: float = field(default_factory=time.time)
    needs: dict[str, str] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where this notebook's result and figures go: `out/NN_slug`."""
        return self.out / self.slug

    @property
    def headless(self) -> bool:
        """Whether nobody watches; see `headless()`."""
        return headless()

    def need(self, slug: str) -> Path:
        """The `result.json` of an earlier notebook with the same settings and seed, made first when it is missing.

        Raises:
            InputError: it is missing and the runner is at work here, so that it cannot be made now.
            RunError: making it failed.
        """
        path = self.out / slug / "result.json"
        if not self._fits(path):
            command = [sys.executable, "-m", "pgpt_lib", "run", "--profile", self.profile.name, "--out", str(self.out)]
            command += ["--only", slug, "-p", f"seed={self.seed}"]
            if self.profile.data.root:
                command += ["--root", self.profile.data.root]
            shown = " ".join(["python", *command[1:]])
            if RUN_TOKEN in os.environ:
                missing = f"{self.slug} needs the result of {slug}, and {path} is missing or of other settings"
                raise InputError(f"{missing}: {shown}")
            print(f"{self.slug} needs the result of {slug}, which is made now: {shown}")
            _stream(command, f"{slug} could not be made")
            if not self._fits(path):
                raise RunError(f"{shown} left no {path} for profile {self.profile.name} and seed {self.seed}")
        self.needs[slug] = digest(path)
        return path

    def use(self, slug: str) -> Path | None:
        """As `need`, of a result that a notebook can do without: None where it is missing, and nothing is made."""
        path = self.out / slug / "result.json"
        if not self._fits(path):
            return None
        self.needs[slug] = digest(path)
        return path

    def figure(self, fig: Figure, name: str, alt: str = "") -> None:
        """Save a figure as `folder/name.png` (below 150 KB) and show it here.

        Args:
            fig: a matplotlib figure; it is closed afterwards, so that it is shown once.
            name: a file name without its ending.
            alt: what the figure shows, for readers who do not see it.
        """
        import matplotlib.pyplot as plt
        from IPython.display import Image, display

        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise InputError(f"a figure's name is letters, digits, - and _, not {name!r}")
        path = self.folder / f"{name}.png"
        data = small_png(fig)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
        plt.close(fig)
        self.figures[path.name] = alt or name.replace("_", " ")
        display(Image(data=data, alt=self.figures[path.name]))

    def finish(
        self,
        metrics: Mapping[str, Any] | None = None,
        tables: Mapping[str, Any] | None = None,
        figures: Mapping[str, str] | None = None,
        checkpoint: str | None = None,
    ) -> None:
        """Write `result.json`, the sign that the notebook came to its end.

        Args:
            metrics: name to number, to `[value, low, high]` (95 % interval), or to a mapping of such: a name with a
                slash, as `refshapes-refcoco/val`, is an evaluation and appears under it in the report.
            tables: `{"table2": {"ours": rows, "paper": rows}}`; the paper's part may be left out.
            figures: further files of the folder, each to its alternative text.
            checkpoint: hash of the checkpoint that the numbers come from.
        """
        self.figures.update(figures or {})
        for old in self.folder.glob("*.png"):  # figures of an earlier version of the notebook
            if old.name not in self.figures:
                old.unlink()
        path = self.folder / "result.json"
        write_json(
            path,
            {
                "slug": self.slug,
                "profile": self.profile.name,
                "config": self.profile.model_dump(mode="json"),
                "seed": self.seed,
                "commit": project.commit(),
                "versions": project.versions(),
                "machine": project.machine(),
                "seconds": time.time() - self.began,
                "checkpoint": checkpoint,
                "metrics": metrics or {},
                "tables": tables or {},
                "figures": [{"file": name, "alt": alt} for name, alt in self.figures.items()],
                "needs": self.needs,
                "run": os.environ.get(RUN_TOKEN),
            },
        )
        _release(self.folder)
        print(f"{self.slug} done in {time.time() - self.began:.0f} s: {path}")

    def _fits(self, path: Path) -> bool:
        """Whether an earlier result has this seed and these settings; its training may have been shortened."""
        result = read_json(path)
        if not result or result.get("seed") != self.seed:
            return False
        mine, its = self.profile.model_dump(mode="json"), result.get("config", {})
        return all(its.get(name) == value for name, value in mine.items() if name not in ("training", "budget"))


def start(
    profile: str,
    out_dir: str = "",
    seed: int = 0,
    *,
    slug: str,
    root: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> NotebookRun:
    """Open a notebook's run.

    Args:
        profile: name of a profile.
        out_dir: the run's folder; empty means `reports/<profile>` of the repository.
        seed: seed of everything random in the notebook.
        slug: the notebook's name, as `03_losses`.
        root: folder of a REFER layout, for profiles that read one.
        overrides: further settings by dotted name, as `{"training.steps": 40}`.

    Raises:
        InputError: an unknown profile or setting, a seed that is no whole number from 0, or another kernel at work in
            the same folder.
    """
    if not SLUG.fullmatch(slug):
        raise InputError(f"slug {slug!r}: a notebook is named like 03_losses")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed {seed!r} is no whole number from 0")
    settings = dict(overrides or {})
    if root:
        settings["data.root"] = absolute(root)
    run = NotebookRun(slug, load_profile(profile, settings), seed, project.report_folder(profile, out_dir))
    run.folder.mkdir(parents=True, exist_ok=True)
    _acquire(run.folder)
    return run


def headless() -> bool:
    """Whether the notebook runs without a person: no JupyterLab or VS Code session, or PGPT_HEADLESS says so."""
    said = os.environ.get(HEADLESS)
    if said is not None:
        return said not in ("", "0")
    return not {"JPY_SESSION_NAME", "VSCODE_PID"} & set(os.environ)


def small_png(fig: Figure, limit: int = FIGURE_BYTES) -> bytes:
    """A figure as PNG below `limit` bytes: at 120 dots an inch, then with 256 colours, then at fewer dots."""
    from PIL import Image

    data = b""
    for dpi in (120, 100, 80, 64, 50):
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
        data = buffer.getvalue()
        if len(data) > limit:
            buffer.seek(0)
            reduced = io.BytesIO()
            Image.open(buffer).convert("RGB").quantize(256).save(reduced, format="png", optimize=True)
            data = reduced.getvalue()
        if len(data) <= limit:
            break
    return data


def _acquire(folder: Path) -> None:
    """Hold the folder until `finish` or the end of the process; the system lets go of a killed process's lock."""
    if folder in _locks and _locks[folder].is_locked:
        return
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise InputError(
            f"another kernel is at work in {folder}: let it finish or shut it down, or choose another out_dir"
        ) from None
    _locks[folder] = lock


def _release(folder: Path) -> None:
    lock = _locks.pop(folder, None)
    if lock is not None:
        lock.release()


def _stream(command: list[str], failure: str) -> None:
    """Run a command, show its lines as they come, and raise `RunError` with the last one when it fails."""
    last = ""
    environment = {**os.environ, HEADLESS: "1"}
    with subprocess.Popen(
        command, cwd=project.ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    if process.returncode:
        raise RunError(f"{failure}: {last}")
