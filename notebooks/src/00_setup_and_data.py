# %% [markdown]
# # 00 · Setup and data
#
# ```yaml
# title: Setup and data
# objectives:
#   - check that this machine has what the series needs
#   - know the two worlds of the series, RefShapes and photographs, and the one form that both take, a Sample
#   - read boxes and masks in the forms of COCO, and turn them into each other by hand
#   - see which part of a dialogue the model is trained to say
# prerequisites: [Python and NumPy, the idea of a tokenizer]
# paper: section 4.1, datasets; Table 1 for the tasks
# minutes: {smoke: 0.3, cpu: 0.3}
# memory_gb: {smoke: 1, cpu: 1}
# ```
#
# PerceptionGPT is a language model that sees a picture, answers in words, and can point: the words of its answer may
# hold [the token `<vis>`](../docs/glossary.md#vis-token), each of which stands for a
# [*region*](../docs/glossary.md#region), a box or a mask or both. The other way round, a question may hold a `<vis>`:
# "what is `<vis>` ?".
#
# The series builds such a model step by step. This first notebook shows what goes in and what must come out.

# %% tags=["parameters"]
profile: str = "cpu"  # name of a profile: smoke, cpu, ...
out_dir: str = ""  # folder of the run; empty means reports/<profile>
seed: int = 0  # seed of everything random in this notebook
scenes: int = 200  # RefShapes scenes that statistics are taken over

# %% [markdown]
# Every notebook starts so. A [*profile*](../docs/glossary.md#profile) holds all settings of a run: which
# [backbones](../docs/glossary.md#backbone), which data, how long to train.

# %%
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np

from pgpt_lib import plots
from pgpt_lib.notebook import start

run = start(profile, out_dir, seed, slug="00_setup_and_data")
plots.use_style()

# %% [markdown]
# ## 1 · This machine
#
# What a result depends on is written into it: versions, processor, memory. Missing or unsuitable packages would be
# named here.

# %%
from pgpt_lib import project, requirements

print(project.describe(project.machine()))
print(", ".join(f"{name} {version}" for name, version in project.versions().items()))
print("\n".join(requirements.problems()) or "all requirements are met")

# %% [markdown]
# And what the profile asks for. Its words are explained where they are needed: the
# [vision tower](../docs/glossary.md#vision-tower) in notebook 01, [signals](../docs/glossary.md#signal) in notebook 02,
# the language model (LLM) and its tuning by [LoRA](../docs/glossary.md#lora) in notebook 04, steps in notebook 05.

# %%
settings = run.profile
vision, llm = settings.vision, settings.llm
print(f"profile {settings.name}: vision tower {vision.name} at {vision.image_size} px, LLM {llm.name}")
print(f"LLM tuned by {llm.tuning}, rank {llm.lora_rank} on {', '.join(llm.lora_targets)}")
training = settings.training
print(f"signals: {', '.join(settings.signals)}; {training.steps} steps of {training.batch_size} dialogues")

# %% [markdown]
# ## 2 · RefShapes, a world that can be checked
#
# The paper trains on hundreds of thousands of photographs. To learn on a laptop, and to know the truth of every
# expression, we have a [small world](../docs/glossary.md#refshapes): shapes of several colours, materials and sizes on
# textured grounds, which hide each other in part. A scene is made from a key (split, seed, number), the same on every
# machine.

# %%
from pgpt_lib.data.refshapes.render import render
from pgpt_lib.data.refshapes.scene import make_scene
from pgpt_lib.data.refshapes.tasks import scene_regions
from pgpt_lib.widgets import Choice, View

level = settings.data.level
worlds = [make_scene(level, "val", seed, number) for number in range(scenes)]


# %% [markdown]
# Leaf through some of them; the static figure shows three.

# %%
def show_scene(ax, number):
    """One scene with the box, the mask and the name of every object."""
    world = worlds[number]
    names = [f"{thing.colour} {thing.shape}" for thing in world.things]
    plots.draw_regions(render(world), scene_regions(world), names, ax, title=world.image_id)


view = View(show_scene, {"number": Choice(range(20))}, [{"number": i} for i in (0, 1, 2)])
run.figure(view.figure(), "scenes", alt="Three scenes of coloured shapes with their boxes, masks and names")
view.show()

