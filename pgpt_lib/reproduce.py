"""The notebook series as a batch job: `python -m pgpt_lib run`.

Every notebook is executed by papermill into `OUT/NN_slug/NN_slug.ipynb`. It counts as done when it wrote its
`result.json` in this very run; papermill's cell states are not trusted, since cells after a dead kernel read as
completed. A finished notebook is reused while nothing that it depends on has changed: its source, parameters, profile,
the library, the bundled data, package versions, and the earlier results that it read. A killed run therefore goes on
where it stopped. What is known about an execution stands in `OUT/NN_slug/run.json`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from filelock import FileLock, Timeout

from . import project
from .config import Profile, load_profile, with_root
from .errors import InputError, RunError
from .files import digest, read_json, write_json, write_text
from .notebook import HEADLESS, RUN_TOKEN
from .notebook_parameters import Parameter, check, declared
from .notebook_sources import front_matter
from .reuse import common_inputs, notebook_inputs, outdated, sweep_inputs

NOTEBOOKS = project.ROOT / "notebooks"
ONLY = {"photos": ("01", "04", "05", "06", "11")}
"""Profiles that do not run the whole series: photographs have no procedural world to explain."""
PRODUCTS = {"05_training": ("checkpoint",)}
"""What a notebook leaves in OUT beside its own folder."""
MINUTES_UNKNOWN = 2.0
Log = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One notebook of the plan, with the parameters that it is given."""

    slug: str
    source: Path
    parameters: Mapping[str, Any]
    minutes: float


@dataclass
class Summary:
    """What a run did: seconds of each notebook, and which of them were executed now."""

    out: Path
    seconds: dict[str, float] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)


def plan(
    profile: Profile,
    out: Path,
    parameters: Mapping[str, Any],
    root: str = "",
    only: Sequence[str] = (),
    notebooks: Path = NOTEBOOKS,
) -> list[Step]:
    """The notebooks of a profile in their order.

    Args:
        profile: settings.
        out: the run's folder.
        parameters: values for parameters, by name; each goes to the notebooks that declare it.
        root: folder of a REFER layout, given to notebooks with a `root` parameter.
        only: slugs to take; empty means all of the profile's.
        notebooks: folder of the sources.

    Raises:
        InputError: an unknown parameter, a wrong type, or an unknown slug.
    """
    sources = {path.stem: path for path in sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))}
    series = [slug for slug in sources if slug[:2] in ONLY.get(profile.name, (slug[:2],))]
    for slug in only:
        if slug not in sources:
            raise InputError(f"unknown notebook {slug!r}; there are {', '.join(sources)}")
    chosen = [slug for slug in series if slug in only] if only else series
    if not chosen:
        raise InputError(f"no notebook to run for profile {profile.name} in {notebooks}")
    read = {slug: nbformat.read(sources[slug], as_version=4) for slug in chosen}
    known = {slug: declared(notebook, slug) for slug, notebook in read.items()}
    built_in: dict[str, Any] = {"profile": profile.name, "out_dir": str(out)} | ({"root": root} if root else {})
    for name in set(built_in) & set(parameters):
        raise InputError(f"parameter {name} is given as --{name.replace('_dir', '')}, not with -p")
    check(parameters, known)
    given = {**built_in, **parameters}
    return [
        Step(
            slug,
            sources[slug],
            {name: given.get(name, parameter.default) for name, parameter in known[slug].items()},
            _minutes(profile, slug, read[slug]),
        )
        for slug in chosen
    ]


def _minutes(profile: Profile, slug: str, notebook: nbformat.NotebookNode) -> float:
    """Minutes that a notebook takes: as the profile says, else its front matter, else a guess."""
    if slug in profile.budget.minutes:
        return profile.budget.minutes[slug]
    try:
        return front_matter(notebook, slug).minutes.get(profile.name, MINUTES_UNKNOWN)
    except InputError:  # a notebook of one's own need not follow the series' contract
        return MINUTES_UNKNOWN


def list_parameters(profile: Profile, notebooks: Path = NOTEBOOKS) -> dict[str, list[Parameter]]:
    """The parameters that each notebook of a profile declares, by slug."""
    steps = plan(profile, project.report_folder(profile.name), {}, notebooks=notebooks)
    return {s.slug: list(declared(nbformat.read(s.source, as_version=4), s.slug).values()) for s in steps}


def run_series(
    profile: str,
    out_dir: str | os.PathLike[str] = "",
    parameters: Mapping[str, Any] | None = None,
    root: str = "",
    fresh: bool = False,
    only: Sequence[str] = (),
    timeout_minutes: float | None = None,
    notebooks: Path = NOTEBOOKS,
    log: Log = print,
) -> Summary:
    """Execute a profile's notebooks, or go on with an earlier run of them.

    Args:
        profile: name of a profile.
        out_dir: the run's folder; empty means `reports/<profile>`.
        parameters, root, only, notebooks: see `plan`.
        fresh: discard what an earlier run left.
        timeout_minutes: the longest that one notebook may take; by default four times what its profile expects, and at
            least twenty minutes.
        log: takes one line of progress.

    Raises:
        InputError: bad input, a root for a profile that reads none, or another run at work in the same folder.
        RunError: a notebook failed; what it printed until then is in its executed copy.
    """
    root = str(Path(root).expanduser().absolute()) if root else ""
    settings = load_profile(profile)
    if root:
        if not Path(root).is_dir():
            raise InputError(f"root {root!r} is no folder")
        settings = with_root(settings, root)
    out = project.report_folder(profile, out_dir)
    if out.exists() and not out.is_dir():
        raise InputError(f"out {str(out)!r} is a file, not a folder")
    steps = plan(settings, out, parameters or {}, root, only, notebooks)
    with _only_run(out):
        if fresh:
            for step in steps:
                _discard(out, step.slug)
        return _run_steps(steps, settings, out, timeout_minutes, log)


