# %% [markdown]
# # 11 · The demo
#
# ```yaml
# title: The demo
# objectives:
#   - ask the trained model of notebook 05 about scenes, photographs and pictures of your own
#   - turn what a mouse does into a region, in the one frame that model and data share
#   - read an answer three ways, by its regions, its tokens, the layers that its features came from
#   - know which files a demo meets in the world, and what must become of each
# prerequisites: [notebook 05, how a mouse drag is reported (start and end, in pixels)]
# paper: section 3.1 (Figure 2), section 4.2 (Figure 3)
# minutes: {smoke: 0.5, cpu: 1, photos: 1}
# memory_gb: {smoke: 1, cpu: 2, photos: 4}
# ```
#
# A score says how often a model is right. To see *what* it is like one has to ask it. This notebook puts the trained
# model on a desk: choose a picture, draw a box or click an object, ask in words. Everything that the widgets at the end
# do is first done by plain calls, so that it can be read without a kernel.

# %% tags=["parameters"]
profile: str = "cpu"  # name of a profile: smoke, cpu, photos, ...
out_dir: str = ""  # folder of the run; empty means reports/<profile>
seed: int = 0  # seed of the run whose checkpoint is asked
root: str = ""  # folder of a REFER layout, for the profile photos; empty means the bundled photographs

# %% [markdown]
# Notebook 05's [checkpoint](../docs/glossary.md#checkpoint) is needed; if it is missing, it is made now.

# %%
import matplotlib.pyplot as plt
import numpy as np

from pgpt_lib import plots
from pgpt_lib.demo.session import Desk, Speaker
from pgpt_lib.notebook import start

run = start(profile, out_dir, seed, slug="11_demo", root=root)
plots.use_style()
run.need("05_training")
speaker = Speaker.load(run.out / "checkpoint")
print("the model:", speaker.name)

# %% [markdown]
# ## 1 · What lies on the desk
#
# Six scenes of RefShapes (the drawn world of notebook 00), of a split that no training sees, and the photographs that
# come with scikit-image. Each brings the regions of its objects along, so that a click can mean one of them. A
# [*region*](../docs/glossary.md#region) is a box, a mask (the set of pixels that belong to the object), or both.

