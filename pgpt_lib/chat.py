"""Dialogues to token ids and back.

A dialogue is built from segments (header, words, region slot, end token), each tokenised on its own, so that labels
and slots are known by construction and nothing is ever found again by searching or re-tokenising.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .chat_templates import ChatTemplate, Tokenizer, template_for
from .data.sample import VIS, Sample
from .errors import InputError
from .exchanges import SHARED
from .regions import Region
from .representations import Representation, get_representation

IGNORE = -100  # the label of a position that is not supervised, as everywhere in transformers
CACHE_ENTRIES = 200_000  # turns whose ids are kept; about 100 MB at most


@dataclass(frozen=True)
class Encoded:
    """A dialogue in ids.

    `vis` holds (position, region, is_answer) of every dynamic region slot, in order; `exchange` numbers each position's
    question and answer from 1, and has 0 before the first.
    """

    input_ids: list[int]
    labels: list[int]
    image_mask: list[bool]
    vis: list[tuple[int, Region, bool]]
    exchange: list[int]


class Chat:
    """Encodes and decodes dialogues for one tokenizer.

    Args:
        tokenizer: a transformers tokenizer; it is copied, never changed.
        template: by default the one of the tokenizer's family.
        num_image_tokens: how many positions an image takes.
        representation: how regions are written; `None` for pretraining on words, which adds no token.

    Raises:
        InputError: a token of the template or of the representation is not exactly one id, at the vocabulary's top.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None = None,
        num_image_tokens: int = 0,
        representation: Representation | str | None = "embedding",
    ) -> None:
        self.tokenizer = copy.deepcopy(tokenizer)
        self.template = template or template_for(tokenizer)
        self.num_image_tokens = num_image_tokens
        if isinstance(representation, str):
            representation = get_representation(representation)
        self.representation = representation
        self.base_vocabulary = len(tokenizer)
        tokens = representation.tokens if representation else ()
        self.special_ids = dict(zip(tokens, add_special_tokens(self.tokenizer, tokens), strict=True))
        frame = self.template
        self.end_id, self.pad_id, *_ = (single_id(self.tokenizer, t) for t in (frame.end, frame.pad, *frame.marks))
        forms = dict.fromkeys(re.sub(r"\d+", r"\\d+", re.escape(t)) for t in tokens)  # one for all numbers
        self._split = re.compile("(" + "|".join(forms) + ")") if tokens else None
        self._words: dict[str, list[int]] = {}
        self._turns: dict[str, tuple[list[int], list[int]]] = {}
        self._start, self._user, self._user_close, self._assistant, self._after = (
            self.tokenizer.encode(text, add_special_tokens=False) if text else []
            for text in (frame.start, frame.user, frame.user_close, frame.assistant, frame.after)
        )

    def __len__(self) -> int:
        """The size of the vocabulary, added tokens included."""
        return len(self.tokenizer)

    @property
    def vis_id(self) -> int | None:
        """The id of `<vis>`, or None where regions are written as text."""
        return self.special_ids[VIS] if self.representation and self.representation.dynamic else None

    @property
    def region_tokens(self) -> int:
        """The most tokens that a region takes where it is written as text; 0 where `<vis>` stands for it."""
        return 0 if self.representation is None or self.representation.dynamic else self.representation.region_tokens

    def words(self, text: str) -> list[int]:
        """The ids of words without any special token."""
        if not self.template.closed_words:
            return self.tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = []
        for word in text.lower().split():
            known = self._words.get(word)
            if known is None:
                known = self.tokenizer.encode(word, add_special_tokens=False)
                if not any(c.isdigit() for c in word):  # numbers have no end
                    self._words[word] = known
            ids += known
        return ids

    def turn(self, text: str, keep: bool = True) -> tuple[list[int], list[int]]:
        """The ids of a turn's text, and where the dynamic region slots lie in them.

        Args:
            keep: remember them; text with coordinates is hardly ever met twice.
        """
        if text in self._turns:
            return self._turns[text]
        ids: list[int] = []
        slots: list[int] = []
        for piece in self._split.split(text) if self._split else [text]:
            if piece in self.special_ids:
                if self.special_ids[piece] == self.vis_id:
                    slots.append(len(ids))
                ids.append(self.special_ids[piece])
            elif piece.strip():
                ids += self.words((self.template.joint if ids else "") + piece.strip())
        if keep:
            if len(self._turns) >= CACHE_ENTRIES:
                self._turns.clear()
            self._turns[text] = ids, slots
        return ids, slots

    def encode(self, sample: Sample, generation: bool = False) -> Encoded:
        """The ids, labels and slots of a dialogue.

        An answer's tokens and its end token are supervised, nothing else. Positions are those of the expanded
        sequence, in which an image takes `num_image_tokens` places of the pad id.

        Args:
            sample: an empty `image_id` means that there is no picture, hence no image slot.
            generation: end with the assistant's header, after a last turn by the user.

        Raises:
            InputError: the last turn's role does not fit `generation`, or an answer is missing.
        """
        if not sample.turns or (sample.turns[-1].role == "user") != generation:
            want = "the user, to be answered" if generation else "the assistant, to be learnt"
            raise InputError(f"sample {sample.sample_id}: the last turn must be by {want}")
        ids = list(self._start)
        image_at = len(ids) if self.template.image_first else None
        image = [self.pad_id] * self.num_image_tokens if sample.image_id else []
        if image_at is not None:
            ids += image
        labels = [IGNORE] * len(ids)
        vis: list[tuple[int, Region, bool]] = []
        exchange = [SHARED] * len(ids)
        count = 0
        for turn in sample.turns:
            answer = turn.role == "assistant"
            count += not answer
            head = self._assistant if answer else self._user
            ids += head
            if image_at is None and not answer:
                image_at = len(ids)
                ids += image
            text = turn.text
            written = bool(turn.regions) and self.vis_id is None
            if written:
                text = self._write(turn.text, turn.regions, sample.size)
            words, slots = self.turn(text, keep=not written)
            vis += [(len(ids) + s, region, answer) for s, region in zip(slots, turn.regions, strict=False)]
            labels += [IGNORE] * (len(ids) - len(labels))
            ids += words
            if answer:
                ids.append(self.end_id)
                labels += ids[len(labels) :]
                ids += self._after
            else:
                ids += self._user_close
            exchange += [count] * (len(ids) - len(exchange))
        if generation:
            ids += self._assistant
        exchange += [count] * (len(ids) - len(exchange))
        labels += [IGNORE] * (len(ids) - len(labels))
        mask = [False] * len(ids)
        if image and image_at is not None:
            mask[image_at : image_at + len(image)] = [True] * len(image)
        return Encoded(ids, labels, mask, vis, exchange)

    def _write(self, text: str, regions: Sequence[Region], size: tuple[int, int]) -> str:
        """Put the regions, written as text, into their places."""
        if self.representation is None:
            raise InputError(f"{text!r} has regions, but this chat knows words only (representation=None)")
        first, *rest = text.split(VIS)
        return first + "".join(
            self.representation.write(region, size) + words for region, words in zip(regions, rest, strict=True)
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's ids: words and special tokens one space apart, end and pad tokens left out."""
        names = {i: token for token, i in self.special_ids.items()}
        pieces: list[str] = []
        run: list[int] = []
        for i in [*ids, self.end_id]:
            if i in names or i in (self.end_id, self.pad_id):
                if run:
                    text = self.tokenizer.decode(run, skip_special_tokens=False, clean_up_tokenization_spaces=False)
                    pieces += text.split()
                    run = []
                if i in names:
                    pieces.append(names[i])
            else:
                run.append(i)
        return " ".join(pieces)


def add_special_tokens(tokenizer: Tokenizer, tokens: Sequence[str]) -> list[int]:
    """Add tokens and return their ids; `InputError` unless each is one id at the top of the vocabulary."""
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in tokens], special_tokens=True)  # type: ignore[attr-defined]
    ids = [single_id(tokenizer, token) for token in tokens]
    top = list(range(len(tokenizer) - len(ids), len(tokenizer)))
    if sorted(ids) != top:
        raise InputError(f"the tokens {list(tokens)} have the ids {ids}, not the vocabulary's last ones {top}")
    return ids


def single_id(tokenizer: Tokenizer, token: str) -> int:
    """The one id of a special token, alone and between words; `InputError` if it splits into several."""
    alone = tokenizer.encode(token, add_special_tokens=False)
    if len(alone) != 1:
        raise InputError(f"the special token {token!r} splits into the ids {alone}; it must be exactly one")
    if tokenizer.encode(f"a {token} a", add_special_tokens=False).count(alone[0]) != 1:
        raise InputError(f"the special token {token!r} is not kept whole between words")
    return alone[0]
