"""What is said in words on the page and in the notebook, as HTML in which nothing that a person typed is markup."""

from __future__ import annotations

import html
from itertools import groupby

from ..diagrams import KINDS
from ..plots import ink
from .drawing import TOKENS, numbered
from .session import Reply


def answer_html(reply: Reply) -> str:
    """The answer in words, with what a person should know below it."""
    said = escaped(numbered(reply.text)) or "(nothing)"
    notes = [f"Answered in {reply.seconds:.2f} s.", *reply.notes]
    if reply.regions:
        notes.insert(0, "A number in brackets is a region; it is drawn with its number below.")
    lines = "".join(f"<p>{escaped(note)}</p>" for note in notes)
    return f'<p>The answer:</p><p class="said" style="font-size:1.5em;margin:0">{said}</p>{lines}'


def tokens_html(reply: Reply) -> str:
    """The token stream as tiles that wrap; the picture's run of tokens is one tile."""
    tiles: list[tuple[str, str]] = []
    for image, run in groupby(zip(reply.tokens, reply.kinds, strict=True), key=lambda tile: tile[1] == "image"):
        part = list(run)
        tiles += [(f"image ×{len(part)}", "image")] if image else part
    style = "display:inline-block;padding:3px 7px;margin:2px;border-radius:4px;font-family:monospace"
    spans = [
        f'<span class="token" style="{style};background:{KINDS[kind]};color:{ink(KINDS[kind])}">{escaped(text)}</span>'
        for text, kind in tiles
    ]
    return f"<p>{escaped(TOKENS.capitalize())}</p>{' '.join(spans)}"


def note_html(text: str) -> str:
    """A quiet line; nothing for no text."""
    return f'<p style="color:#444">{escaped(text)}</p>' if text else ""


def problem_html(text: str) -> str:
    """A message that is not overlooked."""
    style = "background:#FBE9E0;border-left:4px solid #D55E00;padding:8px;margin:0"
    return f'<p role="alert" class="problem" style="{style}">{escaped(text)}</p>'


def escaped(text: str) -> str:
    """Text for HTML: what people type and files are called is never markup."""
    return html.escape(text)
