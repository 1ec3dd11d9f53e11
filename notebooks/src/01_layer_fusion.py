# %% [markdown]
# # 01 · Layer fusion
#
# ```yaml
# title: Layer fusion
# objectives:
#   - look at what each layer of a vision transformer says about a picture
#   - build equation 1, a weighted sum over layers, by hand, and meet it in the library
#   - see why layers must be normalised before they are summed
#   - measure with linear probes what each layer knows, and compare it with the weights that training learns
# prerequisites: [PyTorch, what a transformer block is, notebook 00 for RefShapes]
# paper: section 3.1, multi-layer visual feature fusion, equation 1
# minutes: {smoke: 0.4, cpu: 0.8, photos: 1.2}
# memory_gb: {smoke: 1.5, cpu: 2.5, photos: 3}
# ```
#
# A [*vision transformer*](../docs/glossary.md#vision-tower) (ViT) cuts a picture into
# [patches](../docs/glossary.md#patch), turns each into a vector (a [*token*](../docs/glossary.md#token)) and sends all
# of them through a stack of $L$ blocks, the layers. Most vision-language models hand one late layer's tokens to the
# language model, as LLaVA, on which the paper builds, does with the last layer but one. But a ViT is trained to say
# *what* is in a picture, and on its way there it may drop what is no help with that: the exact colour, the fine
# position. PerceptionGPT must draw outlines, so it [takes all layers](../docs/glossary.md#layer-fusion) (equation 1):
#
# $$V = \sum_{i=1}^{L} w_i V_i, \qquad \sum_{i=1}^{L} w_i = 1$$
#
# $V_i$ are the tokens after layer $i$; the weights $w_i$ are learned. (The paper writes $n$ for $L$.)

# %% tags=["parameters"]
profile: str = "cpu"  # name of a profile: smoke, cpu, photos, ...
out_dir: str = ""  # folder of the run; empty means reports/<profile>
seed: int = 0  # seed of everything random in this notebook
root: str = ""  # folder of photographs in the REFER layout; empty takes the bundled ones
scenes: int = 96  # RefShapes scenes that the probes are fitted to and scored on
steps: int = 120  # training steps of each set of fusion weights

# %% [markdown]
# The profile says which vision tower is used. `smoke` has a small one of our own, `cpu` and `photos` a real *DINOv2*: a
# ViT that was pretrained on photographs alone, without words or labels, by giving like features to different cut-outs
# of one picture.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from pgpt_lib import plots
from pgpt_lib.backbones import load_vision
from pgpt_lib.notebook import start

run = start(profile, out_dir, seed, slug="01_layer_fusion", root=root)
plots.use_style()
tower = load_vision(**run.profile.vision.model_dump())

# %% [markdown]
# What was loaded: $L$ layers, each with $N$ tokens of $C$ numbers.

# %%
tokens = f"{tower.grid} × {tower.grid} = {tower.num_tokens} tokens"
print(f"{tower.name}: {tower.num_layers} layers, {tokens} of {tower.hidden_size} numbers")
print(f"input {tower.image_size} × {tower.image_size} pixels, patches of {tower.patch_size}, all weights frozen")

# %% [markdown]
# ## 1 · One photograph, layer by layer
#
# The tower sees a square, so the photograph is scaled and padded first (notebook 02 shows how). Photographs have more
# to show than RefShapes, so for them the same tower is loaded for a larger square. Its
# [*position embeddings*](../docs/glossary.md#embedding), one learned vector for each place of the grid, which tells a
# token where it lies, are interpolated to the finer grid.

# %%
sharp = load_vision(tower.name, max(336, tower.image_size), run.profile.vision.precision)
print(f"photographs are seen as {sharp.grid} × {sharp.grid} tokens")

# %% [markdown]
# Then one call returns the tokens after every layer.

# %%
from pgpt_lib.data.photos import materialise
from pgpt_lib.data.refcoco import RefCOCO
from pgpt_lib.regions import Placement

photos = RefCOCO(root or materialise(), "refcoco", None)
shown = sorted(photos.sizes)[:6]
pictures = {key: photos.load_image(key) for key in shown}
places = {key: Placement(*photos.sizes[key], sharp.image_size) for key in shown}
squares = {key: places[key].image(pictures[key]) for key in shown}
layers = sharp(sharp.preprocess([squares[key] for key in shown]))
print(f"layers {tuple(layers.shape)}: pictures × layers × tokens × channels")

