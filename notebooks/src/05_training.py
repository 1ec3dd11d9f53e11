# %% [markdown]
# # 05 · Training
#
# ```yaml
# title: Training
# objectives:
#   - say which tokens and regions of a dialogue are learnt from, and in which order samples come
#   - write the learning rate as a formula of the step
#   - see why a training that was killed can end in the same bytes as one that was not
#   - train the model of this profile, and read its curves
# prerequisites: [notebook 03 for the losses, notebook 04 for the model]
# paper: section 3.2 (objective), section 4.1 (data and hyper-parameters)
# minutes: {smoke: 1, cpu: 16, photos: 12}
# memory_gb: {smoke: 2, cpu: 8, photos: 8}
# ```
#
# The model of notebook 04 has a frozen vision tower and a frozen language model with small trainable matrices in it
# (LoRA). What it must still learn is little: *when* to say `<vis>`, and what the state that predicts it has to carry.
# This notebook builds the training loop in pieces, then lets the library's loop, made of the same pieces, train the
# profile's model.

# %% tags=["parameters"]
profile: str = "cpu"  # name of a profile: smoke, cpu, photos, ...
out_dir: str = ""  # folder of the run; empty means reports/<profile>
seed: int = 0  # seed of data, initial weights and dropout
root: str = ""  # folder of a REFER layout, for the profile photos; empty means the bundled photographs
steps: int = 0  # length of the training; 0 means as the profile says
launch: str = ""  # how section 6 trains: here, or by accelerate as ddp, fsdp or zero2; empty means as the profile says
processes: int = 0  # of a training by accelerate; 0 means one an accelerator

# %% [markdown]
# The run's folder is also where checkpoints and the training log go.

# %%
import matplotlib.pyplot as plt
import torch

from pgpt_lib import plots
from pgpt_lib.notebook import start

run = start(profile, out_dir, seed, slug="05_training", root=root)
plots.use_style()
settings = run.profile.training
print(f"profile {run.profile.name}: {settings.steps} steps of {settings.batch_size} dialogues, lr {settings.lr}")

# %% [markdown]
# ## 1 · What comes in
#
# A *stream* gives the samples of each step. It is a function: ask twice for step 3 and you get the same dialogues, on
# any machine, whatever was asked before. That is half of what exact resumption needs.

# %%
from pgpt_lib.data.streams import build_stream

stream = build_stream(run.profile, seed)
samples = stream.batch(3, 4)
assert samples == stream.batch(3, 4)
print(f"{len(stream.image_ids())} images; one dialogue of step 3:")
for turn in samples[0].turns[:6]:
    print(f"  {turn.role:9} {turn.text}")

# %% [markdown]
# Several questions about one image stand in one dialogue. The image is the expensive part (its tokens are
# the largest single part of the sequence), so a question more costs little: packing is the cheapest speed-up there is.
# Where the profile says `turns_apart`, each question sees the image but not the other questions and their answers, so
# that it is trained as it is later asked: alone.
#
# ## 2 · What is learnt from
#
# Of the words, only the assistant's are learnt, with the mark that ends an answer; for all others the
# [label](../docs/glossary.md#label) is $-100$, which the loss leaves out.
#
# ### Exercise 1: labels (★☆☆, 10 minutes)
#
# Write `my_labels(turns, end_id)`. `turns` is a list of `(role, token_ids)`, and in the dialogue `end_id` follows each
# turn. Return one label for every token of the dialogue. Do not shift: the loss does that.

# %% tags=["attempt"]
from pgpt_lib import checks
from pgpt_lib.exercises import attempt


def my_labels(turns, end_id):
    """One label a token: the token itself where the assistant speaks, -100 elsewhere."""
    raise NotImplementedError("your turn")


attempt(checks.check_label_mask, my_labels)

# %% [markdown]
# <details><summary>Hint 1: what follows an answer</summary>
#
# A model that never learns to say `end_id` never stops.
# </details>
# <details><summary>Hint 2: what follows a question</summary>
#
# The end of the user's turn is the user's, too.
# </details>

