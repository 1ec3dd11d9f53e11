"""Seconds until a box or a mask is decoded, by representation, with a key-value cache and without (Table 7).

The region's true tokens are replayed, so that every model answers at the full length however little it knows. The image
is seen once, as `generate` does; the dynamic embedding takes one token and its signal's decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from ..adapters import base_model
from ..batch import Batch
from ..config import Coordinates, load_profile
from ..data.sample import Sample, Turn
from ..generation import run_decoder
from ..masks import mask_to_rle
from ..model import PerceptionGPT, build_model
from ..regions import Region
from .machine import Rates, now, timed
from .work import Work, count_work

PROFILES = {"nano": "cpu", "smollm2-135m": "photos"}
KINDS = ("box", "mask")
VERTICES = 32  # of a mask's contour, as in Table 7
SIZE = (112, 112)  # of the image
QUESTION = "where is the red circle ?"
REPEATS = 20
FEWEST = 3  # without a cache
LENGTHS = 5  # at which single steps are timed where whole decodes take too long
WITHIN = (0.75, 1.25)  # measured over predicted, of a prediction that counts as met
WANTED = 2 / 3  # of all rows whose prediction is to be met


@dataclass
class Case:
    """A region to be decoded: `embeds` [1, S + n, H] are the prompt's S positions and the n tokens of the region."""

    model: PerceptionGPT
    representation: str
    kind: str
    batch: Batch
    embeds: Tensor
    features: Tensor
    prompt: int
    tables: tuple[Tensor, Tensor]

    @property
    def tokens(self) -> int:
        """The region's tokens."""
        return self.embeds.shape[1] - self.prompt

    def vision(self) -> None:
        """Tower, fusion and projector."""
        self.model.see(self.batch)

    def forward(self, start: int, end: int, past: DynamicCache | None) -> Tensor:
        """The state at `end` - 1 after positions from `start` on, and the choice of a token from it."""
        mask = torch.ones(1, end, dtype=torch.bool)
        positions = torch.arange(start, end)[None]
        state = run_decoder(self.model, self.embeds[:, start:end], mask, positions, past)[:, -1].float()
        self.model.logits(state, self.tables[1]).argmax(-1)
        return state

    def new_cache(self) -> DynamicCache:
        """An empty cache."""
        return DynamicCache(config=base_model(self.model.llm).config)

    def prefill(self, cached: bool = True) -> Tensor:
        """The prompt, and the region's first token."""
        return self.forward(0, self.prompt, self.new_cache() if cached else None)

    def step(self, index: int, cached: bool) -> Callable[[], Any]:
        """Token `index`, from 1, of the region, with all before it in the cache or computed again."""
        length = self.prompt + index
        if not cached:
            return lambda: self.forward(0, length, None)
        past = self.new_cache()
        with torch.no_grad():
            self.forward(0, length - 1, past)

        def run() -> None:
            self.forward(length - 1, length, past)
            past.crop(-1)

        return run

    def head(self) -> None:
        """The signal's decoder; nothing where regions are text."""
        if self.representation == "embedding":
            width = self.embeds.shape[-1]
            states = self.model.state_norm(torch.zeros(1, width))
            self.model.signal(self.kind).decode(states, self.features, torch.zeros(1, dtype=torch.long))

    def whole(self, cached: bool) -> dict[str, float]:
        """Seconds of each part of one decode."""
        clock = [now()]
        self.vision()
        clock.append(now())
        past = self.new_cache() if cached else None
        self.forward(0, self.prompt, past)
        clock.append(now())
        for length in range(self.prompt + 1, self.prompt + self.tokens):
            self.forward(length - 1 if cached else 0, length, past)
        clock.append(now())
        self.head()
        clock.append(now())
        return dict(zip(("vision", "prefill", "decode", "head"), np.diff(clock).tolist(), strict=True))


