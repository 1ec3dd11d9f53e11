"""Solutions of notebooks 05 and 06."""

from __future__ import annotations

import math
import random
from itertools import chain
from types import SimpleNamespace

import numpy as np
import torch

from pgpt_lib.chat import Chat
from pgpt_lib.data.refshapes.world import RefShapesStream
from pgpt_lib.data.sample import Sample, Turn
from pgpt_lib.evaluation.grounding import box_iou
from pgpt_lib.metrics import SentenceRecord, summarise
from pgpt_lib.optimisation import learning_rate
from pgpt_lib.regions import Region


def labels_loop(turns, end_id):
    labels = []
    for role, ids in turns:
        labels += [*ids, end_id] if role == "assistant" else [-100] * (len(ids) + 1)
    return labels


def labels_tensor(turns, end_id):
    return torch.cat(
        [torch.tensor([*ids, end_id]).where(torch.tensor(role == "assistant"), -100) for role, ids in turns]
    )


def labels_array(turns, end_id):
    tokens = np.array(list(chain.from_iterable([*ids, end_id] for _, ids in turns)))
    keep = np.concatenate([np.full(len(ids) + 1, role == "assistant") for role, ids in turns])
    return np.where(keep, tokens, -100)


def labels_no_end(turns, end_id):
    return [t for role, ids in turns for t in ([*ids, -100] if role == "assistant" else [-100] * (len(ids) + 1))]


def labels_every_end(turns, end_id):
    return [t for role, ids in turns for t in [*(ids if role == "assistant" else [-100] * len(ids)), end_id]]


def labels_last(turns, end_id):
    return [t if i == len(turns) - 1 else -100 for i, (_, ids) in enumerate(turns) for t in [*ids, end_id]]


def labels_library(turns, end_id):
    """The library's chat without a template, its words taken from these turns."""
    chat = Chat.__new__(Chat)
    chat.num_image_tokens, chat.end_id, chat.pad_id, chat.representation = 0, end_id, 0, None
    chat.template = SimpleNamespace(image_first=True)
    chat._start = chat._user = chat._assistant = chat._after = []
    chat._user_close = [end_id]
    chat.turn = lambda text, keep: ([int(word) for word in text.split()], [])
    said = tuple(Turn(role, " ".join(map(str, ids)), ()) for role, ids in turns)
    return chat.encode(Sample("mine", "", (1, 1), said)).labels


def labels_too_short(turns, end_id):
    return [t for role, ids in turns if role == "assistant" for t in [*ids, end_id]]


