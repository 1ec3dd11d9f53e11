"""The switches that plans name and this version of the library may lack, in one place, so that none is ignored.

A setting that `Profile` has no field for is always lacking; here stands what it would do. Values and cell settings that
the library knows by name but cannot follow have a check of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..config import Profile
from ..errors import InputError
from .cells import Cell

NEEDED = {
    "mask_head": "the mask head: the two-way decoder, or a dot product of the embedding with upsampled features",
    "released.giou_misparsed": "GIoU of corners read as centre and size",
    "released.position_scrambled": "the mask decoder's position codes with their axes confused",
    "released.dice_pooled": "DICE summed over the batch before the quotient",
    "released.last_layer_excluded": "fusion over all layers but the last",
    "released.projector_frozen": "a projector that is not trained",
    "released.state_at_vis": "regions decoded from the state at `<vis>`, not the one that predicts it",
    "released.mask_encoder_unused": "a mask in the question that is encoded as its box alone",
    "cell.align": "fusion and projector aligned anew with the words-only language model",
}
"""What each switch does, by the name that plans use."""


def lacking(cell: Cell) -> list[str]:
    """The settings of a cell that this version cannot follow, as `name = value (what it does)`."""
    found = {name: value for name, value in cell.overrides.items() if not _is_setting(name)}
    if cell.run.align != "bundled":
        found["cell.align"] = cell.run.align
    return [f"{name} = {value} ({NEEDED.get(name, 'unknown')})" for name, value in found.items()]


def require_all(cells: Iterable[Cell]) -> None:
    """Refuse cells that need what this version lacks, all of it in one message.

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
            f"sweep {', '.join(plans)} needs what this version of the library lacks: {'; '.join(missing)}. "
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
