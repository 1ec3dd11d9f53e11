"""What plans ask for and cannot have, so that none of it is ignored.

A plan may be ahead of the library: a setting that `Profile` has no field for is lacking. No built-in plan lacks any.
And a profile's backbones may lack what a cell needs: aligned weights, where the projector is to stay as it was aligned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..backbones import aligned_file
from ..config import Profile
from ..errors import InputError
from .cells import Cell


def lacking(cell: Cell) -> list[str]:
    """The settings of a cell that cannot be followed, as `name = value`, and why where it is the backbones."""
    unknown = [f"{name} = {value}" for name, value in cell.overrides.items() if not _is_setting(name)]
    if unknown or cell.run.align != "bundled" or not cell.overrides.get("released.projector_frozen"):
        return unknown
    profile = cell.profile()
    if aligned_file(profile).is_file():
        return []
    return [f"released.projector_frozen = True: no projector is aligned with {profile.llm.name}"]


def require_all(cells: Iterable[Cell]) -> None:
    """Refuse cells that need what is lacking, all of it in one message.

    Raises:
        InputError: a setting is lacking.
    """
    missing: dict[str, None] = {}
    plans: dict[str, None] = {}
    for cell in cells:
        for text in lacking(cell):
            missing[text], plans[cell.plan] = None, None
    if missing:
        raise InputError(
            f"sweep {', '.join(plans)} needs what this version or the profile lacks: {'; '.join(missing)}. "
            "--available runs the other cells"
        )


def _is_setting(dotted: str) -> bool:
    """Whether the profile has a field of this dotted name; below a mapping every name is one."""
    model: Any = Profile
    for part in dotted.split("."):
        fields: Mapping[str, Any] = getattr(model, "model_fields", {})
        if not fields:
            return True
        if part not in fields:
            return False
        model = fields[part].annotation
    return True
