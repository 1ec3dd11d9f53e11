"""The official splits of `data.benchmarks` as sets to be evaluated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..data.benchmarks import open_benchmark
from ..data.refcoco import SPLIT_BY, RefCOCO
from ..data.sample import Images, Sample
from ..scoring import score_predictions, truths_of
from .generalised import generalised_scores
from .predictions import Prediction, record_of


class EvaluationSet(NamedTuple):
    """Samples and their pictures; `generalised` where an expression may mean any number of objects."""

    samples: list[Sample]
    images: Images
    generalised: bool = False

    def own_scores(self, predictions: Sequence[Prediction]) -> Mapping[str, Any]:
        """Of RefCOCO, RefCOCO+ and RefCOCOg the scores of `score`; of gRefCOCO its `generalised` ones; else none.

        In the first three the truth is the annotation's own box, not one cut off at the picture's border.

        Args:
            predictions: of all the samples.
        """
        if self.generalised:
            return {"generalised": generalised_scores(predictions)}
        if not isinstance(self.images, RefCOCO):
            return {}
        asked = {sample.extra["sent_id"] for sample in self.samples}
        truths = [truth for truth in truths_of(self.images) if truth.sent_id in asked]
        kept = ("sent_id", "bbox", "segmentation")
        records = [record_of(prediction) for prediction in predictions]
        return score_predictions([{key: record[key] for key in kept} for record in records], truths)


def benchmark_set(
    name: str, root: Path | str, images: int | None = None, tasks: Sequence[str] | None = None
) -> EvaluationSet:
    """A split of a benchmark.

    Args:
        name: as `refcoco/testA`, of `data.benchmarks`.
        root: the data folder.
        images: take the first so many pictures; None for all.
        tasks: leave out samples of other tasks; None for none.

    Raises:
        InputError: no such benchmark, or its files are missing or damaged.
    """
    dataset, _, split = name.partition("/")
    if dataset in SPLIT_BY:
        reader = RefCOCO(root, dataset, split)
        kept = set(list(reader.sizes)[:images])
        samples = [sample for sample in reader.samples() if sample.image_id in kept]
        return EvaluationSet(samples, reader)
    benchmark = open_benchmark(name, root)
    kept = set(list(dict.fromkeys(benchmark.image_key(i) for i in range(len(benchmark))))[:images])
    wanted = [i for i in range(len(benchmark)) if benchmark.image_key(i) in kept]
    wanted = [i for i in wanted if tasks is None or benchmark.task(i) in tasks]
    return EvaluationSet([benchmark.sample(i) for i in wanted], benchmark.pictures, dataset == "grefcoco")
