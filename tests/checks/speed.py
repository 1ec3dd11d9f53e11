"""Solutions of notebook 09: tokens of a region, seconds of a decode and of one step."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np

from pgpt_lib.benchmark import decoding, machine
from pgpt_lib.benchmark.tokens import by_rule
from pgpt_lib.benchmark.work import Product, Work


def count_regex(text):
    return len(re.findall(r"<[^>]+>|[^\s]", text))


def count_loop(text):
    count, inside = 0, False
    for sign in text:
        if sign == "<":
            count, inside = count + 1, True
        elif sign == ">":
            inside = False
        elif not inside and not sign.isspace():
            count += 1
    return count


def count_replaced(text):
    return len("".join(re.sub("<.*?>", "x", text).split()))


def seconds_plain(parts, tokens, cached):
    more = parts["step"] if cached else parts["prefill"]
    return parts["vision"] + parts["prefill"] + (tokens - 1) * more + parts["head"]


def seconds_loop(parts, tokens, cached):
    total = parts["vision"]
    for i in range(tokens):
        total += parts["prefill"] if i == 0 or not cached else parts["step"]
    return total + parts["head"]


def seconds_numpy(parts, tokens, cached):
    passes = np.full(tokens, parts["step"] if cached else parts["prefill"])
    passes[0] = parts["prefill"]
    return np.array([parts["vision"], *passes, parts["head"]]).sum()


def seconds_library(parts, tokens, cached):
    """The library's sum, told that the work of a part is its seconds."""
    later = [parts["step" if cached else "prefill"]] * len(decoding.sampled(tokens))
    counts = {part: [parts[part]] for part in ("vision", "prefill", "head")} | {"decode": later}
    return sum(decoding.predict(counts, tokens, SimpleNamespace(seconds=float)).values())


def step_library(parameters, bytes_each, cache_bytes, bandwidth, flops):
    work = Work(products=[Product(2 * parameters, parameters * bytes_each + cache_bytes, 1, 1)])
    return machine.product_seconds(work, lambda *shape: flops, lambda pieces: bandwidth)


def step_plain(parameters, bytes_each, cache_bytes, bandwidth, flops):
    return max((parameters * bytes_each + cache_bytes) / bandwidth, 2 * parameters / flops)


def step_branches(parameters, bytes_each, cache_bytes, bandwidth, flops):
    memory = parameters * bytes_each / bandwidth + cache_bytes / bandwidth
    compute = parameters / flops + parameters / flops
    if compute > memory:
        return compute
    return memory


def step_numpy(parameters, bytes_each, cache_bytes, bandwidth, flops):
    return np.max([np.dot([parameters, 1], [bytes_each, cache_bytes]) / bandwidth, parameters / (flops / 2)])


RIGHT = {
    "check_token_count": [count_regex, count_loop, count_replaced],
    "check_decode_seconds": [seconds_plain, seconds_loop, seconds_numpy],
    "check_step_seconds": [step_plain, step_branches, step_numpy],
}
WRONG = {
    "check_token_count": [
        (len, "every sign of `<loc_17>`"),
        (lambda text: len("".join(text.split())), "every sign of `<loc_17>`"),
        (lambda text: len(re.sub("<.*?>", "x", text)), "blanks are no tokens"),
        (lambda text: count_replaced(re.sub(r"\d+\.\d+", "x", text)), "a number as one token"),
        (lambda text: count_replaced(re.sub(r"(?<!_)\d+(?![\d>])", "x", text)), "a run of digits"),
        (lambda text: count_replaced(re.sub(r"[\[\].,;]|</?(region|p)>", "", text)), "signs and marks"),
        (lambda text: len(re.findall(r"<[^>]+>|\d", text)), "leave out the signs"),
        (lambda text: len(text.split()), "words between blanks"),
        (lambda text: len(by_rule(text)), "calls by_rule"),
    ],
    "check_decode_seconds": [
        (lambda p, n, c: seconds_plain(p, n + 1, c), "with a cache and without"),
        (lambda p, n, c: seconds_plain(p, n + 1 if c else n, c), "only tokens - 1 steps"),
        (lambda p, n, c: seconds_plain(p, n, not c), "exchanged both"),
        (lambda p, n, c: seconds_plain(p, n, c) - p["vision"], "the tower runs once"),
        (lambda p, n, c: seconds_plain(p, n, c) - p["head"], "leave out the head"),
        (lambda p, n, c: seconds_plain(p, n, c) + (0 if c else (n - 1) * p["vision"]), "tower for every token"),
        (lambda p, n, c: seconds_plain(p, n, c) + (n - 1) * p["head"], "head for every token"),
        (lambda p, n, c: seconds_plain(p, n, True), "ignore `cached`"),
        (seconds_library, "calls predict, which is the answer already"),
        (lambda p, n, c: None, "return statement"),
    ],
    "check_step_seconds": [
        (lambda p, b, c, w, f: (p * b + c) / w + 2 * p / f, "not the sum"),
        (lambda p, b, c, w, f: min((p * b + c) / w, 2 * p / f), "not the smaller"),
        (lambda p, b, c, w, f: (p * b + c) / w, "the reading alone"),
        (lambda p, b, c, w, f: 2 * p / f, "the computing alone"),
        (lambda p, b, c, w, f: step_plain(p, b, 0, w, f), "the cache is read"),
        (lambda p, b, c, w, f: step_plain(p, 1, c, w, f), "times `bytes_each`"),
        (lambda p, b, c, w, f: step_plain(p, b, c, w, 2 * f), "two operations"),
        (lambda p, b, c, w, f: 1 / step_plain(p, b, c, w, f), "turn it over"),
        (step_library, "calls product_seconds, which is the answer already"),
    ],
}
