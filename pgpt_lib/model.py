"""PerceptionGPT (paper, sections 3.1 and 3.2): a frozen vision tower, a language model, and perception signals.

    vision tower -> layer fusion -> projector -> language model -> states that predict `<vis>` -> box, mask, ...

Everything but the language model lives in this plain module, outside of peft, which would freeze it and lose it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from .adapters import adapter_state, add_token_rows, base_model, tune, tuned_table
from .backbones import aligned_file, load_llm, load_vision
from .batch import INPUT_SIGNALS, Batch, LoadImages, collate
from .chat import Chat
from .chat_templates import Tokenizer
from .config import Profile
from .data.sample import Sample
from .errors import InputError
from .exchanges import attention_mask, kept_apart
from .fusion import LayerFusion
from .losses import distillation_loss, language_loss, supervised_positions, total_loss
from .processes import best_device
from .projector import Projector
from .region_flow import readout, region_input
from .regions import Placement
from .representations import get_representation
from .signals import Signal, build_signals, signal_options
from .signals.first_codes import start_codes
from .state_norm import StateNorm, header_states
from .vision import VisionTower

EAGER_WIDTH = 256  # up to this width of the language model plain attention is faster than fused kernels, on CPUs
Positions = TypeVar("Positions", int, Tensor)


@dataclass
class Output:
    """What a training step yields.

    Attributes:
        loss: the weighted sum of `losses` (equations 2 to 6).
        losses: each term, unweighted, a mean over its targets: "language", the signals', "distillation" from a teacher.
        counts: the number of supervised "tokens", of decoded "regions".
        states: [R, H], fp32, the state that each answer's `<vis>` is decoded from, in the batch's order.
        emitted: [R], bool, whether the model, its true past given, would emit that `<vis>`.
    """

    loss: Tensor
    losses: dict[str, Tensor]
    counts: dict[str, int]
    states: Tensor
    emitted: Tensor


def locate_positions(positions: Positions) -> Positions:
    """Where the states lie that `<vis>` tokens at `positions` are decoded from, in the expanded sequence.

    It is the state that *predicts* the token, one position earlier: the region is known when the model decides to
    point at it, before its own embedding is read. Training and decoding both ask this function.
    """
    return positions - 1


class PerceptionGPT(nn.Module):
    """The model; `build_model` makes one from a profile.

    Args:
        profile: settings.
        llm: a causal language model of transformers with room for the chat's tokens; it is changed in place.
        chat: its tokenizer and template.
        tower: the frozen vision tower. It is run only on batches of pixels; cached features need its shapes alone.
    """

    word_rms: Tensor  # the root mean square of the embeddings of the words that the language model came with

    def __init__(self, profile: Profile, llm: PreTrainedModel, chat: Chat, tower: VisionTower) -> None:
        super().__init__()
        self.profile, self.chat = profile, chat
        self.aligned = False  # whether fusion and projector began with weights that were trained with this LLM
        width, channels = llm.config.hidden_size, tower.hidden_size
        self.tower = tower
        self.llm = tune(llm, profile.llm, sorted(chat.special_ids.values()))
        if profile.training.checkpointing:
            base_model(self.llm).activation_checkpointing_enable({"use_reentrant": False})
        self.fusion = self._new_fusion()
        self.projector = Projector(channels, width, tower.num_tokens, profile.projector)
        self.projector.requires_grad_(not profile.released.projector_frozen)
        self.state_norm = StateNorm(width) if profile.llm.standardise else nn.Identity()
        self.region_input, self.readout = region_input(profile.released), readout(profile.released)
        names = profile.signals if chat.vis_id is not None else ()
        self.signals = build_signals(names, width, channels, tower.grid, signal_options(profile))
        words = tuned_table(llm.get_input_embeddings()).detach()[: chat.base_vocabulary].float()
        self.register_buffer("word_rms", words.square().mean().sqrt(), persistent=False)
        self._no_split_modules = list(base_model(self.llm)._no_split_modules or ())  # the blocks, each sharded alone
        for name in self.signals:
            if name not in self.input_signals:
                self.signal(name).encoder.requires_grad_(False)  # nothing reads it, so nothing would train it
        self.mask_fusion = None
        if not profile.fusion.shared and any(signal.uses_features for signal in self.signals.values()):
            self.mask_fusion = self._new_fusion()

    def _new_fusion(self) -> LayerFusion:
        kind, exclude_last = self.profile.fusion, self.profile.released.last_layer_excluded
        return LayerFusion(self.tower.num_layers, kind.strategy, kind.normalise, exclude_last)

    @property
    def decoder(self) -> nn.Module:
        """The language model's transformer, without its head."""
        return cast(nn.Module, base_model(self.llm).model)

    def embedding_tables(self) -> tuple[Tensor, Tensor]:
        """The input and output embeddings [V, H], with the tuned rows of new tokens in their places."""
        llm = base_model(self.llm)
        table = tuned_table(llm.get_input_embeddings())
        return table, table if llm.config.tie_word_embeddings else tuned_table(llm.get_output_embeddings())

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter that training changes, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    @property
    def input_signals(self) -> list[str]:
        """The signals whose codes make up a region's input embedding."""
        return [name for name in self.signals if name in self.region_input.signals]

    def perception_state(self) -> dict[str, Tensor]:
        """The trained tensors outside the language model, by name."""
        return {name: p.detach() for name, p in self.trainable_parameters().items() if not name.startswith("llm.")}

    def adapter_state(self) -> dict[str, Tensor]:
        """What was tuned in the language model; see `adapters.adapter_state`."""
        return adapter_state(self.llm)

    def collate(self, samples: Sequence[Sample], features: LoadImages | None = None, **options: Any) -> Batch:
        """`batch.collate` with this model's chat, signals and image size.

        Raises:
            InputError: also where a dialogue is longer than the language model's positions, as with masks in numbers.
        """
        signals = cast(Mapping[str, Signal], self.signals)
        batch = collate(samples, self.chat, signals, self.tower.image_size, features, **options)
        length, most = batch.input_ids.shape[1], base_model(self.llm).config.max_position_embeddings
        if length > most:
            raise InputError(
                f"a dialogue of {length} tokens, but the language model was trained on {most} positions: lower "
                "data.turns or coordinates.vertices"
            )
        return self.region_input.prepare(batch, signals)

    def placement(self, sample: Sample) -> Placement:
        """How a sample's image lies in the tower's square input."""
        return Placement(*sample.size, self.tower.image_size)

    def see(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encode each image once: tokens for the language model [I, N, H], features for the signals [I, N, C]."""
        features = batch.features
        if features is None:
            if batch.pixel_values is not None:
                features = self.tower(batch.pixel_values)
            else:  # no picture in the batch; a blank one keeps every parameter in the graph
                shape = (1, self.tower.num_layers, self.tower.num_tokens, self.tower.hidden_size)
                features = self.projector.position.new_zeros(shape)
        fused = self.fusion(features)
        return self.projector(fused), fused if self.mask_fusion is None else self.mask_fusion(features)

    def embed(self, batch: Batch, image_tokens: Tensor, table: Tensor) -> Tensor:
        """The language model's input [B, T, H]: words from `table`, image tokens, regions as dynamic embeddings."""
        embeds = F.embedding(batch.input_ids, table)
        with_image = batch.image_index[batch.image_index >= 0]  # by rows, as `image_mask` lists its positions
        flat = image_tokens[with_image].flatten(0, 1)
        embeds = embeds.index_put((batch.image_mask,), flat.to(embeds.dtype))
        if self.signals:
            codes = self.region_codes({name: batch.targets[name][0] for name in batch.visible}, batch.visible)
            fed = self.readout.fed(batch)
            embeds = embeds.index_put((batch.vis_row[fed], batch.vis_position[fed]), codes[fed].to(embeds.dtype))
        return embeds

    def signal(self, name: str) -> Signal:
        """One of `signals`, with its type."""
        return cast(Signal, self.signals[name])

    def region_codes(self, values: Mapping[str, Tensor], visible: Mapping[str, Tensor]) -> Tensor:
        """The dynamic embeddings of regions, [V, H]: the sum of their visible signals' codes (section 3.1).

        By default as long as a word's embedding (`region_codes.normalise`).
        """
        codes = [self.signal(name).embed(values[name], visible[name]).float() for name in values]
        if not codes:
            raise InputError(f"signals {list(self.signals)}: one of {INPUT_SIGNALS} is needed to embed a region")
        code = torch.stack(codes).sum(0)
        return F.rms_norm(code, code.shape[-1:]) * self.word_rms if self.profile.region_codes.normalise else code

    def decode(self, states: Tensor, features: Tensor, image_index: Tensor) -> dict[str, Tensor]:
        """Every signal's predictions from states [R, H]; `image_index` [R] picks theirs of the features [I, N, C]."""
        states = self.state_norm(states)
        return {name: self.signal(name).decode(states, features, image_index) for name in self.signals}

    def logits(self, states: Tensor, table: Tensor) -> Tensor:
        """Next-token logits in fp32, [R, H] to [R, V], for the chat's vocabulary (a padded table has more rows)."""
        with torch.autocast(states.device.type, enabled=False):
            return F.linear(states.to(table.dtype), table[: len(self.chat)]).float()

    def forward(self, batch: Batch) -> Output:
        """The losses of a training batch, padded on the right."""
        table_in, table_out = self.embedding_tables()
        hidden, features = self._read(batch, table_in)

        def head(states: Tensor) -> Tensor:
            return self.logits(states, table_out)

        losses = {"language": language_loss(hidden, batch.labels, head)}
        if batch.kept is not None and batch.taught is not None:
            losses["distillation"] = distillation_loss(hidden, batch.kept, batch.taught, head)
        rows = batch.vis_row[batch.vis_is_answer]
        positions = batch.vis_position[batch.vis_is_answer]
        predicting = hidden[rows, locate_positions(positions)].float()
        states = self.readout.states(predicting, hidden, rows, positions)
        losses |= self._signal_losses(batch, states, features, batch.image_index[rows])
        counts = {"tokens": int((batch.labels[:, 1:] != -100).sum()), "regions": len(states)}
        total = total_loss(losses, self.profile.losses.model_dump())
        return Output(total, losses, counts, states, self.emission(predicting, table_out))

    def _read(self, batch: Batch, table: Tensor) -> tuple[Tensor, Tensor]:
        """The states [B, T, H] of a batch padded on the right, and the features that signals are decoded from."""
        image_tokens, features = self.see(batch)
        embeds = self.embed(batch, image_tokens, table)
        # Padding is on the right, where causal attention never looks at it, so no mask is needed.
        return self.decoder(inputs_embeds=embeds, use_cache=False, **self._apart(batch)).last_hidden_state, features

    @torch.no_grad()
    def word_probabilities(self, batch: Batch) -> Tensor:
        """Log-probabilities [S, V] of the next token at the S supervised places of a training batch, by rows."""
        table_in, table_out = self.embedding_tables()
        hidden, _ = self._read(batch, table_in)
        return self.logits(hidden[supervised_positions(batch.labels)], table_out).log_softmax(-1)

    def _apart(self, batch: Batch) -> dict[str, Tensor]:
        """What the decoder needs beside embeddings where exchanges do not see each other."""
        if batch.exchange is None:
            return {}
        looks, positions = kept_apart(batch.exchange)
        implementation = str(base_model(self.llm).config._attn_implementation)
        return {"attention_mask": attention_mask(looks, implementation), "position_ids": positions}

    def _signal_losses(self, batch: Batch, states: Tensor, features: Tensor, image_index: Tensor) -> dict[str, Tensor]:
        """Equations 3 to 5 for the answers' regions; each term is a differentiable zero where it has no target."""
        targets = {name: (v[batch.vis_is_answer], p[batch.vis_is_answer]) for name, (v, p) in batch.targets.items()}
        if not len(states):  # one blank region without targets keeps the decoders in the graph
            states, image_index = states.new_zeros(1, states.shape[1]), image_index.new_zeros(1)
            targets = {name: (v.new_zeros(1, *v.shape[1:]), p.new_zeros(1)) for name, (v, p) in targets.items()}
        losses: dict[str, Tensor] = {}
        for name, prediction in self.decode(states, features, image_index).items():
            losses |= self.signal(name).losses(prediction, *targets[name])
        return losses

    @torch.no_grad()
    def emission(self, states: Tensor, table: Tensor) -> Tensor:
        """For states [R, H] that predict answers' `<vis>`, whether the model would emit it there: bool [R]."""
        predicted = self.logits(states.detach(), table).argmax(-1)
        return torch.eq(predicted, -1 if self.chat.vis_id is None else self.chat.vis_id)


def build_model(
    profile: Profile,
    seed: int,
    llm: tuple[PreTrainedModel, Tokenizer] | None = None,
    tower: VisionTower | None = None,
    aligned: Path | None = None,
    to_load: bool = False,
) -> PerceptionGPT:
    """A model ready to tune, the same for the same arguments whatever the global random state is, and leaving it alone.

    Fusion and projector start from the weights that were aligned with this language model and tower, where such are
    bundled (`data/backbones/<llm>/<tower>.safetensors`), else from seeded random ones.

    Args:
        profile: names the backbones.
        seed: of everything that starts random.
        llm: (model, tokenizer) in place of the profile's; the model is changed in place.
        tower: in place of the profile's.
        aligned: a file of aligned weights, in place of the bundled one.
        to_load: whether a checkpoint's weights come next, so that starting values which take the language model to
            compute (half a minute for SmolLM2) are left out.

    Raises:
        InputError: a backbone is not to be had, a special token is not one id, aligned weights do not fit, or there are
            none for a projector that is to stay frozen.
    """
    model, tokenizer = llm or load_llm(profile.llm.name, profile.llm.precision)
    tower = tower or load_vision(profile.vision.name, profile.vision.image_size, profile.vision.precision)
    representation = get_representation(profile.representation, profile.coordinates, tower.image_size)
    chat = Chat(cast(Tokenizer, tokenizer), num_image_tokens=tower.num_tokens, representation=representation)
    if model.config.hidden_size <= EAGER_WIDTH:
        model.set_attn_implementation("eager")
    generator = torch.Generator().manual_seed(seed)
    new_ids = [chat.special_ids[token] for token in representation.tokens]
    add_token_rows(model, chat.base_vocabulary, new_ids, generator, representation.place_codes())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = PerceptionGPT(profile, model, chat, tower)
    built.aligned = load_aligned(built, aligned)
    if not built.aligned and profile.released.projector_frozen:
        backbones = f"{profile.llm.name} and {profile.vision.name}"
        raise InputError(f"released.projector_frozen: no projector is aligned with {backbones}, so it must be trained")
    if to_load:
        return built
    if profile.region_codes.start == "words":
        read = [built.signal(name) for name in built.signals if name in INPUT_SIGNALS]  # whatever a switch leaves out
        start_codes(read, chat, built.embedding_tables()[0], tower.image_size, seed)
    if isinstance(built.state_norm, StateNorm):
        built.to(best_device())
        built.state_norm.calibrate(header_states(built))
    return built


def load_aligned(model: PerceptionGPT, path: Path | None = None) -> bool:
    """Load fusion and projector from a file, by default the bundled one of the backbones; False where there is none.

    Raises:
        InputError: the file's tensors are not exactly those of fusion and projector.
    """
    path = path or aligned_file(model.profile)
    if not path.is_file():
        return False
    parts: dict[str, nn.Module] = {"projector": model.projector}
    if model.profile.fusion.strategy == "learned":
        parts["fusion"] = model.fusion
    for name, part in parts.items():
        tensors = {k.removeprefix(f"{name}."): v for k, v in load_file(path).items() if k.startswith(f"{name}.")}
        wanted = part.state_dict()
        if {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in tensors.items()}:
            raise InputError(f"{path}: the tensors {name}.* do not fit this model; remake the file with `pretrain`")
        part.load_state_dict(tensors)
    return True
