# %% [markdown]
# # 02 · Boxes and masks through one embedding
#
# ```yaml
# title: Boxes and masks through one embedding
# objectives:
#   - follow a box and a mask from the original picture into one embedding and back
#   - build the box and mask heads from the paper's description and meet them in the library
#   - measure what is lost as the embedding shrinks, and what the mask decoder gets from the picture instead
#   - read a box and a mask back from one vector, the sum of their codes
# prerequisites: [PyTorch modules and training loops, notebook 00 for regions]
# paper: section 3.1, dynamic token embedding and lightweight encoder-decoder
# minutes: {smoke: 0.6, cpu: 3}
# memory_gb: {smoke: 1.5, cpu: 2}
# ```
#
# Other models write a box as text: "[0.25, 0.31, 0.70, 0.92]" takes some twenty tokens, and a mask as an outline takes
# hundreds. PerceptionGPT spends *one* token, `<vis>`, for either. A token's
# [embedding](../docs/glossary.md#embedding), the vector that stands for it, has hundreds of numbers, which is room
# enough for a region. That of a word is always the same; that of `<vis>` is *dynamic*: an encoder writes a region into
# it, a decoder reads a region out of it.
#
# This notebook leaves the language model out. It sends regions straight from encoder to decoder, through a vector of
# $H$ numbers, and asks how large $H$ must be.

# %% tags=["parameters"]
profile: str = "cpu"  # name of a profile: smoke, cpu, ...
out_dir: str = ""  # folder of the run; empty means reports/<profile>
seed: int = 0  # seed of everything random in this notebook
scenes: int = 160  # RefShapes scenes to take regions from (a quarter of them in smoke)
box_steps: int = 800  # training steps of each box autoencoder (a tenth of them in smoke)
mask_steps: int = 150  # training steps of each mask autoencoder (a fifth of them in smoke)

# %% [markdown]
# The settings come from the profile. `smoke` only shows that everything runs, so it takes fewer scenes and steps.

# %%
import matplotlib.pyplot as plt
import torch

from pgpt_lib import plots
from pgpt_lib.notebook import start

run = start(profile, out_dir, seed, slug="02_vis_heads")
plots.use_style()
torch.manual_seed(seed)
if run.profile.name == "smoke":
    scenes, box_steps, mask_steps = scenes // 4, box_steps // 10, mask_steps // 5

# %% [markdown]
# ## 1 · From the picture to the model's square
#
# Regions live on the *original* picture: a box is (x1, y1, x2, y2) in [0, 1] of its width and height. The vision tower
# sees a square. A `Placement` scales the picture to fit, pads the rest with grey, and maps regions both ways. By hand,
# for a picture 100 pixels high and 200 wide in a square of 112:

# %%
from pgpt_lib.regions import Placement, Region

height, width, size = 100, 200, 112
scale = size / max(height, width)
top = (size - scale * height) / 2
box = x1, y1, x2, y2 = 0.25, 0.5, 0.75, 1.0
by_hand = [x1, (top + y1 * height * scale) / size, x2, (top + y2 * height * scale) / size]  # the width fills the square
placement = Placement(height, width, size)
print("by hand:", by_hand, "\nlibrary:", placement.box_to_input(box))
assert torch.allclose(torch.tensor(by_hand), torch.tensor(placement.box_to_input(box)))

# %% [markdown]
# Now a real picture, one of scikit-image's, with boxes and masks from `data/photos`. On the left the original with its
# regions, on the right what the tower sees.

# %%
from pgpt_lib.data.photos import materialise
from pgpt_lib.data.refcoco import RefCOCO

photos = RefCOCO(materialise(), "refcoco", "train")
ref = next(r for r in photos.refs if "motorcycle" == r.sentences[0].text.split()[-1])
photo, region = photos.load_image(ref.image_id), photos.region(ref.ann_id)
placement = Placement(*photo.shape[:2], run.profile.vision.image_size)
square = placement.image(photo)

# %% [markdown]
# The mask goes along: each cell of a grid over the square holds the share of it that the object covers.

# %%
side = 32
coverage = placement.mask_to_input(region.mask, side)
fig, axes = plt.subplots(1, 3, figsize=(10, 3), width_ratios=(1.5, 1, 1))
title = f"original, {photo.shape[1]} × {photo.shape[0]}"
plots.draw_regions(photo, [region], [ref.sentences[0].text], axes[0], title=title)
plots.show_image(square, axes[1], f"the tower's square, {square.shape[0]} × {square.shape[0]}")
plots.show_image(coverage, axes[2], f"the mask's coverage, {side} × {side}")
run.figure(fig, "frames", alt="A motorcycle with box and mask, the padded square, the mask as a grid")

# %% [markdown]
# The grid keeps more than its cells suggest: a border cell that is covered by a third says where in it the outline
# runs. What does the way there and back cost, at several grid sizes? The measure is
# [*intersection over union* (IoU)](../docs/glossary.md#iou): the area that both masks share, over the area that either
# covers; 1 means that nothing was lost.

