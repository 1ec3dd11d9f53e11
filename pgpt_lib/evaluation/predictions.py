"""What a model answers, free-running: the common input of every score.

The headline is free-running: the model is given the question alone. Teacher-forced answers, where the true words are
given and only the regions decoded, stand beside it. Both are `Prediction`s, so the same scorers take them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.sample import VIS, Images, Sample, Turn
from ..errors import InputError
from ..files import write_json
from ..placement import letterboxed
from ..processes import merged, own_share
from ..regions import Region

if TYPE_CHECKING:  # the scorers do without transformers
    from ..model import PerceptionGPT
    from ..vision import VisionTower

IMAGES_AT_ONCE = 64  # images that go through the tower together, and whose questions are answered in one stretch
# Caps that no sensible answer comes near, since a model that was hardly trained may never end one: the words and
# `<vis>` of an answer, and how many regions it may hold (which cost more tokens where regions are written as text).
MAX_TOKENS = {"caption": 64, "spot_caption": 96}
MAX_TOKENS_SHORT = 24
MAX_REGIONS = {"several": 8, "spot_caption": 8, "rec": 1, "res": 1, "none": 1, "reasoning": 1}
LoadFeatures = Callable[[Sequence[str]], Tensor]  # keys of I images to the tower's hidden states [I, L, N, C]


@dataclass(frozen=True)
class Prediction:
    """A model's answer to the last question of `sample`, whose last turn is the true answer."""

    sample: Sample
    text: str
    regions: tuple[Region, ...] = ()
    parse_failures: int = 0  # regions that were written, but could not be read
    written: str = ""  # the answer as the model wrote it; `text` has `<vis>` for regions that were read from text

    @property
    def truth(self) -> Turn:
        """The true answer."""
        return self.sample.turns[-1]

    @property
    def first(self) -> Region | None:
        """The region of the first `<vis>`, which is the answer of a REC or RES question; None when none was emitted."""
        return self.regions[0] if self.regions else None

    @property
    def has_vis(self) -> bool:
        """Whether any region was given, well-formed or not."""
        return bool(self.regions) or self.parse_failures > 0 or VIS in self.text


def prompt_of(sample: Sample) -> Sample:
    """The sample without its last turn, which is the truth.

    Raises:
        InputError: the sample does not end with an answer to a question.
    """
    if len(sample.turns) < 2 or sample.turns[-1].role != "assistant" or sample.turns[-2].role != "user":
        raise InputError(f"sample {sample.sample_id}: an evaluation sample ends with a question and its answer")
    return replace(sample, turns=sample.turns[:-1])


class TowerFeatures:
    """Loads pictures and runs the vision tower on them, keeping the latest results, so that each is encoded once.

    Args:
        tower: a `VisionTower`.
        images: hands out the pictures.
        max_bytes: how much to keep; the oldest go first, those just asked for always stay.
    """

    def __init__(self, tower: VisionTower, images: Images, max_bytes: int = 2**29) -> None:
        self.tower, self.images, self.max_bytes = tower, images, max_bytes
        self._kept: dict[str, Tensor] = {}

    def __call__(self, image_ids: Sequence[str]) -> Tensor:
        """Hidden states [I, L, N, C] of I images, in their order; bf16, as the training's cache holds them."""
        missing = [i for i in dict.fromkeys(image_ids) if i not in self._kept]
        for start in range(0, len(missing), IMAGES_AT_ONCE):
            part = missing[start : start + IMAGES_AT_ONCE]
            squares = [letterboxed(self.images.load_image(i), self.tower.image_size) for i in part]
            states = self.tower(self.tower.preprocess(squares)).to(torch.bfloat16)
            self._kept.update((i, one.clone()) for i, one in zip(part, states, strict=True))
        found = torch.stack([self._kept[i] for i in image_ids])
        room = self.max_bytes // max(found[0].nbytes, 1)
        for oldest in list(self._kept)[: max(len(self._kept) - room, 0)]:
            if oldest not in image_ids:
                del self._kept[oldest]
        return found


def max_new_tokens(task: str, region_tokens: int = 0) -> int:
    """The cap on an answer's length, in tokens, the end token included.

    Args:
        region_tokens: what a region takes where regions are written as text.
    """
    return MAX_TOKENS.get(task, MAX_TOKENS_SHORT) + MAX_REGIONS.get(task, 0) * region_tokens