# %% [markdown]
# Tokens have hundreds of numbers. To see them, take the three directions in which they differ most (principal
# components) and show them as red, green and blue: patches of like colour have like features.

# %%
from pgpt_lib.widgets import layer_view

view = layer_view(squares[shown[0]], layers[0])
run.figure(view.figure(), "layers", alt="A photograph and its features after several layers, as colours")
view.show()

# %% [markdown]
# Early layers follow light and edges, patch by patch. Later ones gather: what belongs to one thing takes one colour,
# and the ground takes another, though nobody told the model what the things are. Colours cannot be compared between
# panels, each has its own three directions.
#
# ## 2 · Equation 1, by hand
#
# Two layers, one token of three numbers. The weights must be positive and sum to 1, so they are the *softmax* of two
# free numbers, the [*logits*](../docs/glossary.md#logit), which training can move without any constraint.

# %%
first, second = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([3.0, 4.0, 0.0])
free = torch.tensor([0.0, 1.0])
weights = free.exp() / free.exp().sum()
by_hand = weights[0] * first + weights[1] * second
print(f"weights {weights.tolist()}, sum {weights.sum():.1f}")
print(f"fused {by_hand.tolist()}")

# %% [markdown]
# ### Exercise 1: layer fusion (★☆☆, 5 minutes)
#
# Write `my_fusion(hidden_states, logits)` for any number of layers: `hidden_states` is `[B, L, N, C]`, `logits` are
# the L free numbers, the result is `[B, N, C]`.

# %% tags=["attempt"]
from pgpt_lib import checks
from pgpt_lib.exercises import attempt


def my_fusion(hidden_states, logits):
    """Equation 1: [B, L, N, C] and [L] to [B, N, C]."""
    raise NotImplementedError("your turn")


attempt(checks.check_fusion, my_fusion)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `logits.softmax(0)` are the weights.
# </details>
# <details><summary>Hint 2</summary>
#
# Give them the shape `[1, L, 1, 1]`, multiply, and sum over the axis of the layers.
# </details>

