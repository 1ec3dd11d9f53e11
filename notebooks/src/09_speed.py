# %% [markdown]
# # 09 · Speed
#
# ```yaml
# title: Speed
# objectives:
#   - count every token that a box or a mask takes, in each representation that the paper names
#   - measure what each representation loses on the way there and back, learned heads included
#   - predict the time of a decode from the machine's own rates, and meet the measurement
#   - find out under which conditions the paper's Table 7 arises, and what is left of it otherwise
# prerequisites: [notebook 02, notebook 04, notebook 07]
# paper: section 4.4; Tables 4 and 7
# minutes: {smoke: 1, cpu: 6}
# memory_gb: {smoke: 2, cpu: 4}
# ```
#
# One token instead of twenty, or of three hundred: that must be faster, and the paper says by how much. "For a 7B P-VLM
# to decode a mask, PerceptionGPT takes only 0.3% and 3.7% inference time" of the two discrete representations. This
# notebook takes the claim apart into tokens (Table 4), errors (its other column) and seconds (Table 7).

# %% tags=["parameters"]
profile: str = "cpu"  # name of a profile: smoke, cpu, ...
out_dir: str = ""  # folder of the run; empty means reports/<profile>
seed: int = 0  # seed of everything random in this notebook
scenes: int = 80  # RefShapes scenes to take regions from (a quarter of them in smoke)
head_steps: int = 800  # training steps of the box head; a fifth of them for the mask head (an eighth of all in smoke)
row_seconds: float = 3.5  # a row of the decode times, unless its fewest repeats take longer (an eighth in smoke)

# %% [markdown]
# The settings come from the profile. `smoke` only shows that everything runs, with fewer regions and shorter
# measurements.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from pgpt_lib import plots, speed_plots
from pgpt_lib.notebook import start

run = start(profile, out_dir, seed, slug="09_speed")
plots.use_style()
torch.manual_seed(seed)
if smoke := run.profile.name == "smoke":
    scenes, head_steps, row_seconds = scenes // 4, head_steps // 8, row_seconds / 8

# %% [markdown]
# The regions are objects of RefShapes scenes, whose sizes follow RefCOCO's. Three quarters of the scenes are of the
# split on which models are trained, here and in notebook 05. The last quarter is *held out*: of the validation split,
# in which no learned part of this notebook was trained on any scene. Everything is measured on that quarter.

# %%
from pgpt_lib.data.refshapes.scene import make_scene
from pgpt_lib.data.refshapes.tasks import scene_regions

