# %% [markdown]
# # 07 · Representations
#
# ```yaml
# title: Representations
# objectives:
#   - write a box as one embedding, as digits and as location tokens, and read each back
#   - compare representations fairly, with the same samples, the same time and the same tuning
#   - read learning curves as samples and seconds to a score
#   - tell whether a representation fails by its format, by the wrong object or by a box that is not exact
# prerequisites: [notebook 05, notebook 06]
# paper: section 4.4; Table 6; Figures 1 and 4
# minutes: {smoke: 1, cpu: 3}
# memory_gb: {smoke: 2, cpu: 6}
# ```
#
# How should a language model say *where*? PerceptionGPT emits one token, `<vis>`, whose hidden state a small network
# turns into a box. Its predecessors let the model write: Shikra writes coordinates in digits, Kosmos-2 in new tokens,
# one for each cell of a grid. The paper's central claim is that the embedding is far easier to learn. This notebook
# puts the three side by side in one trainer.

# %% tags=["parameters"]
profile: str = "cpu"  # name of a profile: smoke, cpu, ...
out_dir: str = ""  # folder of the run; empty means reports/<profile>
seed: int = 0  # seed of the scenes that are shown
live_seed: int = 11  # seed of the short training that is repeated here; the sweep's own are 0, 1 and 2

# %% [markdown]
# The trainings take hours, so they are a *sweep*, run beforehand and cell by cell. This notebook reads the cells that
# are finished. What is missing is named below, and stays empty in every figure.

# %%
import matplotlib.pyplot as plt

from pgpt_lib import plots, sweep_plots
from pgpt_lib.notebook import start
from pgpt_lib.sweeps.reading import effort_to, live_cell, open_sweep

run = start(profile, out_dir, seed, slug="07_representations")
plots.use_style()
sweep = open_sweep("table6", run.out, profile)
names = list(plots.REPRESENTATIONS)
print(sweep.summary())

# %% [markdown]
# ## 1 · Figure 1: one box, three ways to say it
#
# A scene, an expression, and the box that is meant.

# %%
from pgpt_lib.data.refshapes.world import RefShapesImages
from pgpt_lib.evaluation.checkpoint import refshapes_samples

sample = refshapes_samples("refcoco", "val", 1, seed, run.profile.data.level, ["rec"])[0]
picture, answer = RefShapesImages().load_image(sample.image_id), sample.turns[-1]
ax = plots.draw_regions(picture, [answer.regions[0]], ["?"], title=sample.turns[-2].text)
run.figure(ax.figure, "question", alt="A scene with the object that the question is about")

# %% [markdown]
# The three representations differ in one place only: how a region becomes text, and text a region. Tokenizer, prompt
# and everything around the answer are the same.

# %%
from pgpt_lib.backbones import load_llm
from pgpt_lib.chat import Chat
from pgpt_lib.data.sample import VIS
from pgpt_lib.representations import get_representation

tokenizer = load_llm(run.profile.llm.name, run.profile.llm.precision)[1]
side = run.profile.vision.image_size
writers = {name: get_representation(name, run.profile.coordinates, side) for name in names}
chats = {name: Chat(tokenizer, representation=writer) for name, writer in writers.items()}

# %% [markdown]
# The answer's tokens, taken apart into words before, the region, and words after. The `assert` makes sure that these
# are the tokens that training meets.


# %%
def stream(chat):
    """The answer's tokens as text, and for each whether it belongs to the region."""
    region = chat.representation.write(answer.regions[0], sample.size)
    pieces = [*answer.text.split(VIS)[:1], region, *answer.text.split(VIS)[1:]]
    ids = [chat.turn(piece, keep=False)[0] if piece.strip() else [] for piece in pieces]
    flat = [*sum(ids, []), chat.end_id]
    assert flat == [label for label in chat.encode(sample).labels if label != -100]
    inside = [k == 1 for k, part in enumerate(ids) for _ in part]
    return [chat.tokenizer.decode([i]) for i in flat], [*inside, False]


streams = {name: stream(chat) for name, chat in chats.items()}
run.figure(sweep_plots.token_streams(streams), "figure1", alt="One answer as tokens in the three representations")

