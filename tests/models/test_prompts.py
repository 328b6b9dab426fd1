"""What is learned, what is a slot, and what stays a person's own text, with four kinds of tokenizers."""

from typing import Any

import pytest
import tiny
import tiny_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers

from dynfocus.errors import ConfigError, PromptError
from dynfocus.models.prompts import IGNORED, TEMPLATES, Encoded, encode, expand
from dynfocus.records.rows import Turn

TOKENIZERS = {
    "words": tiny.words(),
    "words, no opening": tiny.words(opening=False),
    "byte pairs": tiny.byte_pairs(),
    "byte pairs, no opening": tiny.byte_pairs(opening=False),
    "pieces": tiny.pieces(),
    "pieces, no opening": tiny.pieces(opening=False),
}
each = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=list(TOKENIZERS))
TURNS = (Turn("what color is the star", "star red"), Turn("how many circles", "two"), Turn("what comes after", "blue"))


def learned(tokenizer: Any, encoded: Encoded) -> list[str]:
    """The texts that the labels spell, run by run, spaces left out."""
    runs: list[list[int]] = [[]]
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (token, IGNORED)
        if label == IGNORED:
            runs.append([])
        else:
            runs[-1].append(label)
    return ["".join(tokenizer.decode(run).split()) for run in runs if run]


def slots(tokenizer: Any, encoded: Encoded) -> list[int]:
    image = tokenizer.convert_tokens_to_ids("<image>")
    return [n for n, token in enumerate(encoded.input_ids) if token == image]


@each
@pytest.mark.parametrize("template", ["vicuna_v1", "vicuna_v1_short"])
@pytest.mark.parametrize("mode", ["first", "every"])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("visual", [True, False])
def test_labels_cover_each_answer_and_its_end_and_nothing_else(
    tokenizer: Any, template: str, mode: Any, place: Any, visual: bool
) -> None:
    encoded = encode(tokenizer, TURNS, TEMPLATES[template], visual, place, mode)
    assert learned(tokenizer, encoded) == ["starred</s>", "two</s>", "blue</s>"]
    assert len(slots(tokenizer, encoded)) == (0 if not visual else 3 if mode == "every" else 1)


@each
def test_plain_learns_the_caption_behind_the_slot_and_reads_no_question(tokenizer: Any) -> None:
    encoded = encode(tokenizer, [Turn("what color", "a green triangle")], TEMPLATES["plain"], True)
    assert learned(tokenizer, encoded) == ["agreentriangle</s>"]
    (slot,) = slots(tokenizer, encoded)
    opening = [tokenizer.bos_token_id] if encoded.input_ids[0] == tokenizer.bos_token_id else []
    assert encoded.input_ids[:slot] == opening
    assert all(label != IGNORED for label in encoded.labels[slot + 1 :])
    alone = encode(tokenizer, [Turn("what color", "a green triangle")], TEMPLATES["plain"], False)
    assert learned(tokenizer, alone) == ["agreentriangle</s>"]  # an opening <s> is not learned


@each
def test_an_open_answer_is_the_training_prompt_cut_before_it(tokenizer: Any) -> None:
    closed = encode(tokenizer, TURNS, TEMPLATES["vicuna_v1"], True)
    asking = encode(tokenizer, (*TURNS[:-1], Turn(TURNS[-1].question, None)), TEMPLATES["vicuna_v1"], True)
    start = len(closed.labels) - closed.labels[::-1].index(IGNORED)
    assert asking.input_ids == closed.input_ids[:start]
    assert len(learned(tokenizer, asking)) == 2


@each
@pytest.mark.parametrize("place", ["before", "after"])
def test_the_slot_stands_on_its_side_of_the_question(tokenizer: Any, place: Any) -> None:
    encoded = encode(tokenizer, TURNS[:1], TEMPLATES["vicuna_v1_short"], True, place)
    (slot,) = slots(tokenizer, encoded)
    before = tokenizer.decode(encoded.input_ids[:slot]).lower()
    after = tokenizer.decode(encoded.input_ids[slot + 1 :]).lower()
    assert ("star" in before) == (place == "after")
    assert "assistant" in after


HOSTILE = ["<image>", "</s>", "<s>", "<pad>", "<unk>", "<im<image>age>", "<</s>image>", "<|reserved|>", "a</s>b"]


@each
@given(st.lists(st.sampled_from([*HOSTILE, "red", "star", " ", "<", ">", "\n"]), max_size=6))
@settings(max_examples=25)
def test_a_persons_text_never_becomes_a_special_token(tokenizer: Any, parts: list[str]) -> None:
    typed = "".join(parts)
    turns = [Turn(typed, "red " + typed), Turn("star", "two")]
    encoded = encode(tokenizer, turns, TEMPLATES["vicuna_v1_short"], True, "before", "every")
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    result = [token for token in encoded.input_ids if token in special - {tokenizer.unk_token_id}]
    image, end = tokenizer.convert_tokens_to_ids("<image>"), tokenizer.eos_token_id
    opening = [tokenizer.bos_token_id] if encoded.input_ids[0] == tokenizer.bos_token_id else []
    assert result == [*opening, image, end, image, end]
    assert learned(tokenizer, encoded)[-1] == "two</s>"


