"""The two larger assignments: what is asked, what a hand-in holds, and the rubric that the leaderboard grades by."""

from __future__ import annotations

from dataclasses import dataclass

CLAIM_POINTS = 10  # for predictions that are complete, score as claimed and keep the budget


@dataclass(frozen=True)
class Project:
    """A larger assignment.

    Attributes:
        slug: its name in `result.json`.
        metric: the score that is claimed and ranked by.
        full_gain: the gain over the baseline that earns all of `gain_points`.
        gain_points: points for the gain, in proportion.
        manual_points: points that a person gives, for the report that is handed in.
    """

    slug: str
    title: str
    hours: str
    metric: str
    full_gain: float
    gain_points: int
    manual_points: int
    task: str

    @property
    def points(self) -> int:
        """All points together."""
        return CLAIM_POINTS + self.gain_points + self.manual_points


BOXES = Project(
    "better-boxes", "better boxes within a budget", "6 to 10", "acc@0.5", 0.3, 30, 10,
    """Raise Acc@0.5 above the baseline's with no more training samples and no more trainable parameters than it had.
Anything else may change: losses and their weights, the fusion, the heads, which tasks are mixed how, the schedule,
LoRA's rank and targets. A sample is a question with its answer, of which a dialogue holds up to `data.turns`; when a
checkpoint is fine-tuned, those that it was trained on before count as well. `course answer` prints both numbers. The
gain is the share of the baseline's misses that are gone, (score - baseline) / (1 - baseline).

A prediction is `{"sent_id": 17, "bbox": [x, y, width, height]}` in pixels, `"bbox": null` where there is none.""",
)  # fmt: skip
SIGNAL = Project(
    "own-signal", "a signal of one's own", "6 to 10", "skill", 1.0, 30, 10,
    """Let `<vis>` carry a quantity of the object that it does not carry yet: `centre`, the middle of the box as two
numbers, or `extent`, the root of the object's visible share of the picture. Write the signal (notebook 02's exercise
"a signal of one's own" and `pgpt_lib/signals/depth.py` are patterns), register it, train with it, and predict it for
objects that are named in words. Name it as the quantity is named, and let `restore` give its value under that name:
`course answer --quantity centre` then writes the predictions. The skill is 1 - (mean error) / (mean error of always
saying the median); a missing value counts with error 1.

A prediction is `{"sent_id": 17, "value": [0.41, 0.77]}`, all numbers in [0, 1] of the picture, `"value": null` where
your model gave none; `result.json` says which `quantity` it is.""",
)  # fmt: skip
PROJECTS = (BOXES, SIGNAL)
BY_SLUG = {project.slug: project for project in PROJECTS}

PAGE = """# Project: {title}

{hours} hours, {points} points.

{task}

## What you get, what you hand in

Two folders of questions, `open` and `hidden`. Each holds pictures and `questions.json`, a list of
`{{"sent_id": 17, "image": "picture_00003.png", "expression": "red circle"}}`. For the open one you have the truth as
well (`truth/`, RefCOCO's layout), for the hidden one you have not.

Hand in a folder with

- `result.json`: `{{"name": "our team", "project": "{slug}", "claimed": {{"{metric}": 0.61}},
  "budget": {{"samples": 129600, "parameters": 900000}}}}`, where the claim is your score on the open questions, which
  `course claim` prints;
- `open.json` and `hidden.json`: your predictions, a JSON list for each;
- `report.md`: two pages on what you tried, what helped, and how you know.

## Rubric

| points | for |
| --- | --- |
| {claim} | complete predictions whose score on the open questions is what you claim, within the budget |
| {gain} | {gained}, in proportion up to {full:.0%} |
| {manual} | the report: one change at a time, intervals beside numbers, a failure explained (given by a person) |

A hand-in whose predictions do not score as claimed is refused, and gets nothing until it is put right.
"""


def project_page(project: Project) -> str:
    """The assignment as students read it."""
    gained = "the gain over the baseline" if project is BOXES else "the skill"
    return PAGE.format(
        title=project.title,
        hours=project.hours,
        points=project.points,
        task=project.task,
        slug=project.slug,
        metric=project.metric,
        claim=CLAIM_POINTS,
        gain=project.gain_points,
        gained=f"{gained} on the hidden questions",
        full=project.full_gain,
        manual=project.manual_points,
    )
