"""Profiles: validated, frozen settings of a whole run, read from `profiles/NAME.yaml`.

A profile is data, not code: notebooks, the command line and tests all start from `load_profile`, and an unknown
name, key or a value out of range is an `InputError` that names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from .errors import InputError

BUNDLED_SIGNALS = {"box", "mask", "depth"}


class Section(BaseModel):
    """A frozen group of settings; unknown keys are errors, and so are numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    lora_targets: tuple[str, ...] = Field(default=("q_proj", "v_proj"), min_length=1)
    token_rows: Literal["new", "all"] = "new"  # rows of the embedding and the head that are tuned beside LoRA
    precision: Literal["fp32", "bf16"] = "fp32"  # in which frozen weights are stored; trained ones are always fp32
    standardise: bool = False  # take off what all states behind an answer's header have in common, before decoding


class Fusion(Section):
    """Equation 1: how the layers of the vision tower become one feature map."""

    strategy: Literal["learned", "mean", "last", "second_last"] = "learned"
    normalise: bool = True
    shared: bool = False  # one set of weights for the LLM and the mask decoder, or two


class RegionCodes(Section):
    """How a region's code enters the language model; section 3.1 gives its encoders alone.

    `start` "words" fits the untrained encoders to the words for a region's place (`signals/first_codes.py`). With
    `normalise` a code has the mean square of a word's embedding: a longer one drowns what attention adds to it.
    """

    start: Literal["words", "random"] = "words"
    normalise: bool = True


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
    """Weights of the terms of equations 2 to 6, and of `distillation`, which is not in the paper: see that module."""

    language: float = Field(default=1.0, ge=0)
    l1: float = Field(default=1.0, ge=0)
    giou: float = Field(default=1.0, ge=0)
    bce: float = Field(default=1.0, ge=0)
    dice: float = Field(default=1.0, ge=0)
    depth: float = Field(default=1.0, ge=0)
    distillation: float = Field(default=0.0, ge=0)  # above 0 needs data.turns_apart


class Released(Section):
    """Where the paper, its released code and this library part: a switch a difference, all off by default.

    Each is named after what it turns on, so that a run with one of them measures what it costs. Un-normalised fusion
    (`perceptionGPT.py`) is `fusion.normalise: false`; the released evaluation's mask threshold of 0.35 (`finetune.py`)
    and its scores with the true answers given (`dataset/builder.py`) are a sweep's `cell.mask_threshold` and
    `cell.teacher_forced`. Names in brackets are files of the released code.

    Attributes:
        giou_misparsed: GIoU of corners that are read as centre and size (`box_utils.py` converts boxes that are corners
            already).
        position_scrambled: the mask decoder's position codes with their axes confused (`sam.py` unpacks rows, columns
            and channels as channels, rows and columns).
        dice_pooled: DICE of all masks of a micro-batch as if they were one (`dice_loss.py` sums over the batch).
        last_layer_excluded: both fusions take all layers but the last (`clip_custom.py` cuts it off).
        projector_frozen: the projector stays as it was aligned, the fusion learns (under LoRA peft freezes it, and
            `build_perceptionGPT.py` does not release it).
        state_at_vis: a region is decoded from the state at its `<vis>`, the paper's `<vis>` embedding read to the
            letter; the released code (`perceptionGPT.py`) and our default take the state before it, which predicts it.
        mask_encoder_unused: a region in the input is its box alone (`perceptionGPT.py` computes the mask's code and
            drops it); one that has a mask alone is the mask's box.
    """

    giou_misparsed: bool = False
    position_scrambled: bool = False
    dice_pooled: bool = False
    last_layer_excluded: bool = False
    projector_frozen: bool = False
    state_at_vis: bool = False
    mask_encoder_unused: bool = False


