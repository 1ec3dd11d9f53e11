"""An estimate for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import Profile
from .plan import Strategy, estimate


def own_estimate(profile: Profile, way: str = "") -> str:
    """What training a profile costs on the cards that its budget names, or that it needs none.

    Args:
        profile: whose settings.
        way: how weights and moments lie on the cards (`here` counts as `ddp`); empty means as the profile says.
    """
    budget = profile.budget
    if not budget.gpu:
        return f"{profile.name} needs no card: nothing to estimate"
    way = way or budget.launch
    strategy: Strategy = "fsdp" if way == "fsdp" else "zero2" if way == "zero2" else "ddp"
    return as_text(estimate(profile, budget.gpu, budget.gpus, strategy))


def as_text(found: Mapping[str, Any]) -> str:
    """What `plan.estimate` found."""
    card, time, assumed = found["gpu"], found["time"], found["assumptions"]
    lines = [f"{found['profile']} on {card['count']} x {card['name']}, {found['strategy']}", ""]
    lines.append(f"{'parameters':<18}{'all':>16}{'trained':>14}")
    for part in [*found["parameters"]]:
        lines.append(f"  {part:<16}{found['parameters'][part]:>16,}{found['trainable'].get(part, 0):>14,}")
    table6, code = (" to ".join(f"{value / 1e6:.0f}M" for value in pair) for pair in found["compare"].values())
    lines.append(f"  trained share {found['trainable']['share']:.2%}; the paper's Table 6: {table6}; its code: {code}")
    memory = found["memory"]
    lines += ["", f"memory of a card of {card['memory_gb']:g} GB: {'fits' if memory['fits'] else 'does not fit'}"]
    lines += [f"  {part:<16}{value / 1e9:>16.2f} GB" for part, value in memory.items() if part != "fits"]
    lines += ["", f"FLOP a step {found['flop']['a_step']:.3g}, repeated {found['flop']['recomputed']:.3g}"]
    lines.append(
        f"time {time['seconds_a_step']:.2f} s a step, {time['hours']:.1f} hours for {assumed['steps']:,} steps "
        f"({time['gpu_hours']:.0f} GPU hours), {time['tokens_a_second']:,.0f} tokens a second"
    )
    lines.append(f"at {assumed['utilisation']:.0%} of the peak, {time['mfu']:.0%} without what is repeated")
    lines.append("disk " + ", ".join(f"{part} {value / 1e9:.1f} GB" for part, value in found["disk"].items()))
    lines.append(
        f"a dialogue: {assumed['image_tokens']} tokens of the image, {assumed['text_tokens']} of text; "
        f"{assumed['dialogues_a_gpu']} dialogues a card at once"
    )
    return "\n".join(lines)
