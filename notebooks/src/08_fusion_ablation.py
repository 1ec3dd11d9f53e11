# %% [markdown]
# # 08 · Fusion ablation
#
# ```yaml
# title: Fusion ablation
# objectives:
#   - compare ways to make one feature map of a tower's layers, each with a fair start
#   - see what a naive swap of strategies would have claimed
#   - read learned weights over training and seeds, and hold them against what a probe finds in each layer
#   - put an interval on a difference between runs that share their seeds
# prerequisites: [notebook 01, notebook 05, notebook 06]
# paper: section 3.1, equation 1; section 4.4; Figure 5
# minutes: {smoke: 1, cpu: 2}
# memory_gb: {smoke: 2, cpu: 6}
# ```
#
# Notebook 01 built equation 1, a learned weighted sum of the tower's layers, and found that layers know different
# things. Is the sum any better than the last layer alone, as most models take it? The paper's Figure 5 says so, and
# shows the weights. This notebook repeats both halves of it.

# %% tags=["parameters"]
profile: str = "cpu"  # name of a profile: smoke, cpu, ...
out_dir: str = ""  # folder of the run; empty means reports/<profile>
seed: int = 0  # seed of the scenes that are shown and probed
live_seed: int = 11  # seed of the short training that is repeated here; the sweep's own are 0, 1 and 2
scenes: int = 96  # RefShapes scenes that the probes are fitted to and scored on

# %% [markdown]
# Its trainings are a [*sweep*](../docs/glossary.md#sweep), run beforehand, a cell for each training. Cells that are
# missing are named here; in tables and figures they are dashes, and the command that fills them stands beside.

# %%
import matplotlib.pyplot as plt
import torch

from pgpt_lib import plots, sweep_plots
from pgpt_lib.notebook import start
from pgpt_lib.sweeps import frames, layers
from pgpt_lib.sweeps.reading import live_cell, open_sweep

run = start(profile, out_dir, seed, slug="08_fusion_ablation")
plots.use_style()
sweep = open_sweep("fusion", run.out, profile)
print(sweep.summary())

# %% [markdown]
# To look at features and answers, the model of notebook 05 is loaded; it is made now if it is missing.

# %%
from pgpt_lib.checkpoint import load_checkpoint

run.need("05_training")
model, state = load_checkpoint(run.out / "checkpoint")
print(f"{model.tower.name}: {model.fusion.num_layers} layers; a model after {state.step} steps")

# %% [markdown]
# ## 1 · Five strategies
#
# | strategy | the layers become one by |
# | --- | --- |
# | `last` | taking the last one |
# | `second_last` | taking the one before it, as LLaVA does |
# | `mean` | their mean, each normalised |
# | `learned` | equation 1, each normalised |
# | `learned_raw` | equation 1 on raw layers, as it is printed in the paper |
#
# With `learned` ([layer fusion](../docs/glossary.md#layer-fusion)) there are two sets of weights, one for the language
# model and one for the mask decoder, and as a variant one set that both share. For the same scene, this is what the
# language model would be given by four of them:

# %%
from pgpt_lib.data.refshapes.world import RefShapesImages
from pgpt_lib.evaluation.checkpoint import refshapes_samples
from pgpt_lib.evaluation.predictions import TowerFeatures
from pgpt_lib.fusion import LayerFusion

images = RefShapesImages()
sample = refshapes_samples("refcoco", "val", 4, seed, run.profile.data.level, ["rec"])[0]
states = TowerFeatures(model.tower, images)([sample.image_id]).float()
mixes = {name: LayerFusion(model.fusion.num_layers, name)(states)[0] for name in ("last", "second_last", "mean")}
mixes["learned"] = model.fusion(states)[0].detach()

# %% [markdown]
# As colours: red, green and blue are the three main directions (principal components) of the features of `last`, scaled
# in each picture by itself.

# %%
fig, axes = plt.subplots(1, 5, figsize=(7.2, 1.9))
plots.show_image(images.load_image(sample.image_id), axes[0], "the scene")
basis = None
for ax, (name, tokens) in zip(axes[1:], mixes.items(), strict=True):
    colours, basis = plots.feature_image(tokens, basis)
    plots.show_image(colours, ax, name)