# %% [markdown]
# The coloured tiles are the region. Where the paper's Figure 1 draws this as a sketch, these are the real tokens of our
# tokenizer. Every tile is one step of decoding, and every tile of the last two must be right, or the box is another.
#
# Move a box. The digits and the location tokens are read back as boxes of their own: digits to a thousandth, tokens to
# half a cell.

# %%
from pgpt_lib.regions import Region
from pgpt_lib.widgets import Slider, View


def show_written(ax, x, y, size):
    """A box, and what is read back from its two written forms."""
    region = Region((x, y, min(x + size, 1.0), min(y + size, 1.0)))
    written = {name: writers[name].write(region, sample.size) for name in names[1:]}
    read = [writers[name].read(text, [], sample.size)[0] for name, text in written.items()]
    colors = [plots.REPRESENTATIONS[n] for n in names[1:]]
    plots.draw_regions(picture, [region, *read], None, ax, [plots.TRUTH, *colors])
    tokens = {name: len(chats[name].turn(text, keep=False)[0]) for name, text in written.items()}
    ax.set_title("\n".join(f"{text}  ({tokens[name]} tokens)" for name, text in written.items()), fontsize=7)


# %% [markdown]
# Three boxes as stills, and the view itself:

# %%
places = [{"x": 0.1, "y": 0.1, "size": 0.15}, {"x": 0.37, "y": 0.22, "size": 0.3}, {"x": 0.6, "y": 0.55, "size": 0.1}]
view = View(show_written, {"x": Slider(0, 0.9, 0.3), "y": Slider(0, 0.9, 0.3), "size": Slider(0.05, 0.6, 0.3)}, places)
run.figure(view.figure(), "written", alt="Boxes and what their digits and location tokens are read back as")
view.show()

# %% [markdown]
# The smaller the box, the more a cell's width matters: that is the precision error of which the paper speaks. Notebook
# 09 measures it, and the error of our learned head beside it.
#
# ### Exercise 1: location tokens (★☆☆, 10 minutes)
#
# Write `my_tokens(box, bins)`: the numbers of the two tokens that stand for the corners (x1, y1) and (x2, y2). The
# picture is cut into `bins` × `bins` cells, counted row by row from 0. A corner on the right or lower border belongs to
# the last cell.

# %% tags=["attempt"]
from pgpt_lib import checks
from pgpt_lib.exercises import attempt


def my_tokens(box, bins):
    """(i, j): the cells of a box's upper left and lower right corner; the box is x1, y1, x2, y2 in [0, 1]."""
    raise NotImplementedError("your turn")


attempt(checks.check_location_tokens, my_tokens)

# %% [markdown]
# <details><summary>Hint 1: column and row</summary>
#
# `int(x * bins)` is the column of a point, `int(y * bins)` its row.
# </details>
# <details><summary>Hint 2: the border</summary>
#
# At x = 1 that would be column `bins`, which does not exist: take the smaller of it and `bins - 1`.
# </details>


# %% nbgrader={"grade_id": "my_tokens", "solution": true}
def my_tokens(box, bins):
    """(i, j): the cells of a box's upper left and lower right corner; the box is x1, y1, x2, y2 in [0, 1]."""
    ### BEGIN SOLUTION
    x1, y1, x2, y2 = (min(int(v * bins), bins - 1) for v in box)
    return y1 * bins + x1, y2 * bins + x2
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_tokens_check", "grade": true, "points": 1}
checks.check_location_tokens(my_tokens)
### BEGIN HIDDEN TESTS
checks.check_location_tokens(my_tokens, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The library's `vocabulary` writes the same two tokens (our picture is square, so its frame is the model's):

# %%
import re

box = answer.regions[0].box
library = [int(i) for i in re.findall(r"loc_(\d+)", writers["vocabulary"].write(Region(box), sample.size))]
print(f"library {library}, yours {list(my_tokens(box, run.profile.coordinates.bins))}")
assert library == list(my_tokens(box, run.profile.coordinates.bins))

