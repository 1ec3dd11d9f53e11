"""What Sphinx lacks for this site: formulas as MathML, which needs no script, and code blocks in docstrings."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx

SIZES = re.compile(r"\\[bB]igg?[lrm]?(?![a-zA-Z])")
JOINED = re.compile(r"(`[^`\n]+`)(?=\w)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.add_html_math_renderer("presentation_mathml", (_inline, None), (_block, None))
    app.connect("autodoc-process-docstring", _as_markdown, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f"<div>{_mathml(node, as_block=True)}</div>")
    raise nodes.SkipNode


def _mathml(node: nodes.Element, as_block: bool = False) -> str:
    """Docutils' converter knows no sizes of brackets, and browsers stretch those by themselves."""
    return str(latex2mathml.tex2mathml(SIZES.sub("", node.astext()), as_block=as_block))


def _as_markdown(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Read a docstring as Markdown does: indented lines after a blank one are code, `name`s may take an ending."""
    changed: list[str] = []
    inside = False
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        after_blank = number > 1 and not lines[number - 1].strip()
        if indented and not inside and after_blank and not lines[number - 2].startswith(" "):
            changed += ["::", ""]
        inside = inside and (indented or not line.strip()) or (indented and after_blank)
        changed.append(line if inside else JOINED.sub(r"\1\\ ", line))
    lines[:] = changed