# %%
desk = Desk(speaker)
offered = {name: make() for name, make in desk.offered.items()}
fig, axes = plt.subplots(2, -(-len(offered) // 2), figsize=(12, 4.4))
for ax, picture in zip(axes.flat, offered.values(), strict=False):
    plots.draw_regions(picture.pixels, picture.objects, ax=ax, title=picture.name)
run.figure(fig, "pictures", alt="The pictures on offer, with the regions of the objects that a click can mean")

# %% [markdown]
# A model that was trained on shapes alone has never met a photograph, nor the words for what is on one. It answers all
# the same, in the words that it has. That is worth trying, and worth remembering when an answer looks sensible.
#
# ## 2 · From the mouse to a region
#
# A browser reports a drag as two points in pixels of what is shown. A region of this project is a box in $[0, 1]$ of
# the original picture, its upper left corner first.
#
# ### Exercise 1: the box of a drag (★☆☆, 10 minutes)
#
# Write `my_box(drag, size)`: `drag` is `(x, y)` of the start and `(x, y)` of the end in pixels, four numbers, `size` is
# `(height, width)`. People drag in every direction and let go beyond the edge. Return `(x1, y1, x2, y2)`.

# %% tags=["attempt"]
from pgpt_lib import checks
from pgpt_lib.exercises import attempt


def my_box(drag, size):
    """The box (x1, y1, x2, y2) in [0, 1] of a drag in pixels."""
    raise NotImplementedError("your turn")


attempt(checks.check_dragged_box, my_box)

# %% [markdown]
# <details><summary>Hint 1: one axis at a time</summary>
#
# Of the two x, the smaller is the left edge, wherever the drag began.
# </details>
# <details><summary>Hint 2: the edge of the picture</summary>
#
# `min(max(value, 0), 1)` cuts a share to $[0, 1]$; mind that `size` names the height first.
# </details>

# %% nbgrader={"grade_id": "my_box", "solution": true}
def my_box(drag, size):
    """The box (x1, y1, x2, y2) in [0, 1] of a drag in pixels."""
    ### BEGIN SOLUTION
    height, width = size
    x1, x2 = sorted(min(max(x / width, 0), 1) for x in drag[0::2])
    y1, y2 = sorted(min(max(y / height, 0), 1) for y in drag[1::2])
    return x1, y1, x2, y2
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_box_check", "grade": true, "points": 1}
checks.check_dragged_box(my_box)
### BEGIN HIDDEN TESTS
checks.check_dragged_box(my_box, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 2: what a click means (★★☆, 10 minutes)
#
# Write `my_click(boxes, x, y)`: the index of the object that a click at a point means, or `None`. Boxes overlap. A
# small object that lies before a large one could never be clicked if the large one won, so the smallest box around the
# point wins.

# %% tags=["attempt"]
def my_click(boxes, x, y):
    """The index of the smallest box that holds the point; None where none does."""
    raise NotImplementedError("your turn")


attempt(checks.check_clicked, my_click)

# %% [markdown]
# <details><summary>Hint 1: two steps</summary>
#
# First the indices of all boxes that hold the point, then the one among them with the smallest area.
# </details>
# <details><summary>Hint 2: none</summary>
#
# `min(..., default=None)` returns `None` for an empty list.
# </details>

# %% nbgrader={"grade_id": "my_click", "solution": true}
def my_click(boxes, x, y):
    """The index of the smallest box that holds the point; None where none does."""
    ### BEGIN SOLUTION
    def area(i):
        return (boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1])

    inside = [i for i, (x1, y1, x2, y2) in enumerate(boxes) if x1 <= x <= x2 and y1 <= y <= y2]
    return min(inside, key=area, default=None)
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_click_check", "grade": true, "points": 2}
checks.check_clicked(my_click)
### BEGIN HIDDEN TESTS
checks.check_clicked(my_click, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The library does both in `pgpt_lib/demo/pointing.py`. On the first scene, clicks all over the picture mean the same
# object to it and to you:

# %%
from pgpt_lib.demo.pointing import clicked, dragged_box

scene = desk.choose("scene 1")
boxes = [region.box for region in scene.objects]
points = np.random.default_rng(seed).random((400, 2)).tolist()
assert all(my_click(boxes, x, y) == clicked(boxes, x, y) for x, y in points)
assert np.allclose(my_box((90, 80, 20, -5), (100, 100)), dragged_box((0.9, 0.8), (0.2, -0.05)))
print(f"{sum(clicked(boxes, x, y) is not None for x, y in points)} of {len(points)} points mean an object")

# %% [markdown]
# ## 3 · Ask where something is
#
# The question goes in as words, the answer comes as a stream of tokens. One of them is special: `<vis>` is how a region
# enters or leaves the language model (notebook 02). Where the answer holds it, a box and a mask were decoded from the
# hidden state at that place. No coordinate is ever spelled out.

# %%
from pgpt_lib.demo.drawing import answer_figure

reply = desk.ask(scene.questions[0])
print(f"{reply.question}  ->  {reply.text or '(nothing)'}   ({reply.seconds:.2f} s, {len(reply.regions)} regions)")
alt = f"The answer to {reply.question!r} drawn on the scene, beside it the fusion weights and the tokens"
run.figure(answer_figure(scene, reply), "where", alt=alt)

# %% [markdown]
# On the left the answer's regions, box and mask, numbered in the order of their `<vis>`. On the upper right the weights
# of equation 1 (notebook 01), by which the layers of the [vision tower](../docs/glossary.md#vision-tower), the frozen
# image encoder, are summed: they belong to the model, not to the question, and stay the same whatever is asked. Below
# them every token that the model read (the picture as one tile with its count, the question in blue) and said (green).
# An orange tile is a region and `end` the token that closes the answer.
#
# ## 4 · Give a region, ask what it is
#
# Now the other way round. A click on an object gives its box and mask; `<vis>` in the question stands for them, and its
# embedding is the sum of their codes (notebook 02).

# %%
from pgpt_lib.demo.intake import questions_about_regions

x1, y1, x2, y2 = boxes[-1]
middle = ((x1 + x2) / 2, (y1 + y2) / 2)
desk.mark(middle, middle)
described = desk.ask(questions_about_regions()[0])
print(f"clicked at {middle[0]:.2f}, {middle[1]:.2f}: {described.question}  ->  {described.text or '(nothing)'}")
run.figure(answer_figure(scene, described), "what", alt="A clicked object, dashed, and what the model says of it")

# %% [markdown]
# The dashed outline is what was given. In the stream its `<vis>` is one orange tile within the question. A box that is
# drawn by hand works the same, with the mask's code left out; training dropped parts at random so that it would.
#
# ## 5 · Files as they come
#
# A demo meets files of every kind. A camera's picture lies on its side, a printer's is CMYK, a microscope's has 16
# bits, and some files are no pictures. Each must be read rightly or refused with a reason, and the demo must live on.
# Here a few, made in memory:

# %%
import io

from PIL import Image

from pgpt_lib.demo.intake import read_upload


def encoded(image, kind, **options):
    """A picture as a file's bytes."""
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


# %% [markdown]
# The same grey square in several forms, and some files that are not what they say.

# %%
grey = Image.new("RGB", (64, 48), (120, 120, 120))
deep = Image.fromarray(np.full((48, 64), 120 * 257, np.uint16))
files = {"printed.jpg": encoded(grey.convert("CMYK"), "jpeg"), "microscope.png": encoded(deep, "png")}
files["animated.gif"] = encoded(grey, "gif", save_all=True, append_images=[Image.new("RGB", (64, 48))])
files["really_a_png.jpg"] = encoded(grey, "png")
files |= {"empty.png": b"", "letter.png": b"Dear model,", "cut_off.png": encoded(grey, "png")[:60]}
files["huge.png"] = encoded(Image.new("1", (10_000, 10_000)), "png")

# %% [markdown]
# What becomes of each:

# %%
handled = {}
for name, data in files.items():
    try:
        read = read_upload(name, data)
        handled[name] = f"read, mean {read.pixels.mean():.0f}. {read.note}"
    except ValueError as error:
        handled[name] = f"refused: {error}"
    print(f"{name:18} {handled[name]}")

# %% [markdown]
# A grey of 120 stays 120, in CMYK and in 16 bits too; cut to 8 bits instead of scaled it would have been white. The
# 100 megapixels are refused by the header, before a single pixel is unpacked: a few kilobytes of file can stand for
# gigabytes of memory.
#
# ## 6 · How long, and how sure
#
# Every question that is offered for a scene, asked once. The time includes the vision tower, since a new picture has no
# cached features. Of the questions that ask where something is, the share that is answered with a region at all is the
# [*emission rate*](../docs/glossary.md#emission-rate): an answer without `<vis>` has no box that could be right.

# %%
from pgpt_lib.data.phrasings import held_out_phrasing

where = held_out_phrasing("rec").split("{x}")[0]
replies = [speaker.ask(p, q) for p in offered.values() if p.name.startswith("scene") for q in p.questions]
seconds = [r.seconds for r in replies]
pointing = [r for r in replies if r.question.startswith(where)]
emitted = float(np.mean([len(r.regions) > 0 for r in pointing]))
print(f"{len(replies)} questions, median {np.median(seconds):.2f} s, slowest {max(seconds):.2f} s")
print(f"asked where something is, it answers with a region in {emitted:.0%} of {len(pointing)} questions")

# %% [markdown]
# An answer with a region is not yet a right one: notebook 06 measures that, with intervals. What can be learnt here is
# the kind of its mistakes.
#
# ## 7 · Your turn
#
# Choose a picture or a file, drag a box or click an object, pick a question that fits or write one. Words that the
# model was never taught are named below the answer. The figures above are what this shows without a kernel.

# %%
from pgpt_lib.demo.desk_view import DeskView

view = DeskView(speaker)
view.show()

# %% [markdown]
# The same as a page in the browser, for people without a notebook:
#
#     python -m pgpt_lib demo --checkpoint reports/cpu/checkpoint
#
# It listens on this machine alone, unless `--host` says otherwise, and fetches nothing from outside.
#
# ## Questions to think about
#
# 1. The fusion weights are the same for every question. What would have to change in equation 1 for them to depend on
#    the question, and what would it cost in the vision tower's cache?
# 2. Draw a box around nothing and ask what it is. Why does the model name a thing all the same, and what kind of
#    training sample would teach it to say that there is none?
# 3. Ask about a photograph. Which part of the answer comes from the picture, and how could you find out by changing the
#    picture alone?
#
# **Read next:** Shikra: Chen et al., arXiv 2023, and Ferret: You et al., ICLR 2024 (dialogues in which a user points).
# POPE: Li et al., EMNLP 2023 (asking for what is not there). Segment Anything: Kirillov et al., ICCV 2023 (what a click
# means, as a model's question).

# %%
from pgpt_lib.checkpoint_files import checkpoint_hash, find_checkpoint

run.finish(
    metrics={"seconds_median": float(np.median(seconds)), "emission_rate": emitted, "questions": len(replies)},
    checkpoint=checkpoint_hash(find_checkpoint(run.out / "checkpoint")[0]),
)