# %% [markdown]
# ## 2 · What makes a comparison fair
#
# Whoever compares methods tunes the own one longer. Here each representation gets the same: model, data, prompts,
# decoding and evaluation; the same three learning rates, each tried for the same short time and judged on scenes of
# their own. And since a box costs 1, 4 or about 25 tokens, "the same training" means two things, so there are two
# comparisons: *equal samples*, as in Table 6, and *equal time*.

# %%
from pgpt_lib.evaluation.series import MAIN
from pgpt_lib.sweeps.results import difference, select, value

for name in names:
    for rank in (8, "full"):
        tried = select(sweep.results, representation=name, rank=rank, budget="tuning")
        found = [f"{r['lr']:g}: {value(r, f'{MAIN}.acc@0.5') or 0:.3f}" for r in tried]
        print(f"{name:10} rank {rank!s:5} Acc@0.5 by learning rate: {', '.join(found) or 'not tuned yet'}")

# %% [markdown]
# A best rate at the edge of the range would mean that the range was too small. Every cell of the sweep says in its
# file which rate it took, and from where.
#
# ## 3 · One short cell, now
#
# To see that the published numbers are not a story, the shortest kind of cell (the embedding at rank 8, a tenth of the
# samples) is trained and scored here, with a seed that the sweep does not have.

# %%
short = {"representation": "embedding", "rank": 8, "budget": "short"}
live = live_cell(sweep, run.folder, **short, seed=live_seed)
print(f"seed {live_seed}: {live['expressions']} expressions in {live['seconds']:.0f} s of training")
for metric in ("acc@0.5", "miou_box", "emission_rate", "parse_failure_rate"):
    now, published = value(live, f"{MAIN}.{metric}"), sweep.mean(metric, **short)
    beside = "{:.3f} [{:.3f}, {:.3f}]".format(*published) if published else f"not there yet ({sweep.command})"
    print(f"{metric:20} now {'none' if now is None else f'{now:.3f}'}   published {beside}")

# %% [markdown]
# The interval is that of the *mean* over the published seeds, joined with that of the scenes. A single new seed may
# well lie a little outside of it. On another kind of machine the seconds differ; the scores should not.
#
# ## 4 · Table 6
#
# Eight splits, three representations, three ways of tuning, all at equal samples. `interval` gives a mean over seeds
# with its 95 % interval, which joins two doubts: the seeds' and the scenes'.

# %%
from pgpt_lib.sweeps.results import mean
from pgpt_lib.sweeps.table import SETS

labels = {"numerical": "Numerical", "vocabulary": "Vocab", "embedding": "Embed"}
ranks = {8: "rank 8", 32: "rank 32", "full": "full"}
pairs = {(label, how): (n, r) for n, label in labels.items() for r, how in ranks.items()}
intervals, ours = {}, {}
for (label, how), (name, rank) in pairs.items():
    if cells := sweep.cells(representation=name, rank=rank):
        intervals[label, how] = {s: mean(cells, f"{s}.acc@0.5") for s in SETS}
        row = {s.removeprefix("refshapes-"): 100 * v[0] for s, v in intervals[label, how].items() if v}
        ours[f"{label}, {how}"] = {"trainable parameters": cells[0]["parameters"]["trainable"], **row}

# %% [markdown]
# Ours beside the paper's. The paper's model has ten thousand times as many parameters and real photographs, so only the
# order within a column can be compared. A wider language model, the paper's 13B against 7B, is not measurable here.

# %%
from pgpt_lib.report import paper_table

for row, columns in paper_table("table6")["rows"].items():
    found = intervals.get(tuple(row.split(", ")), {})
    cells = [f"{100 * v[0]:5.1f} ± {50 * (v[2] - v[1]):4.1f}" if (v := found.get(s)) else f"{'–':>12}" for s in SETS]
    theirs = [f"{columns[s.removeprefix('refshapes-')]:5.1f}" for s in SETS]
    print(f"{row:18} ours  {' '.join(cells)}\n{'':18} paper {' '.join(f'{t:>12}' for t in theirs)}")