# %% nbgrader={"grade_id": "my_labels", "solution": true}
def my_labels(turns, end_id):
    """One label a token: the token itself where the assistant speaks, -100 elsewhere."""
    ### BEGIN SOLUTION
    labels = []
    for role, token_ids in turns:
        spoken = [*token_ids, end_id]
        labels += spoken if role == "assistant" else [-100] * len(spoken)
    return labels
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_labels_check", "grade": true, "points": 1}
checks.check_label_mask(my_labels)
### BEGIN HIDDEN TESTS
checks.check_label_mask(my_labels, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The library's `Chat` does the same while it builds the dialogue from its segments, so that no label is ever found by
# searching. A real dialogue also holds the picture and the marks that open each turn; none of these is learnt. Here is
# what the model learns from the first sample, words and regions:

# %%
from pgpt_lib.model import build_model

model = build_model(run.profile, seed)
encoded = model.chat.encode(samples[0])
learnt = [token for token, label in zip(encoded.input_ids, encoded.labels, strict=True) if label != -100]
print(f"{len(encoded.input_ids)} tokens, {sum(encoded.image_mask)} of them the image; learnt are {len(learnt)}:")
print(" ", model.chat.decode(learnt))
print(f"  and {sum(is_answer for _, _, is_answer in encoded.vis)} regions in answers")

# %% [markdown]
# Your function, on the words of the same turns, leaves the same tokens to be learnt, in the same order:

# %%
turns = [(turn.role, model.chat.turn(turn.text)[0]) for turn in samples[0].turns]
yours = [label for label in my_labels(turns, model.chat.end_id) if label != -100]
print(f"learnt by your labels {len(yours)} tokens, by the library's {len(learnt)}; equal: {yours == learnt}")
assert yours == learnt

# %% [markdown]
# ## 3 · In which order
#
# A finite set of samples is gone through again and again. Most loops shuffle with a random generator that goes on from
# [epoch to epoch](../docs/glossary.md#epoch); after a restart it stands somewhere else, and the second half of the
# epoch is another than it would have been. The cure is to make the order a function too.
#
# ### Exercise 2: an order that survives a restart (★★☆, 10 minutes)
#
# Write `my_batch(count, batch_size, seed, step)`: the indices of the samples of a step. Every sample comes once an
# epoch, every epoch has another order, and nothing but the arguments counts. `batch_size` divides `count`.

# %% tags=["attempt"]
def my_batch(count, batch_size, seed, step):
    """The indices of the samples of a step, a list or an array of `batch_size` numbers below `count`."""
    raise NotImplementedError("your turn")


attempt(checks.check_resume_order, my_batch)

# %% [markdown]
# <details><summary>Hint 1: epoch and place</summary>
#
# `divmod(step, count // batch_size)` gives the epoch and the place of the step in it.
# </details>
# <details><summary>Hint 2: a new order for each epoch</summary>
#
# `numpy.random.default_rng([seed, epoch])` takes both as its seed.
# </details>

# %% nbgrader={"grade_id": "my_batch", "solution": true}
def my_batch(count, batch_size, seed, step):
    """The indices of the samples of a step, a list or an array of `batch_size` numbers below `count`."""
    ### BEGIN SOLUTION
    import numpy as np

    epoch, place = divmod(step, count // batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return order[place * batch_size : (place + 1) * batch_size]
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_batch_check", "grade": true, "points": 2}
checks.check_resume_order(my_batch)
### BEGIN HIDDEN TESTS
checks.check_resume_order(my_batch, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The library's streams are such orders too. They draw by a generator of their own, so that the numbers are others than
# yours; the rules are the same. Two epochs of eight scenes, two a step:

# %%
from pgpt_lib.data.refshapes import RefShapesStream

eight = RefShapesStream("smoke", 8, seed, {"caption": 1.0}, turns=1)
for epoch in (0, 1):
    four = range(4 * epoch, 4 * epoch + 4)
    library = [int(s.image_id.rpartition("-")[2]) for step in four for s in eight.batch(step, 2)]
    yours = [int(index) for step in four for index in my_batch(8, 2, seed, step)]
    print(f"epoch {epoch}: library {library}, yours {yours}")
    assert sorted(library) == sorted(yours) == list(range(8))

# %% [markdown]
# ## 4 · How fast
#
# The learning rate $\eta$ of step $t$ rises for the first $w$ of $T$ steps, while the optimiser's averages are still
# empty, and then falls along half a cosine:
#
# $$\eta(t) = \eta_{\max} \cdot \begin{cases} (t + 1) / (w + 1) & t < w \\
# \tfrac{1}{2} \big(1 + \cos \pi \tfrac{t - w}{T - w}\big) & t \ge w \end{cases}$$

# %%
from pgpt_lib.optimisation import learning_rate

total = steps or settings.steps
rates = [learning_rate(step, total, settings.lr, settings.warmup) for step in range(total)]
fig, ax = plt.subplots(figsize=(6, 2.4))
ax.plot(rates)
ax.set(xlabel="step", ylabel="learning rate", title=f"warm-up over {settings.warmup:.0%} of the steps, then a cosine")
run.figure(fig, "learning_rate", alt="The learning rate over the steps: a short rise, then half a cosine down to zero")

# %% [markdown]
# The rate depends on the step alone. Had it a state of its own, that state would have to be saved as well.

# %% [markdown]
# ### Exercise 3: the rate as a function (★☆☆, 10 minutes)
#
# Write the formula above as `my_rate(step, steps, peak, warmup)`, with $t$ the step, $T$ the steps and $w$ the number
# of steps of the warm-up. Steps are counted from 0.

# %% tags=["attempt"]
def my_rate(step, steps, peak, warmup):
    """The learning rate of a step: `warmup` steps up to `peak`, then half a cosine to 0."""
    raise NotImplementedError("your turn")


attempt(checks.check_learning_rate, my_rate)

# %% [markdown]
# <details><summary>Hint 1: the first step</summary>
#
# `(step + 1) / (warmup + 1)`: a rate of 0 would waste it.
# </details>
# <details><summary>Hint 2: the cosine</summary>
#
# Its argument is pi times the part of the steps after the warm-up that is over.
# </details>

# %% nbgrader={"grade_id": "my_rate", "solution": true}
def my_rate(step, steps, peak, warmup):
    """The learning rate of a step: `warmup` steps up to `peak`, then half a cosine to 0."""
    ### BEGIN SOLUTION
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    over = (step - warmup) / (steps - warmup)
    return peak * (1 + torch.cos(torch.tensor(torch.pi * over)).item()) / 2
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_rate_check", "grade": true, "points": 1}
checks.check_learning_rate(my_rate)
### BEGIN HIDDEN TESTS
checks.check_learning_rate(my_rate, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# The profile gives the [warm-up](../docs/glossary.md#warm-up) as a share of the steps. Yours and the library's, at the
# beginning, the middle and the end:

# %%
warm = int(settings.warmup * total)
for step in (0, total // 2, total - 1):
    yours = my_rate(step, total, settings.lr, warm)
    print(f"step {step}: library {rates[step]:.2e}, yours {yours:.2e}")
    assert abs(yours - rates[step]) < 1e-4 * settings.lr

# %% [markdown]
# ## 5 · Killed, and not killed
#
# What does step $t$ depend on? On the weights and the optimiser's averages, which a
# [checkpoint](../docs/glossary.md#checkpoint) holds, and on the step's number: data, learning rate and dropout are
# functions of it. So a training may be killed anywhere. To see it, six steps are trained in each of two folders; the
# second then loses its last three, as by a kill, and goes on. First the settings, small ones:

# %%
import tempfile
from pathlib import Path

from pgpt_lib.checkpoint import find_checkpoint
from pgpt_lib.config import load_profile
from pgpt_lib.training import train

small = load_profile("smoke", {"data.train_scenes": 8, "training.batch_size": 2, "training.log_every": 3})
six_steps = {"steps": 6, "save_every": 3, "progress": False}

# %% [markdown]
# In the second folder the last checkpoint is taken away, as if it had never come to be; the training then goes on from
# that of step 3. (Six steps are too few to learn when to say `<vis>`; the trainer warns of that, as it would in a real
# run.)

# %%
with tempfile.TemporaryDirectory() as folder:
    whole, parts = Path(folder, "whole"), Path(folder, "parts")
    for place in (whole, parts):
        train(small, place, seed, **six_steps)
    last = find_checkpoint(parts)[0]
    last.rename(last.with_name("lost"))
    train(small, parts, seed, resume=True, **six_steps)
    ends = [{f.name: f.read_bytes() for f in find_checkpoint(p)[0].glob("*.safetensors")} for p in (whole, parts)]

# %% [markdown]
# Weights, adapter and optimiser of both folders, byte by byte:

# %%
equal = ends[0] == ends[1]
print(f"weights and optimiser equal to the last bit: {equal}")
assert equal

# %% [markdown]
# A checkpoint is written under another name and renamed when it is whole, so a kill in the middle of saving leaves the
# one before it. The test suite kills real processes at chosen points (as a step begins, in the middle of writing a
# file of a checkpoint, before old ones are removed), and compares the bytes.
#
# ## 6 · The training
#
# Now the profile's own. It goes on from the last checkpoint in the run's folder, if there is one; features of the
# frozen tower are computed once and kept on disk. With a person watching, the curves are drawn while they grow.

# %%
def draw_live(record):
    """Redraw the curves in place, where a person watches."""
    from IPython.display import clear_output, display

    live.append(record)
    if run.headless or len(live) % 5:
        return
    clear_output(wait=True)
    figure = plots.learning_curves({"": live}, [f"losses.{name}" for name in live[0]["losses"]])
    display(figure)
    plt.close(figure)


# %% [markdown]
# Before a training that takes cards and days one asks what it will cost. The estimate is counted from the profile's own
# modules on tensors without data (`python -m pgpt_lib estimate`).

# %%
from pgpt_lib.estimate.text import own_estimate

way = launch or run.profile.budget.launch
print(own_estimate(run.profile, way))

# %% [markdown]
# It is one call; the loop in it is made of the pieces above. Where a profile is meant for cards, *accelerate* starts a
# process for each of them with the same loop inside; this notebook then only follows what they log.

# %%
from pgpt_lib.launching import launch_training

live, length = [], steps or None
if way == "here":
    result = train(run.profile, run.out, seed, steps=length, resume=True, on_log=draw_live)
else:
    model = None  # the processes load their own
    result = launch_training(run.profile, run.out, seed, way, processes, length, on_log=draw_live)
print(f"{result.steps} steps in {result.seconds:.0f} s, checkpoint {result.checkpoint.name}")

# %% [markdown]
# The curves, from the log. Faint is what was measured, strong its running mean.

# %%
records = plots.read_log(result.log)
names = [f"losses.{name}" for name in records[-1]["losses"]]
fig = plots.learning_curves({"": records}, names, smooth=0.8)
run.figure(fig, "curves", alt="One panel for each term of the loss, over the steps")

# %% [markdown]
# The language loss falls first: saying `<vis>` at the right place is easy. Boxes and masks then improve for as long
# as the training lasts. BCE starts lower than one might think, since most of a picture is background; DICE does not,
# since it asks for the overlap with the object alone.
#
# A panel [*distillation*](../docs/glossary.md#distillation) is there where a profile asks for it, as `cpu` does: on
# questions without a region the language model as it was before tuning is a teacher beside the true answers, and the
# term is the divergence from its probabilities (Li and Hoiem 2016). At first both models are one and the term is 0;
# tuning disturbs what was known, and the term pulls it back. The paper has no such term.
#
# How often does the model choose `<vis>` where an answer has one? This [*emission*](../docs/glossary.md#emission-rate)
# is measured with the true answer so far given; notebook 06 measures what counts, decoding freely.

# %%
fig = plots.learning_curves({"": records}, ["emission", "lr"])
run.figure(fig, "emission", alt="Share of regions whose token the model would emit, and the learning rate")
print(f"emission over the last steps: {result.emission}")

# %% [markdown]
# Where emission is below 1, some answers would come without a region, however good the heads are.
#
# The losses again to look at more closely, one term at a time:

# %%
from pgpt_lib.widgets import Choice, Slider, View


def show_curve(ax, term, smooth):
    """One term of the loss with a running mean."""
    at = [record["step"] for record in records]
    values = [record["losses"][term] for record in records]
    ax.plot(at, values, color=plots.colour(0), alpha=0.3)
    ax.plot(at, plots.exponential_mean(torch.tensor(values).numpy(), smooth), color=plots.colour(0))
    ax.set(xlabel="step", title=term)


terms = list(records[-1]["losses"])
view = View(show_curve, {"term": Choice(terms), "smooth": Slider(0, 0.98, 0.8)}, [{"term": t} for t in terms[:3]])
run.figure(view.figure(), "curve_view", alt="Three terms of the loss over the steps, each with its running mean")
view.show()

# %% [markdown]
# Without smoothing the values jump from step to step, since each batch asks other questions about other pictures. What
# is smaller than these jumps is no trend.
#
# ## 7 · What was learnt
#
# The language model's weights of equation 1 started where pretraining had left them, if the profile's language model is
# the bundled nano, which has met this tower. All others start even: those of a language model that has never seen a
# picture, as in `photos`, and the mask decoder's own set.

# %%
from pgpt_lib.checkpoint import load_checkpoint

trained, _ = load_checkpoint(result.checkpoint)
sets = {"language model": trained.fusion.weights()}
if trained.mask_fusion is not None:
    sets["mask decoder"] = trained.mask_fusion.weights()
ax = plots.show_layers(sets, title="fusion weights after training")
run.figure(ax.figure, "fusion_weights", alt="Fusion weights by layer for the language model and the mask decoder")

# %% [markdown]
# Where the bars of the two sets differ, the decoder of outlines and the reader of words may want different things from
# the same tower: that is why each has weights of its own. But it may also be the start that one still sees. In `cpu`
# one set begins aligned and learns at a small share of the rate (`aligned_lr`), the other begins even and learns at
# all of it. Notebook 08 asks whether it matters.

# %%
speed = [record["expressions_per_second"] for record in records if record.get("expressions_per_second")]
print(f"median {torch.tensor(speed).median():.0f} questions and answers a second" if speed else "no speed logged")
if result.peak_memory_gb is not None:  # trained on a card
    used = "not known for this card" if result.mfu is None else f"{result.mfu:.0%} of its peak"
    print(f"at most {result.peak_memory_gb:.1f} GB of a card; arithmetic for the model (MFU): {used}")

# %% [markdown]
# ## Questions to think about
#
# 1. Without `turns_apart` all answers of a packed dialogue see the true regions of the answers before them. What could
#    the model learn from that which it should not, and why does notebook 06 show it where the loss does not?
# 2. Gradient accumulation splits a batch in parts. Why is the mean of the parts' losses not the loss of the whole, and
#    what has to be counted to make it so?
# 3. The optimiser's averages are twice as large as the weights they belong to. Which of them would you dare to leave
#    out of a checkpoint, and what would be lost?
#
# **Read next:** Hu et al., *LoRA*, ICLR 2022. AdamW: Loshchilov and Hutter, *Decoupled Weight Decay Regularization*,
# ICLR 2019. Cosine schedules: the same authors' *SGDR*, ICLR 2017. Notebook 06 evaluates what was trained here.

# %%
from pgpt_lib.checkpoint_files import checkpoint_hash

figures = ("steps", "seconds", "emission", "peak_memory_gb", "mfu")  # the last two on cards alone
run.finish(
    metrics={
        "training": {**{name: getattr(result, name) for name in figures}, **result.losses},
        "resume_is_exact": float(equal),
    },
    checkpoint=checkpoint_hash(result.checkpoint),
)