# %%
from pgpt_lib.regions import mask_iou

grids = (8, 16, 32, 64)
round_trip = {}
for cells in grids:
    there = placement.mask_to_input(region.mask, cells)
    back = placement.mask_from_input(there, threshold=0.5)
    round_trip[cells] = mask_iou(back, region.mask)
    print(f"{cells:2} × {cells:<2} cells: IoU with the original mask {round_trip[cells]:.3f}")

# %% [markdown]
# That is worth knowing before any network is trained: it is what the training *target* itself scores, and so a decoder
# that writes these very shares. It is a yardstick, not a bound. Where a thin object covers 30 % of each cell that it
# crosses, the target, cut at one half, comes back empty; a decoder that exaggerates thin parts, and writes 0.6 there,
# scores more.
#
# ### Exercise 1: centre and size (★☆☆, 5 minutes)
#
# The box head predicts a box as (centre x, centre y, width, height), each through a sigmoid. So every output is a
# valid box, while four free corners could come out in the wrong order. Write the conversion from corners, for boxes
# `[N, 4]`; the way back is the library's.

# %% tags=["attempt"]
from pgpt_lib import checks
from pgpt_lib.exercises import attempt


def my_to_centre(boxes):
    """Boxes [N, 4] from (x1, y1, x2, y2) to (centre x, centre y, width, height)."""
    raise NotImplementedError("your turn")


attempt(checks.check_cxcywh, my_to_centre)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The centre is the mean of both corners, the size is their difference.
# </details>
# <details><summary>Hint 2</summary>
#
# `boxes[:, :2]` are the first corners, `boxes[:, 2:]` the second ones; `torch.cat([...], dim=-1)` joins the halves.
# </details>

# %% nbgrader={"grade_id": "my_to_centre", "solution": true}
def my_to_centre(boxes):
    """Boxes [N, 4] from (x1, y1, x2, y2) to (centre x, centre y, width, height)."""
    ### BEGIN SOLUTION
    first, second = boxes[:, :2], boxes[:, 2:]
    return torch.cat([(first + second) / 2, second - first], dim=-1)
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_to_centre_check", "grade": true, "points": 1}
checks.check_cxcywh(my_to_centre)
### BEGIN HIDDEN TESTS
checks.check_cxcywh(my_to_centre, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The library has both directions. Yours there, its own back:

# %%
from pgpt_lib.regions import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh

corners = torch.tensor([[0.2, 0.3, 0.6, 0.9], [0.0, 0.1, 1.0, 0.2]])
there = my_to_centre(corners)
print(there)
assert torch.allclose(there, box_xyxy_to_cxcywh(corners))
assert torch.allclose(box_cxcywh_to_xyxy(there), corners)

# %% [markdown]
# ## 2 · A box head, by hand
#
# With $H = 4$ an embedding could simply *be* the box. A language model's state is no such thing, so the paper puts a
# small network on each side: "both the encoder and decoder are simple three-layer [MLPs](../docs/glossary.md#mlp)".
# With $E_b$ for the encoder, $D_b$ for the decoder and $\sigma$ for the sigmoid, a box $b$ becomes the embedding $z$
# and comes back as $\hat b$:
#
# $$z = E_b(b), \qquad \hat b = \sigma(D_b(z))$$
#
# In code, for boxes as centre and size:

# %%
from torch import nn


def three_layers(size_in, width, size_out):
    """Three linear layers with a bend (GELU) after the first two."""
    first, second, third = nn.Linear(size_in, width), nn.Linear(width, width), nn.Linear(width, size_out)
    return nn.Sequential(first, nn.GELU(), second, nn.GELU(), third)


class TinyBoxHead(nn.Module):
    """The paper's box head: three layers in, three layers out."""

    def __init__(self, hidden, width=64):
        super().__init__()
        self.encoder, self.decoder = three_layers(4, width, hidden), three_layers(hidden, width, 4)


# %% [markdown]
# One box through an untrained head, there and back:

# %%
head = TinyBoxHead(hidden=16)
box = my_to_centre(torch.tensor([[0.2, 0.3, 0.6, 0.9]]))
embedding = head.encoder(box)
decoded = head.decoder(embedding).sigmoid()
print(f"box {box[0].tolist()} as centre and size, an embedding of {embedding.shape[1]} numbers")
print("decoded", [round(v, 3) for v in decoded[0].tolist()])

# %% [markdown]
# Untrained, it says nothing useful. The library's `BoxSignal` is the same network: with the weights of ours it says the
# same.

# %%
from pgpt_lib.signals import BoxSignal

signal = BoxSignal(hidden_size=16, feature_size=1, grid=8, width=64)
signal.encoder.load_state_dict(head.encoder.state_dict())
signal.decoder.load_state_dict(head.decoder.state_dict())
print(signal.encoder, "\n", signal.decoder)
assert torch.allclose(signal.decode(signal.encode(box), None), decoded)

# %% [markdown]
# It also has what the whole model needs: it turns `Region`s and `Placement`s into values and back, and computes its
# losses.

# %%
values, present = signal.collate([region], [placement])
print(f"values {values[0].tolist()}, present {present.tolist()}")
print("restored:", signal.restore(values[0], placement)["box"], "\noriginal:", region.box)

# %% [markdown]
# ## 3 · Regions to train on
#
# RefShapes gives as many regions as we like: every object of a scene comes with its box and its mask. A quarter of the
# scenes is held out.

# %%
from pgpt_lib.data.refshapes.render import render
from pgpt_lib.data.refshapes.scene import make_scene
from pgpt_lib.data.refshapes.tasks import scene_regions

worlds = [make_scene(run.profile.data.level, "train", seed, index) for index in range(scenes)]
pictures = [render(world) for world in worlds]
regions = [r for world in worlds for r in scene_regions(world)]
image_index = torch.tensor([i for i, world in enumerate(worlds) for _ in world.things])
held_out = image_index >= scenes * 3 // 4
known, unseen = (~held_out).nonzero().flatten(), held_out.nonzero().flatten()
print(f"{len(regions)} regions in {scenes} scenes, {len(unseen)} of them held out")

# %% [markdown]
# Three of these scenes, with boxes and masks as the model will have to give them.

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3))
for i, ax in enumerate(axes):
    labels = [f"{thing.colour} {thing.shape}" for thing in worlds[i].things]
    plots.draw_regions(pictures[i], scene_regions(worlds[i]), labels, ax)