# %% nbgrader={"grade_id": "my_fusion", "solution": true}
def my_fusion(hidden_states, logits):
    """Equation 1: [B, L, N, C] and [L] to [B, N, C]."""
    ### BEGIN SOLUTION
    weights = logits.softmax(0)
    return (hidden_states * weights[None, :, None, None]).sum(1)
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_fusion_check", "grade": true, "points": 1}
checks.check_fusion(my_fusion)
### BEGIN HIDDEN TESTS
checks.check_fusion(my_fusion, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · Why the layers are normalised first
#
# A weight of 0.1 says little if one layer's numbers are twenty times as large as another's. They are: this is the mean
# length of a token after each layer, over the photographs.

# %%
lengths = layers.norm(dim=-1).mean(dim=(0, 2))
share = lengths / lengths.sum()
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
left.bar(range(1, tower.num_layers + 1), lengths, color=plots.colour(0))
left.set(xlabel="layer", ylabel="length", title="mean length of a token", xticks=range(1, tower.num_layers + 1))
plots.show_layers({"weights": torch.full((tower.num_layers,), 1 / tower.num_layers), "share of the sum": share}, right)
run.figure(fig, "lengths", alt="Token lengths by layer, and each layer's share of a sum with equal weights")

# %% [markdown]
# Right: with *equal* weights, the layers' shares of the sum are as unequal as their lengths. The longest layers drown
# the others, and learned weights would first have to undo that. The numbers of this tower:

# %%
low, high = lengths.argmin(), lengths.argmax()
print(f"shortest {lengths[low]:.1f} (layer {low + 1}), longest {lengths[high]:.1f} (layer {high + 1})")
print(f"the longest layer alone holds {share.max():.0%} of the sum, an equal share would be {1 / tower.num_layers:.0%}")

# %% [markdown]
# The cure is a LayerNorm without learned scale or shift: every token of every layer gets mean 0 and standard
# deviation 1 over its channels.
#
# ### Exercise 2: normalise every token (★☆☆, 5 minutes)
#
# Write `my_normalise(hidden_states)` for `[B, L, N, C]`.

# %% tags=["attempt"]
def my_normalise(hidden_states):
    """Mean 0 and standard deviation 1 over the channels of every token: [B, L, N, C] to the same."""
    raise NotImplementedError("your turn")


attempt(checks.check_normalise, my_normalise)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `x.mean(-1, keepdim=True)` keeps the axis, so that it can be subtracted.
# </details>
# <details><summary>Hint 2</summary>
#
# Add a small number, 1e-5, to the variance before its root, for tokens that are constant.
# </details>

# %% nbgrader={"grade_id": "my_normalise", "solution": true}
def my_normalise(hidden_states):
    """Mean 0 and standard deviation 1 over the channels of every token: [B, L, N, C] to the same."""
    ### BEGIN SOLUTION
    centred = hidden_states - hidden_states.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / (variance + 1e-5).sqrt()
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_normalise_check", "grade": true, "points": 1}
checks.check_normalise(my_normalise)
### BEGIN HIDDEN TESTS
checks.check_normalise(my_normalise, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# Both exercises together are the library's `LayerFusion`. It starts from equal weights; its strategies `last`,
# `second_last` and `mean` are what notebook 08 compares.

# %%
from pgpt_lib.fusion import LayerFusion

fusion = LayerFusion(tower.num_layers, strategy="learned", normalise=True)
ours = my_fusion(my_normalise(layers), fusion.logits.detach())
with torch.no_grad():
    difference = (fusion(layers) - ours).abs().max().item()
print(f"largest difference between the library and the exercises {difference:.1e}")
assert difference < 1e-3

# %% [markdown]
# ## 4 · What each layer knows
#
# A [*linear probe*](../docs/glossary.md#linear-probe) asks a layer a question: can a linear classifier read the answer
# from single tokens? We ask two questions about RefShapes scenes, for every token that lies on an object: which
# *colour*, and which *shape*? First the scenes and their layers.

# %%
from pgpt_lib.data.refshapes.levels import COLOURS, SHAPES
from pgpt_lib.data.refshapes.render import render
from pgpt_lib.data.refshapes.scene import make_scene
from pgpt_lib.data.refshapes.tasks import scene_regions

worlds = [make_scene(run.profile.data.level, "train", seed, index) for index in range(scenes)]
side = worlds[0].level.image_size
square_of = Placement(side, side, tower.image_size)
inputs = [square_of.image(render(world)) for world in worlds]

# %% [markdown]
# Layers take memory, so they are kept in half precision.

# %%
def all_layers(model, images):
    """The layers of many pictures: [I, L, N, C], bfloat16."""
    parts = [model(model.preprocess(images[i : i + 16])).bfloat16() for i in range(0, len(images), 16)]
    return torch.cat(parts)


shape_layers = all_layers(tower, inputs)
print(f"{shape_layers.numel() * 2 / 1e6:.0f} MB for {scenes} scenes")

# %% [markdown]
# The labels: a token belongs to the object that covers at least half of its patch.

# %%
def token_labels(world, word, words):
    """For each token the number of its object's word; -1 where no object covers half of the patch."""
    labels = torch.full((tower.num_tokens,), -1)
    for thing, region in zip(world.things, scene_regions(world), strict=True):
        covered = torch.from_numpy(square_of.mask_to_input(region.mask, tower.grid)).flatten() >= 0.5
        labels[covered] = words.index(getattr(thing, word))
    return labels


questions = {"colour": list(COLOURS), "shape": list(SHAPES)}
labels = {word: torch.stack([token_labels(w, word, words) for w in worlds]) for word, words in questions.items()}

# %% [markdown]
# `layer_probe` fits one ridge regression a layer on some scenes and scores it on the others. As a control the same
# architecture answers with random weights: what it knows comes from the pixels alone, not from training.

# %%
def with_random_weights(image_size):
    """The profile's tower, its weights drawn anew."""
    blank = load_vision(tower.name, image_size)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in blank.model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)
        else:  # norms and layer scales to 1, biases to 0
            torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    return blank


blank_layers = all_layers(with_random_weights(tower.image_size), inputs)

# %% [markdown]
# Two questions, two towers. Beside each score stands its 95 % interval: held-out scenes are drawn again and again with
# replacement (a [*bootstrap*](../docs/glossary.md#bootstrap)), for tokens of one scene stand or fall together.

# %%
from pgpt_lib.probing import layer_probe

towers = {tower.name: shape_layers, "random weights": blank_layers}
pairs = [(word, name) for word in questions for name in towers]
probes = {(word, name): layer_probe(towers[name], labels[word], seed=seed) for word, name in pairs}
for (word, name), probe in probes.items():
    best = max(range(tower.num_layers), key=lambda i: probe.accuracy[i])
    high, last = ("{:.2f} [{:.2f}, {:.2f}]".format(*probe.intervals[i]) for i in (best, -1))
    print(f"{word}, {name}: best layer {best + 1} with {high}, last layer {last}")

# %% [markdown]
# The same as curves with their intervals:

# %%
numbers = range(1, tower.num_layers + 1)


def show_probe(ax, probe, label):
    """Draw a probe's accuracy by layer, and its interval as a band."""
    value, low, high = zip(*probe.intervals, strict=True)
    ax.plot(numbers, value, marker="o", label=label)
    ax.fill_between(numbers, low, high, alpha=0.2)


# %% [markdown]
# One panel a question:

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
for ax, word in zip(axes, questions, strict=True):
    for name in towers:
        show_probe(ax, probes[word, name], name)
    ax.axhline(probes[word, tower.name].majority, color=plots.QUIET, linestyle="--", label="most frequent answer")
    ax.set(xlabel="layer", ylabel="accuracy", title=word, ylim=(0, 1), xticks=numbers)
axes[0].legend()
run.figure(fig, "probes", alt="Accuracy of linear probes for colour and shape by layer, two towers")

# %% [markdown]
# Two things to read here. The pretrained tower beats its random twin by far, with bands that lie wide apart, where
# training matters: *shape* needs several patches to be seen together. And in DINOv2 the two questions peak in different
# layers: colour can be read from the very first and is partly given up on the way to the top; shape is only there after
# some layers. No single layer is best for both, so there is something to fuse. (The tower of `smoke` was trained on
# RefShapes alone, by the words of its captions, and keeps colour to the end.)

# %% [markdown]
# ### Exercise 3: the probe itself (★★☆, 20 minutes)
#
# What is inside `layer_probe`? A *ridge regression*: a linear map $W$ from a token's features to its label, written as
# a vector with a 1 in the label's place, that keeps its own numbers small:
#
# $$\min_W \; \lVert X W - Y \rVert^2 + \lambda \lVert W \rVert^2$$
#
# Write `my_ridge(features, targets, strength)` for features $X$ `[n, C]` and targets $Y$ `[n, K]`; it returns `[C, K]`.
# There is a closed form: set the gradient to zero.

# %% tags=["attempt"]
def my_ridge(features, targets, strength):
    """The weights [C, K] that minimise ||features W - targets||^2 + strength ||W||^2."""
    raise NotImplementedError("your turn")


attempt(checks.check_ridge, my_ridge)

# %% [markdown]
# <details><summary>Hint 1: the gradient</summary>
#
# $2 X^T (X W - Y) + 2 \lambda W = 0$, so $(X^T X + \lambda I) W = X^T Y$.
# </details>
# <details><summary>Hint 2: solving</summary>
#
# `torch.linalg.solve(A, B)` gives the W with A W = B; an inverse is neither needed nor as exact.
# </details>
# <details><summary>Hint 3: the penalty</summary>
#
# `torch.eye(C)` is the identity; mind its dtype.
# </details>

# %% nbgrader={"grade_id": "my_ridge", "solution": true}
def my_ridge(features, targets, strength):
    """The weights [C, K] that minimise ||features W - targets||^2 + strength ||W||^2."""
    ### BEGIN SOLUTION
    gram = features.T @ features
    penalty = strength * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + penalty, features.T @ targets)
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_ridge_check", "grade": true, "points": 2}
checks.check_ridge(my_ridge)
### BEGIN HIDDEN TESTS
checks.check_ridge(my_ridge, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# Is that all? `layer_probe` holds three tenths of the scenes out. Here are the same tokens of the last layer, to fit to
# and to score on:

# %%
order = torch.randperm(scenes, generator=torch.Generator().manual_seed(seed))
later = torch.zeros(scenes, dtype=torch.bool)
later[order[: round(0.3 * scenes)]] = True
fit, score = ((labels["colour"] >= 0) & part[:, None] for part in (~later, later))
x, unseen = (F.layer_norm(shape_layers[:, -1][rows].double(), [tower.hidden_size]) for rows in (fit, score))
y = F.one_hot(labels["colour"][fit], len(COLOURS)).double()

# %% [markdown]
# Besides the ridge it does two things: it takes the means of $X$ and $Y$ away first, which saves a bias, and it
# measures $\lambda$ by the features' own size. With these `my_ridge` must name as many tokens:

# %%
strength = 1e-3 * (x - x.mean(0)).square().sum(0).mean().item()
fitted = my_ridge(x - x.mean(0), y - y.mean(0), strength)
said = ((unseen - x.mean(0)) @ fitted + y.mean(0)).argmax(1)
mine, theirs = (said == labels["colour"][score]).double().mean(), probes["colour", tower.name].accuracy[-1]
print(f"colour from the last layer: {mine:.3f} by my_ridge, {theirs:.3f} by layer_probe")
assert abs(mine - theirs) < 0.01

# %% [markdown]
# ## 5 · The same question to photographs
#
# Real pictures have no list of colours and shapes, but the annotated ones have objects. The question is now: which
# object does this token lie on? Neighbouring tokens of one picture are held out, so this is easier than it sounds;
# compare the curves, not the height.

# %%
def object_labels(key, first):
    """For each token of a photograph the number of the smallest object on it, counted from `first`; -1 for none."""
    labels = torch.full((sharp.num_tokens,), -1)
    anns = [a for a in photos.annotations.values() if a.image_id == key and photos.region(a.ann_id).mask]
    for number, ann in enumerate(sorted(anns, key=lambda a: -a.bbox[2] * a.bbox[3])):
        covered = places[key].mask_to_input(photos.region(ann.ann_id).mask, sharp.grid).flatten() >= 0.5
        labels[torch.from_numpy(covered)] = first + number
    return labels


photo_labels = torch.stack([object_labels(key, 100 * i) for i, key in enumerate(shown)])

# %% [markdown]
# The photographs go through the random twin as well.

# %%
blank_sharp = with_random_weights(sharp.image_size)
blank_photos = blank_sharp(blank_sharp.preprocess([squares[key] for key in shown]))
photo_probes = {
    name: layer_probe(found, photo_labels, split="tokens", seed=seed)
    for name, found in {tower.name: layers, "random weights": blank_photos}.items()
}

# %% [markdown]
# Left the labels of one photograph, right the probes over all of them:

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3), width_ratios=(1, 1.6))
plots.show_image(squares[shown[0]], left, "tokens with a label")
label_map = torch.where(photo_labels[0] < 0, torch.nan, photo_labels[0].float()).reshape(sharp.grid, -1)
left.imshow(label_map, extent=(0, sharp.image_size, sharp.image_size, 0), alpha=0.5, cmap="tab10")
for name, probe in photo_probes.items():
    show_probe(right, probe, f"{name}: {max(probe.accuracy):.2f} at best")
