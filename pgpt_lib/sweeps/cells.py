"""A cell of a sweep: what is trained, for how long, and what it is scored on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveInt

from ..config import Profile, Section, load_profile
from ..errors import InputError
from ..files import digest

UNUSED: dict[str, Any] = {  # settings of a profile that change nothing of what a cell computes
    "name": True,
    "budget": True,
    "data": {"eval_scenes"},  # RunSettings has its own
    "training": {"save_every", "log_every", "compile", "cache_features"},
}


class RunSettings(Section):
    """How long a cell trains and what it is scored on. A plan sets these under `cell.NAME`.

    Sizes stand in `plans/sizes.yaml`, by profile and plan.
    """

    expressions: PositiveInt  # that a cell is trained on, `times` 1
    times: float = Field(default=1.0, gt=0)  # multiple of `expressions`
    micro_batches: PositiveInt | None = None  # in a step, each as large as the profile's; else as many as there
    minutes: float | None = Field(default=None, gt=0)  # train for so long instead; the schedule's length is measured
    scenes: PositiveInt  # of the training set, `fraction` 1
    fraction: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0)
    lr: float | Literal["tuned", "profile"] = "profile"  # tuned: the best of this plan's cells that have a number here
    tuned_by: str = "tuning"  # the budget of those cells
    tuned_else: str = ""  # the budget of those asked instead where the best of the former scores no more than chance
    align: Literal["bundled", "words"] = "bundled"  # words: fusion and projector aligned anew (alignment.py)
    align_steps: PositiveInt = 1200  # for that
    align_scenes: PositiveInt = 4000  # pictures for that
    mask_threshold: float = Field(default=0.5, gt=0, lt=1)  # probability from which a pixel belongs to a mask
    tasks: tuple[str, ...] = ("rec", "question")  # scored on the main split; the other splits are `rec` alone
    splits: Literal["all", "main"] = "all"  # main: the other splits are left out
    teacher_forced: bool = False  # also score with the true answers' words given
    eval_scenes: PositiveInt  # of the main split; the others take half
    question_scenes: PositiveInt  # for questions, before and after
    curve_scenes: PositiveInt  # for each point of the learning curve
    curve: tuple[float, ...] = ()  # shares of the steps at which the curve has a point
    eval_seed: int = Field(default=0, ge=0)  # of the scenes to score on, the same for all cells: they are compared
    # Until a cell was measured: seconds for 1,000 expressions with one token a region, for a scene that is scored and
    # for a step of `align`; and how many times as long the first two take where regions are longer.
    guess: float = Field(default=2.0, gt=0)
    guess_scene: float = Field(default=0.1, ge=0)
    guess_align: float = Field(default=0.5, ge=0)
    longer: float = Field(default=1.0, ge=1)


@dataclass(frozen=True)
class Cell:
    """One training of a plan.

    `factors` has a value for each of the plan's factors, the seed last; `overrides` are settings of the profile by
    dotted name; `id` names the result's file and can be given to `--only`.
    """

    plan: str
    id: str
    factors: Mapping[str, Any]
    profile_name: str
    overrides: Mapping[str, Any]
    run: RunSettings

    @property
    def seed(self) -> int:
        """Of data, initial weights and dropout."""
        return self.run.seed

    def profile(self) -> Profile:
        """The cell's settings; its number of steps follows from the expressions that it is to see.

        Raises:
            InputError: a setting that the library does not know, or out of range.
        """
        settings = {"data.train_scenes": max(1, round(self.run.fraction * self.run.scenes)), **self.overrides}
        first = load_profile(self.profile_name, settings)
        if self.run.micro_batches is not None:
            micro = first.training.batch_size // first.training.accumulation
            settings["training.accumulation"] = self.run.micro_batches
            settings["training.batch_size"] = self.run.micro_batches * micro
            first = load_profile(self.profile_name, settings)
        settings = {"training.steps": steps_for(first, self.run.expressions * self.run.times), **settings}
        if self.run.align == "words" and has_words_stage(first.llm.name):
            settings["llm.name"] = words_only(first.llm.name)
        return load_profile(self.profile_name, settings)

    def asked(self) -> dict[str, Any]:
        """Everything that the cell's result depends on, flat: to tell whether a finished one still counts.

        Not what it does not use, so that the profile of a run may change that without voiding a sweep.
        """
        profile = self.profile()
        spoken = UNUSED["training"] | ({"lr"} if self.run.lr != "profile" else set())
        settings = profile.model_dump(mode="json", exclude={**UNUSED, "training": spoken})
        # `tuned_else` acts on nothing but the rate, which is compared apart (rates.is_outdated).
        unused = {"longer", "tuned_else", *(name for name in RunSettings.model_fields if name.startswith("guess"))}
        unused |= set() if self.run.align == "words" else {"align_steps", "align_scenes"}
        run = self.run.model_dump(mode="json", exclude=unused)
        return {**flatten(settings), **flatten({"cell": run, "weights": bundled_weights(profile, self.run.align)})}


def bundled_weights(profile: Profile, align: str) -> dict[str, str]:
    """A digest of each bundled file that a cell starts from, by its path below `data/backbones`."""
    from ..backbones import BUNDLED, aligned_file

    files = [
        BUNDLED / profile.llm.name / "llm" / "model.safetensors",
        BUNDLED / profile.vision.name / "model.safetensors",
    ]
    if align == "bundled":
        files.append(aligned_file(profile))
    return {file.relative_to(BUNDLED).as_posix(): digest(file) for file in files if file.is_file()}


def words_only(llm: str) -> str:
    """The name of a language model as it was before it met pictures, where that is bundled."""
    return f"{llm}-words"


def has_words_stage(llm: str) -> bool:
    """Whether that one is bundled; a language model that others pretrained has met no pictures to begin with."""
    from ..backbones import BUNDLED

    return (BUNDLED / words_only(llm)).is_dir()


def steps_for(profile: Profile, expressions: float) -> int:
    """Optimiser steps in which a profile meets so many expressions: batches of dialogues with `turns` each."""
    return max(1, round(expressions / (profile.training.batch_size * profile.data.turns)))


def cell_id(factors: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """`representation=embedding,rank=8,seed=0`: the factors in order, without those at their default."""
    return ",".join(f"{k}={v}" for k, v in factors.items() if k not in defaults or str(v) != str(defaults[k]))


def parse_factors(text: str) -> dict[str, Any]:
    """`rank=8,seed=11` as names and values, each value read as YAML.

    Raises:
        InputError: a part without a name and `=`, or a name given twice.
    """
    given: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not value:
            raise InputError(f"--only {text!r}: factors are given as name=value, separated by commas, not {part!r}")
        if name in given:
            raise InputError(f"--only {text!r}: {name} is given twice")
        try:
            given[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--only {text!r}: {value!r} is no value of {name}") from None
    return given


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names whose values differ. A name that only one of both has is a setting that came or went: no difference."""
    return [name for name in before.keys() & now.keys() if before[name] != now[name]]


def of_same_kind(factors: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[int]:
    """Which of `others` share the most factors with a cell, the seed aside: the nearest relatives, by index."""
    shared = [sum(str(o.get(k)) == str(v) for k, v in factors.items() if k != "seed") for o in others]
    return [i for i, count in enumerate(shared) if count == max(shared)]