def example_region() -> Region:
    """An ellipse, whose contour takes any number of vertices."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    bitmap = (((x - 60) / 31) ** 2 + ((y - 52) / 22) ** 2 < 1).astype(np.uint8)
    return Region((29 / 112, 30 / 112, 91 / 112, 74 / 112), mask_to_rle(bitmap))


@torch.no_grad()
def build_case(model: PerceptionGPT, representation: str, kind: str) -> Case:
    """The prompt and the region's tokens, embedded."""
    chat, side = model.chat, model.tower.image_size
    sample = Sample("bench", "bench", SIZE, (Turn("user", QUESTION),))
    batch = model.collate([sample], pixel_values=lambda keys: torch.zeros(len(keys), 3, side, side), generation=True)
    batch = batch.to(torch.get_default_device())
    assert chat.representation is not None
    ids, _ = chat.turn(chat.representation.write(example_region(), SIZE))
    tables = model.embedding_tables()
    image_tokens, features = model.see(batch)
    prompt = model.embed(batch, image_tokens, tables[0])
    answer = F.embedding(torch.tensor([ids]), tables[0]).to(prompt.dtype)
    return Case(model, representation, kind, batch, torch.cat([prompt, answer], 1), features, prompt.shape[1], tables)


def cases(
    llm: str, representations: tuple[str, ...], pair: Any = None, tower: Any = None, vision: str | None = None
) -> Iterator[Case]:
    """Every representation and kind for one language model on the default device.

    Args:
        llm: its name.
        representations: names of `REPRESENTATIONS`.
        pair: makes (model, tokenizer) in place of the name's.
        tower: in place of the profile's.
        vision: name of a tower in place of the profile's.

    Raises:
        InputError: its weights are not to be had.
    """
    for representation in representations:
        for kind in KINDS:
            settings = {"llm.name": llm, "vision.precision": "fp32", "representation": representation}
            settings |= {"vision.name": vision} if vision else {}
            profile = load_profile(PROFILES.get(llm, "cpu"), settings)
            profile = profile.model_copy(
                update={"coordinates": Coordinates.model_validate({"target": kind, "vertices": VERTICES})}
            )
            device = torch.get_default_device()
            # Seeds are the CPU's. Starting values that take long to compute are left out: no time depends on them.
            with torch.no_grad(), torch.device("cpu"):
                made = build_model(profile, 0, pair() if pair else None, tower, to_load=True).eval()
            yield build_case(made.to(device), representation, kind)


def sampled(tokens: int) -> list[int]:
    """Up to five of the steps 1 to `tokens` - 1, evenly spread, both ends among them."""
    return sorted({int(i) for i in np.linspace(1, tokens - 1, LENGTHS).round()}) if tokens > 1 else []


def summed(at: list[int], values: list[float], tokens: int) -> float:
    """The sum over steps 1 to `tokens` - 1 of what was found at some of them, straight lines in between."""
    return float(np.interp(np.arange(1, tokens), at, values).sum()) if at else 0.0


def count_parts(case: Case, cached: bool) -> dict[str, list[Work]]:
    """The work of each part: of `decode` for the steps of `sampled`, of the others once."""
    return {
        "vision": [count_work(case.vision)],
        "prefill": [count_work(lambda: case.prefill(cached))],
        "decode": [count_work(case.step(index, cached)) for index in sampled(case.tokens)],
        "head": [count_work(case.head)],
    }


def predict(counts: Mapping[str, Sequence[Work]], tokens: int, rates: Rates) -> dict[str, float]:
    """Predicted seconds of each part: T = t_vision + t_prefill + sum of t_step + t_head.

    Args:
        counts: from `count_parts`.
        tokens: of the region, the first of which the prefill gives.
        rates: of the machine, calibrated on other models.
    """
    seconds = {part: [rates.seconds(work) for work in works] for part, works in counts.items()}
    totals = {part: sum(values) for part, values in seconds.items()}
    return totals | {"decode": summed(sampled(tokens), seconds["decode"], tokens)}


