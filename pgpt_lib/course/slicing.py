"""Which statements of a lesson a submission needs: grading runs those, and takes the lesson's stored results else.

A lesson loads towers and trains models; an exercise is a function that a check calls. So of the lesson's own cells
only the statements run that define a name the student's cells use, and those that these use in turn.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Statement:
    """A top-level statement: its text, the names it defines, and all names it mentions."""

    text: str
    defines: frozenset[str]
    uses: frozenset[str]


def statements(source: str) -> list[Statement]:
    """The top-level statements of a cell; none where it is no Python (a magic, an error)."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [
        Statement(ast.get_source_segment(source, node, padded=True) or ast.unparse(node), *_names(node))
        for node in tree.body
    ]


def names_used(source: str) -> frozenset[str]:
    """Every name that a cell mentions; where it is no Python, every word in it."""
    found = statements(source)
    if found:
        return frozenset().union(*(s.uses for s in found))
    words = "".join(c if c.isalnum() or c == "_" else " " for c in source).split()
    return frozenset(words)


def needed(cells: Sequence[tuple[str, bool]]) -> list[str]:
    """What to run of each cell.

    Args:
        cells: for each code cell its source, and whether it is the lesson's own, unchanged.

    Returns:
        for each cell the source to run: all of it, or those statements of a lesson's cell that are needed, or nothing.
    """
    wanted = frozenset().union(*(names_used(source) for source, own in cells if not own))
    parts = [statements(source) if own else [] for source, own in cells]
    kept: set[tuple[int, int]] = set()
    grew = True
    while grew:
        grew = False
        for i, group in enumerate(parts):
            for j, statement in enumerate(group):
                if (i, j) not in kept and statement.defines & wanted:
                    kept.add((i, j))
                    wanted |= statement.uses
                    grew = True
    return [
        "\n".join(s.text for j, s in enumerate(parts[i]) if (i, j) in kept) if own else source
        for i, (source, own) in enumerate(cells)
    ]


def with_parameters(source: str, values: Mapping[str, Any]) -> str:
    """A parameters cell (`name: type = literal`) with other values."""
    lines = []
    for statement in statements(source):
        name = next(iter(statement.defines), "")
        lines.append(f"{name} = {values[name]!r}" if name in values else statement.text)
    return "\n".join(lines)


def _names(node: ast.stmt) -> tuple[frozenset[str], frozenset[str]]:
    """Names that a statement defines at the top level, and names that occur in it."""
    defines: set[str] = set()
    uses: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            (uses if isinstance(part.ctx, ast.Load) else defines).add(part.id)
        elif isinstance(part, (ast.Import, ast.ImportFrom)):
            defines |= {(alias.asname or alias.name).partition(".")[0] for alias in part.names}
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        defines = {node.name}  # names set inside are its own
    if isinstance(node, ast.AugAssign):
        uses |= defines
    return frozenset(defines), frozenset(uses)
