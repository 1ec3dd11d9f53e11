"""All scores of a model on a set of samples, each task by its own rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..data.sample import Images, Sample
from .dialogue import region_scores, spot_caption_scores, with_variants
from .failures import failure_kinds, parse_failure_rate
from .grounding import depth_error, filled_ciou, none_scores, rec_scores, set_scores, shuffled
from .predictions import LoadFeatures, Prediction, TowerFeatures, predict
from .words import caption_scores, false_vis_rates, question_scores, vqa_score

if TYPE_CHECKING:  # the scorers do without transformers
    from ..model import PerceptionGPT

ONE_REGION, REGION_GIVEN = ("rec", "res"), ("region_caption", "region_question")
TASKS = ("rec", "question", "several", "none", "caption", "spot_caption", *REGION_GIVEN, "reasoning")
FORCED_KEYS = ("acc@0.5", "miou_box", "ciou", "miou_mask")
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """Scores (see `score`) and the free-running answers that they were computed from; `forced` are those with the true
    words given, where these were scored."""

    metrics: dict[str, Any]
    predictions: list[Prediction]
    forced: Sequence[Prediction] = ()


def evaluate(
    model: PerceptionGPT,
    samples: Sequence[Sample],
    images: Images,
    features: LoadFeatures | None = None,
    *,
    batch_size: int = 64,
    teacher_forced: bool = True,
    generate: Callable[..., list[Any]] | None = None,
    on_progress: OnProgress | None = None,
    threshold: float = 0.5,
) -> Evaluation:
    """Ask the model every sample's question, free-running, and score the answers.

    Args:
        model: a `PerceptionGPT`.
        samples: of any of `TASKS`, told by `Sample.task`; the last turn is the truth. Questions about a given region
            are asked in all their variants (`region_variants`).
        images: hands out the pictures.
        features: the tower's states by image; by default the tower is run, once an image.
        batch_size: prompts answered together.
        teacher_forced: also score REC, RES and `several` with the true answer's words given (a second, cheap pass).
        generate: takes the place of `generation.generate`.
        on_progress: told (answered, total).
        threshold: the probability from which a pixel belongs to a mask, here and there; `generate` has its own.
    """
    if generate is None:
        from ..generation import generate as generate_greedily

        generate = partial(generate_greedily, threshold=threshold)
    asked = [s for s in samples if s.task not in REGION_GIVEN]
    asked += with_variants(s for s in samples if s.task in REGION_GIVEN)
    if features is None:
        features = TowerFeatures(model.tower, images)  # shared by both passes
    predictions = predict(
        model, asked, images, features, batch_size=batch_size, generate=generate, on_progress=on_progress
    )
    metrics = score(predictions)
    given: list[Prediction] = []
    told = [s for s in asked if s.task in (*ONE_REGION, "several")]
    if teacher_forced and told and model.chat.vis_id is None:
        metrics["teacher_forced"] = dict.fromkeys(FORCED_KEYS)  # regions are words here: nothing is left to decode
    elif teacher_forced and told:
        from .teacher import predict_teacher_forced

        given = predict_teacher_forced(model, told, images, features, batch_size=batch_size, threshold=threshold)
        metrics["teacher_forced"] = forced_scores(given)
    return Evaluation(metrics, predictions, given)


def forced_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Scores of answers with the true words given: `FORCED_KEYS`, and `several` where such were asked."""
    one = rec_scores([p for p in predictions if p.sample.task in ONE_REGION])
    several = set_scores([p for p in predictions if p.sample.task == "several"])
    return {**{key: one[key] for key in FORCED_KEYS}, **({"several": several} if several else {})}


def score(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Scores of answers to any mixture of tasks; every metric is [value, low, high] or None.

    Returns:
        The keys of `metrics.summarise` for REC and RES, `questions` by type, and where their tasks were asked:
        `shuffled` (REC with expressions exchanged within the image), `filled_ciou`, `depth`, `failures` (see
        `failure_kinds`), `parse_failure_rate` (of REC, and in each task's scores), `vqa`, `several`, `none`,
        `false_vis`, `caption`, `spot_caption`, `region_caption`, `region_question`, `reasoning`.
    """
    by_task: dict[str, list[Prediction]] = {}
    for p in predictions:
        by_task.setdefault("rec" if p.sample.task in ONE_REGION else p.sample.task, []).append(p)
    rec = by_task.get("rec", [])
    metrics: dict[str, Any] = {**rec_scores(rec), "questions": question_scores(by_task.get("question", []))}
    if rec:
        metrics["shuffled"] = _brief(rec_scores(shuffled(rec)))
        metrics["filled_ciou"] = filled_ciou(rec)
        metrics["depth"] = depth_error(rec)
        metrics["failures"] = failure_kinds(rec)
        metrics["parse_failure_rate"] = parse_failure_rate(rec)
    metrics["vqa"] = vqa_score(by_task.get("question", []))
    scorers: Mapping[str, Callable[[Sequence[Prediction]], Mapping[str, Any]]] = {
        "several": set_scores,
        "none": none_scores,
        "caption": caption_scores,
        "spot_caption": spot_caption_scores,
        "region_caption": region_scores,
        "region_question": region_scores,
        "reasoning": rec_scores,
    }
    for task, scorer in scorers.items():
        if task in by_task:
            metrics[task] = {**scorer(by_task[task]), "parse_failure_rate": parse_failure_rate(by_task[task])}
    if "reasoning" in by_task:
        metrics["reasoning"] |= {"failures": failure_kinds(by_task["reasoning"])}
    metrics["false_vis"] = false_vis_rates(by_task)
    return {key: value for key, value in metrics.items() if key == "questions" or value != {}}


def _brief(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {key: scores[key] for key in ("n", "acc@0.5", "ciou")}
