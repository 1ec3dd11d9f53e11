"""Which weights of the language model are tuned: its new tokens' rows always, LoRA or everything by choice (peft)."""

from __future__ import annotations

import warnings
from typing import cast

import numpy as np
import torch
from peft import LoraConfig, PeftConfig, PeftModel, TrainableTokensConfig, get_peft_model, get_peft_model_state_dict
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from .config import LLM
from .errors import InputError

NOISE = 0.02  # of a new row around the mean row, in standard deviations of the table's entries
PLACE = 0.5  # of the code of a token's place, likewise


def add_token_rows(
    llm: PreTrainedModel,
    base_size: int,
    new_ids: list[int],
    generator: torch.Generator,
    codes: np.ndarray | None = None,
) -> None:
    """Give new tokens their rows in the input and output embeddings, in place.

    A new row is the mean of the base vocabulary's rows plus small seeded noise: new tokens start as average words, and
    differ from each other. transformers would draw them from the global random state. Tokens that stand for places
    (`codes`) also get these, through a seeded random projection.

    Args:
        llm: a causal language model of transformers, tied or untied.
        base_size: size of the vocabulary without the new tokens.
        new_ids: ids of the new tokens; the tables grow where they must.
        generator: of the noise and the projection.
        codes: [new tokens, K], as from `Representation.place_codes`, or None.
    """
    if not new_ids:
        return
    if max(new_ids) >= len(tuned_table(llm.get_input_embeddings())):
        with torch.random.fork_rng(devices=[]):
            llm.resize_token_embeddings(max(new_ids) + 1, mean_resizing=False)
    tables = [tuned_table(layer) for layer in (llm.get_input_embeddings(), llm.get_output_embeddings())]
    with torch.no_grad():
        for weight in dict.fromkeys(tables):  # one and the same where they are tied
            base = weight[:base_size].float()
            offset = torch.randn(len(new_ids), base.shape[1], generator=generator) * base.std() * NOISE
            if codes is not None:
                projection = torch.randn(codes.shape[1], base.shape[1], generator=generator)
                offset += torch.from_numpy(codes).float() @ projection * base.std() * PLACE
            weight[new_ids] = (base.mean(0) + offset.to(base.device)).to(weight.dtype)


def tune(llm: PreTrainedModel, settings: LLM, new_ids: list[int]) -> PreTrainedModel | PeftModel:
    """Mark what is trained, and wrap the model in peft where only parts are.

    "lora": low-rank updates of the target projections and the new tokens' rows (paper, section 4.1), or all rows, as
    the released code does; "frozen": the new rows alone, without which `<vis>` would never be emitted; "full": every
    weight. Whatever is trained is kept in fp32, also where frozen weights are stored in bf16.

    Raises:
        InputError: "frozen" without new tokens, so that nothing is left to train.
    """
    if settings.tuning == "full":
        return llm.requires_grad_(True).float()
    tied = llm.get_input_embeddings().weight is llm.get_output_embeddings().weight
    tables = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]  # peft ties the second one itself
    if settings.tuning == "frozen":
        if not new_ids:
            raise InputError("llm.tuning = 'frozen' trains only new tokens' rows, but this representation adds none")
        return _wrap(llm, TrainableTokensConfig(target_modules=tables, token_indices=new_ids))
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(settings.lora_targets),
        trainable_token_indices=dict.fromkeys(tables, new_ids) if new_ids and settings.token_rows == "new" else None,
        modules_to_save=tables if settings.token_rows == "all" else None,
    )
    return _wrap(llm, config)


def _wrap(llm: PreTrainedModel, config: PeftConfig) -> PeftModel:
    """peft's model, without its warning about a name that transformers is about to drop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        wrapped = get_peft_model(llm, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return wrapped


def base_model(llm: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The language model without peft's shell; what peft trains inside it stays in place."""
    return cast(PreTrainedModel, llm.get_base_model()) if isinstance(llm, PeftModel) else llm


def tuned_table(layer: nn.Module) -> Tensor:
    """The weight [V, H] of an embedding or head, with the rows that peft trains put into their places."""
    tokens = getattr(layer, "token_adapter", layer)  # LoRA keeps them one level deeper
    if isinstance(tokens, TrainableTokensLayer):
        return tokens.get_merged_weights(tokens.active_adapters)
    if isinstance(layer, ModulesToSaveWrapper):
        return cast(Tensor, layer.modules_to_save[layer.active_adapters[0]].weight)
    return cast(Tensor, layer.weight)


def adapter_state(llm: PreTrainedModel | PeftModel) -> dict[str, Tensor]:
    """What was tuned in the language model, by name: peft's adapter, or all trained weights where there is none."""
    if isinstance(llm, PeftModel):
        return get_peft_model_state_dict(llm, save_embedding_layers=False)
    return {name: p.detach() for name, p in llm.named_parameters() if p.requires_grad}
