"""AdamW's moments of one parameter, whole, however a launcher has divided them: not at all, by FSDP, or by ZeRO-2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .processes import divided_as, whole

MOMENTS = ("exp_avg", "exp_avg_sq")


def moments_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    """A parameter's moments by AdamW's names for them; every process must ask, and all get the whole."""
    if not _by_zero(parameter):
        return {name: whole(value) for name, value in optimizer.state[parameter].items()}
    from deepspeed.utils import safe_get_full_optimizer_state

    _link(optimizer, parameter)
    found = {name: safe_get_full_optimizer_state(parameter, name) for name in MOMENTS}
    step = next(iter(optimizer.state.values()))["step"]  # every part has made the same steps
    return {"step": torch.as_tensor(step, dtype=torch.float32), **found}


def set_moment(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, name: str, value: Tensor) -> None:
    """Put a whole moment back where `moments_of` found it."""
    if not _by_zero(parameter):
        optimizer.state[parameter][name] = divided_as(value, parameter) if value.dim() else value.to(parameter.device)
        return
    from deepspeed.utils import safe_set_full_optimizer_state

    _link(optimizer, parameter)
    if name == "step":
        for state in optimizer.state.values():
            state["step"].copy_(value)
    else:
        safe_set_full_optimizer_state(parameter, value.to(parameter.device), name)


def _by_zero(parameter: nn.Parameter) -> bool:
    """Whether DeepSpeed holds the parameter's moments in flat parts of its own."""
    return hasattr(parameter, "_hp_mapping")


def _link(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> None:
    """Show DeepSpeed where this process's piece of a parameter's moments lies, making them if no step was made yet.

    It does so by itself after its first step, but for the first group of parameters only.
    """
    for group in optimizer.param_groups:
        for flat in group["params"]:
            if not optimizer.state[flat]:
                optimizer.state[flat] = {"step": torch.tensor(0.0), **{m: torch.zeros_like(flat) for m in MOMENTS}}
    mapping = getattr(parameter, "_hp_mapping", None)
    if mapping is not None:  # it is None in a process that holds no piece of the parameter
        flat = optimizer.param_groups[mapping.param_group_index]["params"][0]
        mapping.set_optim_state_fragment(flat, optimizer.state[flat])