run.figure(fig, "mixes", alt="Features of a scene as colours after four fusion strategies")

# %% [markdown]
# Compare patterns within a picture, not single colours between two: where patches have one colour, the mixture hardly
# tells them apart in these three directions. Look at small objects and outlines: late layers have mixed in more of what
# surrounds them.
#
# ## 2 · Why raw layers hide what their weights mean
#
# In a sum, a layer counts by its weight *and* by the length of its tokens. Raw layers can differ in length many times
# over; by how much in this tower is printed below.
#
# ### Exercise 1: shares of layers (★★☆, 10 minutes)
#
# Write `my_shares(hidden_states, weights)`: a layer's part is its weight times the mean length of its tokens, its share
# that part over the sum of all parts. `hidden_states` is `[B, L, N, C]`, `weights` and the result are `[L]`.

# %% tags=["attempt"]
from pgpt_lib import checks
from pgpt_lib.exercises import attempt


def my_shares(hidden_states, weights):
    """Each layer's share [L] of the weighted sum of layers [B, L, N, C]; shares add up to 1."""
    raise NotImplementedError("your turn")


attempt(checks.check_layer_shares, my_shares)

# %% [markdown]
# <details><summary>Hint 1: the length of a token</summary>
#
# `hidden_states.norm(dim=-1)` gives the length of every token, `[B, L, N]`.
# </details>
# <details><summary>Hint 2: the mean over tokens</summary>
#
# Images and tokens are axes 0 and 2; the layers stay.
# </details>


# %% nbgrader={"grade_id": "my_shares", "solution": true}
def my_shares(hidden_states, weights):
    """Each layer's share [L] of the weighted sum of layers [B, L, N, C]; shares add up to 1."""
    ### BEGIN SOLUTION
    parts = weights * hidden_states.norm(dim=-1).mean(dim=(0, 2))
    return parts / parts.sum()
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_shares_check", "grade": true, "points": 1}
checks.check_layer_shares(my_shares)
### BEGIN HIDDEN TESTS
checks.check_layer_shares(my_shares, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# With equal weights on this tower's raw layers, and on normalised ones:

# %%
import torch.nn.functional as F

equal = torch.full((model.fusion.num_layers,), 1 / model.fusion.num_layers)
raw, normalised = my_shares(states, equal), my_shares(F.layer_norm(states, states.shape[-1:]), equal)
sets = {"raw layers": raw, "normalised layers": normalised}
ax = plots.show_layers(sets, title="shares under equal weights", ylabel="share of the sum")
run.figure(ax.figure, "shares", alt="Each layer's share of the sum under equal weights, raw and normalised")
print(f"the largest share is {raw.max() / raw.min():.1f} times the smallest on raw layers")

# %% [markdown]
# Where the shares of raw layers are uneven, a bar chart of their *weights* says little about what the model uses. On
# normalised layers weight and share are the same.
#
# ## 3 · One short cell, now
#
# The shortest kind of cell is trained here, with a seed that the sweep does not have: learned fusion, started from the
# bundled weights.

# %%
from pgpt_lib.evaluation.series import MAIN
from pgpt_lib.sweeps.results import value

TASKS = {"REC, Acc@0.5": "acc@0.5", "RES, cIoU": "ciou", "caption, CIDEr": "caption.cider"}
TASKS["questions, accuracy"] = "questions.all.accuracy"
short = {"strategy": "learned", "start": "short"}
live = live_cell(sweep, run.folder, **short, seed=live_seed)
print(f"seed {live_seed}: {live['expressions']} expressions in {live['seconds']:.0f} s of training")

# %% [markdown]
# Beside the published interval of this very kind of cell:

# %%
print(f"{'':20} {'now':8} published")
for title, metric in TASKS.items():
    now, published = value(live, f"{MAIN}.{metric}"), sweep.mean(metric, **short)
    print(f"{title:20} {'none' if now is None else f'{now:.3f}':8} {sweep.told(published)}")

# %% [markdown]
# The interval is that of a mean over seeds, so that one new seed may lie a little outside. "None" is a task whose score
# needs more scenes than there were.
#
# ## 4 · Figure 5, left: strategies and tasks
#
# The bundled language model met pixels through learned fusion. To swap another strategy in and tune would compare a
# trained fusion with untrained ones. So each strategy first *aligns*: its own fusion and projector are trained on
# captions and questions that are answered in words, without any region, before a frozen language model that never saw
# a pixel, each for the same number of steps. Only then is it tuned, with boxes and masks as well:

# %%
print(layers.budget(sweep.cells(strategy="learned")))

# %% [markdown]
# That rate is one for all strategies. It was chosen by scores of another sweep's default (`released_code`, see
# [decisions](../docs/decisions.md)), and that default has learned fusion. Another strategy may do better at a rate of
# its own, so that a lead of learned fusion may in part be the lead of its rate.

# %%
strategies = list(sweep_plots.STRATEGIES)
kinds = {s: {"strategy": s} for s in strategies} | {"learned, one set": {"strategy": "learned", "weights": "shared"}}
beside = {name: layers.masks(sweep, **factors) for name, factors in kinds.items()}
marks = {what: {name: row[what] for name, row in beside.items()} for what in (layers.EXCHANGED, layers.FILLED)}

# %% [markdown]
# The scores, with two marks on each bar of RES that are explained below:

# %%
fig, axes = plt.subplots(2, 2, figsize=(7.2, 6))
colors = {**sweep_plots.STRATEGIES, **sweep_plots.ONE_SET}
for ax, (title, metric) in zip(axes.flat, TASKS.items(), strict=True):
    row = {name: sweep.mean(metric, **factors) for name, factors in kinds.items()}
    sweep_plots.scores({"": row}, ax, sweep.note, colors, title.split(", ")[1], title.split(", ")[0], legend=False)
sweep_plots.controls(axes[0, 1], marks, colors)
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=len(colors), fontsize=8)
run.figure(fig, "figure5_left", alt="Scores of five fusion strategies on four tasks, with intervals over seeds")

