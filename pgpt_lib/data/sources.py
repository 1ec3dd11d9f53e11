"""The training sources that a profile can name, and the readers behind them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..errors import InputError
from .coco import COCOCaptions, COCOInstances
from .flickr30k import Flickr30k
from .grefcoco import GRefCOCO
from .karpathy import TRAINED_AS, KarpathyCaptions
from .llava import LLaVA
from .reader import Reader
from .refer import Refer
from .visual_genome import VisualGenome
from .vqa import VQA

SOURCES: dict[str, Callable[[str | Path, str], Reader]] = {
    "coco_captions": COCOCaptions,
    "coco_karpathy": partial(KarpathyCaptions, dataset="coco"),
    "coco_instances": COCOInstances,
    "flickr30k": Flickr30k,
    "flickr30k_captions": partial(KarpathyCaptions, dataset="flickr30k"),
    "visual_genome": VisualGenome,
    "llava": LLaVA,
    "vqav2": partial(VQA, dataset="vqav2"),
    "okvqa": partial(VQA, dataset="okvqa"),
    "refcoco": partial(Refer, dataset="refcoco"),
    "refcoco+": partial(Refer, dataset="refcoco+"),
    "refcocog": partial(Refer, dataset="refcocog"),
    "grefcoco": GRefCOCO,
}


def open_source(name: str, root: str | Path, split: str = "train") -> Reader:
    """A source's reader.

    Raises:
        InputError: no such source, or its files are missing or damaged.
    """
    if name not in SOURCES:
        raise InputError(f"unknown source {name!r}; there are {', '.join(SOURCES)}")
    return SOURCES[name](root, split)


def present(root: str | Path) -> list[str]:
    """The sources whose files are below a root."""
    places = {"coco_captions": "coco", "coco_instances": "coco"}
    places |= {name: f"karpathy/dataset_{dataset}.json" for dataset, name in TRAINED_AS.items()}
    return [name for name in SOURCES if (Path(root) / places.get(name, name)).exists()]
