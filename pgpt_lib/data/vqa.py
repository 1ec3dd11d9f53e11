"""VQAv2 and OK-VQA: questions about COCO photographs, ten people's answers each.

    ROOT/vqav2/v2_OpenEnded_mscoco_train2014_questions.json  {"questions": [{question_id, image_id, question}]}
    ROOT/vqav2/v2_mscoco_train2014_annotations.json          {"annotations": [{question_id, answers: [{answer}]}]}
    ROOT/okvqa/OpenEnded_mscoco_train2014_questions.json, mscoco_train2014_annotations.json    the same

OK-VQA's test set is its val2014; the answers to VQAv2's test questions are not public. OK-VQA's `answer` is a stem,
which is what counts; `raw_answer` is what was typed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from .json_files import first_of, naming, records_of
from .phrasings import words
from .pictures import coco_key
from .reader import Ask, Reader
from .sample import Turn

_FILES = {
    "vqav2": ("v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json"),
    "okvqa": ("OpenEnded_mscoco_{}_questions.json", "mscoco_{}_annotations.json"),
}
_YEARS = {"train": "train2014", "val": "val2014"}
_SPLITS = {"vqav2": _YEARS, "okvqa": {**_YEARS, "test": "val2014"}}


class Question(NamedTuple):
    """A question, the ten answers, and what the file says of their kinds."""

    question_id: int
    image_id: int
    question: str
    answers: tuple[str, ...]
    question_type: str
    answer_type: str


def read_questions(root: str | Path, dataset: str, split: str) -> list[Question]:
    """The questions of a split with their answers.

    Args:
        root: the folder that holds the data set's folder.
        dataset: vqav2 or okvqa.
        split: train or val; of OK-VQA val is also called test, as in its paper.

    Raises:
        InputError: an unknown data set or split, a missing or damaged file, a question without answers.
    """
    if dataset not in _FILES or split not in _SPLITS[dataset]:
        raise InputError(f"no split {split!r} of {dataset!r}; there are train and val of {' and '.join(_FILES)}")
    folder = Path(root) / dataset
    paths = [first_of(folder, [name.format(_SPLITS[dataset][split])], dataset) for name in _FILES[dataset]]
    annotated: dict[int, dict[str, Any]] = {}
    for entry in records_of(paths[1], "annotations", ("question_id", "answers")):
        annotated[int(entry["question_id"])] = entry
    found = []
    for entry in records_of(paths[0], "questions", ("question_id", "image_id", "question")):
        number = int(entry["question_id"])
        if number not in annotated:
            raise InputError(f"{paths[1]} has no answers to question {number} of {paths[0].name}")
        answers = annotated[number]
        with naming(paths[1]):
            given = tuple(str(a["answer"]) for a in answers["answers"])
            if not given:
                raise InputError(f"question {number} has no answers")
        kinds = str(answers.get("question_type", "")), str(answers.get("answer_type", ""))
        found.append(Question(number, int(entry["image_id"]), words(entry["question"]), given, *kinds))
    return found


class VQA(Reader):
    """One record a question; the answer to learn is the most frequent one."""

    def __init__(self, root: str | Path, split: str = "train", dataset: str = "vqav2") -> None:
        """Read questions and answers; arguments and errors as of `read_questions`."""
        super().__init__(root)
        self.name = dataset
        self._records = read_questions(root, dataset, split)

    def __len__(self) -> int:
        return len(self._records)

    def record_id(self, index: int) -> str:
        return str(self._records[index].question_id)

    def image_key(self, index: int) -> str:
        return coco_key(self._records[index].image_id)

    def size(self, index: int) -> tuple[int, int]:
        return self.pictures.size(self.image_key(index))  # neither file says

    def task(self, index: int) -> str:
        return "question"

    def extra(self, index: int) -> dict[str, Any]:
        record = self._records[index]
        return {"question_id": record.question_id, "answers": record.answers, "type": record.answer_type or "other"}

    def turns(self, index: int, ask: Ask) -> tuple[Turn, ...]:
        record = self._records[index]
        given = words(Counter(record.answers).most_common(1)[0][0])
        return Turn("user", ask("vqa").replace("{x}", record.question)), Turn("assistant", given)
