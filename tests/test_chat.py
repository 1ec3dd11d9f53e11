from __future__ import annotations

import copy
import re

import pytest
from conftest import BOX_ONLY, LEFT, MASK_ONLY, RIGHT, WORDS, dialogue
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pgpt_lib.chat import IGNORE, Chat, add_special_tokens
from pgpt_lib.chat_templates import TEMPLATES, ChatTemplate, template_for
from pgpt_lib.errors import InputError
from pgpt_lib.regions import Region
from pgpt_lib.representations import PHRASE_START, Representation

N = 3  # image tokens


def byte_level(special: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: blanks and line breaks are tokens, as in the GPT-2 family."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return PreTrainedTokenizerFast(tokenizer_object=core)


@pytest.fixture(scope="module", params=["nano", "chatml", "vicuna", "llama3"])
def chat(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> Chat:
    special = {
        "chatml": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        "vicuna": ["<unk>", "<s>", "</s>"],
        "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    }
    own = tokenizer if request.param == "nano" else byte_level(special[request.param])
    made = Chat(own, num_image_tokens=N)
    assert made.template.name == request.param
    return made


def supervised(labels: list[int]) -> list[list[int]]:
    """Runs of supervised ids."""
    runs: list[list[int]] = [[]]
    for label in labels:
        if label != IGNORE:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def test_labels_round_trip_on_all_templates(chat: Chat, samples: list) -> None:
    for sample in samples:
        encoded = chat.encode(sample)
        answers = [t.text for t in sample.turns if t.role == "assistant"]
        assert [chat.decode(run) for run in supervised(encoded.labels)] == answers
        assert all(run[-1] == chat.end_id and run.count(chat.end_id) == 1 for run in supervised(encoded.labels))
        assert all(label in (IGNORE, i) for label, i in zip(encoded.labels, encoded.input_ids, strict=True))
        assert len(encoded.image_mask) == len(encoded.input_ids)


@settings(max_examples=40, deadline=None)
@given(text=st.lists(st.sampled_from([*WORDS.split(), "<vis>", "<p>", "</p>", "zebra"]), min_size=1).map(" ".join))
def test_any_text_round_trips(chat: Chat, text: str) -> None:
    ids, slots = chat.turn(text)
    assert chat.decode(ids) == text
    assert [ids[s] for s in slots] == [chat.vis_id] * text.split().count("<vis>")


def test_slots_point_at_their_regions(chat: Chat, samples: list) -> None:
    spot = next(s for s in samples if s.sample_id == "spot")
    encoded = chat.encode(spot)
    assert [encoded.input_ids[p] for p, _, _ in encoded.vis] == [chat.vis_id] * 4
    assert [r for _, r, _ in encoded.vis] == [LEFT, MASK_ONLY, MASK_ONLY, LEFT]
    assert [a for _, _, a in encoded.vis] == [True, True, False, True]
    assert all((encoded.labels[p] == chat.vis_id) == answer for p, _, answer in encoded.vis)


def test_prompt_is_the_dialogue_up_to_the_answer(chat: Chat) -> None:
    whole = dialogue("a", "one", ("what is <vis> ?", (RIGHT,)), ("a blue square", ()))
    prompt = chat.encode(dialogue("a", "one", ("what is <vis> ?", (RIGHT,))), generation=True)
    encoded = chat.encode(whole)
    first = next(i for i, label in enumerate(encoded.labels) if label != IGNORE)
    assert prompt.input_ids == encoded.input_ids[:first]
    assert prompt.vis == encoded.vis and set(prompt.labels) == {IGNORE}


def test_image_takes_its_positions_once_and_only_with_an_image(chat: Chat, samples: list) -> None:
    spot = chat.encode(next(s for s in samples if s.sample_id == "spot"))
    where = [i for i, m in enumerate(spot.image_mask) if m]
    assert where == list(range(where[0], where[0] + N)) and all(spot.input_ids[i] == chat.pad_id for i in where)
    words = chat.encode(next(s for s in samples if s.sample_id == "text"))
    assert not any(words.image_mask)


def test_nano_format(tokenizer: PreTrainedTokenizerFast) -> None:
    chat = Chat(tokenizer, num_image_tokens=2)
    sample = dialogue("a", "one", ("Where is the star ?", ()), ("<vis>", (LEFT,)), ("how many ?", ()), ("2", ()))
    tokens = chat.tokenizer.convert_ids_to_tokens(chat.encode(sample).input_ids)
    assert " ".join(tokens) == (
        "<bos> <pad> <pad> <user> where is the star ? <assistant> <vis> <end> <user> how many ? <assistant> 2 <end>"
    )


def test_words_one_by_one_equal_the_whole_text(tokenizer: PreTrainedTokenizerFast) -> None:
    chat = Chat(tokenizer)
    for text in ("where is the red circle ?", "What is zebra-like, and how many?", "left.right 12"):
        assert chat.words(text) == tokenizer.encode(text, add_special_tokens=False)


def test_the_given_tokenizer_stays_as_it_was(tokenizer: PreTrainedTokenizerFast) -> None:
    before = len(tokenizer)
    assert len(Chat(tokenizer)) == before + 3
    assert len(tokenizer) == before


def test_pretraining_adds_no_token_and_refuses_regions(tokenizer: PreTrainedTokenizerFast) -> None:
    chat = Chat(tokenizer, num_image_tokens=N, representation=None)
    assert len(chat) == len(tokenizer) and chat.vis_id is None
    with pytest.raises(InputError, match="words only"):
        chat.encode(dialogue("a", "one", ("where ?", ()), ("<vis>", (LEFT,))))


def test_special_token_that_splits_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    class Splitting:
        """Adds nothing, as a tokenizer whose configuration forbids it: `<vis>` becomes characters."""

        def __init__(self) -> None:
            self.inner = copy.deepcopy(tokenizer)

        def add_tokens(self, tokens: list, special_tokens: bool = False) -> int:
            return 0

        def __getattr__(self, name: str) -> object:
            if name == "inner":
                raise AttributeError(name)
            return getattr(self.inner, name)

        def __len__(self) -> int:
            return len(self.inner)

    with pytest.raises(InputError, match=r"'<vis>' splits into"):
        Chat(Splitting())


def test_special_token_inside_the_vocabulary_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="last ones"):
        add_special_tokens(copy.deepcopy(tokenizer), ["<image>", "<vis>"])


def test_unknown_family_is_an_error() -> None:
    with pytest.raises(InputError, match="<assistant>"):
        template_for(byte_level(["<x>"]))


@pytest.mark.parametrize("generation", [True, False])
def test_wrong_last_turn_names_the_sample(tokenizer: PreTrainedTokenizerFast, generation: bool) -> None:
    turns = (("where ?", ()), ("none", ()))
    with pytest.raises(InputError, match="sample odd"):
        Chat(tokenizer).encode(dialogue("odd", "", *(turns if generation else turns[:1])), generation)


def test_regions_as_text_have_no_slots(tokenizer: PreTrainedTokenizerFast) -> None:
    class Digits(Representation):
        name = "digits"

        def write(self, region: Region, size: tuple[int, int]) -> str:
            return " ".join(str(round(v * 3)) for v in region.box)

        def read(self, text: str, decoded: list, size: tuple[int, int]) -> list:
            return []

    chat = Chat(tokenizer, representation=Digits())
    encoded = chat.encode(dialogue("a", "one", ("where ?", ()), ("a <vis> and <vis>", (LEFT, BOX_ONLY))))
    assert encoded.vis == [] and chat.vis_id is None and PHRASE_START in chat.special_ids
    assert [chat.decode(run) for run in supervised(encoded.labels)] == ["a 0 1 2 2 and 1 1 2 2"]


def test_templates_have_one_end_token_each() -> None:
    ends = {"nano": "<end>", "chatml": "<|im_end|>", "vicuna": "</s>", "llama3": "<|eot_id|>", "mistral": "</s>"}
    assert {name: t.end for name, t in TEMPLATES.items()} == ends


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_templates_name_all_their_special_tokens(template: ChatTemplate) -> None:
    written = template.start + template.user + template.user_close + template.assistant + template.after
    found = set(re.findall(r"<[^>]+>|\[/?INST\]", written))
    assert found - {template.end, template.pad} == set(template.marks)