# %% [markdown]
# The columns are RefCOCO's val, testA and testB, RefCOCO+'s, and RefCOCOg's val and test. The main split as a figure:

# %%
groups = {how: {n: sweep.mean("acc@0.5", representation=n, rank=rank) for n in names} for rank, how in ranks.items()}
by_time = {n: sweep.mean("acc@0.5", representation=n, rank=8, budget="time") for n in names}
fig, ax = plt.subplots(figsize=(8, 3.2))
sweep_plots.scores({**groups, "rank 8,\nequal time": by_time}, ax, title="Acc@0.5, RefCOCO's style, val")
run.figure(fig, "table6", alt="Acc@0.5 of the three representations by rank at equal samples, and at equal time")

# %% [markdown]
# A dash marks what has not been run. If the paper is right, the blue bars stand high everywhere and the two others rise
# only at *full*. How far apart they are, with the seeds paired:


# %%
def gap(rank, other, **factors):
    """Embedding minus another representation in Acc@0.5, [value, low, high], or None."""
    sides = [sweep.cells(representation=n, rank=rank, **factors) for n in ("embedding", other)]
    return difference(*sides, f"{MAIN}.acc@0.5")


gaps = {f"{other}, {how}": gap(rank, other) for other in names[1:] for rank, how in ranks.items()}
for name, found in gaps.items():
    text = "not there yet" if found is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*found)
    print(f"embedding minus {name:20} {text}")

# %% [markdown]
# Only an interval that lies wholly on one side of 0 decides anything.
#
# ## 5 · How fast each learns
#
# A final score depends on when one stops. The learning curve shows the way there, against samples and against seconds.

# %%
curves = {name: sweep.cells(representation=name, rank=8) for name in names}
curves = {name: cells for name, cells in curves.items() if cells}
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.2), sharey=True)
for ax, x in zip(axes, ("expressions", "seconds"), strict=True):
    if curves:
        sweep_plots.score_curves(curves, ax, x)
    else:
        sweep_plots.nothing_yet(ax, f"no cell of rank 8 yet:\n{sweep.command}")
run.figure(fig, "curves", alt="Acc@0.5 over expressions seen and over seconds of training, a line for each seed")

# %% [markdown]
# Seconds are the harder test for representations that take many tokens: the same number of expressions takes them
# longer. The dashed levels are those of the question: how long until 0.25, until 0.5?
#
# ### Exercise 2: time to a score (★☆☆, 10 minutes)
#
# Write `my_time(curve, level)`. `curve` is a list of (seconds, score); return the seconds of the first point whose
# score is at least `level`, and `None` where there is none.


# %% tags=["attempt"]
def my_time(curve, level):
    """The seconds of the first point whose score is at least `level`, or None."""
    raise NotImplementedError("your turn")


attempt(checks.check_time_to_score, my_time)

# %% [markdown]
# <details><summary>Hint 1: first</summary>
#
# Go through the points in their order and return at the first that fits.
# </details>
# <details><summary>Hint 2: never</summary>
#
# The end of the training is no answer for a curve that did not get there: it may never.
# </details>