# %% [markdown]
# Look for what makes a scene hard: several objects share a colour or a shape, so that a single word seldom means one
# object. Boxes and masks are of what is *visible*: where something stands in front, the mask has a bite.
#
# How large are the objects? RefCOCO, the data set that the paper is scored on, has its own habits: measured as
# √(box area / picture area), 5 %, 50 % and 90 % of its validation objects lie below 0.24, 0.37 and 0.62.

# %%
boxes = np.array([region.box for world in worlds for region in scene_regions(world)])
sizes = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
fig, ax = plt.subplots(figsize=(6, 2.6))
ax.hist(sizes, bins=40, color=plots.colour(0))
for share, refcoco in {0.05: 0.24, 0.5: 0.37, 0.9: 0.62}.items():
    ax.axvline(refcoco, color=plots.PREDICTION, linestyle="--")
    print(f"{share:.0%} of objects are below {np.quantile(sizes, share):.2f} (RefCOCO {refcoco})")
ax.set(xlabel="side of the object, picture = 1", ylabel="objects", title=f"{len(sizes)} objects; dashed: RefCOCO")
run.figure(fig, "sizes", alt="Histogram of object sizes with RefCOCO's 5, 50 and 90 percent marks")

# %% [markdown]
# Objects come in three bands, small, medium and big, with gaps between them: no question about size hangs on a border
# case. (A mask's box may be smaller than the object's side, so that the bands blur in this figure.) The middle of the
# distribution is RefCOCO's; its largest objects, close-ups that fill the picture, are rarer here.
#
# ## 3 · Regions: boxes
#
# COCO stores a [*box*](../docs/glossary.md#box) as $[x, y, w, h]$, its corner, width and height, in pixels of the
# original picture. Inside the library a `Region` holds two corners as fractions of the picture's width $W$ and height
# $H$, so that no code needs to know how large the picture was:
#
# $$(x_1, y_1, x_2, y_2) = \Big( \frac{x}{W},\; \frac{y}{H},\; \frac{x + w}{W},\; \frac{y + h}{H} \Big)$$

# %%
from pgpt_lib.regions import Region

region = Region.from_coco(bbox=[30, 20, 60, 40], segmentation=None, height=100, width=200)
print("COCO [30, 20, 60, 40] in a picture 200 wide and 100 high")
print("fractions:", region.box)
print("by hand:  ", (30 / 200, 20 / 100, (30 + 60) / 200, (20 + 40) / 100))
print("and back: ", region.to_coco(height=100, width=200)["bbox"])

# %% [markdown]
# ### Exercise 1: the box of a mask (★☆☆, 5 minutes)
#
# A [*mask*](../docs/glossary.md#mask) says for each pixel whether it belongs to the object. Write `my_bounds(bitmap)`:
# the tightest box around the pixels that are set, in pixels, as (x1, y1, x2, y2), where x2 and y2 are *exclusive* (a
# single pixel has width 1). An empty mask has no box: return `None`.

# %% tags=["attempt"]
from pgpt_lib import checks
from pgpt_lib.exercises import attempt


def my_bounds(bitmap):
    """The bounds of a bitmap [height, width] in pixels, (x1, y1, x2, y2) with exclusive ends; None if it is empty."""
    raise NotImplementedError("your turn")


attempt(checks.check_mask_bounds, my_bounds)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `np.nonzero(bitmap)` gives the rows and the columns of all set pixels.
# </details>
# <details><summary>Hint 2</summary>
#
# Rows are y. The exclusive end is the largest index plus one.
# </details>