# %% [markdown]
# The rightmost bar is learned fusion with one set of weights, shared by language model and mask decoder. What to look
# for: is the order of the strategies the same in all four tasks?
#
# The tasks stand at different stages. Captions and questions are what the alignment trains, so they had all of its
# steps before the tuning began; REC and RES had the short tuning alone.
#
# In RES a low bar may mean no more than that a mask decoder has not left its start yet, whatever layers it is given.
# So there are two marks on each bar, scores of the same answers that no look at an outline has earned. The triangle is
# their cIoU where each is held against another expression of the same picture, the square that of their *boxes*,
# filled. A bar near its triangle has not understood the expression; one that is no higher than its square knows where
# a region lies, which is REC once more, and not its outline. As numbers:

# %%
margins = {name: row[layers.MARGIN] for name, row in beside.items()}
print(sweep.note)
print(layers.sentence(margins))
frames.frame(beside)

# %% [markdown]
# Intervals of single bars may overlap although one strategy wins with every seed. Differences have to be taken first.
#
# ### Exercise 2: a paired interval (★★☆, 15 minutes)
#
# Write `my_interval(a, b)`: `a[i]` and `b[i]` are scores of two methods with the same seed. Return the mean of a − b
# and the two ends of its 95 % interval, $\bar d \pm t_{0.975;\,n-1}\, s / \sqrt n$, where $s$ is the standard deviation
# of the $n$ differences.


# %% tags=["attempt"]
def my_interval(a, b):
    """(mean, low, high) of a - b over seeds, with Student's t at 95 %."""
    raise NotImplementedError("your turn")


attempt(checks.check_paired_interval, my_interval)

# %% [markdown]
# <details><summary>Hint 1: pairs first</summary>
#
# What a seed does to both methods cancels in their difference.
# </details>
# <details><summary>Hint 2: the quantile</summary>
#
# `scipy.stats.t.ppf(0.975, n - 1)`; for three seeds it is 4.3, not 1.96.
# </details>