# %% nbgrader={"grade_id": "my_time", "solution": true}
def my_time(curve, level):
    """The seconds of the first point whose score is at least `level`, or None."""
    ### BEGIN SOLUTION
    for seconds, score in curve:
        if score >= level:
            return seconds
    return None
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_time_check", "grade": true, "points": 1}
checks.check_time_to_score(my_time)
### BEGIN HIDDEN TESTS
checks.check_time_to_score(my_time, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# Yours on the short cell's curve, up to the best score on it. The library's `reached` must agree.

# %%
from pgpt_lib.sweeps.results import point_score, reached

points = [(p["seconds"], point_score(p["acc@0.5"])) for p in live["curve"] if p["acc@0.5"]]
best = max((score for _, score in points), default=0.0)
found = reached(live, best)
print(f"{best:.3f} after {my_time(points, best)} s" if points else "the short cell has no curve")
assert my_time(points, best) == (found["seconds"] if found else None)

# %% [markdown]
# Now for every representation: samples and seconds until 0.25, until 0.5, and until the others' final scores. The paper
# says "25 % of the training time"; here that is a measurement.

# %%
finals = {name: sweep.mean("acc@0.5", representation=name, rank=8) for name in names}
levels = {"0.25": 0.25, "0.5": 0.5, **{f"{n}'s final score": v[0] for n, v in finals.items() if v}}
effort = {name: {label: effort_to(cells, at) for label, at in levels.items()} for name, cells in curves.items()}
for name, rows in effort.items():
    for label, e in rows.items():
        took = f"{e['expressions']:9,.0f} expressions, {e['seconds']:5.0f} s" if e["reached"] else "not reached"
        print(f"{name:10} to {label:26} {took}   ({e['reached']} of {e['of']} seeds)")

# %% [markdown]
# The converse question is as fair: do the others catch up when they may train four times as long at rank 8?

# %%
goal = finals["embedding"]
for name in names[1:]:
    cells = sweep.cells(representation=name, rank=8, budget="fourfold")
    if not cells or not goal:
        print(f"{name:10} four times the steps: not there yet")
        continue
    e, end = effort_to(cells, goal[0]), mean(cells, f"{MAIN}.acc@0.5")
    when = f"after {e['expressions']:,.0f} expressions, {e['reached']} of {e['of']} seeds" if e["reached"] else "never"
    print(f"{name:10} ends at {end[0]:.3f} [{end[1]:.3f}, {end[2]:.3f}]; reaches the embedding's {goal[0]:.3f} {when}")

# %% [markdown]
# ## 6 · Where they fail
#
# A miss has one of three causes: no box can be read from the answer (*format*), the box lies on another object (*wrong
# object*), or it lies on the right one and is not exact enough (*imprecise*). The first is the representation's own;
# the second is about understanding, the third about precision.


# %%
def failure_shares(cells):
    """The share of all answers that failed in each way, a mean over seeds."""
    counts = [(r["metrics"][MAIN]["failures"], r["metrics"][MAIN]["n"]) for r in cells]
    return {kind: sum(f[kind] / n for f, n in counts) / len(counts) for kind in sweep_plots.FAILURES}


kinds = {(n, rank): sweep.cells(representation=n, rank=rank) for rank in (8, "full") for n in names}
kinds = {f"{n}, {ranks[rank]}": failure_shares(cells) for (n, rank), cells in kinds.items() if cells}
kinds[f"embedding, short, seed {live_seed}"] = failure_shares([live])

# %% [markdown]
# The last row is the short cell from above, so that the figure holds something before the sweep does.

# %%
fig, ax = plt.subplots(figsize=(8, 0.9 + 0.36 * len(kinds)))
sweep_plots.failure_bars(kinds, ax)
run.figure(fig, "failures", alt="Shares of answers that fail by format, by the wrong object and by an inexact box")

# %% [markdown]
# What is left of a bar to 1 is right. The parse-failure rate belongs beside every score, because a baseline whose
# format was never learnt says nothing about places. Beside it: how many questions in words the model answers before
# and after it was tuned, which is what the tuning made it forget.


# %%
def answered(result, when):
    """Accuracy on questions in words `before` or after the tuning, or None."""
    scored = result["before"]["questions"] if when == "before" else result["metrics"][MAIN].get("questions", {})
    accuracy = scored.get("all", {}).get("accuracy")
    return accuracy[0] if accuracy else None


# %% [markdown]
# The same rows as in the figure:

# %%
rows = {f"{n}, {how}": sweep.cells(representation=n, rank=r) for n in names for r, how in ranks.items()}
for name, cells in {**rows, "short, live": [live]}.items():
    if cells:
        parse = [value(c, f"{MAIN}.parse_failure_rate") or 0.0 for c in cells]
        pairs = [(answered(c, "before"), answered(c, "after")) for c in cells]
        known = [p for p in pairs if None not in p]
        words = " to ".join(f"{sum(p[i] for p in known) / len(known):.3f}" for i in (0, 1)) if known else "not asked"
        print(f"{name:22} parse failures {sum(parse) / len(parse):.3f}   questions in words {words}")

# %% [markdown]
# ## 7 · Figure 4: how much is trained, and on how much
#
# Left of Figure 4 is the figure of section 4. Right is this one: the same number of steps on a part of the scenes, at
# rank 8. A representation that is easy to learn loses little.

# %%
fractions = (0.1, 0.25, 0.5, 1.0)
data = {f: {n: sweep.mean("acc@0.5", representation=n, rank=8, fraction=f) for n in names} for f in fractions}
fig, ax = plt.subplots(figsize=(8, 3))
sweep_plots.scores({f"{f:.0%} of the scenes": row for f, row in data.items()}, ax, title="rank 8, same number of steps")
run.figure(fig, "figure4", alt="Acc@0.5 of the three representations by the share of training scenes")

# %% [markdown]
# Do the gaps shrink from left to right? Then data can stand in for the representation; the paper says that they do.
#
# ## 8 · The paper's reasons
#
# Why should an embedding be easier? Because its loss says *how far* a box is off, where a wrong digit is as wrong as
# any other. That can be taken apart: boxes with and without GIoU, masks with and without DICE, and the mask decoder
# that looks twice against a plain dot product. These cells are another sweep.

# %%
losses = open_sweep("losses", run.out, profile)
print(losses.summary())
shown = {"l1": "miou_box", "l1+giou": "miou_box", "bce": "miou_mask", "bce+dice": "miou_mask"}
heads = [(terms, "two_way") for terms in shown] + [("bce+dice", "dot_product")]
for terms, head in heads:
    found = losses.mean(shown[terms], terms=terms, head=head)
    text = "not there yet" if found is None else "{:.3f} [{:.3f}, {:.3f}]".format(*found)
    print(f"{terms:10} head {head:12} {shown[terms]:10} {text}")

# %% [markdown]
# ## 9 · What this evidence supports
#
# Each claim has a rule, written before the numbers were known: a comparison holds only where its whole 95 % interval
# lies on the claimed side. Without the cells that it needs the verdict is "not measurable here", never a guess.

# %%
from pgpt_lib.claims import verdicts

report = {"profile": sweep.profile, "metrics": {}, "tables": {}}
claims = ("easier-training", "four-percent", "quarter-time", "full-tuning-needed", "lora-suffices", "box-loss")
judged = {name: verdicts(report, sweep.home)[name] for name in claims}
for name, found in judged.items():
    print(f"{name}: {found['verdict']}\n  claimed: {found['text']}\n  found: {found['why']}")

# %% [markdown]
# Others found otherwise. NExT-Chat's authors, whose model also regresses boxes from an embedding, report that this is
# hard put to beat the best models that write coordinates. Text4Seg and SimpleSeg write masks as text and, fully tuned,
# match or pass PerceptionGPT's published segmentation scores. These are large models under full tuning; the claim
# tested here is about *small* budgets: few trained parameters, few samples, little time. Whatever the verdicts above
# say, they speak for a small language model on a procedural world, and for nothing beyond it.
#
# ## Questions to think about
#
# 1. Digits are wrong by a lot when the first one is wrong and by little when the third is. Could the loss know that?
# 2. A grid of location tokens brings a thousand new rows. Which of them are hardly ever trained, and what would a
#    smooth start of the rows change?
# 3. At equal time the embedding sees more samples. Is that an advantage of the representation or of the hardware?
#
# **Read next:** Chen et al., *Shikra*, 2023; Peng et al., *Kosmos-2*, 2023; Chen et al., *Pix2Seq*, ICLR 2022; Zhang et
# al., *NExT-Chat*, 2023. Notebook 08 asks what the layers of the vision tower contribute.

# %%
short_scores = {m: live["metrics"][MAIN].get(m) for m in ("acc@0.5", "miou_box", "parse_failure_rate")}
run.finish(
    metrics={
        "cells": {"done": len(sweep.results), "missing": len(sweep.missing)},
        "short_live": short_scores,
        "gaps": {name: found for name, found in gaps.items() if found},
        "tokens": {name: sum(inside) for name, (_, inside) in streams.items()},
    },
    tables={"table6": {"ours": ours}} if ours else {},
)
