"""Checks of notebook 05: which tokens are supervised, and an order of samples that survives a restart."""

from __future__ import annotations

import random

import numpy as np

from .base import Case, CheckFailed, Function, Mistake, call, examine, passed

IGNORE = -100
STREAMS = [
    "pgpt_lib.data.refshapes.world.RefShapesStream.batch",
    "pgpt_lib.pretraining.dialogues.PixelBatches.__getitem__",
]
Turns = list[tuple[str, list[int]]]


def check_label_mask(solution: Function, seed: int = 0) -> None:
    """`solution(turns, end_id)` -> labels: one for every token of the dialogue, -100 where nothing is learnt.

    `turns` is a list of (role, token ids), role "user" or "assistant"; in the dialogue `end_id` follows each turn's
    tokens. The assistant's tokens and the end of its turns are learnt. Labels are not shifted: the loss does that.
    """
    rng = random.Random(seed)
    end = rng.randint(100, 200)

    def dialogue(rounds: int) -> Turns:
        roles = ["user", "assistant"] * rounds
        return [(role, [rng.randint(1, 90) for _ in range(rng.randint(2, 6))]) for role in roles]

    cases = [
        Case("one question and its answer", (dialogue(1), end)),
        Case("three questions about an image", (dialogue(3), end)),
    ]

    def masked(
        answer_end: bool = True, question_end: bool = False, ignore: int = IGNORE, learnt: str = "assistant"
    ) -> Function:
        def labels(turns: Turns, end: int) -> list[int]:
            out: list[int] = []
            for role, ids in turns:
                out += ids if role == learnt else [ignore] * len(ids)
                out.append(end if (answer_end if role == learnt else question_end) else ignore)
            return out

        return labels

    def only_last(turns: Turns, end: int) -> list[int]:
        before = sum(len(ids) + 1 for _, ids in turns[:-1])
        return [IGNORE] * before + turns[-1][1] + [end]

    def shifted(turns: Turns, end: int) -> list[int]:
        return [*masked()(turns, end)[1:], IGNORE]

    examine(
        "label mask",
        solution,
        masked(),
        cases,
        [
            Mistake("the end of an answer is not learnt: the model would never stop", masked(answer_end=False)),
            Mistake(
                "the end of the user's turns is learnt too: that is not the assistant's to say",
                masked(question_end=True),
            ),
            Mistake("you learn the user's turns in place of the assistant's", masked(learnt="user")),
            Mistake(
                "everything is learnt, the user's questions as well",
                lambda turns, end: [token for _, ids in turns for token in [*ids, end]],
            ),
            Mistake("you mask with 0, which is a token: the loss leaves out -100", masked(ignore=0)),
            Mistake("you mask with -1, which the loss does not know: it leaves out -100", masked(ignore=-1)),
            Mistake("only the last answer is learnt", only_last),
            Mistake("your labels are shifted already: the loss shifts them once more", shifted),
            Mistake(
                "you label the answers' tokens alone: every token has a label, -100 where nothing is learnt",
                lambda turns, end: [token for role, ids in turns if role == "assistant" for token in [*ids, end]],
            ),
        ],
        tolerance=1e-9,
        forbidden=["pgpt_lib.chat.Chat.encode", "pgpt_lib.pretraining.dialogues.pack"],
    )


