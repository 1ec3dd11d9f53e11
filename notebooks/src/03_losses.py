# %% [markdown]
# # 03 · Losses
#
# ```yaml
# title: Losses
# objectives:
#   - compute every term of the training objective by hand and meet it in the library
#   - see why a box loss needs GIoU where boxes do not touch
#   - see why a mask loss needs DICE where objects are small, and why it must be taken mask by mask
# prerequisites: [PyTorch tensors and autograd, notebook 00 for what a region is]
# paper: section 3.2, equations 2 to 6
# minutes: {smoke: 0.3, cpu: 0.5}
# memory_gb: {smoke: 1, cpu: 1}
# ```
#
# A language model learns from one loss: the [cross-entropy](../docs/glossary.md#cross-entropy) of the next word.
# PerceptionGPT answers with words *and* with regions, so it learns from two kinds of loss at once (equations 2 and 3 of
# the paper):
#
# $$\mathcal L = \mathcal L_{\text{lang}} + \mathcal L_{\text{vis}}, \qquad
# \mathcal L_{\text{vis}} = \underbrace{\ell_1 + (1 - \text{GIoU})}_{\text{box}} +
# \underbrace{\text{BCE} + (1 - \text{DICE})}_{\text{mask}}$$
#
# That is the advantage over writing coordinates as words. To cross-entropy, 0.50 instead of 0.51 is as wrong as 0.90;
# a box loss knows which is nearer. This notebook takes the four visual terms apart.

# %% tags=["parameters"]
profile: str = "cpu"  # name of a profile: smoke, cpu, ...
out_dir: str = ""  # folder of the run; empty means reports/<profile>
seed: int = 0  # seed of everything random in this notebook
pairs: int = 400  # pairs of boxes in the race of section 4
steps: int = 150  # gradient steps of each small optimisation

# %% [markdown]
# The settings come from the profile, and every figure and number of this notebook goes into the run's folder.

# %%
import matplotlib.pyplot as plt
import torch

from pgpt_lib import plots
from pgpt_lib.notebook import start

run = start(profile, out_dir, seed, slug="03_losses")
plots.use_style()
print(f"profile {run.profile.name}, results go to {run.folder}")

# %% [markdown]
# ## 1 · The language loss, by hand
#
# A model sees three positions and gives a score (a [*logit*](../docs/glossary.md#logit)) to each of three words.
# Softmax turns scores into probabilities; the loss is minus the logarithm of the probability given to the right word,
# averaged (equation 6).

# %%
logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
right = torch.tensor([0, 1, 2])
probability = logits.softmax(-1)[range(3), right]
by_hand = -probability.log().mean()
for position, p in enumerate(probability):
    print(f"position {position}: the right word has probability {p:.3f}, loss {-p.log():.3f}")
print(f"mean {by_hand:.4f}")

# %% [markdown]
# The second position is confidently wrong and pays most. The library's `language_loss` does the same, with two
# conventions that matter: the state at position $t$ predicts the word at $t + 1$, and a label of $-100$ marks words
# that nobody asks for (the question, the image), which cost nothing.

# %%
from pgpt_lib.losses import IGNORE_INDEX, language_loss

states = torch.cat([logits, torch.zeros(1, 3)])[None]  # one dialogue of four positions; here a state is its logits
labels = torch.tensor([[IGNORE_INDEX, 0, 1, 2]])
ours = language_loss(states, labels, lm_head=lambda state: state)
print(f"library {ours:.4f}, by hand {by_hand:.4f}")
assert torch.isclose(ours, by_hand)

# %% [markdown]
# ## 2 · Boxes: what L1 measures, and what it does not
#
# A box is four numbers, so the obvious loss is their mean absolute difference, $\ell_1$. A shift of 0.05 costs the same
# for every box. But for a box of side 0.1 it is half the object, and for a box of side 0.8 it is nothing.
# [*Intersection over union* (IoU)](../docs/glossary.md#iou), the shared area over the area covered by either, is what
# REC is scored by: above 0.5 counts as found.

# %%
from pgpt_lib.losses import l1_loss
from pgpt_lib.regions import pairwise_iou

side = torch.tensor([0.1, 0.2, 0.4, 0.8])
truth = torch.stack([0.1 + 0 * side, 0.1 + 0 * side, 0.1 + side, 0.1 + side], dim=-1)
moved = truth + torch.tensor([0.05, 0.0, 0.05, 0.0])  # 0.05 to the right
for size, one, two, iou in zip(side, truth, moved, pairwise_iou(truth, moved), strict=True):
    print(f"side {size:.1f}: L1 {l1_loss(two[None], one[None]):.3f}, IoU {iou:.2f}")