def _run_steps(steps: Sequence[Step], profile: Profile, out: Path, timeout: float | None, log: Log) -> Summary:
    summary, began, common = Summary(out), time.time(), common_inputs(profile)
    for number, step in enumerate(steps, 1):
        expected = sum(s.minutes for s in steps[number - 1 :]) * 60
        head = f"notebook {number} of {len(steps)}: {step.slug}"
        inputs = {**common, **notebook_inputs(step.source, step.parameters), **sweep_inputs(step.source, out)}
        why = outdated(out, step.slug, inputs)
        if why:
            log(f"{head}, elapsed {clock(time.time() - began)}, expected for the rest {clock(expected)} ({why})")
            summary.seconds[step.slug] = execute(step, out, inputs, timeout, log)
            summary.executed.append(step.slug)
        else:
            log(f"{head}, done before")
            summary.seconds[step.slug] = read_json(out / step.slug / "run.json")["seconds"]
    log(f"{len(steps)} notebooks, {len(summary.executed)} executed now, elapsed {clock(time.time() - began)}")
    return summary


def execute(step: Step, out: Path, inputs: Mapping[str, str], timeout_minutes: float | None, log: Log) -> float:
    """Execute one notebook into the run's folder. Returns its seconds.

    What an earlier attempt with the same inputs left (a half-done training) stays for the notebook to go on with; with
    other inputs it is put away.

    Raises:
        RunError: the notebook failed, its kernel died, it took too long, or it wrote no result.
    """
    from .papermill_engine import run_notebook

    folder = out / step.slug
    record = read_json(folder / "run.json")
    if record and record["inputs"] != inputs:
        _discard(out, step.slug)
    folder.mkdir(parents=True, exist_ok=True)
    result, executed = folder / "result.json", folder / f"{step.slug}.ipynb"
    result.unlink(missing_ok=True)
    write_json(folder / "run.json", {"inputs": inputs, "finished": False})
    token, began = uuid.uuid4().hex, time.time()
    limit = 60 * (timeout_minutes or max(20.0, 4 * step.minutes))
    path = os.pathsep.join(filter(None, (str(project.ROOT), os.environ.get("PYTHONPATH"))))
    with _environment({RUN_TOKEN: token, HEADLESS: "1", "PYTHONPATH": path}):
        run_notebook(step.source, executed, step.parameters, limit, step.minutes * 60, log)
    written = read_json(result)
    if not written or written.get("run") != token:
        raise RunError(f"{step.slug} came to its end without writing {result}; see {executed}")
    _shorten_paths(executed, out)
    _deepen_links(executed)
    seconds = time.time() - began
    write_json(
        folder / "run.json",
        {
            "inputs": inputs,
            "finished": True,
            "seconds": seconds,
            "result": digest(result),
            "needs": written.get("needs", {}),
        },
    )
    return seconds


def clock(seconds: float) -> str:
    """Seconds as `m:ss`, or `h:mm:ss` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def _only_run(out: Path) -> Iterator[None]:
    """Refuse a second run in the same folder. The system frees a killed run's lock, so none is ever stale."""
    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    holder, lock = out / ".run.pid", FileLock(out / ".run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pid = holder.read_text().strip() if holder.exists() else "unknown"
        message = f"another run (process {pid}) is at work in {out}; wait for it or choose another --out"
        raise InputError(message) from None
    try:
        write_text(holder, f"{os.getpid()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
        if new and not any(p for p in out.iterdir() if p.name != ".run.lock"):
            shutil.rmtree(out)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the kernels that start meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _discard(out: Path, slug: str) -> None:
    """Remove a notebook's folder; its products (a training's checkpoints) are kept aside once, as NAME.previous."""
    shutil.rmtree(out / slug, ignore_errors=True)
    for name in PRODUCTS.get(slug, ()):
        if (out / name).exists():
            shutil.rmtree(out / f"{name}.previous", ignore_errors=True)
            (out / name).rename(out / f"{name}.previous")


def _shorten_paths(executed: Path, out: Path) -> None:
    """Leave no path of this machine in an executed notebook: it is published with the report."""
    text = executed.read_text(encoding="utf-8")
    for path, name in ((out, out.name), (project.ROOT, "."), (Path.home(), "~")):
        if len(path.parts) > 1:
            text = re.sub(re.escape(str(path)) + r"(?![\w-])", name.replace("\\", r"\\"), text)
    write_text(executed, text)


def _deepen_links(executed: Path) -> None:
    """Links start from notebooks/; the executed copy of a run inside the repository lies elsewhere."""
    if project.ROOT not in executed.parents:
        return
    root = Path(os.path.relpath(project.ROOT, executed.parent)).as_posix()
    text = executed.read_text(encoding="utf-8").replace("](../docs/", f"]({root}/docs/")
    write_text(executed, re.sub(r"\]\((?=\d\d_\w+\.ipynb)", f"]({root}/notebooks/", text))