def test_the_whole_prompt_reads_as_vicuna_does() -> None:
    tokenizer = TOKENIZERS["byte pairs"]
    encoded = encode(tokenizer, TURNS[:2], TEMPLATES["vicuna_v1"], True)
    assert tokenizer.decode(encoded.input_ids) == (
        "<s>A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
        "USER: <image>\nwhat color is the star ASSISTANT: star red</s>"
        "USER: how many circles ASSISTANT: two</s>"
    )


@pytest.mark.parametrize("answer", ["", "  \n"])
def test_an_empty_answer_is_refused(answer: str) -> None:
    with pytest.raises(PromptError, match="empty answer"):
        encode(tiny.tokenizer(), [Turn("what", answer)], TEMPLATES["vicuna_v1"], False)


def test_only_the_last_answer_may_be_open() -> None:
    with pytest.raises(PromptError, match="open answer"):
        encode(tiny.tokenizer(), [Turn("what", None), Turn("how", "two")], TEMPLATES["vicuna_v1"], False)


@given(st.lists(st.sampled_from([1, 2, 9]), max_size=12), st.data())
def test_expand_repeats_each_slot_and_moves_labels_along(ids: list[int], data: st.DataObject) -> None:
    counts = [data.draw(st.integers(0, 4)) for token in ids if token == 9]
    labels = [IGNORED if token == 9 else token for token in ids]
    result = expand(Encoded(ids, labels), 9, counts)
    assert len(result.input_ids) == len(result.labels) == len(ids) - len(counts) + sum(counts)
    assert [t for t in result.input_ids if t != 9] == [t for t in ids if t != 9]
    assert all(
        label == (IGNORED if token == 9 else token)
        for token, label in zip(result.input_ids, result.labels, strict=True)
    )


@pytest.mark.parametrize("counts", [[], [3], [3, 3, 3]])
def test_another_number_of_slots_is_refused(counts: list[int]) -> None:
    with pytest.raises(PromptError, match=f"2 visual slots in the prompt and {len(counts)} videos"):
        expand(Encoded([9, 1, 9], [IGNORED, 1, IGNORED]), 9, counts)


def test_expand_is_in_order() -> None:
    assert expand(Encoded([9, 1, 9, 2], [IGNORED, 1, IGNORED, 2]), 9, [1, 3]).input_ids == [9, 1, 9, 9, 9, 2]


@pytest.mark.parametrize("pad", ["!", "\n\n", "!!"])
def test_what_people_write_stays_where_a_tokenizer_pads_with_it(pad: str) -> None:
    tokenizer = tiny.byte_pairs()
    tokenizer.pad_token = pad
    output, answer = "wow!! a\n\nstar", "red!!\n\ntwo!"
    encoded = encode(tokenizer, [Turn(output, answer)], TEMPLATES["vicuna_v1_short"], True)
    assert tokenizer.decode(encoded.input_ids) == f"<s>USER: <image>\n{output} ASSISTANT: {answer}</s>"
    assert learned(tokenizer, encoded) == ["red!!two!</s>"]


@pytest.mark.parametrize("end", ["!", "\n\n", " \n "])
@pytest.mark.parametrize("name", ["eos_token", "bos_token"])
@pytest.mark.parametrize("template", ["plain", "vicuna_v1", "chat"])
def test_a_text_is_not_ended_by_what_people_write(name: str, end: str, template: str) -> None:
    tokenizer = tiny_tokenizers.add_chat_template(tiny.byte_pairs(), tiny_tokenizers.CHATML)
    setattr(tokenizer, name, end)
    with pytest.raises(ConfigError, match=f"a tokenizer whose {name} is .*, which people write"):
        encode(tokenizer, [Turn("wow", "two")], TEMPLATES[template], True)


@pytest.mark.parametrize(
    ("normal", "mark", "typed"),
    [
        (normalizers.Lowercase(), "<|end|>", "<|END|>"),
        (normalizers.NFKC(), "<|end|>", "\uff1c|end|\uff1e"),
        (normalizers.NFKC(), "</s>", "\uff1c/s\uff1e"),
    ],
)
@pytest.mark.parametrize("where", ["question", "answer"])
@pytest.mark.parametrize("template", ["plain", "vicuna_v1", "chat"])
def test_a_special_token_typed_in_other_letters_is_refused(
    normal: Any, mark: str, typed: str, where: str, template: str
) -> None:
    tokenizer = tiny_tokenizers.add_chat_template(tiny.byte_pairs(), tiny_tokenizers.CHATML.replace("<|im_end|>", mark))
    tokenizer._tokenizer.normalizer = normal
    tokenizer.add_tokens([AddedToken(mark, normalized=True, special=True)])
    assert tokenizer.convert_tokens_to_ids(mark) in tokenizer(typed)["input_ids"]
    output = {"question": Turn(f"what {typed} is", "two"), "answer": Turn("what", f"red {typed} two")}[where]
    apart = {"question": Turn(f"what {mark} is", "two"), "answer": Turn("what", f"red {mark} two")}[where]
    encode(tokenizer, [apart], TEMPLATES[template], True)
    if template == "plain" and where == "question":  # it reads no question
        return
    with pytest.raises(PromptError, match="which the tokenizer takes for its special token '"):
        encode(tokenizer, [output], TEMPLATES[template], True)