# %% nbgrader={"grade_id": "my_bounds", "solution": true}
def my_bounds(bitmap):
    """The bounds of a bitmap [height, width] in pixels, (x1, y1, x2, y2) with exclusive ends; None if it is empty."""
    ### BEGIN SOLUTION
    rows, columns = np.nonzero(bitmap)
    if rows.size == 0:
        return None
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_bounds_check", "grade": true, "points": 1}
checks.check_mask_bounds(my_bounds)
### BEGIN HIDDEN TESTS
checks.check_mask_bounds(my_bounds, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The library's `mask_bounds` says the same about every object of the first scene:

# %%
from pgpt_lib.regions import mask_bounds, rle_to_mask

for thing, region in zip(worlds[0].things, scene_regions(worlds[0]), strict=True):
    bitmap = rle_to_mask(region.mask)
    ours = tuple(int(v) for v in my_bounds(bitmap))
    print(f"{thing.colour} {thing.shape}: {ours}, library {tuple(map(int, mask_bounds(bitmap)))}")
    assert ours == tuple(map(int, mask_bounds(bitmap)))

# %% [markdown]
# ## 4 · Regions: masks
#
# A bitmap of a photograph has hundreds of thousands of pixels, most of them equal to their neighbour. COCO therefore
# stores [*run lengths* (RLE)](../docs/glossary.md#rle): how many zeros, then how many ones, then zeros again, going
# down the columns. By hand, for a picture of 3 × 4 pixels:

# %%
bitmap = np.array([[0, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0]], dtype=np.uint8)
flat = bitmap.flatten(order="F")  # column by column
print(bitmap, "\ndown the columns:", flat)
borders = np.flatnonzero(np.diff(flat)) + 1
runs = np.diff([0, *borders, flat.size])
print("run lengths:", runs.tolist())

# %% [markdown]
# Four zeros, five ones, three zeros. The first run always counts zeros; a mask that starts with an object pixel starts
# with a run of length 0.
#
# ### Exercise 2: from run lengths to a mask (★★☆, 10 minutes)
#
# Write `my_decode(counts, height, width)`, the way back: a list of run lengths becomes a bitmap `[height, width]`.

# %% tags=["attempt"]
def my_decode(counts, height, width):
    """The bitmap [height, width] of COCO's run lengths."""
    raise NotImplementedError("your turn")


attempt(checks.check_rle, my_decode)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `np.repeat(values, counts)` writes each value as often as its count says. The values are 0, 1, 0, 1, ...
# </details>
# <details><summary>Hint 2</summary>
#
# Going down the columns is NumPy's order "F": `flat.reshape(height, width, order="F")`.
# </details>

# %% nbgrader={"grade_id": "my_decode", "solution": true}
def my_decode(counts, height, width):
    """The bitmap [height, width] of COCO's run lengths."""
    ### BEGIN SOLUTION
    values = np.arange(len(counts)) % 2
    return np.repeat(values, counts).reshape(height, width, order="F")
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_decode_check", "grade": true, "points": 2}
checks.check_rle(my_decode)
### BEGIN HIDDEN TESTS
checks.check_rle(my_decode, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# In files, the run lengths are packed further into a string. The library's `to_rle` reads every form that COCO uses:
# polygons, plain and packed run lengths, bitmaps.

# %%
from pgpt_lib.regions import mask_to_rle, to_rle

plain = {"size": [3, 4], "counts": runs.tolist()}
print("packed:", mask_to_rle(bitmap))
assert to_rle(plain, 3, 4) == mask_to_rle(bitmap)
assert (my_decode(plain["counts"], 3, 4) == rle_to_mask(to_rle(plain, 3, 4))).all()
first = scene_regions(worlds[0])[0]
print(f"an object of {rle_to_mask(first.mask).sum()} pixels takes {len(first.mask['counts'])} characters")

# %% [markdown]
# ### Exercise 3: into the library's frame (★☆☆, 5 minutes)
#
# Section 3 turned a COCO box into fractions. Write it as `my_fractions(bbox, height, width)`: it returns (x1, y1, x2,
# y2), each between 0 and 1. Annotations may leave the picture by a few pixels; what lies beyond the border is cut off.

# %% tags=["attempt"]
def my_fractions(bbox, height, width):
    """COCO's [x, y, width, height] in pixels to (x1, y1, x2, y2) in [0, 1] of the picture, cut off at its border."""
    raise NotImplementedError("your turn")


attempt(checks.check_fractions, my_fractions)

# %% [markdown]
# <details><summary>Hint 1: which side</summary>
#
# x is a fraction of the width, y one of the height.
# </details>
# <details><summary>Hint 2: the border</summary>
#
# `min(1, max(0, v))`, or `np.clip`.
# </details>

# %% nbgrader={"grade_id": "my_fractions", "solution": true}
def my_fractions(bbox, height, width):
    """COCO's [x, y, width, height] in pixels to (x1, y1, x2, y2) in [0, 1] of the picture, cut off at its border."""
    ### BEGIN SOLUTION
    x, y, w, h = bbox
    corners = np.array([x / width, y / height, (x + w) / width, (y + h) / height])
    return tuple(np.clip(corners, 0, 1).tolist())
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_fractions_check", "grade": true, "points": 1}
checks.check_fractions(my_fractions)
### BEGIN HIDDEN TESTS
checks.check_fractions(my_fractions, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# With it, the box of the first scene's first object, from COCO's numbers to the library's and by hand:

# %%
first_box = scene_regions(worlds[0])[0]
pixels = first_box.to_coco(*render(worlds[0]).shape[:2])["bbox"]
print("library:", first_box.box)
print("by hand:", my_fractions(pixels, *render(worlds[0]).shape[:2]))

# %% [markdown]
# ## 5 · Referring expressions
#
# [*Referring expression comprehension* (REC)](../docs/glossary.md#referring-expression) is: given words for one object,
# give its box; *segmentation* (RES): give its mask. Three data sets differ in the words: RefCOCO's are short and may
# use places, RefCOCO+ forbids places, RefCOCOg's are long and relate objects to each other. RefShapes speaks all three:

# %%
from pgpt_lib.data.refshapes import rec_samples

styles = ("refcoco", "refcoco+", "refcocog")
expressions = {style: rec_samples(style, "val", scenes, seed, level) for style in styles}
for style, samples in expressions.items():
    words = np.mean([len(sample.extra["expression"].split()) for sample in samples])
    print(f"{style:9} {len(samples)} expressions, {words:.1f} words on average")
    for sample in [s for s in samples if s.image_id == worlds[0].image_id][:3]:
        print("         ", sample.extra["expression"])

# %% [markdown]
# The evaluation splits of RefCOCO and RefCOCO+ part by kind: testA holds people, testB other objects. Here testA holds
# round shapes and testB angular ones. What a `Sample` is: a picture's key and size, and turns of words with regions in
# their places.

# %%
sample = expressions["refcoco"][0]
print("image:", sample.image_id, "size:", sample.size, "task:", sample.task)
for turn in sample.turns:
    print(f"{turn.role:9} {turn.text!r} with {len(turn.regions)} regions")

# %% [markdown]
# ## 6 · All tasks in one form
#
# Captions, questions, pointing at several things or saying that there is none, questions *about* a region: each is a
# dialogue with `<vis>` in some places. One sample of each task:

# %%
from pgpt_lib.data.refshapes import task_samples

tasks = ["rec", "several", "none", "question", "caption", "spot_caption"]
tasks += ["region_caption", "region_question", "reasoning"]
examples = {task: task_samples(task, "val", 12, seed, level) for task in tasks}
for task, samples in examples.items():
    question, answer = samples[0].turns
    print(f"{task:16} {question.text}   →   {answer.text}")

# %% [markdown]
# Drawn as the paper's Figure 3 does, with the regions of each dialogue on its picture:

# %%
from pgpt_lib.data.refshapes import RefShapesImages
from pgpt_lib.diagrams import dialogue_panels

images = RefShapesImages()
picked = [examples[task][0] for task in ("several", "spot_caption", "region_caption")]
fig = dialogue_panels([(images.load_image(s.image_id), s.turns) for s in picked])
run.figure(fig, "dialogues", alt="Three dialogues with numbered regions on their pictures")

# %% [markdown]
# The numbers in brackets are the `<vis>` tokens: in the first two dialogues the model must produce them, in the third
# one it is given.
#
# ## 7 · What the model reads, and what it must say
#
# A dialogue becomes a sequence of [*tokens*](../docs/glossary.md#token), each a number. The picture takes a fixed
# number of places. The model is trained on the answer alone: everything else has the
# [*label*](../docs/glossary.md#label) −100, which the loss ignores (notebook 03).

# %%
from pgpt_lib.chat import Chat
from pgpt_lib.data.refshapes.vocabulary import make_tokenizer
from pgpt_lib.diagrams import token_strip

chat = Chat(make_tokenizer(), num_image_tokens=64)
encoded = chat.encode(picked[1])
tokens = chat.tokenizer.convert_ids_to_tokens(encoded.input_ids)
supervised = [label != -100 for label in encoded.labels]
image, asked = sum(encoded.image_mask), sum(supervised)
print(f"{len(tokens)} tokens: {image} for the picture, {asked} supervised, {len(encoded.vis)} <vis>")

# %% [markdown]
# The same as a strip: sand is the picture, green what is supervised, orange the `<vis>` tokens.

# %%
def kind(token, is_image, is_supervised):
    """How a token is coloured."""
    return "image" if is_image else "vis" if token == "<vis>" else "answer" if is_supervised else "user"


kinds = [kind(*row) for row in zip(tokens, encoded.image_mask, supervised, strict=True)]
ax = token_strip(["image" if k == "image" else t for t, k in zip(tokens, kinds, strict=True)], kinds)
run.figure(ax.figure, "tokens", alt="The tokens of a dialogue: picture, question, supervised answer")

# %% [markdown]
# Even with three or more regions the answer stays short: a region costs one token. In notebook 07 the same answer is
# written with coordinates, and grows several times as long.
#
# ## 8 · Photographs in the same form
#
# RefCOCO's files follow the layout of the *REFER* API: `instances.json` holds the objects, `refs(unc).p` who said
# what of which object. The reader `RefCOCO` takes any folder of that layout. One is bundled: annotations of our own
# for photographs that scikit-image ships.

# %%
from pgpt_lib.data.photos import materialise
from pgpt_lib.data.refcoco import RefCOCO

photos = {split: RefCOCO(materialise(), "refcoco", split) for split in ("train", "val")}
for split, data in photos.items():
    print(f"{split}: {len(data.sizes)} photographs, {len(data.samples())} expressions")
for ref in photos["train"].refs[:4]:
    print("   ", ref.sentences[0].text)

# %% [markdown]
# Three of them, with every object that has an expression:

# %%
fig, axes = plt.subplots(1, 3, figsize=(12, 3.6))
for ax, key in zip(axes, sorted(photos["train"].sizes), strict=False):
    refs = [ref for ref in photos["train"].refs if ref.image_id == key]
    found = [photos["train"].region(ref.ann_id) for ref in refs]
    plots.draw_regions(photos["train"].load_image(key), found, [str(i + 1) for i in range(len(refs))], ax)
    ax.set_xlabel("\n".join(f"{i + 1} {ref.sentences[0].text}" for i, ref in enumerate(refs)), fontsize=8, loc="left")
run.figure(fig, "photographs", alt="Three photographs with numbered boxes and masks, and the expressions below each")

# %% [markdown]
# From here on nothing depends on where a sample comes from: both worlds go through the same tokens, the same model and
# the same scores. What differs is what can be learned: six photographs can be memorised, not generalised from.
#
# ## Questions to think about
#
# 1. Why are boxes kept as fractions of the *original* picture, not of the square that the model sees?
# 2. In a scene with two red circles, which answers to "the red circle" would be fair? What does the task `none` teach?
# 3. Which of the nine tasks could be scored by comparing words alone, which need the region?
#
# **Read next:** Yu et al., *Modeling Context in Referring Expressions*, ECCV 2016 (RefCOCO, RefCOCO+); Mao et al.,
# *Generation and Comprehension of Unambiguous Object Descriptions*, CVPR 2016 (RefCOCOg); Lin et al., *Microsoft
# COCO*, ECCV 2014. Next: notebook 01, what the layers of a vision tower know.

# %%
run.finish(
    metrics={
        "objects_a_scene": float(np.mean([len(world.things) for world in worlds])),
        "object_side_quantiles": {f"{q}": float(np.quantile(sizes, q)) for q in (0.05, 0.5, 0.9)},
        "expressions": {style: len(samples) for style, samples in expressions.items()},
        "shapes": dict(Counter(thing.shape for world in worlds for thing in world.things)),
    }
)
