"""`course split`: RefShapes questions for the projects, the truth apart from what students get."""

from __future__ import annotations

import itertools
import pickle
import secrets
from pathlib import Path
from typing import Any

from PIL import Image

from ..data.pickles import read_pickle
from ..data.refcoco import SPLIT_BY, RefCOCO
from ..data.refshapes.export import write_refshapes
from ..data.refshapes.scene import stream
from ..errors import InputError
from ..files import write_bytes, write_json

DATASET, SPLIT = "refcoco", "val"
SCENES_A_PICTURE = 10  # of ten scenes that are written one is the split's
SEED_BITS = 62  # too many to try every seed until a picture comes out alike


def write_split(out: Path, pictures: int, seed: int | None = None, level: str = "cpu") -> dict[str, Any]:
    """Write `truth/` (the teacher's, REFER layout) and `questions/` (the students': pictures and words).

    Pictures and sentences are numbered from 1 in a shuffled order, since RefShapes' own ids say of which seed they are,
    and whoever knows the seed can make the truth.

    Args:
        out: an empty or new folder.
        pictures: how many.
        seed: of the scenes; drawn when it is None, so that nobody can guess it.
        level: of RefShapes.

    Raises:
        InputError: fewer than one picture, an unknown level, a folder that is not empty.
    """
    if pictures < 1:
        raise InputError(f"--pictures is {pictures}; at least 1 is needed")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} exists and is not an empty folder; name another")
    chosen = secrets.randbits(SEED_BITS) if seed is None else seed
    write_refshapes(out / "truth", pictures * SCENES_A_PICTURE, chosen, level)
    _renumber(out / "truth" / DATASET / f"refs({SPLIT_BY[DATASET]}).p", chosen)
    truth = RefCOCO(out / "truth", DATASET, SPLIT)
    names: dict[str, str] = {}
    questions = []
    for ref in truth.refs:
        name = names.setdefault(ref.image_id, f"picture_{len(names) + 1:05d}.png")
        for sentence in ref.sentences:
            questions.append({"sent_id": sentence.sent_id, "image": name, "expression": sentence.text})
    folder = out / "questions"
    folder.mkdir(parents=True)
    for image, name in names.items():
        Image.fromarray(truth.load_image(image)).save(folder / name)
    write_json(folder / "questions.json", questions)
    return {"pictures": len(names), "questions": len(questions), "seed": chosen, "out": str(out)}


def _renumber(path: Path, seed: int) -> None:
    """Shuffle a file of refs and number refs and sentences from 1, those of the split first."""
    refs = read_pickle(path)
    stream("numbers", seed).shuffle(refs)
    refs.sort(key=lambda ref: ref["split"] != SPLIT)
    sentence_ids = itertools.count(1)
    for number, ref in enumerate(refs, 1):
        for sentence in ref["sentences"]:
            sentence["sent_id"] = next(sentence_ids)
        ref |= {"ref_id": number, "sent_ids": [sentence["sent_id"] for sentence in ref["sentences"]]}
    write_bytes(path, pickle.dumps(refs, protocol=2))