run.figure(fig, "scenes", alt="Three scenes of coloured shapes, each object with its box, mask and name")

# %% [markdown]
# Rings have holes, and an object may be partly hidden behind another. Then mask and box are those of what is visible.
#
# ## 4 · How many numbers does a box need?
#
# A box has four degrees of freedom. We train the library's head as an [autoencoder](../docs/glossary.md#autoencoder),
# box to $H$ numbers to box, for several $H$, on random boxes, and measure on the boxes of the held-out scenes. Its two
# losses are notebook 03's: L1 is how far the four numbers are off, [*GIoU*](../docs/glossary.md#giou) how badly the two
# boxes overlap.

# %%
from pgpt_lib.regions import pairwise_iou

square_of = Placement(pictures[0].shape[0], pictures[0].shape[1], run.profile.vision.image_size)
box_values, _ = BoxSignal(4, 1, 8).collate(regions, [square_of] * len(regions))
random = torch.Generator().manual_seed(seed)


def random_boxes(count):
    """Boxes (centre x, centre y, width, height) that lie in the square: [count, 4]."""
    size = 0.05 + 0.75 * torch.rand(count, 2, generator=random)
    return torch.cat([size / 2 + (1 - size) * torch.rand(count, 2, generator=random), size], dim=-1)


# %% [markdown]
# One function trains any signal as an autoencoder: values go in, values should come out.

