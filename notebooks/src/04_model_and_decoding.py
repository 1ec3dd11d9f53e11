# %% [markdown]
# # 04 · The model and its decoding
#
# ```yaml
# title: The model and its decoding
# objectives:
#   - put the parts of notebooks 01 to 03 together, and say which of them is trained
#   - count parameters, of LoRA above all, and compare with the paper's figures
#   - say which state a region is decoded from, and why it is one position before `<vis>`
#   - follow a dialogue token by token through cached decoding, and see a region fed back as an embedding
# prerequisites: [notebook 01 (fusion), notebook 02 (heads), the idea of self-attention]
# paper: section 3.1 (framework, Figure 2), section 3.2 (inference)
# minutes: {smoke: 0.5, cpu: 1, photos: 1}
# memory_gb: {smoke: 1, cpu: 2, photos: 4}
# ```
#
# We have a tower whose layers are fused into one map of features (01), and heads that turn boxes and masks into
# embeddings and back (02). What is between them is a language model. This notebook builds the whole of the paper's
# Figure 2, counts what is trained in it, and follows one answer from its first token to its last. Nothing is trained
# here; that is notebook 05.

# %% tags=["parameters"]
profile: str = "cpu"  # name of a profile: smoke, cpu, photos, ...
out_dir: str = ""  # folder of the run; empty means reports/<profile>
seed: int = 0  # seed of the untrained parts
root: str = ""  # folder of a REFER layout, for the profile photos; empty means the bundled photographs

# %% [markdown]
# The model of the profile: [backbones](../docs/glossary.md#backbone) as they were pretrained, heads fresh.

# %%
import matplotlib.pyplot as plt
import torch

from pgpt_lib import plots
from pgpt_lib.diagrams import model_diagram, model_parts, token_strip
from pgpt_lib.model import build_model
from pgpt_lib.notebook import start

run = start(profile, out_dir, seed, slug="04_model_and_decoding", root=root)
plots.use_style()
model = build_model(run.profile, seed).cpu().eval()  # one dialogue is soon read; notebook 05 uses an accelerator

# %% [markdown]
# ## 1 · Figure 2, from the live model
#
# The drawing is made by walking through the modules that have just been built: what stands in a box was counted, not
# copied. Green frames are trained, grey ones [frozen](../docs/glossary.md#frozen).

# %%
fig, ax = plt.subplots(figsize=(11, 6))
model_diagram(model, ax)
run.figure(fig, "figure2", alt="The parts of the model from picture to regions with their parameters")

# %% [markdown]
# Read it from left to right. The tower gives all its layers; fusion makes one map of them (equation 1); the
# [projector](../docs/glossary.md#projector) turns each place of the map into a token of the language model. On the
# right the signals: each has an encoder, which turns a region into the embedding of a `<vis>` in the input, and a
# decoder, which turns the state that predicts a `<vis>` of the output into a region. The dashed arrow is for decoders
# that look at the picture again, as the mask's does: for them fusion makes a second map, with weights of its own.
#
# ## 2 · How little is trained
#
# [LoRA](../docs/glossary.md#lora) (Hu et al., ICLR 2022) leaves a weight $W$ as it is and adds a product of two thin
# matrices:
#
# $$W' = W + \tfrac{\alpha}{r} B A, \qquad A \in \mathbb R^{r \times d_{in}},\; B \in \mathbb R^{d_{out} \times r}$$
#
# $r$ is the *rank*, how thin they are; $\alpha$ is a constant that scales the product. $B$ starts at zero, so that the
# model starts as it was. The paper puts $r = 32$ on the query and value projections.
#
# ### Exercise 1: count what is trained (★☆☆, 5 minutes)
#
# Write `trained(model)`: how many numbers does training change? Mind weights that two modules share.

# %% tags=["attempt"]
from pgpt_lib import checks
from pgpt_lib.exercises import attempt


def trained(model):
    """The number of trainable parameters of a module, each counted once."""
    raise NotImplementedError("your turn")


attempt(checks.check_parameter_count, trained)

