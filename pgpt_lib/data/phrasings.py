"""How tasks are asked: several phrasings each, the last of them kept for evaluation.

`{x}` stands for an expression, `<vis>` for a region that is given. A held-out phrasing's words, its "please" included,
occur in training's phrasings of the same task; together they do not. Of a region it asks with "what", as nano was
pretrained to be asked: a model of a million parameters hardly learns other words for a question in a short tuning.
"""

from __future__ import annotations

import re

from ..errors import InputError

_MARKS = re.compile(r"<(/?(?:vis|p|image))>")
PHRASINGS: dict[str, tuple[str, ...]] = {
    "rec": (
        "find the {x} .",
        "show the {x} .",
        "point to the {x} .",
        "where can you see the {x} ?",
        "locate the {x} .",
        "please find the {x} .",
        "please show the {x} .",
        "please locate the {x} .",
    ),
    "several": (
        "find all {x} .",
        "show all {x} .",
        "point to all {x} .",
        "locate all {x} .",
        "please find all {x} .",
        "please show all {x} .",
        "please locate all {x} .",
    ),
    "caption": (
        "describe the picture .",
        "what do you see ?",
        "describe what you see .",
        "please describe the picture .",
        "please describe what you see .",
    ),
    "spot_caption": (
        "describe the picture and point .",
        "what do you see and where ?",
        "describe what you see and point .",
        "please describe the picture and point .",
        "please describe what you see and point .",
    ),
    "region_caption": (
        "what is <vis> ?",
        "what is the thing at <vis> ?",
        "what is it in <vis> ?",
        "describe <vis> .",
        "please describe the thing in <vis> .",
        "what is the thing in <vis> ?",
    ),
    "region_colour": (
        "what colour is <vis> ?",
        "what colour is the thing at <vis> ?",
        "what colour is it in <vis> ?",
        "name the colour of <vis> .",
        "please name the colour of the thing in <vis> .",
        "what colour is the thing in <vis> ?",
    ),
    "region_shape": (
        "what shape is <vis> ?",
        "what shape is the thing at <vis> ?",
        "what shape is it in <vis> ?",
        "name the shape of <vis> .",
        "please name the shape of the thing in <vis> .",
        "what shape is the thing in <vis> ?",
    ),
    "region_size": (
        "what size is <vis> ?",
        "what size is the thing at <vis> ?",
        "what size is it in <vis> ?",
        "name the size of <vis> .",
        "please name the size of the thing in <vis> .",
        "what size is the thing in <vis> ?",
    ),
    "region_depth": ("how far is <vis> ?", "please tell how far <vis> is ."),
}
# Of the big data sets alone: the bundled vocabulary and the mean states of `state_norm` are made from `PHRASINGS`.
BIG: dict[str, tuple[str, ...]] = {
    "vqa": (
        "{x} answer with a few words .",
        "please answer the question with just a few words . {x}",
        "{x} please answer with just a few words .",
    ),
}
EXTRA_WORDS = (
    "please locate all show find point to where can you see the describe picture and what do is thing in name colour "
    "shape size of tell me how far near none this that it i we there are not no yes or with object image region box "
    "mask answer question which each every both other same different than more less first last next between behind "
    "front before after of by for from "
    "mark draw given correct wrong true false at on as if then also only just very quite not any some most many few"
)


def training_phrasings(task: str) -> tuple[str, ...]:
    """All phrasings of a task but the one that evaluation uses."""
    return _of(task)[:-1]


def held_out_phrasing(task: str) -> str:
    """The phrasing that no training sample uses."""
    return _of(task)[-1]


def words(text: str) -> str:
    """Text of a data set without marks that mean something here: a stray "<vis>" would ask for a region."""
    return _MARKS.sub(r"\1", " ".join(str(text).split()))


def asked(phrasing: str, expression: str) -> str:
    """An expression in a phrasing, which brings the article along."""
    plain = words(expression).removesuffix(".").strip()
    return phrasing.replace("{x}", plain.removeprefix("the ").removeprefix("The "))


def _of(task: str) -> tuple[str, ...]:
    known = {**PHRASINGS, **BIG}
    if task not in known:
        raise InputError(f"unknown task {task!r}; there are phrasings for {', '.join(known)}")
    return known[task]
