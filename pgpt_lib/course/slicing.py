"""Which statements of a lesson a submission needs: grading runs those, and takes the lesson's stored results else.

A lesson loads towers and trains models; an exercise is a function that a check calls. So of the lesson's own cells
only the statements run that define a name the student's cells use, and those that these use in turn.
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Statement:
    """A top-level statement: its text, the names it defines, and the global names it uses."""

    text: str
    defines: frozenset[str]
    uses: frozenset[str]


def statements(source: str) -> list[Statement]:
    """The top-level statements of a cell; none where it is no Python (a magic, an error)."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    lines = source.splitlines()
    texts = []
    for node in tree.body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        whole = "\n".join(lines[first - 1 : node.end_lineno])
        shared = ";" in whole  # several statements may share a line
        texts.append(ast.unparse(node) if shared else whole)
    return [Statement(text, *_names(text)) for text in texts]


def names_of(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """What a cell defines and uses; where it is no Python, it is taken to use every word in it."""
    found = statements(source)
    if found:
        return frozenset().union(*(s.defines for s in found)), frozenset().union(*(s.uses for s in found))
    words = "".join(c if c.isalnum() or c == "_" else " " for c in source).split()
    return frozenset(), frozenset(words)


def needed(cells: Sequence[tuple[str, bool]]) -> list[str]:
    """What to run of each cell.

    Args:
        cells: for each code cell its source, and whether it is the lesson's own, unchanged.

    Returns:
        for each cell the source to run: all of it, or those statements of a lesson's cell that are needed, or nothing.
    """
    students = [names_of(source) for source, own in cells if not own]
    wanted = frozenset().union(*(uses for _, uses in students)) - frozenset().union(*(names for names, _ in students))
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


def _names(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names that a text defines at the top level, and global names that it uses, functions' own names left out."""
    top = symtable.symtable(text, "cell", "exec")
    symbols = top.get_symbols()
    defines = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()}
    uses = {s.get_name() for s in symbols if s.is_referenced()}
    inner = top.get_children()
    while inner:
        table = inner.pop()
        inner += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global():
                (defines if symbol.is_assigned() else uses).add(symbol.get_name())
    return frozenset(defines), frozenset(uses)
