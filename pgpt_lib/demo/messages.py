"""What is said in words on the page and in the notebook, as HTML in which nothing that a person typed is markup."""

from __future__ import annotations

import html

from .drawing import numbered
from .session import Reply


def answer_html(reply: Reply) -> str:
    """The answer in words, with what a person should know below it."""
    said = escaped(numbered(reply.text)) or "(nothing)"
    lines = "".join(f"<p>{escaped(note)}</p>" for note in reply.notes)
    return f'<p class="said" style="font-size:1.3em">{said}</p><p>answered in {reply.seconds:.2f} s</p>{lines}'


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
