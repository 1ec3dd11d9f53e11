"""A notebook's parameters: what its tagged cell declares, and the values that a run gives it.

Papermill itself ignores a misspelt name and takes any type, so a run would silently use the defaults.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import nbformat
import yaml

from .errors import InputError, RunError


@dataclass(frozen=True)
class Parameter:
    """One line of the cell: `seed: int = 0  # seed of everything random`."""

    name: str
    default: Any
    kind: str
    help: str

    def accepts(self, value: Any) -> bool:
        """Whether a value has this parameter's type; a whole number may stand for a float."""
        allowed = {part.strip() for part in self.kind.split("|")}
        if value is None:
            return "None" in allowed
        return type(value).__name__ in allowed or (type(value) is int and "float" in allowed)

    def __str__(self) -> str:
        return f"{self.name}: {self.kind} = {self.default!r}" + (f" ({self.help})" if self.help else "")


def declared(notebook: nbformat.NotebookNode, name: str) -> dict[str, Parameter]:
    """The parameters of a notebook, from its cell tagged `parameters`.

    Raises:
        RunError: no such cell, or a line that is not one typed literal.
    """
    cells = [c for c in notebook.cells if "parameters" in c.get("metadata", {}).get("tags", ())]
    if len(cells) != 1:
        raise RunError(f"{name}: {len(cells)} cells are tagged `parameters`, there must be one")
    source = cells[0].source
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for statement in ast.parse(source).body:
        line = ast.get_source_segment(source, statement)
        try:
            parameter = _parameter(statement, comments.get(statement.end_lineno or 0, ""))
        except (TypeError, ValueError):
            raise RunError(f"{name}: the parameters cell holds literals only, one a line, not {line!r}") from None
        found[parameter.name] = parameter
    return found


def _parameter(statement: ast.stmt, help: str) -> Parameter:
    target: ast.expr
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target, value, kind = statement.target, statement.value, ast.unparse(statement.annotation)
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value, kind = statement.targets[0], statement.value, ""
    else:
        raise TypeError("not an assignment")
    if not isinstance(target, ast.Name):
        raise TypeError("not a name")
    default = ast.literal_eval(value)
    return Parameter(target.id, default, kind or type(default).__name__, help)


def parse_assignments(texts: Iterable[str], option: str = "-p") -> dict[str, Any]:
    """`["seed=3", "lr=0.001"]`, given with an option, as names and values, each value read as YAML.

    Raises:
        InputError: a text without a name and `=`, a name given twice, or a value that YAML cannot read.
    """
    given: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise InputError(f"{option} {text!r}: it is given as name=value")
        if name in given:
            raise InputError(f"{option} {text!r}: {name} is given twice")
        try:
            given[name] = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            raise InputError(f"{option} {text!r}: {value!r} is no value") from None
    return given


def check(given: Mapping[str, Any], notebooks: Mapping[str, Mapping[str, Parameter]]) -> None:
    """Demand that each given parameter is declared somewhere, with that type.

    Args:
        given: name to value.
        notebooks: slug to declared parameters.

    Raises:
        InputError: an unknown name or a wrong type, with the right ones listed.
    """
    known = {name: parameter for declared_ones in notebooks.values() for name, parameter in declared_ones.items()}
    listed = "\n".join(f"  {parameter}" for parameter in known.values())
    for name, value in given.items():
        if name not in known:
            raise InputError(f"unknown parameter {name!r}; there are\n{listed}")
        for slug, parameters in notebooks.items():
            if name in parameters and not parameters[name].accepts(value):
                got = type(value).__name__
                raise InputError(f"parameter {name} = {value!r} is {got}, {slug} declares {parameters[name]}")
