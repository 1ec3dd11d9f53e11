"""Plans of sweeps as data: `plans/NAME.yaml` in the package, with sizes in `plans/sizes.yaml`.

    profile: cpu                      settings that every cell starts from
    overrides: {signals: [box]}       of the profile, in every cell
    factors:                          in the order of a cell's name
      rank: {8: {llm.lora_rank: 8}, full: {llm.tuning: full}}      values, and what each sets
      fraction: {number: cell.fraction}                            any number, and which setting takes it
    defaults: {fraction: 1.0}         of factors that a cell need not name
    grids:                            in the order of running; every factor a value or a list of them
      - {rank: 8, seed: [0, 1, 2]}

What a value sets is a setting of the profile by its dotted name, or one of `RunSettings` as `cell.NAME`. Every plan has
a factor `seed` beside its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml
from pydantic import ValidationError

from ..config import Section
from ..errors import InputError
from .cells import Cell, RunSettings, cell_id

SIZES = "sizes"
SEED = {"number": "cell.seed"}
Settings = Mapping[str, Any]


class Plan(Section):
    """A plan as its file has it."""

    name: str
    title: str
    profile: str
    overrides: Settings = {}
    factors: Mapping[str, Mapping[Any, Any]]
    defaults: Settings = {}
    grids: tuple[Settings, ...]

    def cells(self, profile: str = "") -> list[Cell]:
        """All cells, in their order, each once.

        Args:
            profile: in place of the plan's own, as `smoke` to try every path.
        """
        found: dict[str, Cell] = {}
        for grid in self.grids:
            lists = {name: value if isinstance(value, list) else [value] for name, value in grid.items()}
            for values in itertools.product(*lists.values()):
                cell = self.cell(dict(zip(lists, values, strict=True)), profile)
                found.setdefault(cell.id, cell)
        return list(found.values())

    def cell(self, given: Settings, profile: str = "") -> Cell:
        """The cell of these factors' values.

        Raises:
            InputError: an unknown factor, a value that it does not have, or a factor without default left out.
        """
        factors = {**self.factors, "seed": SEED}
        for name in given:
            if name not in factors:
                raise InputError(f"sweep {self.name} has no factor {name!r}; it has {', '.join(factors)}")
        complete = {name: given.get(name, self.defaults.get(name)) for name in factors}
        absent = [name for name, value in complete.items() if value is None]
        if absent:
            raise InputError(f"sweep {self.name}: factor {absent[0]} is not given; {self._choices(absent[0])}")
        name = profile or self.profile
        settings: dict[str, Any] = {**_pinned(name), **self.overrides}
        for factor, value in complete.items():
            settings |= self._settings(factor, value)
        run = {k.removeprefix("cell."): v for k, v in settings.items() if k.startswith("cell.")}
        overrides = {k: v for k, v in settings.items() if not k.startswith("cell.")}
        identity = cell_id(complete, self.defaults)
        try:
            run_settings = RunSettings.model_validate({**_sizes(name, self.name), **run})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors())
            raise InputError(f"sweep {self.name}, cell {identity}: {problems}") from None
        return Cell(self.name, identity, complete, name, overrides, run_settings)

    def _settings(self, factor: str, value: Any) -> Settings:
        values = {**self.factors, "seed": SEED}[factor]
        for known, settings in values.items():
            if str(known) == str(value) and known != "number":
                return settings
        if "number" in values and isinstance(value, (int, float)) and not isinstance(value, bool):
            return {values["number"]: value}
        raise InputError(f"sweep {self.name}: {factor} = {value!r} is not among its values; {self._choices(factor)}")

    def _choices(self, factor: str) -> str:
        values = {**self.factors, "seed": SEED}[factor]
        words = [str(value) for value in values if value != "number"] + ["a number"] * ("number" in values)
        return f"there are {', '.join(words)}" if len(words) > 1 else f"it takes {words[0]}"


def plan_names() -> list[str]:
    """The plans that ship with the package."""
    files = resources.files(__package__).joinpath("plans").iterdir()
    return sorted(f.name[:-5] for f in files if f.name.endswith(".yaml") and f.name != f"{SIZES}.yaml")


def load_plan(name: str) -> Plan:
    """A built-in plan.

    Raises:
        InputError: there is none of this name.
    """
    if name not in plan_names():
        known = ", ".join(plan_names())
        raise InputError(
            f"unknown sweep {name!r}; there are {known}, or give a YAML file with a grid of notebook parameters"
        )
    return Plan.model_validate({"name": name, **_read(name)})


def plan_file(name: str) -> str:
    """Where a built-in plan stands in the repository."""
    return f"pgpt_lib/sweeps/plans/{name}.yaml"


def sized(profile: str) -> bool:
    """Whether sweeps know how large their cells are in a profile."""
    return profile in _read(SIZES)


def _sizes(profile: str, plan: str) -> Settings:
    sizes = _read(SIZES)
    if profile not in sizes:
        raise InputError(f"sweeps have no sizes for profile {profile!r}; there are {', '.join(sizes)}")
    return {**sizes[profile]["all"], **sizes[profile].get(plan, {})}


def _pinned(profile: str) -> Settings:
    """Settings of a profile that sweeps hold fast, whatever becomes of them in the profile itself."""
    return _read(SIZES).get(profile, {}).get("settings", {})


def _read(name: str) -> Any:
    return yaml.safe_load(resources.files(__package__).joinpath("plans", f"{name}.yaml").read_text(encoding="utf-8"))