def order_torch(count, batch_size, seed, step):
    epoch, place = divmod(step, count // batch_size)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
    return order[place * batch_size : (place + 1) * batch_size]


def order_numpy(count, batch_size, seed, step):
    steps = count // batch_size
    order = np.random.default_rng([seed, step // steps]).permutation(count).reshape(steps, batch_size)
    return order[step % steps]


def order_replay(count, batch_size, seed, step):
    """Draws all epochs so far again from one generator: slow, and right."""
    rng = random.Random(seed)
    flat = []
    while len(flat) < (step + 1) * batch_size:
        epoch = list(range(count))
        rng.shuffle(epoch)
        flat += epoch
    return flat[step * batch_size : (step + 1) * batch_size]


def order_global(count, batch_size, seed, step):
    return torch.randperm(count)[:batch_size]


def order_with_replacement(count, batch_size, seed, step):
    return np.random.default_rng([seed, step]).integers(0, count, batch_size)


def order_same_epochs(count, batch_size, seed, step):
    return order_torch(count, batch_size, seed, step % (count // batch_size))


def order_plain(count, batch_size, seed, step):
    return [(step * batch_size + i) % count for i in range(batch_size)]


def order_no_seed(count, batch_size, seed, step):
    return order_torch(count, batch_size, 0, step)


def order_no_step(count, batch_size, seed, step):
    return order_torch(count, batch_size, seed, 0)


def order_library(count, batch_size, seed, step):
    """Which scenes the library's stream asks about at a step."""
    samples = RefShapesStream("smoke", count, seed, {"rec": 1}, 1).batch(step, batch_size)
    return [int(sample.image_id.rsplit("-", 1)[1]) for sample in samples]


def order_runs_out(count, batch_size, seed, step):
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[step * batch_size : (step + 1) * batch_size]


def acc_sum(ious):
    return sum(iou is not None and iou > 0.5 for iou in ious) / len(ious)


def acc_numpy(ious):
    return np.mean(np.array([0 if iou is None else iou for iou in ious]) > 0.5)


def acc_torch(ious):
    return (torch.tensor([iou if iou is not None else -1.0 for iou in ious]) > 0.5).float().mean()


def acc_answered(ious):
    answered = [iou for iou in ious if iou is not None]
    return sum(iou > 0.5 for iou in answered) / max(len(answered), 1)


def acc_library(ious):
    records = [SentenceRecord(str(i), iou or 0.0, iou is not None) for i, iou in enumerate(ious)]
    return summarise(records)["acc@0.5"][0]


def miss_library(predictions, truths):
    ious = [box_iou(Region(p) if p else None, Region(t), (1, 1)) for p, t in zip(predictions, truths, strict=True)]
    return np.mean(ious), np.mean([p is not None for p in predictions])


def iou_of(a, b):
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def miss_list(predictions, truths):
    ious = [0 if p is None else iou_of(p, t) for p, t in zip(predictions, truths, strict=True)]
    return sum(ious) / len(ious), sum(p is not None for p in predictions) / len(predictions)


def miss_divide(predictions, truths):
    answered = [(p, t) for p, t in zip(predictions, truths, strict=True) if p]
    return np.sum([iou_of(p, t) for p, t in answered]) / len(truths), np.float64(len(answered) / len(truths))


def miss_torch(predictions, truths):
    ious = torch.zeros(len(truths))
    for i, p in enumerate(predictions):
        if p is not None:
            ious[i] = iou_of(p, truths[i])
    return ious.mean(), torch.tensor([float(p is not None) for p in predictions]).mean()


def miss_answered_only(predictions, truths):
    ious = [iou_of(p, t) for p, t in zip(predictions, truths, strict=True) if p is not None]
    return np.mean(ious), len(ious) / len(truths)


def miss_hits(predictions, truths):
    ious = [0 if p is None else iou_of(p, t) for p, t in zip(predictions, truths, strict=True)]
    return np.mean(ious), np.mean([iou > 0.5 for iou in ious])


def miss_whole_image(predictions, truths):
    emitted = np.mean([p is not None for p in predictions])
    return np.mean([iou_of(p or [0, 0, 1, 1], t) for p, t in zip(predictions, truths, strict=True)]), emitted


def rate_plain(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def rate_square(step, steps, peak, warmup):
    """Half of 1 + cos is the square of the cosine of half the angle."""
    rising = (step + 1) / (warmup + 1)
    falling = np.cos(np.pi / 2 * (step - warmup) / (steps - warmup)) ** 2
    return np.where(step < warmup, rising, falling) * peak


def rate_table(step, steps, peak, warmup):
    up = torch.arange(1, warmup + 1) / (warmup + 1)
    down = (1 + torch.cos(math.pi * torch.arange(steps - warmup) / (steps - warmup))) / 2
    return peak * torch.cat([up, down])[step]


def rate_from_zero(step, steps, peak, warmup):
    return peak * step / warmup if step < warmup else rate_plain(step, steps, peak, warmup)


def rate_all_steps(step, steps, peak, warmup):
    return rate_plain(step, steps, peak, warmup if step < warmup else 0)


def rate_peak_twice(step, steps, peak, warmup):
    return peak * (step + 1) / warmup if step < warmup else rate_plain(step, steps, peak, warmup)


def rate_line(step, steps, peak, warmup):
    return min((step + 1) / (warmup + 1), 1 - (step - warmup) / (steps - warmup)) * peak


def ciou_loop(predicted, true):
    both, either, ious = 0, 0, []
    for p, t in zip(predicted, true, strict=True):
        shared = 0 if p is None else int((p & t).sum())
        union = int(t.sum()) if p is None else int((p | t).sum())
        both, either = both + shared, either + union
        ious.append(shared / union)
    return both / either, sum(ious) / len(ious)


def ciou_filled(predicted, true):
    given = np.stack([np.zeros_like(t) if p is None else p for p, t in zip(predicted, true, strict=True)])
    shared, union = (given & np.stack(true)).sum((1, 2)), (given | np.stack(true)).sum((1, 2))
    return shared.sum() / union.sum(), np.mean(shared / union)


def ciou_areas(predicted, true):
    """The union as both areas less the overlap."""
    shared = torch.tensor(
        [float((p * t).sum()) if p is not None else 0.0 for p, t in zip(predicted, true, strict=True)]
    )
    areas = [t.sum() + (0 if p is None else p.sum()) for p, t in zip(predicted, true, strict=True)]
    union = torch.tensor([float(a) for a in areas]) - shared
    return shared.sum() / union.sum(), (shared / union).mean()


def ciou_given_only(predicted, true):
    pairs = [(p, t) for p, t in zip(predicted, true, strict=True) if p is not None]
    return ciou_filled([p for p, _ in pairs], [t for _, t in pairs])


def ciou_twice(predicted, true):
    shared = np.array([0 if p is None else (p & t).sum() for p, t in zip(predicted, true, strict=True)])
    union = np.array([t.sum() + (0 if p is None else p.sum()) for p, t in zip(predicted, true, strict=True)])
    return shared.sum() / union.sum(), (shared / union).mean()


RIGHT = {
    "check_learning_rate": [rate_plain, rate_square, rate_table],
    "check_ciou": [ciou_loop, ciou_filled, ciou_areas],
    "check_label_mask": [labels_loop, labels_tensor, labels_array],
    "check_resume_order": [order_torch, order_numpy, order_replay],
    "check_acc_at_half": [acc_sum, acc_numpy, acc_torch],
    "check_free_running_miss": [miss_list, miss_divide, miss_torch],
}
WRONG = {
    "check_learning_rate": [
        (rate_from_zero, "a rate of 0 and is lost"),
        (rate_peak_twice, "peak twice"),
        (rate_all_steps, "begins after the warm-up"),
        (lambda t, n, p, w: rate_plain(t, n, p, 0), "no warm-up"),
        (rate_line, "falls along a line"),
        (lambda t, n, p, w: rate_plain(t, n, 1.0, w), "forgot the peak"),
        (lambda t, n, p, w: rate_plain(t, n, p, w) if t < w else rate_plain(w + 2 * (t - w), n, p, w), "not 2 pi"),
        (lambda t, n, p, w: learning_rate(t, n, p, w / n), "calls learning_rate"),
    ],
    "check_ciou": [
        (lambda p, t: ciou_loop(p, t)[::-1], "wrong order"),
        (lambda p, t: (ciou_loop(p, t)[1],) * 2, "both of your results are the mean"),
        (lambda p, t: (ciou_loop(p, t)[0],) * 2, "both of your results are cIoU"),
        (ciou_given_only, "missing masks are left out"),
        (lambda p, t: (ciou_given_only(p, t)[0], ciou_loop(p, t)[1]), "your cIoU leaves missing masks out"),
        (lambda p, t: (ciou_loop(p, t)[0], ciou_given_only(p, t)[1]), "your mean leaves missing masks out"),
        (ciou_twice, "counts the overlap twice"),
        (lambda p, t: ciou_loop(p, t)[0], "cIoU alone"),
    ],
    "check_label_mask": [
        (labels_no_end, "never stop"),
        (labels_every_end, "the end of the user's turns"),
        (labels_last, "only the last answer"),
        (lambda turns, end: [0 if t == -100 else t for t in labels_loop(turns, end)], "mask with 0"),
        (lambda turns, end: [t for _, ids in turns for t in [*ids, end]], "everything is learnt"),
        (lambda turns, end: [*labels_loop(turns, end)[1:], -100], "shifted already"),
        (labels_too_short, "you label the answers' tokens alone"),
        (labels_library, "calls encode, which is the answer already"),
    ],
    "check_resume_order": [
        (order_global, "asked again"),
        (order_with_replacement, "every sample once"),
        (order_same_epochs, "every epoch has the same order"),
        (order_plain, "not shuffled"),
        (order_no_seed, "seed changes nothing"),
        (order_no_step, "step is ignored"),
        (order_runs_out, "a batch must hold"),
        (order_library, "calls batch, which is the answer already"),
    ],
    "check_acc_at_half": [
        (acc_answered, "left out"),
        (lambda ious: np.mean([(iou or 0) >= 0.5 for iou in ious]), "strictly"),
        (lambda ious: sum(iou or 0 for iou in ious) / len(ious), "mean IoU"),
        (lambda ious: sum((iou or 0) > 0.5 for iou in ious), "number of hits"),
        (lambda ious: 100 * acc_sum(ious), "percent"),
        (lambda ious: np.mean([iou > 0.5 for iou in ious]), "raised TypeError for missing answers"),
        (acc_library, "calls summarise, which is the answer already"),
    ],
    "check_free_running_miss": [
        (miss_answered_only, "leaves out answers without a region"),
        (miss_hits, "emission rate counts hits"),
        (miss_whole_image, "whole image"),
        (lambda p, t: (miss_list(p, t)[0], 1 - miss_list(p, t)[1]), "share of misses"),
        (lambda p, t: miss_list(p, t)[::-1], "wrong order"),
        (lambda p, t: miss_list(p, t)[0], "the mean IoU alone"),
        (miss_library, "calls box_iou, which is the answer already"),
    ],
}