# %%
def train(signal, steps, draw, rate=2e-3):
    """Train a signal for some steps; `draw()` returns values to send through, and features for the decoder."""
    optimiser = torch.optim.AdamW(signal.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps)
    for _ in range(steps):
        values, features = draw()
        loss = sum(signal.loss_terms(signal.decode(signal.encode(values), features), values).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return signal.eval()


# %% [markdown]
# The score: the mean IoU of each held-out box with what came back. Its 95 % interval comes from drawing the held-out
# scenes again and again with replacement, a [*bootstrap*](../docs/glossary.md#bootstrap), for the objects of one scene
# stand or fall together.

# %%
from pgpt_lib.metrics import rate

shown = "{:.3f} [{:.3f}, {:.3f}]".format


def over_scenes(iou):
    """The mean of the held-out regions' IoU with its interval: [value, low, high]."""
    return rate([str(i) for i in image_index[unseen].tolist()], iou)


def box_score(found):
    """Mean IoU of boxes (corners) with those of the held-out regions: [value, low, high]."""
    return over_scenes(pairwise_iou(found, box_cxcywh_to_xyxy(box_values[unseen])).tolist())


# %% [markdown]
# Six widths:

# %%
@torch.no_grad()
def boxes_back(signal):
    """The held-out regions' boxes (corners) after encoding and decoding."""
    return box_cxcywh_to_xyxy(signal.decode(signal.encode(box_values[unseen]), None))


box_widths = (1, 2, 3, 4, 8, 64)
box_heads = {}
for hidden in box_widths:
    signal = train(BoxSignal(hidden, 1, 8, width=128), box_steps, lambda: (random_boxes(256), None), rate=5e-3)
    box_heads[hidden] = signal, box_score(boxes_back(signal))
    print(f"{hidden:2} numbers: mean IoU {shown(*box_heads[hidden][1])}")

# %% [markdown]
# For comparison: what text costs. A model that writes coordinates with $k$ bins an axis moves each edge by up to half
# a bin, whatever it learns.

# %%
corners = box_cxcywh_to_xyxy(box_values[unseen])
bins = {k: box_score(((corners * k).floor() + 0.5) / k) for k in (32, 100, 1000)}
for k, score in bins.items():
    print(f"{k:4} bins an axis: mean IoU {shown(*score)}")

# %% [markdown]
# The heads as a curve with its interval, the bins as lines:

# %%
fig, ax = plt.subplots(figsize=(6, 3))
value, low, high = zip(*(score for _, score in box_heads.values()), strict=True)
ax.plot(range(len(box_widths)), value, marker="o")
ax.fill_between(range(len(box_widths)), low, high, alpha=0.2)
for index, (k, (iou, *_)) in enumerate(bins.items()):
    ax.axhline(iou, color=plots.colour(index + 1), linestyle="--", linewidth=1, label=f"{k} bins an axis")
ax.set(xticks=range(len(box_widths)), xticklabels=box_widths, xlabel="numbers in the embedding", ylabel="mean IoU")
ax.legend()
run.figure(fig, "box_width", alt="Mean IoU of boxes after an embedding, by its width, beside three bin sizes")

# %% [markdown]
# Below four numbers something must be given up: with one, the head can only place boxes on a curve through
# four-dimensional space; each further number opens a direction. From four on the curve is flat: a box needs no more,
# and what is left is training time, not capacity. So the embedding "without quantisation error" is not free of error.
# It has a learned one; Table 4 of the paper leaves that out.

# %% [markdown]
# ## 5 · A mask through the same embedding
#
# A mask has no fixed number of degrees of freedom. The paper's answer is asymmetric. The *encoder* squeezes the mask
# into the embedding: a *ResNet*, which is convolutions with a shortcut past every two of them, and a linear layer. The
# *decoder*, a two-layer transformer, does not have to unpack it pixel by pixel: it looks at the picture again. It is
# *two-way*: the embedding attends to the picture's cells, and the cells to the embedding. So the embedding only says
# *which* object; where the outline runs, the visual features $V$ say:
#
# $$z = E_m(m), \qquad \hat m = \sigma(D_m(z, V))$$
#
# For that the decoder must know where in the picture each feature came from. Attention alone does not: it treats its
# inputs as a set. So each cell of the grid gets a fixed [*position code*](../docs/glossary.md#position-code) that is
# added to its features.
#
# ### Exercise 2: a code for every cell (★★☆, 15 minutes)
#
# Write `my_position_code(grid, size)`: an array or tensor `[grid * grid, size]`, row by row of the grid, in which all
# cells differ, in both directions. Any such code will do; waves of several lengths are usual. The code of the paper's
# release failed here: half of the picture had no vertical position.

# %% tags=["attempt"]
def my_position_code(grid, size):
    """A fixed code for each cell of a grid: [grid * grid, size]."""
    raise NotImplementedError("your turn")


attempt(checks.check_position_code, my_position_code)

# %% [markdown]
# <details><summary>Hint 1: one axis first</summary>
#
# For a position p in [0, 1], `sin(2^k π p)` and `cos(2^k π p)` for several k are numbers within [-1, 1] that tell
# positions apart.
# </details>
# <details><summary>Hint 2: two axes</summary>
#
# Give one half of the channels to y and the other half to x. `torch.meshgrid(..., indexing="ij")` lists the cells row
# by row.
# </details>

# %% nbgrader={"grade_id": "my_position_code", "solution": true}
def my_position_code(grid, size):
    """A fixed code for each cell of a grid: [grid * grid, size]."""
    ### BEGIN SOLUTION
    place = (torch.arange(grid) + 0.5) / grid
    y, x = torch.meshgrid(place, place, indexing="ij")
    waves = torch.pi * 2.0 ** torch.linspace(0, 3, size // 4)
    angles = [axis.reshape(-1, 1) * waves for axis in (y, x)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_position_code_check", "grade": true, "points": 2}
checks.check_position_code(my_position_code)
### BEGIN HIDDEN TESTS
checks.check_position_code(my_position_code, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The library's code, and how alike the codes of any cell and the middle one are:

# %%
from pgpt_lib.signals.two_way import position_code

codes = {"ours here": torch.as_tensor(my_position_code(16, 64)).float(), "library": position_code(16, 64)}
fig, axes = plt.subplots(1, 2, figsize=(6, 2.8))
for ax, (name, code) in zip(axes, codes.items(), strict=True):
    likeness = torch.cosine_similarity(code, code[8 * 16 + 8][None], dim=1)
    plots.show_image(likeness.reshape(16, 16).numpy(), ax, name)
run.figure(fig, "position_codes", alt="Likeness of each cell's code with the middle cell's, two codes")

# %% [markdown]
# Brightest in the middle and falling away in both directions: near cells have similar codes, and no other cell has the
# middle one's.

# %% [markdown]
# ### Exercise 3: a mask on a grid (★★☆, 15 minutes)
#
# The decoder's grid is coarser than the picture. In section 1 each cell of it held the share that the object covers.
# Write `my_grid(mask, cells)` for a mask `[h, w]` of zeros and ones whose sides `cells` divides.

# %% tags=["attempt"]
def my_grid(mask, cells):
    """The share of each cell of a [cells, cells] grid that a mask [h, w] covers; cells divides h and w."""
    raise NotImplementedError("your turn")


attempt(checks.check_mask_grid, my_grid)

# %% [markdown]
# <details><summary>Hint 1: blocks</summary>
#
# `mask.reshape(cells, h // cells, cells, w // cells)` has a block's rows on axis 1 and its columns on axis 3.
# </details>
# <details><summary>Hint 2: not one pixel</summary>
#
# A cell's value is a mean over its block; one pixel of it says little.
# </details>

# %% nbgrader={"grade_id": "my_grid", "solution": true}
def my_grid(mask, cells):
    """The share of each cell of a [cells, cells] grid that a mask [h, w] covers; cells divides h and w."""
    ### BEGIN SOLUTION
    h, w = mask.shape
    return mask.reshape(cells, h // cells, cells, w // cells).mean(axis=(1, 3))
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_grid_check", "grade": true, "points": 2}
checks.check_mask_grid(my_grid)
### BEGIN HIDDEN TESTS
checks.check_mask_grid(my_grid, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The library's `mask_to_input` does the same for grids and pictures of any size. On one of our objects:

# %%
from pgpt_lib.regions import rle_to_mask

pixels = rle_to_mask(regions[0].mask).astype("float32")
ours, library = my_grid(pixels, 8), square_of.mask_to_input(regions[0].mask, 8)
print(f"largest difference {abs(ours - library).max():.1e}, largest share {library.max():.2f}")
assert abs(ours - library).max() < 1e-5

# %% [markdown]
# To see what embedding and picture each bring, we train the same head twice: with the tower's features of the picture,
# and with features that are all zero. First the features, the mean of the tower's layers (notebook 01 looks into them).

# %%
from pgpt_lib.backbones import load_vision
from pgpt_lib.fusion import LayerFusion

tower = load_vision(**run.profile.vision.model_dump())
fuse = LayerFusion(tower.num_layers, "mean")
inputs = [square_of.image(picture) for picture in pictures]
features = torch.cat([fuse(tower(tower.preprocess(inputs[i : i + 16]))) for i in range(0, scenes, 16)])
print(f"{tower.name}: features {tuple(features.shape)}, scenes × tokens × channels")

# %% [markdown]
# The masks as values, the share of each cell of the decoder's grid that they cover:

# %%
from pgpt_lib.signals import MaskSignal


def new_signal(hidden):
    """An untrained mask signal for this tower."""
    return MaskSignal(hidden, tower.hidden_size, tower.grid)


mask_values, _ = new_signal(8).collate(regions, [square_of] * len(regions))
parts = {name: sum(p.numel() for p in part.parameters()) for name, part in new_signal(64).named_children()}
print(f"values {tuple(mask_values.shape)}; parameters with 64 numbers: {parts}")

# %% [markdown]
# Training is as for boxes, with the two mask losses of notebook 03: [*BCE*](../docs/glossary.md#cross-entropy) asks
# each cell by itself whether it belongs to the object, [*DICE*](../docs/glossary.md#dice) asks for the overlap of the
# whole. `seen` decides whether the decoder sees the picture: 1 or 0.

# %%
def some_known():
    """Numbers of 48 regions of the scenes to train on."""
    return known[torch.randint(len(known), (48,), generator=random)]


def mask_autoencoder(hidden, seen):
    """A mask signal trained through `hidden` numbers."""

    def draw():
        rows = some_known()
        return mask_values[rows], seen * features[image_index[rows]]

    return train(new_signal(hidden), mask_steps, draw)


# %% [markdown]
# The score is the IoU at the picture's own resolution, over held-out scenes.

# %%
@torch.no_grad()
def masks_back(signal, seen):
    """The held-out regions' masks after encoding and decoding, as shares of the grid's cells: [R, s, s]."""
    return signal.decode(signal.encode(mask_values[unseen]), seen * features[image_index[unseen]]).sigmoid()


def mask_score(shares):
    """Mean IoU of the held-out regions' masks with those that shares [R, s, s] give: [value, low, high]."""
    found = [square_of.mask_from_input(share.numpy(), threshold=0.5) for share in shares]
    return over_scenes([mask_iou(mask, regions[i].mask) for mask, i in zip(found, unseen.tolist(), strict=True)])


# %% [markdown]
# Three widths, each with and without the picture. This is the longest computation of the notebook.

# %%
mask_widths = (2, 8, 64)
mask_heads, mask_scores = {}, {}
for seen, label in ((1.0, "sees the picture"), (0.0, "embedding alone")):
    for hidden in mask_widths:
        torch.manual_seed(seed)
        mask_heads[label, hidden] = mask_autoencoder(hidden, seen)
        mask_scores[label, hidden] = mask_score(masks_back(mask_heads[label, hidden], seen))
        print(f"{label}, {hidden:2} numbers: mean IoU {shown(*mask_scores[label, hidden])}", flush=True)
target = mask_score(mask_values[unseen])
print(f"the shares that the decoder learns to write: mean IoU {shown(*target)}")

# %% [markdown]
# As a figure, with what the targets themselves score:

# %%
fig, ax = plt.subplots(figsize=(6, 3))
for label in ("sees the picture", "embedding alone"):
    value, low, high = zip(*(mask_scores[label, hidden] for hidden in mask_widths), strict=True)
    ax.plot(range(len(mask_widths)), value, marker="o", label=label)
    ax.fill_between(range(len(mask_widths)), low, high, alpha=0.2)
ax.axhline(target[0], color=plots.QUIET, linestyle="--", label="the training target itself")
ax.set(xticks=range(len(mask_widths)), xticklabels=mask_widths, ylim=(-0.03, 1))
ax.set(xlabel="numbers in the embedding", ylabel="mean IoU")
ax.legend()
run.figure(fig, "mask_width", alt="Mean IoU of masks by embedding width, with and without the picture")

# %% [markdown]
# Without the picture, the embedding carries position, size and shape all by itself, and two numbers are too few for
# that. With the picture they go further: enough to point at an object, whose outline the features supply. (In `smoke`
# no head trains for long enough to show this: without the picture, nothing is drawn yet.) Widths whose bands overlap
# are not told apart by so few scenes. The distance to the dashed line is what the heads still lack of their targets.
# The masks behind the numbers:

# %%
index = int(unseen[1])
scene, true_mask = pictures[image_index[index]], Region(None, regions[index].mask)
fig, axes = plt.subplots(2, 1 + len(mask_widths), figsize=(9, 4.6))
for row, (seen, label) in zip(axes, ((1.0, "sees the picture"), (0.0, "embedding alone")), strict=True):
    plots.draw_regions(scene, [true_mask], ax=row[0], title="truth", colors=[plots.TRUTH])
    for ax, hidden in zip(row[1:], mask_widths, strict=True):
        mask = square_of.mask_from_input(masks_back(mask_heads[label, hidden], seen)[1].numpy(), threshold=0.5)
        title = f"{label},\n{hidden} numbers"
        plots.draw_regions(scene, [Region(None, mask)], ax=ax, colors=[plots.PREDICTION], title=title)
run.figure(fig, "masks", alt="One object's mask after embeddings of 2 to 64 numbers, with and without the picture")

# %% [markdown]
# The upper row follows edges that the picture has, of this object or, where the code misleads it, of another. The lower
# row must draw from the code alone: a blob in about the right place, without the finer parts of the outline. The same
# division of labour holds in the full model, where a language model's state takes the place of the encoder's code.
#
# ## 6 · Both in one token
#
# So far a vector held a box or a mask. But an object has both, and `<vis>` is one token. Where a region is given with
# both, the model adds their codes, and both decoders read the same vector:
#
# $$z = E_b(b) + E_m(m), \qquad \hat b = \sigma(D_b(z)), \qquad \hat m = \sigma(D_m(z, V))$$
#
# By hand, with codes of four numbers from untrained heads; and with the library's `embed`, by which the model adds, and
# which gives zeros for the part that a region lacks:

# %%
box_head, mask_head = BoxSignal(4, 1, 8), new_signal(4)
b, m, yes = box_values[:1], mask_values[:1], torch.tensor([True])
code_b, code_m = box_head.encode(b), mask_head.encode(m)
z = code_b + code_m
for name, code in {"box code": code_b, "mask code": code_m, "sum": z}.items():
    print(f"{name:9}", [round(number, 3) for number in code[0].tolist()])
assert torch.allclose(z, box_head.embed(b, yes) + mask_head.embed(m, yes))
assert torch.allclose(code_b, box_head.embed(b, yes) + mask_head.embed(m, ~yes))

# %% [markdown]
# A sum cannot be taken apart, unless both encoders learn to write so that it can. So they are trained together, with
# all four losses. To our `train` the pair is a signal like any other:

# %%
class Pair(nn.Module):
    """A box and a mask signal around one vector, the sum of their codes."""

    def __init__(self, hidden):
        super().__init__()
        self.box, self.mask = BoxSignal(hidden, 1, 8, width=128), new_signal(hidden)

    def encode(self, values):
        return self.box.encode(values[0]) + self.mask.encode(values[1])

    def decode(self, state, features):
        return self.box.decode(state, features), self.mask.decode(state, features)

    def loss_terms(self, prediction, values):
        return self.box.loss_terms(prediction[0], values[0]) | self.mask.loss_terms(prediction[1], values[1])


# %% [markdown]
# Two widths. Beside each pair stand heads of their own: the mask heads from above, and box heads trained on as many of
# the same regions as the pairs, far fewer than in section 4.

# %%
def both(rows):
    """Boxes and masks of these regions, and the features of their pictures."""
    return (box_values[rows], mask_values[rows]), features[image_index[rows]]


pairs, lone = {}, {}
for hidden in (8, 64):
    torch.manual_seed(seed)
    pairs[hidden] = train(Pair(hidden), mask_steps, lambda: both(some_known()))
    lone[hidden] = train(BoxSignal(hidden, 1, 8, width=128), mask_steps, lambda: (box_values[some_known()], None))

# %% [markdown]
# What comes back of the held-out regions:

# %%
decoded, together = {}, {}
for hidden, pair in pairs.items():
    values, views = both(unseen)
    with torch.no_grad():
        boxes, logits = decoded[hidden] = pair.decode(pair.encode(values), views)
    together[f"box of the sum, {hidden}"] = box_score(box_cxcywh_to_xyxy(boxes))
    together[f"box of its own code, {hidden}"] = box_score(boxes_back(lone[hidden]))
    together[f"mask of the sum, {hidden}"] = mask_score(logits.sigmoid())
    together[f"mask of its own code, {hidden}"] = mask_scores["sees the picture", hidden]
print("\n".join(f"{name:24} {shown(*score)}" for name, score in together.items()))

# %% [markdown]
# One object, and what both decoders read from its one vector:

# %%
fig, axes = plt.subplots(1, 1 + len(pairs), figsize=(9, 3))
plots.draw_regions(scene, [regions[index]], ax=axes[0], title="truth", colors=[plots.TRUTH])
for ax, (hidden, (boxes, logits)) in zip(axes[1:], decoded.items(), strict=True):
    found = pairs[hidden].box.restore(boxes[1], square_of) | pairs[hidden].mask.restore(logits[1], square_of)
    title = f"both from {hidden} numbers"
    plots.draw_regions(scene, [Region(**found)], ax=ax, colors=[plots.PREDICTION], title=title)
run.figure(fig, "both", alt="One object's box and mask, both decoded from one vector of 8 and of 64 numbers")

# %% [markdown]
# Read the table pair by pair. Where the interval of the sum does not lie below that of the own code, one vector holds
# both at no cost that so short a training shows. Where it lies above, the parts help each other: a mask implies its
# box, so either code may say where the object is, and both decoders may read it there. In the full model the language
# model's state takes the place of the sum, and the same two decoders read it.
#
# ## 7 · Between two boxes
#
# Because the embedding is continuous, there is something between any two codes. Move the slider from one box's code to
# another's and watch what is decoded.

# %%
from pgpt_lib.widgets import Slider, View

head, _ = box_heads[64]
with torch.no_grad():
    ends = head.encode(box_values[:2])


def between(ax, t):
    """Decode a mixture of two codes, and draw it over the first picture."""
    with torch.no_grad():
        code = head.decode(torch.lerp(ends[:1], ends[1:2], t), None)
    found = Region(head.restore(code[0], square_of)["box"])
    colors = [plots.TRUTH, plots.TRUTH, plots.PREDICTION]
    plots.draw_regions(pictures[0], [*regions[:2], found], ["A", "B", f"t = {t:.2f}"], ax, colors)


# %% [markdown]
# Stills for readers without a kernel, the slider for the others:

# %%
view = View(between, {"t": Slider(0.0, 1.0, 0.5)}, [{"t": 0.0}, {"t": 0.5}, {"t": 1.0}])
run.figure(view.figure(), "between", alt="Decoded boxes half way between the codes of two objects")
view.show()

# %% [markdown]
# At the ends the decoded box lies on A and on B; in between it travels. Other models add [*location
# tokens*](../docs/glossary.md#location-token) to the vocabulary, a thousand or so, one for each cell of a grid or each
# bin along a side. These have nothing between them: to the loss, `<loc_17>` is as far from `<loc_18>` as from
# `<loc_900>`.

# %% [markdown]
# ### Exercise 4: a signal of one's own (★★★, 90 minutes)
#
# Boxes and masks are two [*signals*](../docs/glossary.md#signal) of many. The paper's introduction says that others are
# easily added; the library's third, depth, has fifty lines (`pgpt_lib/signals/depth.py`). Write a fourth:
# `PointSignal`, the middle of a region's box. The methods and what they are for stand in `pgpt_lib/signals/base.py`.
# What is checked: values in the frame of the model's square, a way back to the original picture, absent regions, a
# loss, and that it learns.

# %% tags=["attempt"]
from pgpt_lib.signals import Signal


class PointSignal(Signal):
    """The middle of a region's box: values and predictions [R, 2], (x, y) in [0, 1] of the model's square."""

    name = "point"
    loss_names = ("point",)

    def __init__(self, hidden_size, feature_size, grid):
        super().__init__(hidden_size, feature_size, grid)
        raise NotImplementedError("your turn: two small networks")

    def collate(self, regions, placements):
        """Values [R, 2], and present [R]: whether a region has a box."""

    def encode(self, values):
        """Values [R, 2] to embeddings [R, H]."""

    def decode(self, state, features, image_index=None):
        """States [R, H] to predictions [R, 2] in [0, 1]."""

    def loss_terms(self, prediction, values):
        """{"point": a number}."""

    def restore(self, prediction, placement, threshold=0.5):
        """{"point": (x, y)} on the original picture, from one row."""


attempt(checks.check_point_signal, PointSignal)

# %% [markdown]
# <details><summary>Hint 1: the frame</summary>
#
# `placement.box_to_input(box)` and `box_from_input(box)` lead to the square and back; a point is a box without extent.
# </details>
# <details><summary>Hint 2: the networks</summary>
#
# `three_layers(2, 64, hidden_size)` and one the other way round, with a sigmoid at the end.
# </details>
# <details><summary>Hint 3: absent regions</summary>
#
# Their values are zeros, and `present` is False there; the base class leaves them out of the loss.
# </details>

# %% nbgrader={"grade_id": "PointSignal", "solution": true}
class PointSignal(Signal):
    """The middle of a region's box: values and predictions [R, 2], (x, y) in [0, 1] of the model's square."""

    name = "point"
    loss_names = ("point",)

    def __init__(self, hidden_size, feature_size, grid):
        super().__init__(hidden_size, feature_size, grid)
        ### BEGIN SOLUTION
        self.encoder, self.decoder = three_layers(2, 64, hidden_size), three_layers(hidden_size, 64, 2)
        ### END SOLUTION

    def collate(self, regions, placements):
        """Values [R, 2], and present [R]: whether a region has a box."""
        ### BEGIN SOLUTION
        boxes = [p.box_to_input(r.box) if r.box else (0.0,) * 4 for r, p in zip(regions, placements, strict=True)]
        corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 2, 2)
        return corners.mean(1), torch.tensor([r.box is not None for r in regions])
        ### END SOLUTION

    def encode(self, values):
        """Values [R, 2] to embeddings [R, H]."""
        ### BEGIN SOLUTION
        return self.encoder(values)
        ### END SOLUTION

    def decode(self, state, features, image_index=None):
        """States [R, H] to predictions [R, 2] in [0, 1]."""
        ### BEGIN SOLUTION
        return self.decoder(state).sigmoid()
        ### END SOLUTION

    def loss_terms(self, prediction, values):
        """{"point": a number}."""
        ### BEGIN SOLUTION
        return {"point": (prediction - values).abs().mean()}
        ### END SOLUTION

    def restore(self, prediction, placement, threshold=0.5):
        """{"point": (x, y)} on the original picture, from one row."""
        ### BEGIN SOLUTION
        x, y = prediction.tolist()
        return {"point": placement.box_from_input((x, y, x, y))[:2]}
        ### END SOLUTION


# %% nbgrader={"grade_id": "PointSignal_check", "grade": true, "points": 4}
checks.check_point_signal(PointSignal)
### BEGIN HIDDEN TESTS
checks.check_point_signal(PointSignal, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# `register(PointSignal)` of `pgpt_lib.signals` would make it known to profiles, `signals: [box, mask, point]`, and a
# model would train with it. Here it goes through an embedding of its own, as the boxes did in section 4.

# %%
point = PointSignal(16, 1, 8)
middles, _ = point.collate(regions, [square_of] * len(regions))
train(point, box_steps, lambda: (random_boxes(256)[:, :2], torch.zeros(256, 1, 1)))
with torch.no_grad():
    off = (point.decode(point.encode(middles[held_out]), None) - middles[held_out]).abs().mean().item()
print(f"points of held-out scenes come back {off:.3f} of the square away, by axis")

# %% [markdown]
# ## Questions to think about
#
# 1. The decoder in section 5 sees features of the *fused* layers. Which layers would you expect a mask to need, and
#    which would a caption need? Notebook 01 measures it.
# 2. With two numbers and the picture, how could a head still name one object of five?
# 3. The pairs of section 6 only met regions with both. What would their decoders make of a box's code alone, and how
#    should training change for that? (`input_dropout` in the profiles is what the model does.)
#
# **Read next:** Carion et al., *DETR*, ECCV 2020 (boxes by MLP heads); Kirillov et al., *Segment Anything*, ICCV 2023
# (the two-way decoder); Chen et al., *Shikra*, arXiv 2023, and Peng et al., *Kosmos-2*, ICLR 2024 (boxes as text and as
# tokens). Notebook 04 puts the language model between the two heads.

# %%
run.finish(
    metrics={
        "box_iou": {str(hidden): iou for hidden, (_, iou) in box_heads.items()},
        "bin_iou": {str(k): iou for k, iou in bins.items()},
        "mask_iou": {f"{label}, {hidden}": iou for (label, hidden), iou in mask_scores.items()},
        "mask_grid_bound": target,  # what the targets score; no bound, for all that its name says
        "one_vector_iou": together,
    }
)
