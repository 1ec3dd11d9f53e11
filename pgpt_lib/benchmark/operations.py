"""Where a step's time goes, by kind of operation, from torch's profiler."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch.profiler import ProfilerActivity, profile

LARGEST = 12  # operations that are named

# The first pattern that an operation's name matches says its kind. Times are an operation's own, without its parts.
KINDS = {
    "products": r"aten::(mm|addmm|bmm|baddbmm|.*convolution.*|mkldnn_.*|thnn_conv.*)$",
    "attention": r".*(softmax|attention).*",
    "optimiser": r".*(adamw|_foreach_|linalg_vector_norm|clip_grad).*|Optimizer.*",
    "copies and casts": r"aten::(copy_|_to_copy|to|clone|contiguous|cat|stack|fill_|zero_|zeros.*|empty.*|new_.*)$",
    "gathering": r"aten::(index.*|_index_put.*|embedding.*|gather|scatter.*|masked_.*|nonzero|where|select.*|slice.*)$",
    "elementwise and norms": r"aten::(add.*|sub.*|mul.*|div.*|neg|pow.*|r?sqrt|sum.*|mean.*|.*norm.*|.*gelu.*|.*silu.*"
    r"|.*sigmoid.*|exp|log.*|clamp.*|abs|sgn|maximum|minimum|upsample.*|binary_cross.*|nll_.*|argmax|cos|sin)$",
    "bookkeeping": r".*",  # views, autograd, and what no other kind takes
}


def kind_of(name: str) -> str:
    """The kind of an operation, by its name."""
    return next(kind for kind, pattern in KINDS.items() if re.match(pattern, name))


def by_kind(own: Mapping[str, float], total: float) -> dict[str, float]:
    """Shares of `total` seconds by kind, from operations' own seconds; what none accounts for is `python`."""
    shares = dict.fromkeys(KINDS, 0.0)
    for name, seconds in own.items():
        shares[kind_of(name)] += seconds / total
    return shares | {"python": max(0.0, 1 - sum(shares.values()))}


def profile_step(run: Callable[[], Any]) -> dict[str, Any]:
    """Where the time of one run goes.

    Returns:
        `seconds_profiled`, which the profiler itself lengthens; `shares` of them by kind of operation; `largest`, the
        operations that take most, each with its name, share and number of calls.
    """
    run()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        start = time.perf_counter()  # as the profiler does
        run()
        total = time.perf_counter() - start
    events = [(event.self_cpu_time_total * 1e-6, event.key, event.count) for event in recorded.key_averages()]
    return {
        "seconds_profiled": total,
        "shares": by_kind({name: seconds for seconds, name, _ in events}, total),
        "largest": [
            {"operation": name, "kind": kind_of(name), "share": seconds / total, "calls": count}
            for seconds, name, count in sorted(events, reverse=True)[:LARGEST]
        ],
    }
