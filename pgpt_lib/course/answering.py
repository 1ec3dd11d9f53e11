"""`course answer`: a checkpoint's boxes for a project's questions, as they are handed in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import load_checkpoint
from ..data.images import read_image
from ..data.phrasings import asked, held_out_phrasing
from ..data.refcoco import read_json
from ..data.sample import Sample, Turn
from ..errors import InputError
from ..evaluation.predictions import predict, record_of
from ..files import write_json


class Pictures:
    """The pictures of a folder of questions, by file name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load_image(self, image_id: str) -> np.ndarray:
        """The picture, uint8, (height, width, 3), RGB."""
        return read_image(self.folder / image_id)


def answer_questions(
    checkpoint: Path, questions: Path, out: Path, on_progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Answer each question, free-running, and write a predictions file.

    Args:
        checkpoint: as `evaluate` takes it.
        questions: the `questions` folder that `course split` wrote.
        out: the file, such as `hidden.json`.
        on_progress: told (answered, total).

    Returns:
        `questions`, `emitted` (how many got a box), and the `budget` that `result.json` asks for.

    Raises:
        InputError: no usable checkpoint, or no such questions.
    """
    listed = read_json(questions / "questions.json")
    if not isinstance(listed, list) or not all(
        isinstance(entry, dict) and {"sent_id", "image", "expression"} <= set(entry) for entry in listed
    ):
        raise InputError(f"{questions / 'questions.json'} is no list of questions; see `course split`")
    pictures = Pictures(questions)
    sizes = {name: pictures.load_image(name).shape[:2] for name in {entry["image"] for entry in listed}}
    samples = [
        Sample(
            sample_id=f"question {entry['sent_id']}",
            image_id=entry["image"],
            size=sizes[entry["image"]],
            turns=(Turn("user", asked(held_out_phrasing("rec"), entry["expression"])), Turn("assistant", "")),
            task="rec",
            extra={"sent_id": entry["sent_id"]},
        )
        for entry in listed
    ]
    model, state = load_checkpoint(checkpoint)
    records = [record_of(p) for p in predict(model, samples, pictures, on_progress=on_progress)]
    write_json(out, [{"sent_id": record["sent_id"], "bbox": record["bbox"]} for record in records])
    return {
        "questions": len(records),
        "emitted": sum(record["bbox"] is not None for record in records),
        "budget": {
            "samples": state.step * state.profile.training.batch_size,
            "parameters": sum(p.numel() for p in model.trainable_parameters().values()),
        },
        "out": str(out),
    }
