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
from .karpathy import DATASETS as CAPTIONED
from .karpathy import Karpathy
from .reader import Reader
from .refcoco import HELD_OUT_SPLITS
from .refer import Refer
from .refer_formats import M_FOLDER
from .vqa import VQA

TABLES = {
    "table2": tuple(f"{dataset}/{split}" for dataset, splits in HELD_OUT_SPLITS.items() for split in splits),
    "table3": tuple(f"{dataset}/{split}" for dataset, splits in HELD_OUT_SPLITS.items() for split in splits),
    "table5": ("vqav2/val", "okvqa/val", "flickr30k/test", "coco/test"),
}
TUNED_ON = {  # section 4.3 tunes on each data set's training split before its score: the sources of that split
    "refcoco": {"refcoco": 1.0},
    "refcoco+": {"refcoco+": 1.0},
    "refcocog": {"refcocog": 1.0},
    "vqav2": {"vqav2": 1.0},
    "okvqa": {"okvqa": 1.0},
    "coco": {"coco_karpathy": 1.0},
    "flickr30k": {"flickr30k_captions": 1.0},
}
BEYOND = ("refcoco_m/val", "grefcoco/val", "grefcoco/testA", "grefcoco/testB")  # scores that the paper does not report
_OPEN: dict[str, Callable[[Path, str], Reader]] = {
    **{dataset: partial(Refer, dataset=dataset) for dataset in HELD_OUT_SPLITS},
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


def present_benchmarks(root: str | Path) -> list[str]:
    """The splits of Tables 2, 3 and 5 whose data sets lie under a root, in the tables' order.

    Raises:
        InputError: there is none.
    """
    root = Path(root)

    def lies_there(dataset: str) -> bool:
        captions = root / "karpathy" / f"dataset_{dataset}.json"
        return captions.is_file() if dataset in CAPTIONED else (root / dataset).is_dir()

    names = dict.fromkeys(name for names in TABLES.values() for name in names)
    found = [name for name in names if lies_there(name.partition("/")[0])]
    if not found:
        raise InputError(f"{root} holds none of {', '.join(dict.fromkeys(n.partition('/')[0] for n in names))}")
    return found