right.axhline(photo_probes[tower.name].majority, color=plots.QUIET, linestyle="--", label="most frequent answer")
right.set(xlabel="layer", ylabel="accuracy", title="which object", ylim=(0, 1), xticks=numbers)
right.legend()
run.figure(fig, "photo_probes", alt="Labelled tokens of a photograph; accuracy of naming the object by layer")

# %% [markdown]
# On photographs the random weights fall behind as well, though position and brightness alone already tell neighbouring
# patches apart to some degree. With so few photographs the bands are wide; where they overlap, nothing is told apart.
#
# ## 6 · What training learns to weigh
#
# Now the weights of equation 1 are *learned*: fusion and a linear classifier are trained together by gradient
# descent, once for each question. Does the learned weight follow what the probe found?

# %%
def learn_weights(found, wanted):
    """Fusion weights [L] of a linear classifier that reads labels from fused tokens, trained for `steps` steps."""
    torch.manual_seed(seed)
    tokens = found.transpose(1, 2)[wanted >= 0].float().transpose(0, 1)[None]  # [1, L, labelled tokens, C]
    targets = torch.unique(wanted[wanted >= 0], return_inverse=True)[1]
    fusion, head = LayerFusion(tower.num_layers), torch.nn.Linear(tower.hidden_size, int(targets.max()) + 1)
    optimiser = torch.optim.AdamW([{"params": fusion.parameters(), "lr": 0.05}, {"params": head.parameters()}], 0.003)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(head(fusion(tokens)[0]), targets).backward()
        optimiser.step()
    return fusion.weights().detach()


