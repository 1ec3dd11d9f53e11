"""What Sphinx lacks for this site: formulas as MathML, which needs no script, and docstrings that read as Markdown."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from .docstrings import as_rst
from .formulas import mathml


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.add_html_math_renderer("presentation_mathml", (_inline, None), (_block, None))
    app.connect("autodoc-process-docstring", _as_markdown, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f"<div>{mathml(node.astext(), as_block=True)}</div>")
    raise nodes.SkipNode


def _as_markdown(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst(lines)