def measure(
    case: Case, cached: bool, budget: float, spent: float = 0.0
) -> tuple[list[dict[str, float]], str, float | None]:
    """Seconds of the parts in each repeat, how they were taken, and one whole decode where steps were summed.

    Whole decodes where 20 of them fit what is left of the budget, else single steps at five lengths, summed. Then one
    whole decode comes first, as a check, wherever it takes less than the whole budget: the repeats get what it leaves,
    and are 20 with a cache and at least 3 without even where nothing is left.

    Args:
        case: what is decoded.
        cached: with a key-value cache or without.
        budget: seconds of the row.
        spent: how many of them have passed.
    """
    with torch.no_grad():
        at = sampled(case.tokens)
        runs = [case.step(i, cached) for i in at]
        once = [timed(run, 1, 0)[0] for run in runs]  # counting their work has warmed them up
        total = summed(at, once, case.tokens)
        if case.tokens == 1 or (REPEATS + 3) * total * 1.3 < budget - spent:
            for _ in range(3):
                case.whole(cached)
            return [case.whole(cached) for _ in range(REPEATS)], "whole decodes", None
        a_repeat, fewest = 2 * sum(once), REPEATS if cached else FEWEST  # vision, prefill and head are about as much
        check = sum(case.whole(cached).values()) if total < budget else None
        left = budget - spent - (check or 0.0)
        repeats = int(min(REPEATS, max(fewest, 0.7 * left / a_repeat)))
        steps = [timed(run, repeats, 0) for run in runs]
        parts = zip(
            timed(case.vision, repeats), timed(lambda: case.prefill(cached), repeats), timed(case.head, repeats),
            strict=True,
        )  # fmt: skip
        found = [
            {"vision": v, "prefill": p, "decode": summed(at, [s[k] for s in steps], case.tokens), "head": h}
            for k, (v, p, h) in enumerate(parts)
        ]
    return found, f"steps at {len(at)} lengths, summed", check


def row(case: Case, llm: str, cached: bool, rates: Rates, budget: float) -> dict[str, Any]:
    """One line of the result but for its explanation: measured [median, quartiles] beside the prediction, in seconds.

    Args:
        case: what is decoded.
        llm: the language model's name, for the row.
        cached: with a key-value cache or without.
        rates: that predict.
        budget: seconds that the row may take, its prediction included, unless its fewest repeats take longer.
    """
    start = now()
    counts = count_parts(case, cached)
    predicted = predict(counts, case.tokens, rates)
    found, method, check = measure(case, cached, budget, now() - start)
    totals = np.percentile([sum(parts.values()) for parts in found], [50, 25, 75]).tolist()
    parts = {name: float(np.median([each[name] for each in found])) for name in predicted}
    return {
        "representation": case.representation,
        "kind": case.kind,
        "llm": llm,
        "cache": cached,
        "tokens": case.tokens,
        "prompt_tokens": case.prompt,
        "measured": totals,
        "predicted": sum(predicted.values()),
        "ratio": totals[0] / sum(predicted.values()),
        "parts": {"measured": parts, "predicted": predicted},
        "causes": {part: rates.parts(works[-1]) for part, works in counts.items() if works},
        "repeats": len(found),
        "method": method,
        "whole_decode": check,
        "overhead_a_step": rates.parts(counts["decode"][-1])["overhead"] if counts["decode"] else None,
    }


def within(ratio: float) -> bool:
    """Whether measured over predicted lies in `WITHIN`, both ends included."""
    return WITHIN[0] <= ratio <= WITHIN[1]


def target(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many rows are `within` 25 %, `of` how many, and whether these are the share that is `wanted`."""
    hits = sum(within(row["ratio"]) for row in rows)
    return {"within": hits, "of": len(rows), "wanted": WANTED, "met": hits >= WANTED * len(rows)}