# %% [markdown]
# One and the same $\ell_1$ stands for a miss and for a hit. So the loss should contain the IoU itself. There is a
# catch: look at the gradient when two boxes do not touch.

# %%
target = torch.tensor([[0.6, 0.6, 0.9, 0.9]])
far = torch.tensor([[0.1, 0.1, 0.3, 0.3]], requires_grad=True)
iou = pairwise_iou(far, target).sum()
(slope,) = torch.autograd.grad(iou, far)
print(f"IoU {iou.item():.2f}, its gradient {slope[0].tolist()}")

# %% [markdown]
# No overlap, no slope: IoU alone cannot say which way to move. [*Generalised IoU*](../docs/glossary.md#giou)
# (Rezatofighi et al., CVPR 2019) repairs this with the smallest box $C$ that encloses both:
#
# $$\text{GIoU}(A, B) = \text{IoU}(A, B) - \frac{|C| - |A \cup B|}{|C|}$$
#
# The further apart the boxes, the more of $C$ is empty, and the lower GIoU falls, down to $-1$.
#
# ### Exercise 1: GIoU from its definition (★★☆, 10 minutes)
#
# Write `my_giou` for boxes `a` and `b`, each `[N, 4]` as (x1, y1, x2, y2). It returns `[N]` values. The check below
# tells what is wrong while something is.

# %% tags=["attempt"]
from pgpt_lib import checks
from pgpt_lib.exercises import attempt


def my_giou(a, b):
    """Generalised IoU of the boxes in the same row of a, b [N, 4], xyxy."""
    raise NotImplementedError("your turn")


attempt(checks.check_giou, my_giou)

# %% [markdown]
# <details><summary>Hint 1: the intersection</summary>
#
# Its left edge is the larger of the two left edges, its right edge the smaller of the right ones. A negative width
# means that the boxes do not touch: `clamp(min=0)`.
# </details>
# <details><summary>Hint 2: the union</summary>
#
# Both areas together count the shared part twice.
# </details>
# <details><summary>Hint 3: the enclosing box</summary>
#
# As the intersection, with `minimum` and `maximum` exchanged.
# </details>

# %% nbgrader={"grade_id": "my_giou", "solution": true}
def my_giou(a, b):
    """Generalised IoU of the boxes in the same row of a, b [N, 4], xyxy."""
    ### BEGIN SOLUTION
    def extent(low, high):
        width_height = (high - low).clamp(min=0)
        return width_height[:, 0] * width_height[:, 1]

    shared = extent(torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:]))
    together = extent(a[:, :2], a[:, 2:]) + extent(b[:, :2], b[:, 2:]) - shared
    enclosing = extent(torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:]))
    return shared / together - (enclosing - together) / enclosing
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_giou_check", "grade": true, "points": 2}
checks.check_giou(my_giou)
### BEGIN HIDDEN TESTS
checks.check_giou(my_giou, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The library's function agrees with the one just written, and adds what training needs: it stays finite for boxes
# without area, where the definition divides by zero.

# %%
from pgpt_lib.regions import generalized_iou

corners = torch.rand(1000, 2, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=2).values.flatten(2)
difference = (my_giou(corners[:, 0], corners[:, 1]) - generalized_iou(corners[:, 0], corners[:, 1])).abs().max()
point = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
print(f"largest difference over 1000 pairs {difference:.1e}; two equal points: {generalized_iou(point, point).item()}")
assert difference < 1e-5

# %% [markdown]
# ## 3 · The three losses as landscapes
#
# Let a box of fixed size move over the picture while the true box stays. Height (colour) is the loss where the moving
# box's centre is; arrows point downhill. Orange dots mark places with no slope at all.

# %%
def box_at(x, y, side=0.25):
    """Boxes of one size with their centres at x, y: [P] and [P] to [P, 4]."""
    return torch.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2], dim=-1)


true_box = box_at(torch.tensor([0.68], dtype=torch.float64), torch.tensor([0.36], dtype=torch.float64))
box_losses = {
    "L1": lambda box, true: (box - true).abs().mean(-1),
    "1 - IoU": lambda box, true: 1 - pairwise_iou(box, true),
    "1 - GIoU": lambda box, true: 1 - generalized_iou(box, true),
}

