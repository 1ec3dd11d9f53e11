"""How each family of language models writes a dialogue: its marks of role and end, and where the image goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .errors import InputError


class Tokenizer(Protocol):
    """What `chat.Chat` needs of a transformers tokenizer."""

    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]: ...
    def decode(self, token_ids: list[int], **kwargs: object) -> str: ...
    def get_vocab(self) -> dict[str, int]: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class ChatTemplate:
    """How one family of language models writes a dialogue.

    `start` opens every dialogue. Each turn is its role's header, the words, and the role's closing. The image's slot
    stands at the head of the dialogue (`image_first`) or of the first user turn. `end` is the one token that closes
    an answer; it is supervised, `after` (what follows it in the dialogue) is not. `joint` is put before words that
    follow a special token within a turn, so that they get the pieces that they have in running text. `marks` are the
    special tokens of the headers beside `end` and `pad`: each must be one id; "USER:" is plain text and is none.
    """

    name: str
    start: str
    user: str
    user_close: str
    assistant: str
    end: str
    after: str
    pad: str
    image_first: bool
    marks: tuple[str, ...]
    joint: str = " "
    closed_words: bool = False  # a word-level tokenizer: lower case, and every word has its ids whatever its neighbours


TEMPLATES = {
    "nano": ChatTemplate(
        "nano",
        "<bos>",
        "<user>",
        "",
        "<assistant>",
        "<end>",
        "",
        "<pad>",
        True,
        ("<bos>", "<user>", "<assistant>"),
        joint="",
        closed_words=True,
    ),
    "chatml": ChatTemplate(
        "chatml",
        "",
        "<|im_start|>user\n",
        "<|im_end|>\n",
        "<|im_start|>assistant\n",
        "<|im_end|>",
        "\n",
        "<|endoftext|>",
        False,
        ("<|im_start|>",),
    ),
    "vicuna": ChatTemplate(
        "vicuna",
        # with its space: SentencePiece begins a text with one, though some tokenizers do not after a special token
        "<s> A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions.",
        "USER:",
        "",
        "ASSISTANT:",
        "</s>",
        "",
        "<unk>",
        False,
        ("<s>",),
        joint="",
    ),
    "llama3": ChatTemplate(
        "llama3",
        "<|begin_of_text|>",
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
        "",
        "<|end_of_text|>",
        False,
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    ),
    "mistral": ChatTemplate(
        "mistral", "<s>", "[INST]", "[/INST]", "", "</s>", "", "<unk>", False, ("<s>", "[INST]", "[/INST]")
    ),
}

# A token that only this family's vocabulary has, the more particular ones first.
MARKS = {"nano": "<assistant>", "chatml": "<|im_end|>", "llama3": "<|eot_id|>", "mistral": "[INST]", "vicuna": "</s>"}


def template_for(tokenizer: Tokenizer) -> ChatTemplate:
    """The template of the family that `tokenizer` belongs to, told by its role and end tokens."""
    vocabulary = tokenizer.get_vocab()
    for name, mark in MARKS.items():
        if mark in vocabulary:
            return TEMPLATES[name]
    raise InputError(
        f"the tokenizer has none of {', '.join(MARKS.values())}: add its family to pgpt_lib/chat_templates.py"
    )
