"""Check of notebook 04's third exercise: decoding with a cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .base import CheckFailed, guarded, passed

FORBIDDEN = ["pgpt_lib.checks.decoding._decode"]
WORDS = 12  # tokens of the toy model; the last one ends an answer


class ToyModel:
    """A model whose next token depends on all tokens before it, in their order, and which counts what it reads.

    `model(ids, cache)` reads new tokens after those of the cache (None at first), and returns scores [WORDS] of the
    next token and the cache of all read so far.
    """

    def __init__(self, seed: int, length: int) -> None:
        self.seed, self.length, self.read, self.prompt = seed, length, 0, 0

    def __call__(self, ids: Sequence[int], cache: Any = None) -> tuple[np.ndarray, tuple[int, ...]]:
        new = tuple(int(i) for i in ids)
        if not new:
            raise ValueError("the model was given no token to read")
        self.read += len(new)
        seen = (*(cache or ()), *new)
        scores = np.random.default_rng([self.seed, *seen]).normal(size=WORDS)
        scores[-1] = 9.0 if len(seen) - self.prompt >= self.length else -9.0
        return scores, seen


def check_cached_decoding(solution: Any, seed: int = 0) -> None:
    """`solution(model, prompt, end_id, most)` -> the answer's token ids, greedy, without `end_id`, at most `most`.

    `model(new_ids, cache)` returns the next token's scores and a new cache; the first cache is None. Every token is
    read once. The library's own loop, in `generation`, knows tensors and a whole `PerceptionGPT` only, so that nothing
    of it can answer; the loop of this check can, and is forbidden.
    """
    rng = np.random.default_rng(seed)
    end = WORDS - 1
    for what, length, most in (("an answer that ends", 4, 20), ("an answer that is cut off", 15, 6)):
        prompt = rng.integers(0, end, int(rng.integers(4, 8))).tolist()
        number = int(rng.integers(1, 10**6))

        def toy(number: int = number, length: int = length, prompt: list[int] = prompt) -> ToyModel:
            model = ToyModel(number, length)
            model.prompt = len(prompt)
            return model

        model = toy()
        given = guarded(partial(solution, model, list(prompt), end, most), what, FORBIDDEN)
        if given is None:
            raise CheckFailed(f"your function returned None for {what}: is the return statement missing?")
        try:
            answer = [int(token) for token in given]
        except (TypeError, ValueError):
            raise CheckFailed(f"your function returned {type(given).__name__} for {what}, not token ids") from None
        right = _decode(toy(), prompt, end, most)
        if answer != right:
            raise CheckFailed(_mistake(answer, toy, prompt, end, most, right) or f"wrong tokens for {what}")
        if model.read > len(prompt) + len(right):
            raise CheckFailed(
                "the tokens are right, but old ones are read again for each new one: with a cache, give the model the "
                "new token only"
            )
    passed("cached decoding")


def _decode(model: ToyModel, prompt: Sequence[int], end: int, most: int, again: bool = False, blind: bool = False,
            pick: Any = np.argmax, stop: bool = True) -> list[int]:  # fmt: skip
    """Greedy decoding, right unless a flag plants a mistake."""
    new: list[int] = list(prompt)
    cache, answer = None, list[int]()
    while len(answer) < most:
        scores, cache = model(new, None if blind else cache)
        token = int(pick(scores))
        if token == end and stop:
            break
        answer.append(token)
        new = [*prompt, *answer] if again else [token]
    return answer


def _mistake(answer: list[int], toy: Any, prompt: list[int], end: int, most: int, right: list[int]) -> str:
    """What a wrong answer is, if it is a known one."""
    if answer[: len(prompt)] == prompt and answer[len(prompt) :][: len(right)] == right:
        return "your answer begins with the prompt: return what the model added"
    if answer == [*right, end]:
        return "your answer holds the token that ends it: stop before it is added"
    if len(answer) > most and answer[:most] == right:
        return "your answer is longer than allowed: stop after `most` tokens"
    if answer == right[:-1]:
        return "your answer lacks its last token"
    if answer == right[1:]:
        return "your answer lacks its first token: the prompt's scores choose it"
    known: dict[str, dict[str, Any]] = {
        "you give the model the whole sequence and the cache: then it reads every token twice": {"again": True},
        "you never give the cache back: the model sees the last token alone": {"blind": True},
        "you take the least likely token": {"pick": np.argmin},
        "your answer goes on after the token that ends it": {"stop": False},
    }
    return next((text for text, flags in known.items() if answer == _decode(toy(), prompt, end, most, **flags)), "")
