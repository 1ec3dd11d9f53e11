"""Whether what is installed is what the project was built for."""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from .project import ROOT

PACKAGE = "pgpt-lib"
PYTHON = SpecifierSet(">=3.11")
KNOWN_BAD = {
    "transformers": ("<5.24", "its language models take the key-value cache under another name"),
    "pycocotools": ("<2.0.8", "its binary does not load beside numpy 2"),
    "jupytext": ("<1.18", "it converts a notebook while its source changes without saying so"),
}
"""Versions that are refused, each with the reason."""


def problems() -> list[str]:
    """One sentence for each package that is missing, outside the declared range, or known to be bad."""
    found = []
    python = ".".join(map(str, sys.version_info[:3]))
    if python not in PYTHON:
        found.append(f"Python {python} is too old: {PYTHON} is needed")
    for requirement in declared_requirements():
        version = installed(requirement.name)
        if version is None:
            found.append(f"{requirement.name} is missing: run `make setup`")
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name} {version} is outside {requirement.specifier}: run `make setup`")
    for name, (bad, why) in KNOWN_BAD.items():
        version = installed(name)
        if version is not None and SpecifierSet(bad).contains(version, prereleases=True):
            found.append(f"{name} {version} is refused ({bad}): {why}")
    return found


def declared_requirements() -> list[Requirement]:
    """The project's own requirements that apply here, without the extras."""
    pyproject = ROOT / "pyproject.toml"
    if pyproject.exists():  # a working copy: what an editable install noted may be out of date
        texts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        texts = metadata.requires(PACKAGE) or []
    requirements = map(Requirement, texts)
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def installed(name: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
