"""`course answer`: a checkpoint's boxes or values for a project's questions, as they are handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import find_checkpoint, load_checkpoint
from ..data.images import read_image
from ..data.phrasings import asked, held_out_phrasing
from ..data.refcoco import read_json
from ..data.sample import Sample, Turn
from ..errors import InputError
from ..evaluation.predictions import predict, record_of
from ..files import write_json
from ..finetuning import questions_seen
from ..generation import Answer, generate
from ..model import PerceptionGPT


class Pictures:
    """The pictures of a folder of questions, by file name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load_image(self, image_id: str) -> np.ndarray:
        """The picture, uint8, (height, width, 3), RGB."""
        return read_image(self.folder / image_id)


def answer_questions(
    checkpoint: Path,
    questions: Path,
    out: Path,
    quantity: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Answer each question, free-running, and write a predictions file.

    Args:
        checkpoint: as `evaluate` takes it.
        questions: the `questions` folder that `course split` wrote.
        out: the file, such as `hidden.json`.
        quantity: a signal of the checkpoint, whose values are written in place of boxes.
        on_progress: told (answered, total).

    Returns:
        `questions`, `emitted` (how many got a box or value), and the `budget` that `result.json` asks for.

    Raises:
        InputError: no usable checkpoint, no such questions, or no such signal, or one that restores no numbers.
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
    step, _ = find_checkpoint(checkpoint)
    model, state = load_checkpoint(step)
    if quantity is not None and quantity not in model.signals:
        raise InputError(f"--quantity {quantity!r} is no signal of {step}; it has {', '.join(model.signals)}")
    values: dict[int, list[float] | None] = {}

    def noting(model: PerceptionGPT, asked: Sequence[Sample], *given: Any, **options: Any) -> list[Answer]:
        answers = generate(model, asked, *given, **options)
        if quantity is not None:
            for sample, answer in zip(asked, answers, strict=True):
                values[sample.extra["sent_id"]] = _value(model, sample, answer, quantity)
        return answers

    records = [record_of(p) for p in predict(model, samples, pictures, generate=noting, on_progress=on_progress)]
    key = "bbox" if quantity is None else "value"
    rows = [{"sent_id": r["sent_id"], key: r["bbox"] if quantity is None else values[r["sent_id"]]} for r in records]
    write_json(out, rows)
    return {
        "questions": len(rows),
        "emitted": sum(row[key] is not None for row in rows),
        "budget": {
            "samples": questions_seen(step, state),
            "parameters": sum(p.numel() for p in model.trainable_parameters().values()),
        },
        "out": str(out),
    }


def _value(model: PerceptionGPT, sample: Sample, answer: Answer, name: str) -> list[float] | None:
    """What a signal gives for the first `<vis>` of an answer, as numbers; None where none was emitted."""
    predictions = answer.predictions.get(name)
    if predictions is None or not len(predictions):
        return None
    restored = model.signal(name).restore(predictions[0], model.placement(sample))
    try:
        return [float(number) for number in np.asarray(restored[name], np.float64).ravel()]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"signal {name!r}: restore must give {{{name!r}: a number or some}}, not {restored}") from None