# %% [markdown]
# The same three functions serve for the figure and for the race that follows it.

# %%
fig, axes = plt.subplots(1, 3, figsize=(11, 3.3))
for ax, (name, loss) in zip(axes, box_losses.items(), strict=True):
    plots.landscape(lambda x, y, loss=loss: loss(box_at(x, y), true_box), (0, 1), (0, 1), ax=ax, title=name)
    ax.set(aspect="equal", xlabel="centre x", ylabel="centre y")
run.figure(fig, "landscapes", alt="Three losses over the centre of a moving box, with downhill arrows")

# %% [markdown]
# $\ell_1$ is a pyramid: it always knows the way, with the same force near and far, for every size. IoU is a plateau
# with a hole: dots everywhere but close to the true box. GIoU has the hole *and* a slope that leads to it. Its arrows
# bend towards the axes: it first closes the gap along the shorter side of the enclosing box. A
# step along its width $w$ makes its area $w h$ smaller by $h$ times the step, and $h$ is the larger where $w$ is the
# shorter side.
#
# The next view lets you move the box yourself. The dotted frame is the enclosing box $C$.

# %%
from pgpt_lib.widgets import box_view

view = box_view()
run.figure(view.figure(), "giou_view", alt="A box left of, overlapping and nearly on the true box, with IoU and GIoU")
view.show()

# %% [markdown]
# Apart, IoU is 0 however far the boxes are, while GIoU falls below 0 with the distance. Where they overlap little, GIoU
# may still be below 0; the less of $C$ is empty, the closer it comes to IoU, and where the boxes agree both are 1.
#
# ## 4 · A race
#
# Landscapes can deceive, so let gradient descent decide. We draw pairs of boxes, start at the first and descend on
# each loss to the second. Boxes are (centre, width, height), as the model's box head predicts them.

# %%
from pgpt_lib.regions import box_cxcywh_to_xyxy

draw = torch.Generator().manual_seed(seed)
sides = 0.1 + 0.4 * torch.rand(2, pairs, 2, generator=draw)
centres = sides / 2 + (1 - sides) * torch.rand(2, pairs, 2, generator=draw)
starts, goals = torch.cat([centres, sides], dim=-1)
goals = box_cxcywh_to_xyxy(goals)
apart = pairwise_iou(box_cxcywh_to_xyxy(starts), goals) == 0
print(f"{apart.float().mean():.0%} of the {pairs} pairs do not touch at the start")

# %% [markdown]
# All pairs descend at once with Adam; what is recorded is the mean IoU of the pairs that did not touch at the start.

