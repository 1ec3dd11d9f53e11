"""Docstrings for Sphinx, which reads reStructuredText where they are written much as Markdown is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

CODE = re.compile(r"(`[^`\n]+`)")


def summary(module: Path) -> str:
    """The first line of a module's docstring as reStructuredText, read without importing the module."""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return inline(text.partition("\n")[0])


def inline(line: str) -> str:
    """One line: a `name` may take an ending, and Acc@0.5 is no mail address."""
    parts = CODE.split(line)
    for number, part in enumerate(parts):
        if number % 2 == 0:
            joined = "\\ " if number and re.match(r"\w", part) else ""
            parts[number] = joined + re.sub(r"(?<=\w)@(?=\w)", r"\\@", part)
    return "".join(parts)


def as_rst(lines: Iterable[str]) -> list[str]:
    """A whole docstring: indented lines after a blank one are code, the others as `inline` has them."""
    given, changed, inside = list(lines), [], False
    for number, line in enumerate(given):
        indented = line.startswith("    ")
        after_blank = number > 1 and not given[number - 1].strip()
        if indented and not inside and after_blank and not given[number - 2].startswith(" "):
            changed += ["::", ""]
        inside = inside and (indented or not line.strip()) or (indented and after_blank)
        changed.append(line if inside else inline(line))
    return changed