count = {"train": scenes * 3 // 4, "val": scenes - scenes * 3 // 4}
worlds = [make_scene(run.profile.data.level, split, seed, i) for split, number in count.items() for i in range(number)]
regions = [r for world in worlds for r in scene_regions(world)]
image_index = torch.tensor([i for i, world in enumerate(worlds) for _ in world.things])
held_out = torch.tensor([worlds[i].key[0] == "val" for i in image_index])
tested = [region for region, out in zip(regions, held_out, strict=True) if out]
size = tuple(regions[0].mask["size"])
print(f"{len(regions)} regions in {scenes} scenes, {len(tested)} of them held out; pictures of {size}")

# %% [markdown]
# ## 1 · Table 4: how many tokens?
#
# A box as Shikra writes it, four numbers with three decimals in brackets. The paper's Table 4 says that it takes 20
# tokens, and that is 4 numbers × 5 characters: digits and points. But commas and brackets must be written as well.
#
# How a tokenizer cuts numbers is a rule of its own. Llama-2's, which Vicuna has, makes every digit a token (Touvron et
# al., 2023). A comma between two digits then has nothing to merge with, and stays one token too.
#
# ### Exercise 1: counting (★☆☆, 10 minutes)
#
# Write `my_count(text)`: the [tokens](../docs/glossary.md#token) of a written region by that rule. A word in angle
# brackets, as `<loc_17>`, was added to the vocabulary and is one token. Of the rest every character is one; blanks are
# none.

# %% tags=["attempt"]
from pgpt_lib import checks
from pgpt_lib.exercises import attempt


def my_count(text):
    """How many tokens a written region takes."""
    raise NotImplementedError("your turn")


attempt(checks.check_token_count, my_count)

# %% [markdown]
# <details><summary>Hint 1: two kinds of pieces</summary>
#
# `re.findall(pattern, text)` lists all pieces that fit a pattern; `a|b` tries `a` first.
# </details>
# <details><summary>Hint 2: the patterns</summary>
#
# `<[^>]*>` is anything in angle brackets, `\S` any character but a blank.
# </details>

# %% nbgrader={"grade_id": "my_count", "solution": true}
def my_count(text):
    """How many tokens a written region takes."""
    ### BEGIN SOLUTION
    import re

    return len(re.findall(r"<[^>]*>|\S", text))
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_count_check", "grade": true, "points": 1}
checks.check_token_count(my_count)
### BEGIN HIDDEN TESTS
checks.check_token_count(my_count, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# Each row of Table 4 is a *scheme*, taken from its own paper; the representations that write it are the library's. One
# held-out region in all of them:

# %%
from pgpt_lib.benchmark.tokens import SCHEMES

for scheme in SCHEMES:
    for kind in ("box", "mask"):
        if text := scheme.text(kind, tested[0], size):
            shown = text if len(text) <= 70 else f"{text[:64]} … "
            print(f"{scheme.row:29} {kind:4} {my_count(text):4} tokens  {shown}")

# %% [markdown]
# Unified-IO spends *four* tokens on a box (two a corner) and a fixed 16 × 16 grid of codes on a mask. VisionLLM's
# tokens are coordinates as well: four for a box; we read its 16 for a mask as a polygon of eight points. Kosmos-2
# needs two, a cell for each corner, and two marks around them.
#
# Is the rule right? The real tokenizers, ours and SmolLM2's, must say the same. SmolLM2-135M, which is timed below too,
# is fetched where it is not in the cache yet (93 MB; not in `smoke`), and left out where it is not to be had.

# %%
from pgpt_lib.backbones import resolve
from pgpt_lib.errors import InputError

llms = ["nano"] if smoke else ["nano", "smollm2-135m"]
try:
    resolve(llms[-1])
except InputError as reason:
    print(f"{llms.pop()} is left out: {reason}")

# %% [markdown]
# The counts, first by tokenizer:

# %%
from pgpt_lib.benchmark.tokens import RULE, token_table

counted, skipped = token_table(tested, size)
for name, reason in skipped.items():
    print(f"{name} is left out: {reason}")
for row, kind in counted[RULE]:
    found = "   ".join(f"{name} {table[row, kind]['all']:6.2f}" for name, table in counted.items())
    print(f"{row:29} {kind:5} {found}")
assert all(np.isclose(counted[RULE][key]["all"], c["all"]) for key, c in counted["nano"].items())

# %% [markdown]
# Means over all held-out regions; a fraction comes from objects that others cut in two or more parts, since a mark
# stands between parts. As a figure, with the paper's counts as diamonds:

# %%
from pgpt_lib.report import paper_table

hue = {s.row: plots.REPRESENTATIONS[s.representation] for s in SCHEMES}
fig, axes = plt.subplots(2, 1, figsize=(7.2, 6))
for ax, kind in zip(axes, ("box", "mask"), strict=True):
    rows = {s.row: counted[RULE][s.row, kind] for s in SCHEMES if (s.row, kind) in counted[RULE]}
    printed = {name: columns[kind] for name, columns in paper_table("table4")["rows"].items()}
    shades = "digits and codes; points and commas (paler); brackets and marks (palest)"
    speed_plots.token_bars(rows, hue, ax, printed, f"a {kind}: {shades}")
run.figure(fig, "tokens", alt="Tokens of a box and of a mask by scheme, with the counts that the paper prints")

# %% [markdown]
# The paper leaves out commas, brackets and marks: 20 where Shikra writes 25, and 2 where Kosmos-2 writes 4. For
# Unified-IO and VisionLLM it also says 2, though both write four coordinates. Its own answer is one token, but the
# released code wraps it in two marks, so three are emitted. The order stays: one token is the fewest. For masks the
# distances are large whichever way one counts.
#
# ## 2 · The other column: what is lost
#
# Table 4's first column says which methods are free of *quantisation error*, that of rounding to the nearest bin. For
# the discrete ones that error can be bounded without any model. With $k$ bins a coordinate moves by at most half a bin,
# $1 / (2k)$, and three decimals are a thousand bins. Every held-out region is written, read back, and compared:

# %%
from pgpt_lib.benchmark.round_trip import region_ious, side_errors, through_text

# Without those that are dynamic: an embedding writes no text.
writers = {(s.row, kind): w for s in SCHEMES for kind in ("box", "mask") if (w := s.writer(kind)) and not w.dynamic}
back = {key: through_text(writer, tested, size) for key, writer in writers.items()}
ious = {(row, kind): region_ious(tested, found, kind) for (row, kind), found in back.items()}
for (row, kind), iou in ious.items():
    print(f"{row:20} {kind:5} mean IoU {iou.mean():.4f}")

# %% [markdown]
# The coordinate of a box that is farthest off, beside the bound:

# %%
bins = {s.row: 1000 if s.representation == "numerical" else s.coordinates.bins for s in SCHEMES}
for row in (row for row, kind in back if kind == "box"):
    worst, bound = side_errors(tested, back[row, "box"]).max(), 1 / (2 * bins[row])
    print(f"{row:20} off by {worst:.5f}, at most {bound:.5f}")
    assert worst <= bound + 1e-9

# %% [markdown]
# The bounds hold: 1/64 for 32 cells, 1/1024 for 512 bins, 1/2000 for a thousand bins and for three decimals. For
# Unified-IO's masks there is no such bound: they go through a trained network, its VQ-GAN, which this project does not
# have, so their error is not measured.
#
# For masks the number of vertices decides. Drag that number and compare what the text can say with the object.

# %%
from pgpt_lib.config import Coordinates
from pgpt_lib.regions import Region, mask_iou
from pgpt_lib.representations import get_representation
from pgpt_lib.widgets import Slider, View

example = max(tested, key=lambda region: len(region.mask["counts"]))


def mask_writer(name, vertices):
    """A representation that writes masks as contours."""
    return get_representation(name, Coordinates(target="mask", vertices=vertices))


# %% [markdown]
# The object is the one with the most complicated outline among the held-out ones. Green is the true mask, orange what
# the text says.

# %%
def show_contour(ax, vertices):
    """An object's mask beside what so many vertices in digits make of it."""
    writer = mask_writer("numerical", int(vertices))
    text = writer.write(example, size)
    (read,) = writer.read(text, (), size)
    shown = [Region(None, example.mask), Region(None, read.mask)]
    colors = [plots.TRUTH, plots.REPRESENTATIONS["numerical"]]
    plots.draw_regions(np.full((*size, 3), 255, np.uint8), shown, None, ax, colors)
    iou = mask_iou(read.mask, example.mask)
    left, top, right, bottom = np.array(example.box) * size[1]
    ax.set(xlim=(left - 4, right + 4), ylim=(bottom + 4, top - 4))
    ax.set_title(f"{int(vertices)} vertices, {my_count(text)} tokens\nIoU {iou:.3f}", fontsize=9)


# %% [markdown]
# Three counts as stills, the slider for those with a kernel:

# %%
view = View(show_contour, {"vertices": Slider(3, 64, 16, 1)}, [{"vertices": n} for n in (6, 12, 32)], (2.4, 2.6))
run.figure(view.figure(), "vertices", alt="An object and its contour with 6, 12 and 32 vertices")
view.show()

# %% [markdown]
# Few vertices cut corners; more cost twelve tokens each in digits, and one each as cells, whose own coarseness then
# sets the limit.
#
# ## 3 · An embedding is not free of error
#
# The embedding has no bins. But it is written and read by *networks*, and what these have not learnt is lost too. Box
# and mask have an encoder and a decoder each. If notebook 05 has left a trained model, its decoders are used as they
# are; otherwise both are new. In that model the language model stands between encoder and decoder, which were never
# trained to fit each other. So here the encoder is trained briefly to write what the decoder reads. Neither has seen
# a held-out scene.

# %%
from pgpt_lib.backbones import load_vision
from pgpt_lib.checkpoint import load_checkpoint
from pgpt_lib.fusion import LayerFusion

if run.use("05_training"):
    model, state = load_checkpoint(run.out / "checkpoint")
    source, tower, fuse = f"the decoders of notebook 05, after {state.step} steps", model.tower, model.mask_fusion
else:
    model, source, tower = None, "fresh heads", load_vision(**run.profile.vision.model_dump())
    fuse = LayerFusion(tower.num_layers, "mean")

# %% [markdown]
# The mask decoder looks at the picture, so the tower's features are needed, fused over its layers.

# %%
from pgpt_lib.data.refshapes.render import render
from pgpt_lib.regions import Placement
from pgpt_lib.signals import BoxSignal, MaskSignal

square = Placement(*size, tower.image_size)
inputs = [square.image(render(world)) for world in worlds]
with torch.no_grad():
    states = [tower(tower.preprocess(inputs[i : i + 16])) for i in range(0, scenes, 16)]
    features = torch.cat([fuse(part.float()) for part in states])
wide, shape = 128, (tower.hidden_size, tower.grid)
heads = {"box": BoxSignal(wide, *shape), "mask": MaskSignal(wide, *shape)} if model is None else dict(model.signals)

# %% [markdown]
# A short training, with the signals' own losses: of masks on the scenes that are not held out, of boxes on random ones.

# %%
from pgpt_lib.benchmark.round_trip import fit_head, through_head

known = (~held_out).nonzero().flatten()
mask_values, _ = heads["mask"].collate(regions, [square] * len(regions))
chance = torch.Generator().manual_seed(seed)


def draw_boxes():
    """256 random boxes (centre, size) within the square, without the features of a picture: a box's head needs none."""
    side = 0.03 + 0.8 * torch.rand(256, 2, generator=chance)
    return torch.cat([side / 2 + (1 - side) * torch.rand(256, 2, generator=chance), side], dim=1), None, None


def draw_masks():
    """32 masks of known regions, the features of all pictures, and which picture each mask is of."""
    rows = known[torch.randint(len(known), (32,), generator=chance)]
    return mask_values[rows], features, image_index[rows]


# %% [markdown]
# Decoders that come from a trained model stay as they are; fresh ones learn as well.

# %%
fresh = model is None
fit_head(heads["box"], draw_boxes, head_steps, rate=5e-3, decoder=fresh)
fit_head(heads["mask"], draw_masks, head_steps // 5, decoder=fresh)
for kind, signal in heads.items():
    if kind in ("box", "mask"):
        found = through_head(signal, tested, square, features, image_index[held_out])
        ious["PerceptionGPT", kind] = region_ious(tested, found, kind)
        print(f"{source}: {kind}, mean IoU {ious['PerceptionGPT', kind].mean():.4f}")

# %% [markdown]
# Beside the discrete ones, by the size of the region:

# %%
from pgpt_lib.benchmark.round_trip import region_sides

sides = region_sides(tested)
lines = {kind: {row: iou for (row, k), iou in ious.items() if k == kind} for kind in ("box", "mask")}
lines["box"] = {row: iou for row, iou in lines["box"].items() if "Table 7" not in row}  # equal to Shikra and Kosmos-2
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.8), sharey=True)
for ax, (kind, losses) in zip(axes, lines.items(), strict=True):
    speed_plots.loss_by_size(losses, sides, hue, ax)
    ax.set_title(f"a {kind}, there and back")
run.figure(fig, "round_trip", alt="What boxes and masks lose in each representation, by the size of the region")

# %% [markdown]
# Lower is better, and every line but the embedding's is a bound that no training improves. For boxes the discrete lines
# are ordered by their bins, and all of them lose most on small regions. The embedding's line is one of *training*: free
# of bins, not of error, and where it lies is a matter of how long its networks learn (hardly at all in `smoke`). For
# masks, text pays tokens for each vertex. The embedding pays one token, since its decoder sees the picture, and what it
# loses is again a matter of training: compare its line with those of 8 vertices (VisionLLM) and of 32 (Table 7).
#
# What does a token buy? Masks again, with several vertex counts:

# %%
points = {}
for name in ("numerical", "vocabulary"):
    for vertices in (8, 16, 32, 64):
        writer = mask_writer(name, vertices)
        tokens = np.mean([my_count(writer.write(region, size)) for region in tested])
        iou = region_ious(tested, through_text(writer, tested, size), "mask").mean()
        points.setdefault(name, []).append((float(tokens), float(iou)))
points["embedding"] = [(1.0, float(ious["PerceptionGPT", "mask"].mean()))]

# %% [markdown]
# Tokens and losses are both drawn by their logarithm.

# %%
fig, ax = plt.subplots(figsize=(6, 3.2))
speed_plots.loss_by_tokens(points, plots.REPRESENTATIONS, ax)
run.figure(fig, "loss_by_tokens", alt="What a mask loses by the number of tokens, for three representations")

# %% [markdown]
# Digits buy precision with tokens: each doubling of the vertices costs twice as much. Cells of 1/32 stop gaining early,
# for the vertices themselves are coarse. The star is the embedding, at one token whatever the object.
#
# Table 4 again, complete: tokens counted, and in place of a tick the mean IoU of what comes back, on held-out regions.

# %%
table4 = {}
for scheme in SCHEMES:
    counts = {k: counted[RULE][scheme.row, k]["all"] for k in ("box", "mask") if (scheme.row, k) in counted[RULE]}
    kept = {f"{k} IoU": float(ious[scheme.row, k].mean()) for k in ("box", "mask") if (scheme.row, k) in ious}
    table4[scheme.row.replace("PerceptionGPT", "Token Embed")] = {**counts, **kept}
for name, row in table4.items():
    print(f"{name:29} {'  '.join(f'{column} {value:.4g}' for column, value in row.items())}")

# %% [markdown]
# ## 4 · From tokens to seconds
#
# A decode has four parts. The tower sees the picture, once. The [*prefill*](../docs/glossary.md#prefill) reads the
# prompt, and its last state gives the region's first token. Then one *step* for each further token, and at the end a
# head where a region is decoded from a state. With a [key-value cache](../docs/glossary.md#cache) a step computes one
# position; without one it computes the whole text again.
#
# ### Exercise 2: the formula (★☆☆, 10 minutes)
#
# Write `my_seconds(parts, tokens, cached)`. `parts` has the seconds of "vision", "prefill", "step" (one token with a
# cache) and "head". Without a cache a token costs a prefill; that the text grows meanwhile, you may leave out.

# %% tags=["attempt"]
def my_seconds(parts, tokens, cached):
    """Seconds until a region of so many tokens is decoded."""
    raise NotImplementedError("your turn")


attempt(checks.check_decode_seconds, my_seconds)

# %% [markdown]
# <details><summary>Hint 1: the first token</summary>
#
# It costs no step: the prefill's last state predicts it. So a region of one token takes no step at all.
# </details>
# <details><summary>Hint 2: without a cache</summary>
#
# Every token then costs what the first one costs. Tower and head still run once.
# </details>

# %% nbgrader={"grade_id": "my_seconds", "solution": true}
def my_seconds(parts, tokens, cached):
    """Seconds until a region of so many tokens is decoded."""
    ### BEGIN SOLUTION
    more = parts["step"] if cached else parts["prefill"]
    return parts["vision"] + parts["prefill"] + (tokens - 1) * more + parts["head"]
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_seconds_check", "grade": true, "points": 1}
checks.check_decode_seconds(my_seconds)
### BEGIN HIDDEN TESTS
checks.check_decode_seconds(my_seconds, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# Now the clock. The region's true tokens are replayed, so that every representation answers at its full length however
# little the model knows. Short decodes are timed whole, twenty times. Of long ones single steps are timed at up to five
# lengths, twenty times with a cache and at least three times without; those between are interpolated, and all are
# summed. Beside each time stands a *prediction*: operations and bytes are counted, and priced by rates that were
# measured on this machine with models of other sizes (`pgpt_lib/benchmark/machine.py`).

# %%
from pgpt_lib.benchmark.suite import decode_rows

device, tower_name = "cuda" if torch.cuda.is_available() else "cpu", "nano-vit" if smoke else None
bench = decode_rows(llms, row_seconds, log=lambda line: None, device=device, tower=tower_name)

# %% [markdown]
# What the machine gives, and what one step costs in calls alone, whatever they compute:

# %%
machine = bench["machine"]
print(f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}")
for inner, rate in machine["flop_a_second"].items():
    print(f"products of inner dimension {inner:>4}: {rate / 1e9:7.1f} GFLOP/s")
for pieces, rate in machine["bytes_a_second"].items():
    print(f"reading {pieces:>2} MiB of weights, over and over: {rate / 1e9:7.1f} GB/s")
steps = {row["llm"]: row["overhead_a_step"] for row in bench["rows"] if row["cache"] and row["overhead_a_step"]}
print("overhead a step:", ", ".join(f"{llm} {1e3 * seconds:.2f} ms" for llm, seconds in steps.items()))

# %% [markdown]
# A call is one operation that Python starts, and its price was found on small models of other sizes. A deeper model
# makes more calls.
#
# Every row, measured as a median with its quartiles, beside its prediction:


# %%
def label(row):
    """A row's name."""
    return f"{row['llm']} {row['representation']} {row['kind']}, {'cache' if row['cache'] else 'no cache'}"


for row in bench["rows"]:
    middle, low, high = (1e3 * seconds for seconds in row["measured"])
    print(f"{label(row):46} {row['tokens']:4} tokens {middle:8.1f} ms [{low:.1f}, {high:.1f}], "
          f"predicted {1e3 * row['predicted']:8.1f}, ratio {row['ratio']:.2f}")  # fmt: skip

# %% [markdown]
# How they were taken. Where single steps were summed, one whole decode is the check, if it takes less than a row may:

# %%
for row in bench["rows"]:
    checked = "" if row["whole_decode"] is None else f", one whole decode {1e3 * row['whole_decode']:.1f} ms"
    if row["method"] == "whole decodes":
        print(f"{label(row):46} {row['repeats']} whole decodes")
    else:
        print(f"{label(row):46} {row['repeats']} x {row['method']}: {1e3 * row['measured'][0]:.1f} ms{checked}")

# %% [markdown]
# So the sums that are checked here are those below `row_seconds`, and the longest are not. How to check those too is
# told in [docs/speed.md](../docs/speed.md#long-decodes-summed-and-whole).

# %%
from pgpt_lib.benchmark.comparison import beside_whole

summed = [row for row in bench["rows"] if row["method"] != "whole decodes"]
ratios = [ratio for ratio in beside_whole(summed) if ratio]
print(f"checked by a whole decode: {len(ratios)} of {len(summed)} sums, those below {row_seconds:.1f} s")
if ratios:
    print(f"a whole decode takes {min(ratios):.2f} to {max(ratios):.2f} times the seconds of the sum")

# %% [markdown]
# Where the time goes, a figure for each language model: solid is measured, pale is predicted.

# %%
panels = [(kind, cached) for kind in ("box", "mask") for cached in (True, False)]
for llm in llms:
    fig, axes = plt.subplots(2, 2, figsize=(7.2, 5))
    for ax, (kind, cached) in zip(axes.flat, panels, strict=True):
        mine = [r for r in bench["rows"] if (r["llm"], r["kind"], r["cache"]) == (llm, kind, cached)]
        speed_plots.time_parts(mine, ax, f"{kind}, {'with' if cached else 'without'} a cache")
    fig.suptitle(llm)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(speed_plots.STEPS))
    run.figure(fig, f"parts_{llm}", alt=f"{llm}: seconds of each part, measured and predicted, in four panels")

# %% [markdown]
# The same in numbers, in ms, measured / predicted:

# %%
for row in bench["rows"]:
    sides = [row["parts"][side] for side in ("measured", "predicted")]
    parts = ", ".join(f"{part} {1e3 * sides[0][part]:.1f} / {1e3 * sides[1][part]:.1f}" for part in speed_plots.STEPS)
    print(f"{label(row):46} {parts}")

# %% [markdown]
# With one token there is no decoding at all: what remains is vision and prefill, which every representation needs, and
# a head. As far as these take longer than a step, one token instead of 25 is less than 25 times as fast with a cache.
# Without one every further token costs a prefill or more. What to look for in the ratios at the end of this section is
# how near that of the times comes to that of the tokens. It depends on the tower, which still runs only once. Where a
# prefill takes much longer than the tower, both should be close, and for hundreds of tokens the time may grow faster
# than their number, since the text that is read again gets longer. Where the tower takes longer, they should stay
# apart.
#
# How good is the prediction? The target was set before the numbers were known: two thirds of all rows within 25 %.

# %%
aim = bench["target"]
fig, ax = plt.subplots(figsize=(7, 0.8 + 0.27 * aim["of"]))
speed_plots.ratio_strip(bench["rows"], ax)
ax.set_title(f"{aim['within']} of {aim['of']} rows within 25 %")
reached = "met" if aim["met"] else "not met"
print(f"target: two thirds ({aim['wanted']:.0%}) of rows; there are {aim['within'] / aim['of']:.0%}: {reached}")
run.figure(fig, "ratios", alt="Measured over predicted time of every row with a band of 25 percent")

# %% [markdown]
# A miss means little where it is no larger than the clock's own doubt. A single token takes the same work with a cache
# and without, but for filling the cache. So each language model and kind has one work that was measured twice. The
# factor between the two medians is noise, and a lower bound of it, since other rows may have met more. A row is held
# against its own language model's noise: that of one does not excuse a miss of the other.

# %%
noise = bench["noise"]
print("a single token, slower over faster:", ", ".join(f"{name} {r:.2f}" for name, r in noise["ratios"].items()))
for llm, factor in noise["by_llm"].items():
    print(f"noise of {llm}: the same work differs by a factor of up to {factor:.2f} between two measurements")

# %% [markdown]
# Rows outside of the band, each with whether it lies within that noise, which part is off, what its prediction consists
# of, and by how much the largest term would have to change. Noise may be the whole reason, or hide another one, so the
# last is told of every miss. All terms are priced by rates of other shapes than those that are predicted; a factor that
# returns in many rows points to a rate that does not carry over, or to a machine that was busy with something else.

# %%
for row in bench["rows"]:
    if row["explanation"]:
        print(row["explanation"])

# %% [markdown]
# What one token saves, end to end, beside the ratio of tokens:

# %%
from pgpt_lib.benchmark.comparison import beside_one_token

times_as_long = dict(zip(map(label, bench["rows"]), beside_one_token(bench["rows"]), strict=True))
several = [row for row in bench["rows"] if row["tokens"] > 1]
for row in several:
    factor = f"{times_as_long[label(row)]:6.1f} times as long"
    print(f"{label(row):46} takes {factor} with {row['tokens']:3} times the tokens")

# %% [markdown]
# The ratio of times divided by the ratio of tokens, for each language model. At 1 every token costs what the first one
# costs; below it further tokens are cheaper, above it dearer.

# %%
for llm in llms:
    for kind, cached in panels:
        mine = [r for r in several if (r["llm"], r["kind"], r["cache"]) == (llm, kind, cached)]
        shares = ", ".join(f"{r['representation']} {times_as_long[label(r)] / r['tokens']:.2f}" for r in mine)
        print(f"{llm:14} {kind:5} {'with a cache' if cached else 'without':13} {shares}")

# %% [markdown]
# ## 5 · Table 7 at its own size
#
# A model of seven billion parameters does not run here. But what bounds its step is known: it reads every weight once,
# and it computes a multiplication and an addition for each. Both happen at the same time.
#
# ### Exercise 3: the bound of a step (★★☆, 10 minutes)
#
# Write `my_step(parameters, bytes_each, cache_bytes, bandwidth, flops)`: the least seconds of one step of decoding. The
# cache is read as well.

# %% tags=["attempt"]
def my_step(parameters, bytes_each, cache_bytes, bandwidth, flops):
    """The least seconds of one decoding step: what takes longer, reading or computing."""
    raise NotImplementedError("your turn")


attempt(checks.check_step_seconds, my_step)

# %% [markdown]
# <details><summary>Hint 1: reading</summary>
#
# `parameters * bytes_each` bytes of weights and `cache_bytes` pass at `bandwidth` bytes a second.
# </details>
# <details><summary>Hint 2: which of both</summary>
#
# They overlap, so the time is the larger one: this is the *roofline*.
# </details>

# %% nbgrader={"grade_id": "my_step", "solution": true}
def my_step(parameters, bytes_each, cache_bytes, bandwidth, flops):
    """The least seconds of one decoding step: what takes longer, reading or computing."""
    ### BEGIN SOLUTION
    reading = (parameters * bytes_each + cache_bytes) / bandwidth
    return max(reading, 2 * parameters / flops)
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_step_check", "grade": true, "points": 2}
checks.check_step_seconds(my_step)
### BEGIN HIDDEN TESTS
checks.check_step_seconds(my_step, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# On an A100 with 80 % of its bandwidth and half of its peak FLOP rate, for Vicuna 7B in bf16 (2 bytes a number) with
# 330 cached positions (2 tables, of keys and of values, for each of 32 layers, 4096 wide). A step reads all of the
# 6.738 billion parameters but the 0.131 billion of the input embedding, of which it looks up one row:

# %%
from pgpt_lib.estimate.plan import card

a100 = card("a100-80")
read, compute = 0.8 * a100.bandwidth * 1e9, 0.5 * a100.tflops * 1e12  # bytes and operations a second
step = my_step(6.738e9 - 0.131e9, 2, 330 * 2 * 32 * 4096 * 2, read, compute)
prefill = 2 * 6.738e9 * 330 / compute
print(f"a step takes {1e3 * step:.1f} ms, a prefill {1e3 * prefill:.0f} ms: as long as {prefill / step:.1f} steps")

# %% [markdown]
# A prefill is limited by computing, since one reading of the weights serves all its positions; a step is limited by
# reading. So on a fast card a prefill takes only as long as a few steps. The library does this for every row of Table
# 7, with the tower and the heads, for three cards, with a cache and without.

# %%
from pgpt_lib.benchmark.full_scale import table7

predicted = table7()
fig, axes = plt.subplots(2, 1, figsize=(7.2, 6.4), sharey=True)
for ax, llm in zip(axes, ("7B", "13B"), strict=True):
    speed_plots.full_scale(predicted["rows"], llm, ax)
axes[0].legend(fontsize=8, loc="upper left")
run.figure(fig, "table7", alt="Predicted seconds for 7B and 13B on three cards beside the paper's Table 7")

# %% [markdown]
# Filled marks are decoding with a cache, open ones without (for a single token both coincide), stars the paper. The
# stars follow the open marks: they rise by the number of tokens, where filled marks of few tokens lie close together.
# Divide the paper's seconds by tokens:

# %%
prices = {}
for row in (r for r in predicted["rows"] if r["gpu"] == "a40" and not r["cache"]):
    marks = 2 if row["representation"] == "vocabulary" else 0
    each = row["paper"] / row["tokens"], row["paper"] / (row["tokens"] - marks)
    prices.setdefault(row["llm"], []).append(each)
    name = f"{row['llm']:4} {row['representation']:10} {row['kind']:5}"
    print(f"{name} {row['paper']:6.2f} s / {row['tokens']:3} tokens = {each[0]:.3f} s")
for llm, found in prices.items():
    spread, bare = (max(seconds) / min(seconds) for seconds in zip(*found, strict=True))
    print(f"{llm}: the dearest is {spread:.2f} times the cheapest; location tokens without their marks: {bare:.2f}")

# %% [markdown]
# While tokens go from 1 to 385, the seconds a token stay within these factors, the first of them below three for either
# model, the second, where location tokens are counted without their marks, below two. With a cache the first token
# would cost several times what a further one costs. A flat price is what decoding without a cache gives, and the
# released code cannot decode otherwise: its forward pass (`mllm/models/perceptionGPT/perceptionGPT.py`) sets the
# picture's features only where the input is longer than one position, and asks for them always. Given one new position
# and a cache it stops with an error, so it can only be run on the whole text, picture included.
#
# And the claim itself, a mask at 7B as a share of the others' time:

# %%
for share in predicted["shares"]:
    if share["claimed"] is not None:
        where = f"{share['gpu']}, {'with' if share['cache'] else 'without'} a cache"
        print(f"{where:24} {share['predicted']:6.1%} of {share['of']:10}  (claimed {share['claimed']:.1%}, "
              f"from its table {share['table7']:.1%}, with the box's 0.15 s {share['box_time']:.1%})")  # fmt: skip

# %% [markdown]
# Without a cache the claim's order of magnitude comes out: about one over the number of tokens. (The 3.7 % is the time
# of a *box*, 0.15 s, over 4.01 s; the mask's own 0.18 s give 4.5 %.) With a cache, as is usual, the share of one token
# is several times larger. It still saves most of the time, but the picture and the prompt cost what they cost.
#
# What remains true with a cache? The *marginal* cost: in a dialogue that is under way, one more object costs one step
# (and the head) instead of 25 for a box in digits or 385 for a mask, so there the ratio is nearly that of the tokens.
# And the order, one token first? Section 4 measured it: is any answer of several tokens faster than the one token of
# the same language model, kind and cache?

# %%
faster = [row for row in several if times_as_long[label(row)] < 1]
print(f"{len(faster)} of {len(several)} answers of several tokens were faster than one token")
for row in faster:
    print(f"{label(row):46} {row['tokens']} tokens in {times_as_long[label(row)]:.2f} times the seconds of one")
least = min(several, key=lambda row: times_as_long[label(row)])
print(f"the nearest: {label(least)}, {least['tokens']} tokens, {times_as_long[label(least)]:.2f} times as long as one")

# %% [markdown]
# If none is, one token was the fastest throughout in this run. One that is listed breaks the order, unless it does so
# by less than its language model's noise (section 4). That can happen where a few steps cost less than the head, which
# only the one token needs.
#
# ## Questions to think about
#
# 1. Eight questions are decoded in one batch. A step then reads the weights once for all of them. What happens to the
#    advantage of one token?
# 2. Speculative decoding lets a small model write several tokens which the large one checks in one pass. For which
#    representation would it help most, and why are digits easy to guess?
# 3. The head's time hardly shows at 7B. On a small model it does. Where would you spend a millisecond: in the head,
#    or in a second token?
#
# **Read next:** Williams et al., *Roofline*, Communications of the ACM 2009; Pope et al., *Efficiently Scaling
# Transformer Inference*, MLSys 2023; Chen et al., *Shikra*, arXiv 2023; Lu et al., *Unified-IO*, ICLR 2023; Peng et
# al., *Kosmos-2*, ICLR 2024; Wang et al., *VisionLLM*, NeurIPS 2023. Notebook 10 asks what else the released code does
# differently.

# %%
ours = {"numerical": "Numerical", "vocabulary": "Vocab", "embedding": "Token Embed"}
measured = {}
for row in bench["rows"]:
    name = f"{ours[row['representation']]}, {row['llm']}, {'cache' if row['cache'] else 'no cache'}"
    measured.setdefault(name, {})[row["kind"]] = row["measured"]  # median and quartiles
claimed = {f"{s['of']}, {s['gpu']}, cache {s['cache']}": s["predicted"] for s in predicted["shares"] if s["claimed"]}

# %% [markdown]
# All of it goes into the result, the machine's rates and the seconds of every part included.

# %%
decoding = {}
for row in bench["rows"]:
    sides = [(side, part, value) for side, parts in row["parts"].items() for part, value in parts.items()]
    decoding[label(row)] = {key: row[key] for key in ("predicted", "ratio", "whole_decode", "overhead_a_step")}
    decoding[label(row)] |= {f"{part}, {side}": value for side, part, value in sides}
rates = {key: machine[key] for key in ("flop_a_second", "bytes_a_second", "calibrated")}
summary = {"within_25_percent": aim["within"] / aim["of"], "target_met": aim["met"], "noise": noise["ratios"]}

# %% [markdown]
# Beside it Tables 4 and 7 of ours, each with a sentence on what was measured on what.

# %%
counting = "Ours count each character and mark, on held-out regions; the paper's leave out commas, brackets and marks."
where = f"Ours: {' and '.join(llms)} on this machine, with and without a cache; the paper's: 7B and 13B."
notes = {
    "table4": f"Tokens of a box and of a mask, and the mean IoU of what comes back. {counting}",
    "table7": f"Seconds to decode one region, median [quartiles]. {where}",
}

# %% [markdown]
# What a mask keeps by the number of its tokens is handed on as well, all of it measured on held-out regions.

# %%
run.finish(
    metrics={
        "heads_trained_for": 0 if model is None else state.step,
        "tokens": {f"{row}, {kind}": parts["all"] for (row, kind), parts in counted[RULE].items()},
        "round_trip_iou": {f"{row}, {kind}": float(iou.mean()) for (row, kind), iou in ious.items()},
        "mask_by_tokens": {name: [list(pair) for pair in pairs] for name, pairs in points.items()},
        **summary, "times_as_long": times_as_long, "mask_share_predicted": claimed, "decoding": decoding, **rates,
    },
    tables={name: {"ours": rows, "data": notes[name]} for name, rows in (("table4", table4), ("table7", measured))},
)
