"""The official splits behind Tables 2, 3 and 5, by name: `refcoco/testA`, `coco/test`, `okvqa/val`.

Tables 2 and 3 share theirs: UNC's of RefCOCO and RefCOCO+, UMD's of RefCOCOg. Captions are Karpathy's test splits. Of
VQAv2 the answers to test are not public, so that val takes its place; OK-VQA calls its val the test set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..errors import InputError
from .grefcoco import GRefCOCO
from .karpathy import Karpathy
from .reader import Reader
from .refer import Refer
from .refer_formats import M_FOLDER
from .vqa import VQA

_REFER = {
    "refcoco": ("val", "testA", "testB"),
    "refcoco+": ("val", "testA", "testB"),
    "refcocog": ("val", "test"),
}
TABLES = {
    "table2": tuple(f"{dataset}/{split}" for dataset, splits in _REFER.items() for split in splits),
    "table3": tuple(f"{dataset}/{split}" for dataset, splits in _REFER.items() for split in splits),
    "table5": ("vqav2/val", "okvqa/val", "flickr30k/test", "coco/test"),
}
BEYOND = ("refcoco_m/val", "grefcoco/val", "grefcoco/testA", "grefcoco/testB")  # scores that the paper does not report
_OPEN: dict[str, Callable[[Path, str], Reader]] = {
    **{dataset: partial(Refer, dataset=dataset) for dataset in _REFER},
    "refcoco_m": lambda root, split: Refer(root / M_FOLDER, split),
    "grefcoco": GRefCOCO,
    "coco": partial(Karpathy, dataset="coco"),
    "flickr30k": partial(Karpathy, dataset="flickr30k"),
    "vqav2": partial(VQA, dataset="vqav2"),
    "okvqa": partial(VQA, dataset="okvqa"),
}


def open_benchmark(name: str, root: str | Path) -> Reader:
    """A benchmark's reader; its `samples()` are asked in the phrasing that no training uses.

    Args:
        name: of `TABLES` or `BEYOND`.
        root: the data folder.

    Raises:
        InputError: no such benchmark, or its files are missing or damaged.
    """
    known = dict.fromkeys([*(n for names in TABLES.values() for n in names), *BEYOND])
    if name not in known:
        raise InputError(f"unknown benchmark {name!r}; there are {', '.join(known)}")
    dataset, _, split = name.partition("/")
    return _OPEN[dataset](Path(root), split)