# %% nbgrader={"grade_id": "my_interval", "solution": true}
def my_interval(a, b):
    """(mean, low, high) of a - b over seeds, with Student's t at 95 %."""
    ### BEGIN SOLUTION
    import numpy as np
    from scipy import stats

    gaps = np.subtract(a, b)
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    return gaps.mean(), gaps.mean() - half, gaps.mean() + half
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_interval_check", "grade": true, "points": 2}
checks.check_paired_interval(my_interval)
### BEGIN HIDDEN TESTS
checks.check_paired_interval(my_interval, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The library's `difference` does the same, and widens the interval by the doubt about the scenes, on which all seeds
# are scored alike. On three scores without such a doubt both agree:

# %%
from pgpt_lib.sweeps.results import difference


def toy_cells(scores):
    """Results of a sweep that hold one score, `x` on the set `m`, a seed."""
    return [{"cell": {"seed": seed}, "metrics": {"m": {"x": score}}} for seed, score in enumerate(scores)]


library = difference(toy_cells([5, 7, 6]), toy_cells([4, 4, 5]), "m.x")
print(
    "library", [round(v, 3) for v in library], "yours", [round(float(v), 3) for v in my_interval([5, 7, 6], [4, 4, 5])]
)
assert all(abs(x - y) < 1e-6 for x, y in zip(library, my_interval([5, 7, 6], [4, 4, 5]), strict=True))

# %% [markdown]
# By how much learned fusion leads each of the others, on each task; and, in the last row, by how much learned fusion
# with two sets of weights, one for the language model and one for the mask decoder, leads learned fusion with one set
# for both. That row changes more than the number of sets. Of two sets, the mask decoder's starts from equal weights
# and learns at the full rate. A single set starts as it was aligned on words and learns at the small share of the rate
# that aligned weights are given, which hardly moves it (section 6). So whatever the row says, start and rate may be
# the reason as well as the second set.

# %%
ours = {"strategy": "learned"}
others = {f"over {s}": {"strategy": s} for s in strategies[1:]} | {"two sets over one": {**ours, "weights": "shared"}}
gaps = {row: {t: sweep.gap(m, ours, other) for t, m in TASKS.items()} for row, other in others.items()}
print(sweep.note)
frames.frame(gaps, signed=True)

# %% [markdown]
# An interval that holds 0 decides nothing. Look along a row: does a strategy lose on one task what it does not lose on
# another? Then the tasks live on different layers, which is the paper's argument for learning the mixture.
#
# The paper is more definite: upper layers are key for captions, lower ones better for visual detail. That can be read
# in two ways. The first is a *comparison of tasks*: if the last layer has what captions need, `last` should lose least
# on captions. The losses are made comparable by taking each as a share of what `learned` scores, seed by seed.

# %%
from pgpt_lib.sweeps.results import LEAST_SEEDS

last = {"strategy": "last"}
shares = {title.split(", ")[0]: layers.shortfall(sweep, metric, ours, last) for title, metric in TASKS.items()}
print("share of the score of learned fusion that `last` loses")
for task, share in shares.items():
    print(f"  {task:10} {sweep.told(share)}")
print(layers.least_lost(shares))

# %% [markdown]
# A share counts from 0, although who guesses also answers some questions; and the tasks' different stages stand
# between them here too.
#
# The second reading stays *within each task*. It is the rule by which the report judges the claim `layers-by-task`
# (section 8): in RES the mean, which holds the lower layers too, must lead the last layer, and in captions the last
# layer must lead the mean. It asks for more: `last` may lose least on captions and still be behind there.

# %%
for text, metric, pair in (
    ("RES: cIoU of the mean minus that of `last`", "ciou", ("mean", "last")),
    ("captions: CIDEr of `last` minus that of the mean", "caption.cider", ("last", "mean")),
):
    lead = sweep.gap(metric, *({"strategy": s} for s in pair))
    print(f"{text:50} {sweep.told(lead, signed=True)}")
print(f"fewer than {LEAST_SEEDS} seeds decide nothing, whatever their interval")

# %% [markdown]
# Neither reading is a direct test. Beside the last layers there are only mixtures here, which hold the upper layers as
# well; no strategy has the lower layers alone. One that takes, say, the mean of the first half would be the direct
# test.
#
# ## 5 · What a naive swap would have claimed
#
# The same comparison without the alignment, from the bundled weights. This is the comparison that comes to mind first,
# and it may favour the strategy that the backbone was made with.

# %%
starts = {"aligned": "aligned anew", "swapped": "swapped in"}
fig, axes = plt.subplots(2, 2, figsize=(7.2, 6))
for ax, (title, metric) in zip(axes.flat, TASKS.items(), strict=True):
    groups = {
        label: {s: sweep.mean(metric, strategy=s, start=how) for s in strategies} for how, label in starts.items()
    }
    what, unit = title.split(", ")
    sweep_plots.scores(groups, ax, sweep.note, sweep_plots.STRATEGIES, unit, what, legend=False)
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=len(strategies))
run.figure(fig, "swap", alt="Scores of the strategies when each is aligned anew, and when it is only swapped in")

