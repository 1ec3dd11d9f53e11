"""Checks of notebook 09: counting tokens, the time of a decode, and the time of one step."""

from __future__ import annotations

import re

import numpy as np

from .base import Case, Function, Mistake, examine


def check_token_count(solution: Function, seed: int = 0) -> None:
    """`solution(text)` -> how many tokens a written region takes.

    A word in angle brackets, as `<loc_17>`, is one token; of the rest every sign but a blank is one, digits too.
    """
    rng = np.random.default_rng(seed)
    numbers = [f"{v:.3f}" for v in rng.uniform(0, 1, 8)]
    places = [f"<loc_{i}>" for i in rng.integers(10, 1000, int(rng.integers(3, 6)))]
    contour = f"[{','.join(numbers[:6])}; {','.join(numbers[2:])}]"
    cases = [
        Case("a box in digits", (f"[{','.join(numbers[:4])}]",)),
        Case("a contour in digits, with a blank", (contour,)),
        Case("location tokens with marks", (f"<region>{''.join(places)}</region>",)),
        Case("one `<vis>`", ("<vis>",)),
        Case("both kinds in one text", (f"<p>[{','.join(numbers[4:6])}]</p> {places[0]}",)),
    ]
    token = re.compile(r"<[^>]*>|\S")

    def pieces(pattern: str) -> Function:
        return lambda text: len(re.findall(pattern, text))

    def values_only(text: str) -> int:
        return sum(t[0].isdigit() or t.startswith("<") for t in token.findall(text))

    def bare(text: str) -> int:
        return sum(t not in ("<region>", "</region>", "<p>", "</p>", *"[],.;") for t in token.findall(text))

    def unmarked(text: str) -> int:
        return sum(t not in ("[", "]", "<region>", "</region>", "<p>", "</p>") for t in token.findall(text))

    examine(
        "tokens of a region",
        solution,
        lambda text: len(token.findall(text)),
        cases,
        [
            Mistake("you count every sign of `<loc_17>`; in angle brackets it is one token", len),
            Mistake("you count every sign of `<loc_17>`; in angle brackets it is one token", pieces(r"\S")),
            Mistake("blanks are no tokens here", pieces(r"<[^>]*>|.")),
            Mistake("you count a number as one token; each of its digits is one, and so is the point",
                    pieces(r"<[^>]*>|\d+\.\d+|\S")),
            Mistake("you count a run of digits as one token; each digit is one", pieces(r"<[^>]*>|\d+|\S")),
            Mistake("you leave out the signs: points, commas and brackets are written too", values_only),
            Mistake("you leave out the marks around a region: they are written too", unmarked),
            Mistake("you leave out signs and marks: points, commas, brackets and marks are written too", bare),
            Mistake("you count the words between blanks", lambda text: len(text.split())),
            Mistake("you count digits alone: tokens in angle brackets count as well, and so do signs",
                    lambda text: sum(c.isdigit() for c in re.sub(r"<[^>]*>", "", text))),
        ],
        tolerance=1e-9,
        forbidden=["pgpt_lib.benchmark.tokens.by_rule"],
    )  # fmt: skip