def batches(samples: Sequence[Sample], batch_size: int) -> Iterator[list[int]]:
    """Indices of `samples`, a batch at a time: images stay together, and tasks with answers of like length within them.

    Each image's features are wanted in one stretch of batches, so that they are computed once and then forgotten.
    """
    order = {image_id: i for i, image_id in enumerate(dict.fromkeys(s.image_id for s in samples))}
    groups: dict[tuple[int, int], list[int]] = {}
    for i, sample in enumerate(samples):
        key = order[sample.image_id] // IMAGES_AT_ONCE, max_new_tokens(sample.task, region_tokens=32)
        groups.setdefault(key, []).append(i)
    for key in sorted(groups):
        # Prompts of like length side by side, so that little is padded.
        members = sorted(groups[key], key=lambda i: (sum(len(t.text) for t in samples[i].turns[:-1]), i))
        for start in range(0, len(members), batch_size):
            yield members[start : start + batch_size]


def predict(
    model: PerceptionGPT,
    samples: Sequence[Sample],
    images: Images,
    features: LoadFeatures | None = None,
    *,
    batch_size: int = 64,
    generate: Callable[..., list[Any]] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Ask the model each sample's question alone, greedily, and take its answer as it comes.

    Args:
        model: a `PerceptionGPT`; it is put into evaluation mode.
        samples: of any tasks; one question a prompt, the last turn is the truth and never shown.
        images: hands out their pictures.
        features: the tower's states by image, such as `FeatureCache.rows`; by default the tower is run.
        batch_size: prompts answered together; no answer depends on its neighbours.
        generate: takes the place of `generation.generate`.
        on_progress: told (answered, total) after each batch.

    Where several processes evaluate, each answers its share of the images, and all receive all answers.

    Returns:
        One prediction a sample, in the same order.
    """
    if generate is None:
        from ..generation import generate as generate_greedily

        generate = generate_greedily
    if features is None:
        features = TowerFeatures(model.tower, images)
    prompts = [prompt_of(sample) for sample in samples]
    answers: dict[int, tuple[str, tuple[Region, ...], int, str]] = {}
    model.eval()
    share = own_share([sample.image_id for sample in samples])
    region_tokens = model.chat.region_tokens if model.chat.vis_id is None else 0
    for picked in batches([samples[i] for i in share], batch_size):
        batch = [share[i] for i in picked]
        cap = max_new_tokens(samples[batch[0]].task, region_tokens)
        given = generate(model, [prompts[i] for i in batch], features, max_new_tokens=cap)
        for i, answer in zip(batch, given, strict=True):
            answers[i] = answer.text, tuple(answer.regions), answer.parse_failures, answer.written
        if on_progress is not None:
            on_progress(len(answers), len(share))
    return [Prediction(s, *answer) for s, answer in zip(samples, merged(answers, len(samples)), strict=True)]


def record_of(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON: the sample's ids, the first region in COCO's terms (null when none was given), the words.

    Where the sample has a number of its data set, what `score` and the benchmarks' servers read stands there too:
    `sent_id`; of a benchmark's question `question_id` and `answer`; of its picture `image_id` and `caption`. Answers
    with several regions list them all.
    """
    sample, first = prediction.sample, prediction.first
    place = first.to_coco(*sample.size) if first else {"bbox": None, "segmentation": None}
    numbered = {"sent_id": sample.extra["sent_id"]} if "sent_id" in sample.extra else {}
    if "question_id" in sample.extra:
        numbered = {"question_id": sample.extra["question_id"], "answer": prediction.text}
    elif sample.task == "caption" and "number" in sample.extra:
        numbered = {"image_id": sample.extra["number"], "caption": prediction.text}
    record = {"sample_id": sample.sample_id, **numbered, "task": sample.task, **place, "text": prediction.text}
    if len(prediction.regions) > 1:
        record["regions"] = [region.to_coco(*sample.size) for region in prediction.regions]
    return record


def save_predictions(path: Path | str, predictions: Sequence[Prediction]) -> None:
    """Write predictions as one JSON list (see `record_of`), whole or not at all."""
    write_json(Path(path), [record_of(p) for p in predictions])