# %% [markdown]
# If the bars on the right of a panel differ more than those on its left, that surplus is what the backbone's history
# adds to a naive comparison. As numbers, task by task: the lead of learned fusion when each strategy is aligned anew,
# when it is only swapped in, and by how much the naive comparison exaggerates.

# %%
swap = {}
for title, metric in TASKS.items():
    for other in strategies[1:]:
        pair = {**ours, "start": "aligned"}, {"strategy": other, "start": "aligned"}
        naive = [{**side, "start": "swapped"} for side in pair]
        leads = {label: sweep.gap(metric, *p) for label, p in zip(starts.values(), (pair, naive), strict=True)}
        surplus = sweep.growth(metric, *pair, then={"start": "swapped"})
        swap[f"{title.split(', ')[0]}, over {other}"] = {**leads, "exaggeration": surplus}
print(sweep.note)
frames.frame(swap, signed=True)

# %% [markdown]
# Where *exaggeration* lies wholly above 0, the comparison that comes to mind first would have been wrong by that much.
# The tasks need not agree: what a strategy lacks after a swap may matter for outlines and not for words.
#
# ## 6 · Figure 5, right: the weights
#
# Every cell with learned fusion has kept its weights at each line of its log, and during its own alignment, which
# starts with equal weights. Steps below 0, left of the dashed line, are the alignment's; the mask decoder's weights
# have no such steps, since words need no mask. Where the sweep has no such cell yet, the short one is shown, which
# starts from the bundled weights.

# %%
from pgpt_lib.sweeps.weights import with_alignment

learned = [cell for cell in sweep.cells(strategy="learned") if cell.get("weights")]
cells = {f"seed {c['cell']['seed']}": c for c in learned} or {f"short, seed {live_seed}": live}
tracks = {name: with_alignment(cell) for name, cell in cells.items()}
# The largest weight of all: one colour scale for all panels.
top = max(max(point[which]) for track in tracks.values() for point in track for which in point if which != "step")
fig, axes = plt.subplots(len(cells), 2, figsize=(7.2, 2.6 * len(cells)), squeeze=False)
for row, (name, track) in zip(axes, tracks.items(), strict=True):
    sweep_plots.weight_map(track, row[0], "llm", f"language model, {name}", top)
    sweep_plots.weight_map(track, row[1], "mask", f"mask decoder, {name}", top)
run.figure(fig, "weights_over_training", alt="Fusion weights by layer over the steps of training, for each seed")

# %% [markdown]
# A stripe that brightens from left to right is a layer whose weight grows: left of the dashed line by words alone,
# right of it by all tasks, boxes and masks among them. Panels of one column that look alike mean that the weights are
# a result of the data and not of the seed. How far did each stage move them? Beside it stands how far tuning could
# have moved the logits that the weights are made of: Adam moves a number by about its rate in each step, so that the
# sum of all rates is roughly a bound.

# %%
from pgpt_lib.sweeps.weights import moved, reach

for name, cell in cells.items():
    for which, bound in reach(cell).items():
        told = ", ".join(f"{stage} moved a weight by up to {most:.4f}" for stage, most in moved(cell, which).items())
        print(f"{name}, {which:4} {told}; tuning could move a logit by {bound:.3f}")

# %% [markdown]
# So where do the weights come from?

# %%
which_set = {"language model": "llm", "mask decoder": "mask"}
moves = {name: {which: moved(cell, which) for which in which_set.values()} for name, cell in cells.items()}
origin = {name: layers.learnt_from(list(cells.values()), which) for name, which in which_set.items()}
for name, text in origin.items():
    print(f"The weights of the {name} were {text}.")