def check_decode_seconds(solution: Function, seed: int = 0) -> None:
    """`solution(parts, tokens, cached)` -> seconds until a region of so many tokens is decoded.

    `parts` has the seconds of "vision" (once), "prefill" (the prompt, which gives the region's first token), "step"
    (one further token with a cache) and "head" (once). Without a cache every token costs a prefill; that the text grows
    meanwhile is left out.
    """
    rng = np.random.default_rng(seed)

    def draw() -> dict[str, float]:
        scale = {"vision": 0.03, "prefill": 0.06, "step": 0.009, "head": 0.004}
        return {name: float(mean * rng.uniform(0.7, 1.3)) for name, mean in scale.items()}

    cases = [
        Case("25 tokens with a cache", (draw(), 25, True)),
        Case("25 tokens without a cache", (draw(), 25, False)),
        Case("one token with a cache", (draw(), 1, True)),
        Case("one token without a cache", (draw(), 1, False)),
    ]

    def of(cached_time: Function, uncached_time: Function) -> Function:
        def seconds(p: dict[str, float], n: int, cached: bool) -> float:
            return (cached_time if cached else uncached_time)(p, n)

        return seconds

    def with_cache(p: dict[str, float], n: int) -> float:
        return p["vision"] + p["prefill"] + (n - 1) * p["step"] + p["head"]

    def without(p: dict[str, float], n: int) -> float:
        return p["vision"] + n * p["prefill"] + p["head"]

    right = of(with_cache, without)
    examine(
        "seconds of a decode",
        solution,
        right,
        cases,
        [
            Mistake("the prompt's pass gives the first token already: with a cache only tokens - 1 steps follow",
                    of(lambda p, n: with_cache(p, n + 1), without)),
            Mistake("without a cache the first token comes with the prompt's pass too: there are `tokens` passes",
                    of(with_cache, lambda p, n: without(p, n + 1))),
            Mistake("the prompt's pass gives the first token already, with a cache and without",
                    of(lambda p, n: with_cache(p, n + 1), lambda p, n: without(p, n + 1))),
            Mistake("you have exchanged both: a cache makes decoding faster", of(without, with_cache)),
            Mistake("you leave out the picture: the tower runs once",
                    lambda p, n, c: right({**p, "vision": 0.0}, n, c)),
            Mistake("you leave out the head, which decodes the region at the end",
                    lambda p, n, c: right({**p, "head": 0.0}, n, c)),
            Mistake("you leave out both the picture and the head",
                    lambda p, n, c: right({**p, "head": 0.0, "vision": 0.0}, n, c)),
            Mistake("you run the tower for every token; here the picture is seen once",
                    of(with_cache, lambda p, n: without(p, n) + (n - 1) * p["vision"])),
            Mistake("you run the head for every token; it decodes the region once",
                    lambda p, n, c: right(p, n, c) + (n - 1) * p["head"]),
            Mistake("you leave out the prompt's pass with a cache: it fills the cache",
                    of(lambda p, n: with_cache(p, n) - p["prefill"], without)),
            Mistake("without a cache a token costs the prompt's pass, not a pass and a step",
                    of(with_cache, lambda p, n: without(p, n) + (n - 1) * p["step"])),
            Mistake("you ignore `cached`", of(with_cache, with_cache)),
            Mistake("you ignore `cached`", of(without, without)),
        ],
        tolerance=1e-9,
        forbidden=["pgpt_lib.benchmark.decoding.predict", "pgpt_lib.benchmark.full_scale.predict"],
    )  # fmt: skip


def check_step_seconds(solution: Function, seed: int = 0) -> None:
    """`solution(parameters, bytes_each, cache_bytes, bandwidth, flops)` -> the least seconds of one decoding step.

    A step reads all weights and the cache once at `bandwidth` bytes a second, and computes a multiplication and an
    addition a parameter at `flops` operations a second. Both happen at the same time: the slower one decides.
    """
    rng = np.random.default_rng(seed)

    def draw(count: float, each: float, speed: float, rate: float) -> tuple[float, ...]:
        jitter = rng.uniform(0.8, 1.2, 3)
        return count * jitter[0], each, 2e8 * jitter[1], speed * jitter[2], rate

    cases = [
        Case("7 billion parameters on a fast GPU", draw(6.6e9, 2, 2.0e12, 312e12)),
        Case("weights of 4 bytes", draw(1.3e8, 4, 4.0e10, 2e11)),
        Case("a machine that computes slowly", draw(1.3e8, 2, 4.0e11, 4e9)),
    ]

    def read(p: float, b: float, c: float, w: float, f: float) -> float:
        return (p * b + c) / w

    def compute(p: float, b: float, c: float, w: float, f: float) -> float:
        return 2 * p / f

    def either(*given: float) -> float:
        return max(read(*given), compute(*given))

    examine(
        "seconds of a step",
        solution,
        either,
        cases,
        [
            Mistake("reading and computing happen at the same time: take the larger, not the sum",
                    lambda *g: read(*g) + compute(*g)),
            Mistake("the slower of both decides: take the larger, not the smaller",
                    lambda *g: min(read(*g), compute(*g))),
            Mistake("you count the reading alone; a slow processor can take longer", read),
            Mistake("you count the computing alone; mostly memory is the limit", compute),
            Mistake("the cache is read as well", lambda p, b, c, w, f: either(p, b, 0, w, f)),
            Mistake("`parameters` are numbers: times `bytes_each` they are bytes",
                    lambda p, b, c, w, f: either(p, 1, c, w, f)),
            Mistake("a parameter takes two operations, a multiplication and an addition",
                    lambda p, b, c, w, f: either(p, b, c, w, 2 * f)),
            Mistake("a parameter takes two operations, whatever its bytes", lambda p, b, c, w, f:
                    max(read(p, b, c, w, f), 2 * p * b / f)),
            Mistake("the cache's bytes are bytes already", lambda p, b, c, w, f: either(p, b, c * b, w, f)),
            Mistake("that is steps a second: turn it over", lambda *g: 1 / either(*g)),
        ],
        tolerance=1e-9,
        forbidden=["pgpt_lib.benchmark.machine.product_seconds", "pgpt_lib.benchmark.full_scale.predict"],
    )  # fmt: skip