# %%
def race(loss):
    """Mean IoU after each step of descending on `loss`, over the pairs that did not touch."""
    boxes, history = starts.clone().requires_grad_(), []
    optimiser = torch.optim.Adam([boxes], lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(box_cxcywh_to_xyxy(boxes), goals).sum().backward()
        optimiser.step()
        history.append(pairwise_iou(box_cxcywh_to_xyxy(boxes.detach()), goals)[apart].mean().item())
    return history


# %% [markdown]
# The paper's box loss is the sum of the first and the third.

# %%
contestants = {**box_losses, "L1 + 1 - GIoU": lambda b, t: box_losses["L1"](b, t) + box_losses["1 - GIoU"](b, t)}
races = {name: race(loss) for name, loss in contestants.items()}
fig, ax = plt.subplots(figsize=(6, 3))
for name, history in races.items():
    ax.plot(range(1, steps + 1), history, label=f"{name}: {history[-1]:.2f} at the end")
ax.set(xlabel="step", ylabel="mean IoU", ylim=(-0.03, 1), title="descending to boxes that are not touched at the start")
ax.legend()
run.figure(fig, "race", alt="Mean IoU over gradient steps for four box losses")

# %% [markdown]
# `1 - IoU` never leaves the start: that is the plateau. The others arrive, each in its own way. GIoU makes boxes
# touch sooner, because it counts in units of the boxes; $\ell_1$ is the surer finisher when every box has four free
# numbers of its own, as here. A network has no free numbers for each box. It must share its precision among all
# boxes, and section 2 shows how $\ell_1$ would share it: evenly, which is too little for small ones. So the paper
# takes the sum.
#
# ## 5 · Masks: what binary cross-entropy overlooks
#
# A mask gives each pixel a probability of belonging to the object. *Binary cross-entropy* (BCE) asks each pixel apart
# and takes the mean. [*DICE*](../docs/glossary.md#dice) asks for the overlap of the whole, on a scale from 0 (disjoint)
# to 1 (equal):
#
# $$\text{DICE}(p, t) = \frac{2 \sum_i p_i t_i}{\sum_i p_i + \sum_i t_i}$$
#
# By hand, on a mask of six pixels of which two belong to the object:

# %%
p = torch.tensor([[0.9, 0.4, 0.1], [0.1, 0.2, 0.1]])
t = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
bce = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
overlap, total = (p * t).sum(), p.sum() + t.sum()
print(f"BCE {bce:.3f}")
print(f"DICE 2 × {overlap:.1f} / {total:.1f} = {2 * overlap / total:.3f}, loss {1 - 2 * overlap / total:.3f}")

# %% [markdown]
# The library takes logits instead of probabilities (stable in floating point), and a batch of masks.

# %%
from pgpt_lib.losses import bce_loss, dice_loss

mask_logits = torch.logit(p)[None]
print(f"library: BCE {bce_loss(mask_logits, t[None]):.3f}, DICE loss {dice_loss(mask_logits, t[None]):.3f}")
assert torch.isclose(bce_loss(mask_logits, t[None]), bce, atol=1e-4)
assert torch.isclose(dice_loss(mask_logits, t[None]), 1 - 2 * overlap / total, atol=1e-4)

# %% [markdown]
# Now the laziest answer, "no pixel belongs to the object", at a confidence of 98 %. What does it cost, for objects
# from a thousandth of the picture to half of it?

# %%
def square(share, side=64):
    """A square object that takes about `share` of a picture: [1, side, side]."""
    edge = max(1, round(side * float(share) ** 0.5))
    low = (side - edge) // 2
    mask = torch.zeros(1, side, side)
    mask[:, low : low + edge, low : low + edge] = 1
    return mask


# %% [markdown]
# Beside its cost, the second panel shows whom the loss listens to: at an undecided start (all probabilities 0.5), the
# part of the gradient that falls on the object's own pixels.

# %%
def object_part(loss, mask):
    """The object's part of the gradient (sum of absolute values) where every probability is one half."""
    undecided = torch.zeros_like(mask, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(undecided, mask), undecided)
    return ((slope.abs() * mask).sum() / slope.abs().sum()).item()


mask_losses = {"BCE": bce_loss, "1 - DICE": dice_loss}
shares = torch.logspace(-3, -0.3, 25)
nothing = torch.full((1, 64, 64), -4.0)

# %% [markdown]
# Both panels share the horizontal axis: the object's share of the picture, from tiny to large.

# %%
fig, (left, right_ax) = plt.subplots(1, 2, figsize=(9, 3))
for name, loss in mask_losses.items():
    left.plot(shares, [loss(nothing, square(share)) for share in shares], label=name)
    right_ax.plot(shares, [object_part(loss, square(share)) for share in shares], label=name)
left.set(xscale="log", xlabel="object's share of the picture", title="loss of predicting nothing", ylim=(0, None))
right_ax.set(xscale="log", xlabel="object's share of the picture", title="object's part of the gradient", ylim=(0, 1))
left.legend()
run.figure(fig, "small_masks", alt="Loss of an empty mask, and the object's part of the gradient, by object size")

# %% [markdown]
# Left: for a small object BCE is nearly content with an empty mask, while DICE's loss stays close to its maximum.
# Right: under BCE the background outvotes a small object, pixel by pixel; under DICE the object keeps half of the say
# or more, whatever its size.
#
# ### Exercise 2: DICE, mask by mask (★★☆, 10 minutes)
#
# Write `my_dice_loss` for logits and targets `[R, h, w]`: one minus DICE of each mask, then the mean over the R masks.
# Beware of the trap that the paper's released code fell into: sums over the whole batch.

# %% tags=["attempt"]
def my_dice_loss(logits, target):
    """1 - DICE of each mask, averaged: [R, h, w] and [R, h, w] to a number."""
    raise NotImplementedError("your turn")


attempt(checks.check_dice, my_dice_loss)

# %% [markdown]
# <details><summary>Hint 1: from logits to probabilities</summary>
#
# `logits.sigmoid()`.
# </details>
# <details><summary>Hint 2: which sums</summary>
#
# `flatten(1)` turns each mask into a row; then `sum(1)` is one number a mask.
# </details>
# <details><summary>Hint 3: the order</summary>
#
# Divide first, average last.
# </details>

# %% nbgrader={"grade_id": "my_dice_loss", "solution": true}
def my_dice_loss(logits, target):
    """1 - DICE of each mask, averaged: [R, h, w] and [R, h, w] to a number."""
    ### BEGIN SOLUTION
    probability, target = logits.sigmoid().flatten(1), target.flatten(1)
    shared = (probability * target).sum(1)
    return (1 - 2 * shared / (probability.sum(1) + target.sum(1)).clamp(min=1e-6)).mean()
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_dice_loss_check", "grade": true, "points": 2}
checks.check_dice(my_dice_loss)
### BEGIN HIDDEN TESTS
checks.check_dice(my_dice_loss, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# How much does the trap cost? A batch of a large object, found to the pixel, and a small one, missed altogether. Half
# of the batch is wrong; what do the two ways of summing say?

# %%
def pooled_dice(logits, target):
    """The trap: one DICE over all masks of the batch together."""
    probability = logits.sigmoid()
    return 1 - 2 * (probability * target).sum() / (probability.sum() + target.sum())


batch = torch.cat([square(0.3), square(0.005)])
answers = 16 * batch - 8
answers[1] = -8.0  # the small one is missed
for name, loss in {"library": dice_loss, "mask by mask": my_dice_loss, "pooled": pooled_dice}.items():
    print(f"{name}: loss {loss(answers, batch):.3f}")

# %% [markdown]
# Pooled, the miss is hardly worth mentioning: the sums are those of the large object. How strongly does each way pull
# at the small object's pixels?

# %%
pulls = {}
for name, loss in {"mask by mask": my_dice_loss, "pooled": pooled_dice}.items():
    asked = answers.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(asked, batch), asked)
    pulls[name] = (slope[1] * batch[1]).abs().sum().item()
print(f"pooling divides the pull at the small object's pixels by {pulls['mask by mask'] / pulls['pooled']:.0f}")

# %% [markdown]
# ### Exercise 3: cross-entropy that stays finite (★★☆, 15 minutes)
#
# By hand, BCE took the logarithm of a probability. In single precision the sigmoid of 100 is exactly 1, and the
# logarithm of 1 - 1 is minus infinity. Write `my_bce_loss(logits, target)` so that logits in the hundreds do no harm
# and a confident mistake costs its logit. Targets may lie between 0 and 1. Build it; do not call a ready loss.

# %% tags=["attempt"]
def my_bce_loss(logits, target):
    """Binary cross-entropy, a mean over all pixels: [R, h, w] and [R, h, w] to a number."""
    raise NotImplementedError("your turn")


attempt(checks.check_bce, my_bce_loss)

# %% [markdown]
# <details><summary>Hint 1: the pieces</summary>
#
# $\log \sigma(x) = -\log(1 + e^{-x})$ and $\log (1 - \sigma(x)) = -\log(1 + e^{x})$.
# </details>
# <details><summary>Hint 2: put together</summary>
#
# $-t \log \sigma(x) - (1 - t) \log(1 - \sigma(x)) = \log(1 + e^x) - t x$.
# </details>
# <details><summary>Hint 3: without overflow</summary>
#
# `torch.logaddexp(torch.zeros_like(x), x)` is $\log(1 + e^x)$ for every x.
# </details>

# %% nbgrader={"grade_id": "my_bce_loss", "solution": true}
def my_bce_loss(logits, target):
    """Binary cross-entropy, a mean over all pixels: [R, h, w] and [R, h, w] to a number."""
    ### BEGIN SOLUTION
    log_one_plus_exp = torch.logaddexp(torch.zeros_like(logits), logits)
    return (log_one_plus_exp - target * logits).mean()
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_bce_loss_check", "grade": true, "points": 2}
checks.check_bce(my_bce_loss)
### BEGIN HIDDEN TESTS
checks.check_bce(my_bce_loss, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The naive form and yours, for a pixel of the background that the model is ever surer to be object:

# %%
for logit in (2.0, 20.0, 200.0):
    sure, background = torch.full((1, 1, 1), logit), torch.zeros(1, 1, 1)
    naive = -(1 - sure.sigmoid()).log().mean()
    print(f"logit {logit:5.0f}: naive {naive:8.3f}, yours {my_bce_loss(sure, background):8.3f}")

# %% [markdown]
# ## 6 · What that means for a trained model
#
# A decoder is never certain. Take the simplest one: it sees noisy evidence for each pixel (1 on the object, 0
# elsewhere, plus noise) and learns two numbers, a scale and a shift, such that `scale * evidence + shift` is the
# logit. We train it on BCE, on DICE and on their sum, for objects of several sizes, and measure the IoU of the mask
# above probability 0.5.

# %%
def fit(loss, mask, evidence):
    """IoU of the mask that a scale and a shift, trained on `loss`, predict from the evidence."""
    weights = torch.tensor([1.0, 0.0], requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(weights[0] * evidence + weights[1], mask).backward()
        optimiser.step()
    predicted = (weights[0] * evidence + weights[1] > 0).float()
    return ((predicted * mask).sum() / torch.maximum(predicted, mask).sum()).item()


# %% [markdown]
# The same evidence goes to all three losses.

# %%
mask_losses["BCE + 1 - DICE"] = lambda logits, target: bce_loss(logits, target) + dice_loss(logits, target)
sizes = [0.003, 0.01, 0.03, 0.1, 0.3]
fitted = {name: [] for name in mask_losses}
for size in sizes:
    masks = square(size).expand(8, -1, -1)
    evidence = masks + 0.5 * torch.randn(masks.shape, generator=draw)
    for name, loss in mask_losses.items():
        fitted[name].append(fit(loss, masks, evidence))

# %% [markdown]
# One line a loss; higher is better.

# %%
fig, ax = plt.subplots(figsize=(6, 3))
for name, ious in fitted.items():
    ax.plot(sizes, ious, marker="o", label=name)
ax.set(xscale="log", xlabel="object's share of the picture", ylabel="IoU at probability 0.5", ylim=(-0.03, 1))
ax.legend()
run.figure(fig, "fitted_masks", alt="IoU of fitted masks by object size for three mask losses")

# %% [markdown]
# BCE learns honest probabilities. A pixel that belongs to a small object is improbable to begin with, so even good
# evidence leaves it below one half, and the mask comes out empty. DICE does not care for honest probabilities, it
# moves the border to where the overlap is best. For large objects the losses agree. BCE remains useful in the sum:
# its gradient is even and calm where DICE's changes with the mask's size.
#
# ## 7 · The sum
#
# Equations 2 to 5 add all terms, with weight 1 unless a profile says otherwise. What does each one weigh at the start,
# for an answer that knows nothing? As box one and the same in the middle, against all boxes of section 4; as mask a
# probability of one half everywhere, against the two masks of section 5.

# %%
from pgpt_lib.losses import giou_loss, total_loss

guess = torch.tensor([[0.5, 0.5, 0.4, 0.4]]).expand(pairs, 4)
terms = {"l1": l1_loss(guess, starts), "giou": giou_loss(guess, starts)}
terms |= {"bce": bce_loss(torch.zeros_like(batch), batch), "dice": dice_loss(torch.zeros_like(batch), batch)}
weights = run.profile.losses.model_dump()
for name, value in terms.items():
    print(f"{name:5} {value:.3f} × {weights[name]}")
print(f"together {total_loss(terms, weights):.3f}")

# %% [markdown]
# $\ell_1$ is much smaller than the others: in [0, 1] coordinates it can hardly exceed 0.5, and it soon lies far below.
# DETR therefore weighs it 5 : 2 against GIoU; the paper keeps 1 : 1, and so do we. What a profile may change is how
# both weigh against the rest (`losses`): `cpu` counts them twice, for it fails more often by an imprecise box than by
# the wrong object (notebook 06).
#
# ## Questions to think about
#
# 1. The race shows GIoU close to the sum. Where in training would you still want $\ell_1$?
# 2. What would focal loss (Lin et al., ICCV 2017) change in section 5, and what would it not change?
# 3. A batch without any mask must still train. What should the mask loss be then, and what must its gradient be?
#
# **Read next:** GIoU: Rezatofighi et al., *Generalized Intersection over Union*, CVPR 2019. DICE: Milletari et al.,
# *V-Net*, 3DV 2016; Sudre et al., *Generalised Dice Overlap*, DLMIA 2017. Both together: Carion et al., *End-to-End
# Object Detection with Transformers* (DETR), ECCV 2020; Cheng et al., *MaskFormer*, NeurIPS 2021. Notebook 04 puts
# these losses onto a model.

# %%
run.finish(
    metrics={
        "race_iou": {name: history[-1] for name, history in races.items()},
        "fitted_mask_iou_smallest": {name: ious[0] for name, ious in fitted.items()},
        "pooling_divides_by": pulls["mask by mask"] / pulls["pooled"],
    }
)