# %% [markdown]
# Where tuning is that short, and its rate for aligned weights that small, the panels of the language model show what
# *captions and questions in words* made of equal weights. No box and no mask had a part in it. The mask decoder's own
# weights are the only ones here that regions have moved, and they are still near to where they started.
#
# The paper's bars come from elsewhere: from one training on boxes, masks and captions together, which in the released
# code starts both sets from equal weights. So its figure and this one do not show the same thing, and whether their
# shapes agree says little.
#
# What *should* they be? Notebook 01's probe tells what each layer knows by itself: colour and shape of the object under
# a token.

# %%
from pgpt_lib.probing import scene_probes

probes = scene_probes(model.tower, run.profile.data.level, scenes, seed)
accuracy = {word: probe.accuracy for word, probe in probes.items()}
for word, values in accuracy.items():
    best = max(range(len(values)), key=values.__getitem__)
    print(f"{word:7} best read from layer {best + 1} ({values[best]:.2f}), from the last {values[-1]:.2f}")

# %% [markdown]
# Weights at the end of tuning above, probes below, layer by layer. The weights of the bundled backbone, from which
# swapped cells start, are the third set.

# %%
from safetensors.torch import load_file

from pgpt_lib.backbones import BUNDLED

final = {which: [c["weights"][-1][which] for c in cells.values()] for which in ("llm", "mask")}
sets = {"language model": final["llm"], "mask decoder": final["mask"]}
bundled = BUNDLED / model.profile.llm.name / f"{model.profile.vision.name}.safetensors"
if bundled.exists():
    sets["bundled backbone, before"] = [load_file(bundled)["fusion.logits"].softmax(0).tolist()]
run.figure(sweep_plots.weights_beside_probe(sets, accuracy), "figure5_right", alt="Learned weights and probes by layer")

# %% [markdown]
# Bars that stand high where a curve does would mean that the training which made them (for the language model that on
# words) looks for what the probe finds there. Do they? First as a correlation over layers, for each seed: 1 is perfect
# agreement, 0 none, or that all weights are equal.

# %%
from pgpt_lib.arrangements import correlation, standing

follows = {}
for name, seeds in sets.items():
    for word, values in accuracy.items():
        found = [correlation(weights, values) for weights in seeds]
        follows[f"{name}, {word}"] = sum(found) / len(found)
        print(f"{name:24} with {word:7} {sum(found) / len(found):+.2f} (from {min(found):+.2f} to {max(found):+.2f})")

# %% [markdown]
# How much of that is chance? Seeds that agree do not tell: all of them are held against one probe, fitted to one set of
# scenes, and share whatever is accidental in it. Nor does the usual bound on a correlation, which takes layers for
# independent. Neighbours say nearly the same, so weights and probes are both smooth over layers, and smooth curves
# often correlate. And of two probes one is always nearer.
#
# So the probes are compared with *themselves*, rearranged in all ways that keep neighbours together: their curves
# shifted around, as if the layers stood in a circle, and each of these mirrored. That makes two arrangements for each
# layer, the true one among them. Each is scored by its best correlation, over both probes, with the mean weights over
# seeds. If chance alone joined weights and probes, any arrangement could come first. The weights "follow" a probe if
# the true arrangement comes first. A correlation does not ask how far weights moved; their range stands beside it.

# %%
places = {name: standing(seeds, accuracy) for name, seeds in sets.items()}
ranks = {name: {"rank": found.rank, "of": found.of} for name, found in places.items()}
follow = {"weights_follow_probe": follows, "weights_probe_rank": ranks}
for name, found in places.items():
    mean = torch.tensor(sets[name]).mean(0)
    place = f"the true arrangement is {found.rank} of {found.of}, nearest to {found.curve} ({found.correlation:+.2f})"
    print(f"{name:24} {place}; weights from {mean.min():.3f} to {mean.max():.3f}")

# %% [markdown]
# The answer in one sentence for each set that was learned here, from these numbers.


# %%
def sentence(name):
    """Whether a set of weights follows the probe that it is nearest to, in words."""
    found = places[name]
    verdict = f"follow the probe of {found.curve}" if found.follows else "follow neither probe"
    place = f"the true arrangement is {found.rank} of {found.of}"
    chance = f"chance alone puts it first with probability 1/{found.of}"
    return f"The weights of the {name} {verdict}: {place}; {chance}. They were {origin[name]}."


for name in ("language model", "mask decoder"):
    print(sentence(name))