def check_learning_rate(solution: Function, seed: int = 0) -> None:
    """`solution(step, steps, peak, warmup)` -> the learning rate: `warmup` steps up to `peak`, then half a cosine.

    Before `warmup` it is peak (step + 1) / (warmup + 1); from there peak (1 + cos(pi p)) / 2, where p is the part of
    the other steps that is over, (step - warmup) / (steps - warmup).
    """
    rng = np.random.default_rng(seed)
    steps, warmup, peak = int(rng.integers(80, 120)), int(rng.integers(6, 12)), float(rng.uniform(1e-3, 9e-3))
    places = {
        "the first step": 0,
        "the warm-up": warmup // 2,
        "the last step of the warm-up": warmup - 1,
        "the first step after it": warmup,
        "the middle of the cosine": (warmup + steps) // 2,
        "the last step": steps - 1,
    }
    cases = [Case(what, (step, steps, peak, warmup)) for what, step in places.items()]

    def rate(
        up: Function = lambda t, w: (t + 1) / (w + 1),
        down: Function = lambda t, n, w: (1 + np.cos(np.pi * (t - w) / (n - w))) / 2,
    ) -> Function:
        return lambda t, n, peak, w: 1e3 * peak * (up(t, w) if t < w else down(t, n, w))

    def scaled(t: int, n: int, peak: float, w: int) -> float:
        return float(1e3 * solution(t, n, peak, w))  # so that the tolerance means something

    examine(
        "learning rate",
        scaled,
        rate(),
        cases,
        [
            Mistake("your first step has a rate of 0 and is lost: count steps from 1", rate(up=lambda t, w: t / w)),
            Mistake(
                "your first step has a rate of 0 and is lost: count steps from 1", rate(up=lambda t, w: t / (w + 1))
            ),
            Mistake(
                "your rate is at its peak twice, at the end of the warm-up and after it: divide by warmup + 1",
                rate(up=lambda t, w: (t + 1) / w),
            ),
            Mistake(
                "your cosine runs over all steps: it begins after the warm-up",
                rate(down=lambda t, n, w: (1 + np.cos(np.pi * t / n)) / 2),
            ),
            Mistake(
                "your cosine ends too late: its length is steps - warmup",
                rate(down=lambda t, n, w: (1 + np.cos(np.pi * (t - w) / n)) / 2),
            ),
            Mistake("there is no warm-up", lambda t, n, peak, w: 1e3 * peak * (1 + np.cos(np.pi * t / n)) / 2),
            Mistake(
                "your rate falls along a line: half a cosine is asked for",
                rate(down=lambda t, n, w: 1 - (t - w) / (n - w)),
            ),
            Mistake(
                "your rate falls to 0 half way and rises again: half a cosine takes pi, not 2 pi",
                rate(down=lambda t, n, w: (1 + np.cos(2 * np.pi * (t - w) / (n - w))) / 2),
            ),
            Mistake(
                "your cosine goes below 0: lift it by 1 and halve it",
                rate(down=lambda t, n, w: np.cos(np.pi * (t - w) / (n - w))),
            ),
            Mistake("you forgot the peak: the rate is a share of it", lambda *a: rate()(*a) / a[2]),
        ],
        forbidden=["pgpt_lib.optimisation.learning_rate"],
    )


def check_resume_order(solution: Function, seed: int = 0) -> None:
    """`solution(count, batch_size, seed, step)` -> the indices of the samples of a step.

    Any order passes that is a function of its arguments (so that a run resumed at a step sees what it would have seen),
    takes every sample once an epoch, shuffles anew in every epoch, and depends on the seed. `batch_size` divides
    `count`. The library's streams of dialogues are such orders, and forbidden.
    """
    rng = np.random.default_rng(seed)
    size, steps = int(rng.integers(3, 6)), int(rng.integers(5, 9))
    count, first, second = size * steps, *(int(v) for v in rng.choice(1000, 2, replace=False))

    def batch(run: int, step: int) -> np.ndarray:
        case = Case(f"step {step} of {count} samples in batches of {size}", (count, size, run, step))
        indices = call(solution, case, STREAMS)[0]
        if indices is None or indices.shape != (size,):
            raise CheckFailed(
                f"a batch must hold {size} indices; yours is {None if indices is None else indices.shape}"
            )
        return indices

    def epoch(run: int, number: int) -> np.ndarray:
        return np.concatenate([batch(run, number * steps + i) for i in range(steps)])

    one, again, two = epoch(first, 0), epoch(first, 0), epoch(first, 1)
    if not np.array_equal(one, again):
        raise CheckFailed(
            "the same step gives another batch when asked again: draw from a generator made from the seed, "
            "not from one that goes on"
        )
    if all(np.array_equal(one[:size], one[i : i + size]) for i in range(0, count, size)):
        raise CheckFailed("every step has the same batch: the step is ignored")
    if sorted(one) != list(range(count)):
        raise CheckFailed("an epoch must hold every sample once: yours repeats some and leaves out others")
    if sorted(two) != list(range(count)):
        raise CheckFailed("the first epoch is complete, the second is not: count the step within its epoch")
    if np.array_equal(one, np.arange(count)):
        raise CheckFailed("your samples are not shuffled")
    if np.array_equal(one, two):
        raise CheckFailed("every epoch has the same order: make the epoch part of the seed")
    if np.array_equal(one, epoch(second, 0)):
        raise CheckFailed("the seed changes nothing")
    passed("order of samples")