# %% [markdown]
# Three questions, three sets of weights, and beside them a fourth: those of the bundled nano model, which learned to
# answer all kinds of questions about RefShapes in words. The dashed line is where all started.

# %%
from safetensors.torch import load_file

from pgpt_lib.backbones import BUNDLED

learned = {word: learn_weights(shape_layers, labels[word]) for word in questions}
learned["object on photographs"] = learn_weights(layers, photo_labels)
bundled = BUNDLED / "nano" / f"{run.profile.vision.name}.safetensors"
everything = {"nano model, all questions": load_file(bundled)["fusion.logits"].softmax(0)} if bundled.exists() else {}

# %% [markdown]
# All sets side by side:

# %%
fig, ax = plt.subplots(figsize=(9, 3))
plots.show_layers({**learned, **everything}, ax, title="learned fusion weights")
run.figure(fig, "weights", alt="Learned fusion weights by layer, one set for each question")

# %% [markdown]
# The weights move away from the mean, and differently for each question. How well they agree with the probes, as a
# correlation over layers (1 would be perfect agreement, 0 none, `nan` that a probe finds all layers equally good):

# %%
accuracies = {word: probes[word, tower.name].accuracy for word in questions}
accuracies["object on photographs"] = photo_probes[tower.name].accuracy
follows = {}
for word, weights in learned.items():
    follows[word] = torch.corrcoef(torch.stack([weights.double(), torch.tensor(accuracies[word])]))[0, 1].item()
    print(f"{word}: largest weight on layer {weights.argmax() + 1}, correlation with the probe {follows[word]:+.2f}")