# %% [markdown]
# Whatever the sentences say, they say it of the stage that they name: that weights learnt from words follow a probe,
# or do not, tells nothing of what finding regions would make of them.
#
# Where weights do not follow, that is no error of the training. A probe asks each layer alone, while a weight says
# what a layer *adds* to all others; neighbours say nearly the same, so weight can move between them at no cost. The
# paper reads its bars as "contributions"; with that reading one should be as careful as with the coefficients of any
# regression on correlated inputs.
#
# ## 7 · Drag the weights
#
# What does the model answer when its weights are changed by hand? Left the scene with the true box and the answer,
# right the fused features. The model was trained with the first set only.

# %%
from pgpt_lib.fusion_view import fusion_view

count = model.fusion.num_layers
single = torch.eye(count)
stills = {"as trained": model.fusion.weights().tolist(), "mean of the layers": equal.tolist()}
stills |= {"first layer": single[0].tolist(), "last layer": single[-1].tolist()}
view = fusion_view(model, sample, images, stills)
run.figure(view.figure(), "drag", alt="Answer and features of a scene under four sets of fusion weights")
view.show()

# %% [markdown]
# One scene may be an accident. The mean IoU of the same four sets over the questions of a few scenes:

# %%
from pgpt_lib.evaluation.grounding import box_iou
from pgpt_lib.evaluation.predictions import predict
from pgpt_lib.fusion_view import fusion_weights

asked = refshapes_samples("refcoco", "val", 8, seed, run.profile.data.level, ["rec"])
dragged = {}
for name, weights in stills.items():
    with fusion_weights(model, weights):
        answers = predict(model, asked, images)
    dragged[name] = sum(box_iou(p.first, p.truth.regions[0], p.sample.size) for p in answers) / len(answers)
    print(f"{name:20} mean IoU {dragged[name]:.3f} over {len(answers)} questions")

# %% [markdown]
# What a model loses here says nothing about what a layer knows: projector and language model never met that mixture.
# It is the naive swap of section 5, without any training after it.
#
# ## 8 · What this evidence supports
#
# The rules for the paper's two claims were written before the numbers were known: learned fusion must lead the last
# layer, the one before it and the mean, each aligned with the same budget, with its whole interval above 0; and if
# lower layers hold the detail, the mean must lead the last layer in RES, and the last layer the mean in captions.

# %%
from pgpt_lib.claims import verdicts

judged = verdicts({"profile": sweep.profile, "metrics": {}, "tables": {}}, sweep.home)
for found in (judged[name] for name in ("layer-fusion", "layers-by-task")):
    print(f"{found['verdict']}\n  claimed: {found['text']}\n  found: {found['why']}")

# %% [markdown]
# ## Questions to think about
#
# 1. The mean of the layers has no parameter to learn, and the projector after it could undo a wrong mixture only in
#    part. Which part?
# 2. Two sets of weights cost a dozen numbers more than one. Why can they still matter?
# 3. How would you find out whether a layer is needed at all, when weights do not tell?
#
# **Read next:** Peters et al., *Deep contextualized word representations*, NAACL 2018 (a learned weighted sum of
# layers, for words); Lin et al., *Feature Pyramid Networks for Object Detection*, CVPR 2017; Alain and Bengio,
# *Understanding intermediate layers using linear classifier probes*, ICLR 2017 workshop; Oquab et al., *DINOv2*, TMLR
# 2024. Notebook 09 measures the cost of each representation in time.

# %%
measured = {
    "cells": {"done": len(sweep.results), "missing": len(sweep.missing)},
    "short_live": {title: live["metrics"][MAIN].get(metric) for title, metric in list(TASKS.items())[:2]},
    "gaps": {f"{task}, {row}": v[:3] for row, found in gaps.items() for task, v in found.items() if v},
    "naive_swap": {f"{s}, {how}": v[:3] for s, row in swap.items() for how, v in row.items() if v},
    "probe": {word: max(values) for word, values in accuracy.items()},
}
more = {"masks_over_boxes": margins, "lost_by_last": shares}
more = {key: {name: v[:3] for name, v in found.items() if v} for key, found in more.items()}
run.finish(metrics={**measured, **more, **follow, "weights_moved": moves, "dragged_miou_box": dragged})
