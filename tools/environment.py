"""Writes environment.yml from pyproject.toml, for people who use conda: `python tools/environment.py [--check]`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"deepspeed"}  # extras that `make setup` does not install either
HEADER = "# Made from pyproject.toml by tools/environment.py; change that file and run `make environment`.\n"


def render(pyproject: str) -> str:
    """The environment file for the text of a pyproject.toml: Python from conda, packages from pip."""
    project = tomllib.loads(pyproject)["project"]
    extras = project["optional-dependencies"]
    names = sorted(extras.keys() - LEFT_OUT)
    packages = [*project["dependencies"], *(package for name in names for package in extras[name])]
    lines = [
        "name: pgpt",
        "channels: [conda-forge, nodefaults]",
        "dependencies:",
        f'  - "python{project["requires-python"]}"',
        "  - pip",
        "  - pip:",
        *(f'      - "{package}"' for package in packages),
        '      - "-e ."',
    ]
    return HEADER + "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the file, or with `--check` say whether it is as it should be."""
    path, text = ROOT / "environment.yml", render((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if arguments not in ([], ["--check"]):
        print(f"unknown arguments {arguments}; there is --check", file=sys.stderr)
        return 2
    if not arguments:
        path.write_text(text, encoding="utf-8")
        return 0
    same = path.exists() and path.read_text(encoding="utf-8") == text
    if not same:
        print("environment.yml differs from pyproject.toml: run `make environment`", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
