"""Profiles: validated, frozen settings of a whole run, read from `profiles/NAME.yaml`.

A profile is data, not code: notebooks, the command line and tests all start from `load_profile`, and an unknown
name, key or a value out of range is an `InputError` that names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from .errors import InputError


class Section(BaseModel):
    """A frozen group of settings; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Vision(Section):
    """The frozen vision tower: a name for the resolver, and the side of its square input in pixels."""

    name: str
    image_size: PositiveInt
    precision: Literal["fp32", "bf16"] = "fp32"  # of the tower's matrix products


class LLM(Section):
    """The language model, and which of its weights are tuned (paper, section 4.1: LoRA on q_proj and v_proj)."""

    name: str
    tuning: Literal["lora", "full", "frozen"] = "lora"
    lora_rank: PositiveInt = 32
    lora_alpha: PositiveInt = 64
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    token_rows: Literal["new", "all"] = "new"  # rows of the embedding and the head that are tuned beside LoRA
    precision: Literal["fp32", "bf16"] = "fp32"  # in which frozen weights are stored; trained ones are always fp32
    standardise: bool = False  # take off what all states behind an answer's header have in common, before decoding


class Fusion(Section):
    """Equation 1: how the layers of the vision tower become one feature map."""

    strategy: Literal["learned", "mean", "last", "second_last"] = "learned"
    normalise: bool = True
    shared: bool = False  # one set of weights for the LLM and the mask decoder, or two


class Coordinates(Section):
    """How the representations `numerical` and `vocabulary` write regions as text (paper, section 4.4, Tables 4 and 7).

    A bin's token stands for its centre, so that a coordinate is at most half a bin off. 16 vertices of form "points"
    take VisionLLM's 16 tokens of Table 4, 32 are Table 7's.
    """

    target: Literal["box", "mask"] = "box"  # what is written of a region that has both; a mask is written as contours
    form: Literal["points", "axes"] = "points"  # of `vocabulary`: one token a point (Kosmos-2), or one a coordinate
    bins: int = Field(default=32, ge=2, le=1000)  # along each side
    vertices: int = Field(default=16, ge=3, le=256)  # of a mask's contours together

    @model_validator(mode="after")
    def _few_tokens(self) -> Self:
        if self.form == "points" and self.bins > 64:
            raise ValueError(f"bins = {self.bins} of form 'points' add {self.bins**2} tokens; take 64 bins or 'axes'")
        return self


class Losses(Section):
    """Weights of the terms of equations 2 to 6."""

    language: float = Field(default=1.0, ge=0)
    l1: float = Field(default=1.0, ge=0)
    giou: float = Field(default=1.0, ge=0)
    bce: float = Field(default=1.0, ge=0)
    dice: float = Field(default=1.0, ge=0)
    depth: float = Field(default=1.0, ge=0)


class Data(Section):
    """What is trained and evaluated on. `tasks` maps a task's name to its share of the mixture.

    `sources` maps data sets (`data.sources.SOURCES`) to shares of the dialogues (paper, section 4.1); it is what
    `name: mixture` means, and the name may then be left out.
    """

    name: Literal["refshapes", "refer", "mixture"] = "refshapes"
    level: Literal["smoke", "cpu", "gpu"] = "cpu"
    root: str | None = None  # the REFER layout's folder for name: refer, the folder of all data sets for a mixture
    sources: Mapping[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    train_scenes: PositiveInt = 8000
    eval_scenes: PositiveInt = 500
    turns: PositiveInt = 6  # questions packed in one dialogue about an image
    tasks: Mapping[str, float] = Field(default_factory=lambda: {"rec": 1.0})

    @model_validator(mode="before")
    @classmethod
    def _name_mixtures(cls, settings: Any) -> Any:
        """Sources without a name are a mixture; a name that contradicts them is an error."""
        if isinstance(settings, Mapping):
            name, sources = settings.get("name"), settings.get("sources")
            if sources and name is None:
                return {**settings, "name": "mixture"}
            if bool(sources) != (name == "mixture"):
                raise ValueError("data.sources belongs to data.name: mixture, and a mixture needs sources")
        return settings


class Training(Section):
    """The optimisation of notebook 05 and of `train`."""

    steps: PositiveInt
    batch_size: PositiveInt = 32
    accumulation: PositiveInt = 1
    lr: float = Field(default=3e-3, gt=0)
    aligned_lr: float = Field(default=1.0, ge=0)  # rate of fusion and projector, aligned before, as a share of lr
    warmup: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    grad_clip: float = Field(default=1.0, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"
    save_every: PositiveInt = 200
    log_every: PositiveInt = 20
    cache_features: bool = True  # encode each image once, on disk; else run the tower in every step
    checkpointing: bool = False  # compute the language model's activations again instead of keeping them
    input_dropout: float = Field(default=0.3, ge=0, le=1)  # how often an input region lacks its box or mask


class Budget(Section):
    """What a notebook needs in this profile: minutes of two cores, gigabytes of memory and disk."""

    minutes: Mapping[str, float] = Field(default_factory=dict)
    memory_gb: float = 4
    disk_gb: float = 2


class Profile(Section):
    """Everything that a run depends on, beside the seed."""

    name: str
    vision: Vision
    llm: LLM
    fusion: Fusion = Fusion()
    projector: Literal["mlp", "linear"] = "mlp"
    representation: Literal["embedding", "numerical", "vocabulary"] = "embedding"
    coordinates: Coordinates = Coordinates()
    signals: tuple[str, ...] = ("box", "mask", "depth")
    signal_widths: Mapping[str, PositiveInt] = Field(
        default_factory=dict
    )  # of a signal's networks; else its own choice
    losses: Losses = Losses()
    data: Data = Data()
    training: Training
    budget: Budget = Budget()

    def digest(self) -> str:
        """A short hash of every setting, to tell whether results may be reused."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]


def profile_names() -> list[str]:
    """The profiles that ship with the package."""
    return sorted(
        p.name[:-5] for p in resources.files(__package__).joinpath("profiles").iterdir() if p.name.endswith(".yaml")
    )


def load_profile(name: str, overrides: Mapping[str, Any] | None = None) -> Profile:
    """Read a profile and replace single settings.

    Args:
        name: one of `profile_names()`.
        overrides: dotted names to values, as `{"training.steps": 40}`.

    Raises:
        InputError: unknown profile, unknown setting, or a value out of range.
    """
    if name not in profile_names():
        raise InputError(f"unknown profile {name!r}; there are {', '.join(profile_names())}")
    text = resources.files(__package__).joinpath("profiles", f"{name}.yaml").read_text(encoding="utf-8")
    settings = {"name": name, **yaml.safe_load(text)}
    for dotted, value in (overrides or {}).items():
        *path, last = dotted.split(".")
        section = settings
        for key in path:
            section = section.setdefault(key, {})
        section[last] = value
    try:
        return Profile.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors())
        raise InputError(f"profile {name}: {problems}") from None
