"""Formulas as MathML, which browsers draw by themselves, without a script or a network."""

from __future__ import annotations

import re
from html import unescape
from xml.etree import ElementTree

from docutils.utils.math import latex2mathml

SIZES = re.compile(r"\\[bB]igg?[lrm]?(?![a-zA-Z])")
ENTITY = re.compile(r"&(?!(?:lt|gt|amp|quot|apos);)\w+;")  # HTML's, which XML does not know
MATHML = "http://www.w3.org/1998/Math/MathML"


def mathml(formula: str, as_block: bool = False) -> str:
    """A formula in LaTeX as MathML.

    Docutils converts it, but knows no sizes of brackets (browsers stretch those by themselves), sets the words of an
    `\\underbrace` beside it, and puts the space of an operator around the bars of `|A|`.
    """
    text = latex2mathml.tex2mathml(SIZES.sub("", formula), as_block=as_block)
    tree = ElementTree.fromstring(ENTITY.sub(lambda match: unescape(match[0]), text))
    for element in tree.iter(f"{{{MATHML}}}msub"):
        brace = element[0].find(f"{{{MATHML}}}mo[last()]")
        if element[0].tag == f"{{{MATHML}}}munder" and brace is not None and brace.text == "⏟":
            element.tag = f"{{{MATHML}}}munder"
    for element in tree.iter(f"{{{MATHML}}}mo"):
        if element.text == "|":
            element.attrib |= {"lspace": "0", "rspace": "0"}
    ElementTree.register_namespace("", MATHML)
    return ElementTree.tostring(tree, encoding="unicode", short_empty_elements=False)