# %% [markdown]
# A high correlation is not guaranteed. A probe asks each layer alone; the weights answer what a layer *adds* to the
# others, and neighbouring layers say much the same. Large weights are evidence of use, small ones are no evidence of
# ignorance. Keep that in mind when the paper reads its Figure 5.
#
# Last, what reaches the language model. The same photograph after three strategies, in one set of colours:

# %%
mixes = {"last layer": LayerFusion(tower.num_layers, "last"), "mean": LayerFusion(tower.num_layers, "mean")}
fused = {name: mix(layers[:1])[0] for name, mix in mixes.items()}
fused["learned for shape"] = my_fusion(my_normalise(layers[:1]), learned["shape"].log())[0]
fig, axes = plt.subplots(1, 4, figsize=(10, 2.8))
plots.show_image(squares[shown[0]], axes[0], "the picture")
basis = None
for ax, (name, tokens) in zip(axes[1:], fused.items(), strict=True):
    colours, basis = plots.feature_image(tokens.detach(), basis)
    plots.show_image(colours, ax, name)
run.figure(fig, "fused", alt="Features of a photograph as colours: last layer, mean of the layers, learned weights")

# %% [markdown]
# The last layer alone shows large, even areas. The mixtures keep its areas and bring back edges and light from below:
# what a mask decoder needs to find an outline.
#
# ## Questions to think about
#
# 1. `learned["shape"].log()` served as logits above. Why is that right?
# 2. PerceptionGPT keeps two sets of weights, one for the language model and one for the mask decoder. Which of the
#    three questions is each closer to?
# 3. A probe reads a token alone. What could the language model read from sixty-four tokens that no probe can?
#
# **Read next:** Oquab et al., *DINOv2*, TMLR 2024 (the tower); Alain and Bengio, *Understanding intermediate layers
# using linear classifier probes*, ICLR 2017 workshop; Lin et al., *Feature Pyramid Networks*, CVPR 2017 (the idea that
# the paper cites). Notebook 08 runs the comparison of strategies on the whole model.

# %%
run.finish(
    metrics={
        "probe": {f"{word}, {name}": max(probe.intervals) for (word, name), probe in probes.items()},
        "probe_photographs": {name: max(probe.intervals) for name, probe in photo_probes.items()},
        "weights_follow_probe": follows,
        "longest_over_shortest_layer": (lengths.max() / lengths.min()).item(),
    }
)