class Data(Section):
    """What is trained and evaluated on. `tasks` maps tasks (`data.refshapes.tasks.TASKS`) to shares of the questions.

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
    turns_apart: bool = False  # they see the image, but not each other; needs a chat format that begins with the image
    tasks: Mapping[str, Annotated[float, Field(ge=0)]] = Field(default_factory=lambda: {"rec": 1.0})

    @field_validator("tasks")
    @classmethod
    def _tasks_to_draw(cls, tasks: Mapping[str, float]) -> Mapping[str, float]:
        from .data.refshapes.tasks import TASKS  # later than this module, on which all of pgpt_lib rests

        if unknown := [name for name in tasks if name not in TASKS]:
            raise ValueError(f"unknown task {unknown[0]!r}; there are {', '.join(TASKS)}")
        if not any(tasks.values()):
            raise ValueError("no task has a share; at least one must be above 0")
        return tasks

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
    aligned_lr: float = Field(default=1.0, ge=0)  # rate of fusion and projector as a share of lr, if they begin aligned
    encoder_lr: float = Field(default=1.0, ge=0)  # rate of the encoders of given regions, likewise
    warmup: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    grad_clip: float = Field(default=1.0, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"
    save_every: PositiveInt = 200
    log_every: PositiveInt = 20
    cache_features: bool = True  # encode each image once, on disk; else run the tower in every step
    checkpointing: bool = False  # compute the language model's activations again instead of keeping them
    compile: bool = False  # the language model's blocks through torch.compile, where it works
    input_dropout: float = Field(default=0.3, ge=0, le=1)  # how often an input region lacks its box or mask


class Budget(Section):
    """What a notebook needs in this profile: minutes of two cores, gigabytes of memory and disk, and cards."""

    minutes: Mapping[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    memory_gb: float = Field(default=4, gt=0)
    disk_gb: float = Field(default=2, gt=0)
    launch: Literal["here", "ddp", "fsdp", "zero2"] = "here"  # how notebook 05 trains: itself, or by accelerate
    gpu: str = ""  # the card that the profile is meant for, by its name in `estimate`; empty where it needs none
    gpus: PositiveInt = 1


class Profile(Section):
    """Everything that a run depends on, beside the seed."""

    name: str
    vision: Vision
    llm: LLM
    fusion: Fusion = Fusion()
    projector: Literal["mlp", "linear"] = "mlp"
    representation: Literal["embedding", "numerical", "vocabulary"] = "embedding"
    coordinates: Coordinates = Coordinates()
    signals: tuple[str, ...] = Field(default=("box", "mask", "depth"), min_length=1)
    region_codes: RegionCodes = RegionCodes()
    signal_widths: Mapping[str, PositiveInt] = Field(
        default_factory=dict
    )  # of a signal's networks; else its own choice
    mask_head: Literal["two_way", "dot_product"] = "two_way"  # section 3.1's, or UFO's product with magnified features
    released: Released = Released()
    losses: Losses = Losses()
    data: Data = Data()
    training: Training
    budget: Budget = Budget()

    @field_validator("signals", "signal_widths")
    @classmethod
    def _known_signals(cls, given: tuple[str, ...] | Mapping[str, int]) -> tuple[str, ...] | Mapping[str, int]:
        if not set(given) <= BUNDLED_SIGNALS:  # a program's own, or a wrong name: only then is torch worth loading
            from .signals import SIGNALS

            if unknown := [name for name in given if name not in SIGNALS]:
                raise ValueError(f"unknown signal {unknown[0]!r}; there are {', '.join(SIGNALS)}")
        if len(set(given)) < len(given):
            raise ValueError("a signal stands there twice")
        return given

    @model_validator(mode="after")
    def _switches_act(self) -> Self:
        """Refuse a switch that would change nothing, or that contradicts another setting."""
        decoded = self.signals if self.representation == "embedding" else ()
        plain, released = self.mask_head == "dot_product", self.released
        needs = {  # switch: whether it is on, and the signals without which it does nothing
            f"mask_head {self.mask_head!r}": (plain, ["mask"]),
            "released.giou_misparsed": (released.giou_misparsed, ["box"]),
            "released.position_scrambled": (released.position_scrambled, ["mask"]),
            "released.dice_pooled": (released.dice_pooled, ["mask"]),
            "released.mask_encoder_unused": (released.mask_encoder_unused, ["mask", "box"]),
            "released.state_at_vis": (released.state_at_vis, decoded[:1] or ["box"]),
        }
        for name, (on, signals) in needs.items():
            if on and not set(signals) <= set(decoded):
                raise ValueError(f"{name} needs signals {', '.join(signals)} and representation 'embedding'")
        one_layer = self.fusion.strategy in ("last", "second_last")
        clashes = {
            "position_scrambled: mask_head 'dot_product' has no position codes": released.position_scrambled and plain,
            "state_at_vis needs llm.standardise off": released.state_at_vis and self.llm.standardise,
            f"last_layer_excluded: fusion.strategy {self.fusion.strategy!r} takes one layer": (
                released.last_layer_excluded and one_layer
            ),
            "projector_frozen: training.aligned_lr 0 freezes it already, and the fusion": (
                released.projector_frozen and self.training.aligned_lr == 0
            ),
        }
        for message, clash in clashes.items():
            if clash:
                raise ValueError(f"released.{message}")
        return self

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
        section: Any = settings
        for key in path:
            section = section.setdefault(key, {})
            if not isinstance(section, dict):
                where = f"profile {name}: {dotted} = {value!r}"
                raise InputError(f"{where}: {key} = {section!r} has no settings of its own")
        section[last] = value
    try:
        return Profile.model_validate(settings)
    except ValidationError as error:
        raise InputError(f"profile {name}: {'; '.join(map(_problem, error.errors()))}") from None


def absolute(root: str | Path) -> str:
    """A data folder as profiles keep it: from the disk's root, so that it is one folder however it was typed."""
    return str(Path(root).expanduser().absolute())


def with_root(profile: Profile, root: str) -> Profile:
    """The profile with its data in a folder.

    Raises:
        InputError: its data need none; where another profile with the same backbones has some, it is named.
    """
    if profile.data.name in ("refer", "mixture"):
        return load_profile(profile.name, {"data.root": absolute(root)})
    other = next((f"; {name} reads one" for name in profile_names() if name.startswith(f"{profile.name}-")), "")
    reads = f"profile {profile.name} trains on {profile.data.name}, which reads no folder"
    raise InputError(f"--root {root}: {reads}{other}")


def _problem(error: ErrorDetails) -> str:
    """One of pydantic's errors: setting, value, what is allowed. Of the profile as a whole the message says enough."""
    message = error["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, error['loc']))} = {error['input']!r}: {message}" if error["loc"] else message