# %% [markdown]
# <details><summary>Hint 1: how a tensor says that it is trained</summary>
#
# `parameter.requires_grad`.
# </details>
# <details><summary>Hint 2: how many numbers it holds</summary>
#
# `parameter.numel()`; `model.parameters()` gives every tensor once.
# </details>

# %% nbgrader={"grade_id": "trained", "solution": true}
def trained(model):
    """The number of trainable parameters of a module, each counted once."""
    ### BEGIN SOLUTION
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    ### END SOLUTION


# %% nbgrader={"grade_id": "trained_check", "grade": true, "points": 1}
checks.check_parameter_count(trained)
### BEGIN HIDDEN TESTS
checks.check_parameter_count(trained, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# With it, the parts of the model. LoRA's share can also be computed from its definition: $r (d_{in} + d_{out})$ for
# each adapted matrix.

# %%
parts = model_parts(model)
for part in parts.values():
    share = part.trainable / max(1, part.parameters)
    print(f"{part.name:15} {part.parameters:>12,} parameters, {part.trainable:>10,} trained ({share:.1%})")
rank = run.profile.llm.lora_rank
pairs = [m for m in model.llm.modules() if hasattr(m, "lora_A") and len(getattr(m, "lora_A", {}))]
pairs = [m for m in pairs if hasattr(m, "in_features")]
by_formula = sum(rank * (m.in_features + m.out_features) for m in pairs)
print(f"together {trained(model):,}; LoRA of rank {rank} on {len(pairs)} matrices by the formula {by_formula:,}")

# %% [markdown]
# The third signal, where a profile has it, is an object's *depth*: its place in the order from the viewer, 0 for the
# nearest and 1 for the farthest. The model says it and is never given it, so that its encoder has nothing to learn
# from, and stays as it is.
#
# The heads hardly shrink with the language model, LoRA does. So which of the two outweighs the other depends on the
# profile:

# %%
heads = sum(parts[name].trainable for name in model.signals)
for name, number in {"heads": heads, "LoRA": by_formula}.items():
    print(f"{name:5} {number:>10,} of {trained(model):,} trained parameters ({number / trained(model):.0%})")

# %% [markdown]
# The same formula for the paper's Vicuna-7B: 32 layers, queries and values of width 4096.

# %%
from pgpt_lib.report import paper_table

vicuna = {r: 32 * 2 * r * (4096 + 4096) for r in (8, 32)}
table6 = {r: paper_table("table6")["rows"][f"Embed, rank {r}"]["trainable parameters"] for r in vicuna}
for r, number in vicuna.items():
    share = f"{number / 1e6:.1f} million parameters, {number / 6.74e9:.2%} of 6.74 billion"
    print(f"rank {r:2}: {share}; all that is trained, by the paper's Table 6: {table6[r] / 1e6:.0f} million")
more = [(counted[32] - counted[8]) / 1e6 for counted in (vicuna, table6)]
print(f"from rank 8 to rank 32: {more[0]:.1f} million more by the formula, {more[1]:.0f} million in Table 6")

# %% [markdown]
# The heads do not depend on the rank. So both differences should be the same, and they are not. The paper's "4 %" of
# trained parameters is nearest to the released code, which also trains all token embeddings and so comes to somewhat
# more. Such contradictions are gathered in notebook 10.
#
# ## 3 · Which state is decoded
#
# A [causal language model](../docs/glossary.md#causal-language-model) reads tokens up to position $t$, and its
# [state](../docs/glossary.md#hidden-state) at $t$ predicts the token at $t + 1$. When an answer holds `<vis>` at
# position $p$, two states could carry the region: the one at $p$, which has read `<vis>`, and the one at $p - 1$, which
# decides to say it. The paper's released code decodes the second, and so do we: the region is known when the model
# decides to point.
#
# ### Exercise 2: the states that predict `<vis>` (★★☆, 10 minutes)
#
# Write `vis_states(hidden_states, input_ids, vis_id)` for `hidden_states` `[B, T, H]` and `input_ids` `[B, T]`. Return
# `[K, H]`, the state for each of the `K` occurrences of `vis_id`, row by row.

# %% tags=["attempt"]
def vis_states(hidden_states, input_ids, vis_id):
    """The states [K, H] that predict each `<vis>`, row by row."""
    raise NotImplementedError("your turn")


attempt(checks.check_vis_position, vis_states)

# %% [markdown]
# <details><summary>Hint 1: find the tokens</summary>
#
# `torch.nonzero(input_ids == vis_id, as_tuple=True)` gives rows and columns, in the right order.
# </details>
# <details><summary>Hint 2: which column of the states</summary>
#
# The state at column $c$ predicts the token at $c + 1$.
# </details>

# %% nbgrader={"grade_id": "vis_states", "solution": true}
def vis_states(hidden_states, input_ids, vis_id):
    """The states [K, H] that predict each `<vis>`, row by row."""
    ### BEGIN SOLUTION
    rows, columns = torch.nonzero(input_ids == vis_id, as_tuple=True)
    return hidden_states[rows, columns - 1]
    ### END SOLUTION


# %% nbgrader={"grade_id": "vis_states_check", "grade": true, "points": 2}
checks.check_vis_position(vis_states)
### BEGIN HIDDEN TESTS
checks.check_vis_position(vis_states, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# In the library one function, `locate_positions`, answers this question for training and for decoding, so that the
# two can never disagree; in the next section it meets yours. Off by one here is the commonest fault in
# systems of this kind: everything runs, and the boxes are bad.
#
# ## 4 · A dialogue as the model sees it
#
# We need a picture with a truth. The stream of the profile's training data gives one.

# %%
from pgpt_lib.data.streams import build_stream

stream = build_stream(run.profile, seed)
samples = stream.batch(0, 16)
sample = next((s for s in samples if any(t.role == "assistant" and t.regions for t in s.turns)), samples[0])
encoded = model.chat.encode(sample)
answers = [position for position, _, is_answer in encoded.vis if is_answer]
print(f"image {sample.image_id}: {len(encoded.input_ids)} tokens, `<vis>` at {[p for p, *_ in encoded.vis]}")

# %% [markdown]
# The token stream. Below each token that is learnt stands a star. "Decoded here" stands below the token before an
# answer's `<vis>`: its state is the one that the region is decoded from.

# %%
until = (answers[0] if answers else len(encoded.input_ids) - 2) + 2
places = list(zip(encoded.input_ids, encoded.image_mask, encoded.labels, strict=True))
tokens = ["image" if image else model.chat.decode([i]) or "·" for i, image, _ in places]
kinds = ["image" if image else "answer" if label != -100 else "user" for _, image, label in places]
kinds = ["vis" if position in {p for p, *_ in encoded.vis} else kind for position, kind in enumerate(kinds)]
values = ["*" if label != -100 else "" for label in encoded.labels]
if answers:
    values[answers[0] - 1] = f"{values[answers[0] - 1]} decoded here".strip()
ax = token_strip(tokens[:until], kinds[:until], values[:until], title="up to the first region of an answer")
run.figure(ax.figure, "tokens", alt="The token stream up to an answer's first <vis>; the state before it is decoded")

# %% [markdown]
# The largest part is the picture. In place of each image slot goes an embedding from the projector, in place of
# `<vis>` the sum of its signals' codes, scaled to the length of a word's embedding: no row of the embedding table is
# read there. (A longer code would drown what attention adds to it in the layers above.)

# %%
from pgpt_lib.placement import Placement


def pixels(keys):
    """Preprocessed pictures [I, 3, S, S] for image keys."""
    pictures = [stream.images.load_image(key) for key in keys]
    size = model.tower.image_size
    return model.tower.preprocess([Placement(p.shape[0], p.shape[1], size).image(p) for p in pictures])


batch = model.collate([sample], pixel_values=pixels, apart=run.profile.data.turns_apart)
print(f"input_ids {list(batch.input_ids.shape)}, pictures {list(batch.pixel_values.shape)}")

# %% [markdown]
# One pass gives the losses of notebook 03. A hook keeps the states of all positions, which the model itself lets go:

# %%
states = []
hook = model.decoder.register_forward_hook(lambda _, inputs, out: states.append(out.last_hidden_state.float()))
with torch.no_grad():
    output = model(batch)
hook.remove()
print({name: round(value.item(), 3) for name, value in output.losses.items()}, "before any tuning")

# %% [markdown]
# Of those states, `locate_positions` and your `vis_states` pick the same, and the answers' are what the model decoded:

# %%
from pgpt_lib.model import locate_positions

yours = vis_states(states[0], batch.input_ids, model.chat.vis_id)
library = states[0][batch.vis_row, locate_positions(batch.vis_position)]
assert torch.equal(yours, library) and torch.equal(yours[batch.vis_is_answer], output.states)
print(f"{len(yours)} `<vis>`, {len(output.states)} of them in answers: the same states by both")

# %% [markdown]
# What does a code say to a language model that has never met one? The paper does not tell how its encoders start. Here
# they start by saying where the region lies, in the embeddings of words that the language model knows: the last layer
# of each encoder is fitted to them, and training makes the place finer. For the regions of this dialogue, the words
# whose embeddings are nearest to the code:

# %%
from pgpt_lib.signals.first_codes import PLACES, place_codes

words, places = place_codes(model.chat, model.embedding_tables()[0]).flatten(0, 1), sum(PLACES, ())
for region in [region for turn in sample.turns for region in turn.regions][:4]:
    values, _ = model.signal("box").collate([region], [model.placement(sample)])
    with torch.no_grad():
        nearest = torch.cdist(model.signal("box").encode(values), words).argmin()
    print("box", [round(c, 2) for c in region.box], "reads as", places[nearest])

# %% [markdown]
# ## 5 · Decoding, token by token
#
# In decoding there is no truth to read. The loop runs the prompt once (the [*prefill*](../docs/glossary.md#prefill))
# and keeps the keys and values of every layer (the [*cache*](../docs/glossary.md#cache)), so that each further token
# costs one position. When the model says `<vis>`, its region is decoded at once and *encoded again*: that embedding is
# what the model reads next. What the library's loop says for one dialogue:

# %%
from dataclasses import replace

from pgpt_lib.generation import generate

question = replace(sample, turns=sample.turns[:1])
answer = generate(model, [question], pixel_values=pixels, max_new_tokens=12)[0]
print("question:", question.turns[0].text)
print("answer, untrained:", answer.text or "(nothing)", "| regions:", len(answer.regions))

# %% [markdown]
# The same loop spelled out, without batches. It starts from the embeddings of the prompt. `next_of` reads the new
# positions behind those in the cache, and gives the state that predicts the token that comes next.

# %%
from transformers import DynamicCache

from pgpt_lib.adapters import base_model
from pgpt_lib.generation import feedback, run_decoder

prompt = model.collate([question], pixel_values=pixels, generation=True)
table_in, table_out = model.embedding_tables()


def next_of(new, cache):
    """The last state [1, H] after new embeddings [1, t, H]; the cache grows by them."""
    seen = cache.get_seq_length()
    positions = torch.arange(seen, seen + new.shape[1])[None]
    mask = torch.ones(1, seen + new.shape[1], dtype=prompt.attention_mask.dtype)
    return run_decoder(model, new, mask, positions, cache)[:, -1].float()


# %% [markdown]
# From the state comes the token. An untrained `<vis>` row is seldom the likeliest one, so a fresh model rather answers
# in words, or stops. To see a region go through the loop, a token can be forced. What is read next is the token's row
# of the embedding table, but for `<vis>`: there the state is decoded, and the region's code is read.

# %%
def say(state, features, forced=None):
    """The token that a state [1, H] says, its probability, its region's box if it is `<vis>`, and what is read next."""
    shares = model.logits(state, table_out).softmax(-1)[0]
    token = int(shares.argmax()) if forced is None else forced
    box, new = None, table_in[token][None, None]
    if token == model.chat.vis_id:
        predictions = model.decode(state, features, prompt.image_index)
        box = model.signal("box").restore(predictions["box"][0], model.placement(question))["box"]
        new = feedback(model, predictions)[None].to(table_in.dtype)
    return token, shares[token].item(), box, new


# %% [markdown]
# The loop goes from one to the other, and keeps a row of each step: how many positions are in the cache, which is also
# the position of the token that is said, and what `say` found.

# %%
@torch.no_grad()
def spelled_out(forced=(), most=12):
    """Token ids of the answer, the first of them forced, and a row for each."""
    image_tokens, features = model.see(prompt)
    new, said, rows = model.embed(prompt, image_tokens, table_in), [], []
    cache = DynamicCache(config=base_model(model.llm).config)
    while len(said) < most and model.chat.end_id not in said:
        state = next_of(new, cache)
        token, share, box, new = say(state, features, forced[len(said)] if len(said) < len(forced) else None)
        said.append(token)
        rows.append((cache.get_seq_length(), token, share, box, new.float().norm().item()))
    return said, rows


# %% [markdown]
# Nothing forced, it says what the library says. With `<vis>` forced, the answer goes on from the region's code; a loop
# that read the static row of `<vis>` in its place might go on otherwise.

# %%
assert spelled_out()[0] == answer.token_ids
print("cache  token         probability  norm read next  box decoded")
for seen, token, share, box, norm in spelled_out([model.chat.vis_id])[1]:
    word = model.chat.decode([token]) or "(end)"
    region = "" if box is None else ", ".join(f"{c:.2f}" for c in box)
    print(f"{seen:5}  {word:12}  {share:11.4f}  {norm:14.2f}  {region}")

# %% [markdown]
# The first row is the `<vis>` that was forced. Its column of probability says what the model would have given it; its
# state decodes to a box all the same. An untrained head says much the same box of any picture, one in the middle;
# notebook 05 trains it. Each further step adds one position to the cache.
#
# How large are such codes? In the [teacher-forced](../docs/glossary.md#teacher-forcing) pass all regions of a dialogue
# are there at once: the states before the true `<vis>`, decoded and encoded again.

# %%
with torch.no_grad():
    rows = batch.vis_row[batch.vis_is_answer]
    predictions = model.decode(output.states, model.see(batch)[1], batch.image_index[rows])
for name, value in predictions.items():
    print(f"{name:6} decoded from {list(output.states.shape)} states: {list(value.shape)}")

# %% [markdown]
# Encoded again, they become what the model would read next: as long as a word's embedding, where the profile asks for
# that (`region_codes.normalise`).

# %%
code = feedback(model, predictions)
print(f"fed back as {list(code.shape)} embeddings; norm {code.norm(dim=-1).mean():.2f},"
      f" words have {model.embedding_tables()[0].norm(dim=-1).mean():.2f}")

# %% [markdown]
# ### Exercise 3: a loop with a cache (★★★, 40 minutes)
#
# Write the loop. `model(new_ids, cache)` reads a list of new tokens after those that the cache stands for (`None` at
# first) and returns the scores of the token that comes next, and a new cache. `my_decode(model, prompt, end_id, most)`
# takes the likeliest token each time ([*greedy decoding*](../docs/glossary.md#greedy-decoding)), stops before `end_id`
# or after `most` tokens, and returns the tokens that were added to the prompt. No token may be read twice: the check
# counts. (Here a toy stands for the model.)

# %% tags=["attempt"]
def my_decode(model, prompt, end_id, most):
    """The answer's token ids: greedy, without end_id, at most `most` of them."""
    raise NotImplementedError("your turn")


attempt(checks.check_cached_decoding, my_decode)

# %% [markdown]
# <details><summary>Hint 1: the first call</summary>
#
# It reads the whole prompt, with no cache; its scores choose the first token of the answer.
# </details>
# <details><summary>Hint 2: every further call</summary>
#
# It reads one token, the last one, with the cache of the call before.
# </details>
# <details><summary>Hint 3: when to stop</summary>
#
# Look at the token before you add it, and at the length before you read on.
# </details>

# %% nbgrader={"grade_id": "my_decode", "solution": true}
def my_decode(model, prompt, end_id, most):
    """The answer's token ids: greedy, without end_id, at most `most` of them."""
    ### BEGIN SOLUTION
    answer, new_ids, cache = [], prompt, None
    while len(answer) < most:
        scores, cache = model(new_ids, cache)
        token = int(scores.argmax())
        if token == end_id:
            break
        answer.append(token)
        new_ids = [token]
    return answer
    ### END SOLUTION


# %% nbgrader={"grade_id": "my_decode_check", "grade": true, "points": 3}
checks.check_cached_decoding(my_decode)
### BEGIN HIDDEN TESTS
checks.check_cached_decoding(my_decode, seed=checks.grading_seed())
### END HIDDEN TESTS

# %% [markdown]
# ### Cached equals uncached
#
# A cache is an optimisation: it must change nothing but the time. The released code of the paper cannot use one (its
# image features are undefined once the prompt is past), and runs the whole sequence, tower included, for every token.

# %%
import time

times = {}
for cached in (True, False):
    began = time.perf_counter()
    said = generate(model, [question], pixel_values=pixels, max_new_tokens=12, cached=cached)[0]
    times[cached] = time.perf_counter() - began
    assert said.token_ids == answer.token_ids
print(f"the same {len(answer.token_ids)} tokens: {times[True]:.2f} s with the cache, {times[False]:.2f} s without")

# %% [markdown]
# The tests of the project compare states too, to $10^{-4}$, alone and in batches. What a cache is worth for boxes and
# masks written as one token or as many is the subject of notebook 09.
#
# ## 6 · What a state can see
#
# The attention mask of a causal model is a triangle: a token sees itself and what comes before. Where the profile says
# `turns_apart`, questions that are packed about one picture do not see each other: of what comes before, a token sees
# the picture and its own exchange. The mask that the model is trained with, a row a position:

# %%
from pgpt_lib.exchanges import kept_apart
from pgpt_lib.widgets import Slider, View

length = len(encoded.input_ids)
sight = torch.ones(length, length).tril()
if batch.exchange is not None:
    sight = kept_apart(batch.exchange)[0][0, 0].float()
print(f"turns_apart {run.profile.data.turns_apart}: the last state sees {int(sight[-1].sum())} of {length} positions")

# %% [markdown]
# Choose a position, and see how much of the sequence its state may know.

# %%
def show_sight(ax, position):
    """What the state at a position can see."""
    at = int(position)
    ax.imshow(sight[at][None], aspect="auto", cmap="Greys", vmin=0, vmax=1.6)
    for place, *_ in encoded.vis:
        ax.axvline(place, color=plots.PREDICTION, linewidth=1)
    ax.set(yticks=[], xlabel="position; lines mark <vis>", title=f"seen by the state at {at}")


# %% [markdown]
# The still shows the state that the dialogue's last region is decoded from.

# %%
decoded = (answers[-1] if answers else length) - 1
slider = Slider(0, length - 1, decoded, 1)
view = View(show_sight, {"position": slider}, [{"position": decoded}], (8, 1.4))
run.figure(view.figure(), "sight", alt="What the state of the last region can see of the sequence, up to before <vis>")
view.show()

# %% [markdown]
# The state that is decoded has read the picture, its question, and what of the answer stands before it: everything
# there is to know, but not its own region. What other questions about the picture, and the answers to them, add to that
# depends on the profile: grey before the question where turns are seen, white where they are kept apart.
#
# ## Questions to think about
#
# 1. What would change, in training and in decoding, if regions were decoded from the state *at* `<vis>`? NExT-Chat
#    does so.
# 2. The second region of an answer reads the first one's embedding. In training that is the true region's. What goes
#    wrong if decoding feeds a constant row instead, and in which scores would you see it?
# 3. Why must padding stand on the left when several prompts of different length are decoded together?
#
# **Read next:** LLaVA: Liu et al., *Visual Instruction Tuning*, NeurIPS 2023. Lai et al., *LISA*, CVPR 2024 (one token,
# a mask from SAM). Zhang et al., *NExT-Chat*, ICML 2024 (the state at the token). Notebook 05 trains this model.

# %%
run.finish(
    metrics={
        "parameters": {name: part.parameters for name, part in parts.items()},
        "trained": {name: part.trainable for name, part in parts.items()},
        "uncached_over_cached": times[False] / times[True],
    }
)
