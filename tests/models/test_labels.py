"""What is learned is each answer with its end, for any text, by every kind of tokenizer, in every template."""

from typing import Any

import pytest
import tiny
import tiny_tokenizers
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers import PythonBackend

from dynfocus.errors import ConfigError, PromptError
from dynfocus.models.prompts import IGNORED, TEMPLATES, ChatTemplate, Encoded, Template, encode
from dynfocus.records.rows import Turn

ENDS = {"ChatML": "<|im_end|>", "marked": "<|im_end|>", "Llama 3": "<|eot|>"}
SHORT = {"plain": TEMPLATES["plain"], "vicuna_v1": TEMPLATES["vicuna_v1_short"]}
kinds = pytest.mark.parametrize("kind", tiny_tokenizers.KINDS)
chats = pytest.mark.parametrize("template", [*SHORT, *tiny_tokenizers.CHATS])


def made(kind: str, template: str) -> tuple[Any, Template | ChatTemplate]:
    chat = template if template in tiny_tokenizers.CHATS else None
    return tiny_tokenizers.tokenizer(kind, chat), SHORT.get(template, ChatTemplate())


def runs(encoded: Encoded) -> list[list[int]]:
    """The token ids that are learned, run by run."""
    result: list[list[int]] = [[]]
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (token, IGNORED)
        result += [[]] if label == IGNORED else []
        result[-1] += [] if label == IGNORED else [token]
    return [run for run in result if run]


def squeezed(text: str) -> str:
    return "".join(text.split())


def words(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


# Letters with and without accents of their own, joined emoji, other scripts, spaces of all kinds, what ends a line.
letters = st.characters(exclude_categories=["Cs"], exclude_characters="▁")
texts = st.one_of(
    st.text(letters, min_size=1, max_size=12),
    st.lists(
        st.sampled_from(
            [
                "star red",
                "two",
                "é",
                "e\u0301",
                "\u0301",
                "👩\u200d👧",
                "你好",
                "  ",
                "\n",
                "\t",
                ".",
                "USER: ",
                "<",
                ">",
                "[INST]",
            ]
        ),
        min_size=1,
        max_size=6,
    ).map("".join),
)


@kinds
@chats
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=3), st.sampled_from(["before", "after"]), st.booleans())
@example([(" what color ", "  star red \n"), ("", "👩\u200d👧 e\u0301.")], "before", True)
@settings(max_examples=12)
def test_what_is_learned_spells_each_answer_and_its_end(
    kind: str, template: str, output: list[tuple[str, str]], place: Any, visual: bool
) -> None:
    tokenizer, written = made(kind, template)
    assume(all(answer.strip() for _, answer in output))
    turns = [Turn(*pair) for pair in output]
    bare = [tokenizer(answer.strip(), add_special_tokens=False)["input_ids"] for _, answer in output]
    if not all(bare):  # as BERT's, which drops control characters
        with pytest.raises(PromptError, match="leaves nothing of"):
            encode(tokenizer, turns, written, visual, place, "every")
        return
    if kind.startswith("pieces") and template in tiny_tokenizers.CHATS and template != "Llama 2":
        # What it does not know becomes one token, the new line before an answer with it.
        alone = [tokenizer(answer.strip()[0], add_special_tokens=False)["input_ids"] for _, answer in output]
        if any(tokenizer.unk_token_id in ids for ids in alone):
            with pytest.raises(PromptError, match="holds the end of a prompt"):
                encode(tokenizer, turns, written, visual, place, "every")
            return
    encoded = encode(tokenizer, turns, written, visual, place, "every")
    end = ENDS.get(template, tokenizer.eos_token)
    stop = tokenizer.convert_tokens_to_ids(end)
    result = [label for label in encoded.labels if label != IGNORED]
    parts: list[list[int]] = [[]]
    for token in result:
        parts[-1].append(token)
        parts += [[]] if token == stop else []
    assert parts.pop() == []
    assert len(parts) == len(output)
    for (_, answer), part, alone in zip(output, parts, bare, strict=True):
        spelled = words(tokenizer, part[:-1])
        if kind in tiny_tokenizers.EXACT:
            assert spelled.strip() == answer.strip()
        assert squeezed(spelled) == squeezed(words(tokenizer, alone))
    if visual or template != "plain":
        assert len(runs(encoded)) == len(output)


@kinds
@chats
def test_an_open_answer_is_the_training_prompt_cut_before_it(kind: str, template: str) -> None:
    """Nor does a tokenizer that closes texts by itself close this one."""
    tokenizer, written = made(kind, template)
    turns = (Turn("what color is the star", "star red"), Turn("how many circles", "two"))
    closed = encode(tokenizer, turns, written, True, "before", "every")
    asking = encode(tokenizer, (turns[0], Turn("how many circles", None)), written, True, "before", "every")
    last = runs(closed)[-1]
    start = max(n for n in range(len(closed.labels)) if closed.labels[n : n + len(last)] == last)
    assert asking.input_ids == closed.input_ids[:start]
    assert len(runs(asking)) == 1


@pytest.mark.parametrize("written", [Template("<s>A talk. ", "USER: ", " ASSISTANT:"), SHORT["vicuna_v1"]])
@pytest.mark.parametrize("kind", ["byte pairs", "closing", "pieces", "words", "byte fallback"])
def test_one_beginning_token_whoever_brings_it(kind: str, written: Template) -> None:
    tokenizer = tiny_tokenizers.tokenizer(kind)
    ids = encode(tokenizer, [Turn("<s>what", "two")], written, True).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids.count(tokenizer.eos_token_id) == 1


@pytest.mark.parametrize("kind", ["byte pairs", "closing", "word pieces", "byte pairs, no opening"])
@pytest.mark.parametrize(("template", "brings"), [("Llama 2", 1), ("Llama 3", 1), ("ChatML", 0)])
def test_a_chat_template_brings_its_own_beginning(kind: str, template: str, brings: int) -> None:
    tokenizer, written = made(kind, template)
    ids = encode(tokenizer, [Turn("what", "two")], written, True).input_ids
    assert ids.count(tokenizer.bos_token_id) == brings
    messages = [{"role": "user", "content": "<image>\nwhat"}, {"role": "assistant", "content": "two"}]
    assert ids == tokenizer.apply_chat_template(messages, return_dict=False)


def test_an_unknown_word_is_read_and_learned_where_padding_has_the_same_token() -> None:
    """As in Vicuna, whose padding token is <unk>: neither the mask nor the labels ask what a token is."""
    tokenizer = tiny.words()
    tokenizer.pad_token = "<unk>"
    maker = tiny.Collator(tokenizer, tiny.tokenizer(), tiny.SETTINGS, 512, "vicuna_v1_short", answers=True)
    rows = [tiny.Row(str(n), n, None, (Turn("zyx star", answer),)) for n, answer in enumerate(["zyx", "red zyx two"])]
    batch = maker([tiny.Example(row, sketch=tiny.sketch(1)) for row in rows])
    unk, end = tokenizer.unk_token_id, tokenizer.eos_token_id
    assert tokenizer.pad_token_id == unk
    assert batch.attention_mask.sum(1).tolist() == [9, 11]
    assert batch.input_ids[0, :2].tolist() == [unk, unk]
    assert batch.labels[0][batch.labels[0] != IGNORED].tolist() == [unk, end]
    red, two = tokenizer.convert_tokens_to_ids(["red", "two"])
    assert batch.labels[1][batch.labels[1] != IGNORED].tolist() == [red, unk, two, end]
    assert batch.attention_mask[0].eq(1).logical_and(batch.input_ids[0].eq(unk)).sum() == 2


def test_an_answer_that_grows_together_with_its_prompt_is_refused() -> None:
    """Half of a token can be neither learned nor left out; such a tokenizer reads other answers as well as any."""
    tokenizer = tiny_tokenizers.merging_byte_pairs()
    with pytest.raises(PromptError, match=r"the token '.*ASSISTANT: st.*', which holds the end of a prompt"):
        encode(tokenizer, [Turn("x", "star red")], SHORT["vicuna_v1"], False)
    (result,) = runs(encode(tokenizer, [Turn("x", "star red")], SHORT["plain"], False))
    assert words(tokenizer, result) == "star red</s>"


def test_an_answer_of_which_nothing_is_left_is_refused() -> None:
    for answer in ("\u0007", "\u0301"):
        with pytest.raises(PromptError, match="the tokenizer leaves nothing of"):
            encode(tiny_tokenizers.tokenizer("word pieces"), [Turn("what", answer)], SHORT["vicuna_v1"], False)


class Slow(PythonBackend):
    """A tokenizer in plain Python: one token a letter."""

    @property
    def vocab_size(self) -> int:
        return 1

    def get_vocab(self) -> dict[str, int]:
        return {"a": 0} | self.added_tokens_encoder

    def _tokenize(self, text: str, **options: Any) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return 0


def test_a_slow_tokenizer_and_one_without_end_are_refused() -> None:
    with pytest.raises(ConfigError, match="Slow, a slow tokenizer"):
        encode(Slow(eos_token="</s>"), [Turn("a", "a")], SHORT["plain"], False)
    endless = tiny.words()
    endless.eos_token = None
    with pytest.raises(ConfigError, match="without an end token"):
        tiny.Collator(endless, tiny.tokenizer(), tiny.SETTINGS, 512)


def test_one_token_for_the_end_and_for_what_is_unknown() -> None:
    """As GPT-2's, whose <|endoftext|> is all of them: it ends answers, and an unknown word does not."""
    tokenizer = tiny.words(opening=False)
    tokenizer.unk_token, tokenizer.bos_token, tokenizer.pad_token = "</s>", "</s>", "</s>"
    tokenizer._tokenizer.model.unk_token = "</s>"
    end = tokenizer.eos_token_id
    encoded = encode(tokenizer, [Turn("zyx", "zyx"), Turn("star", "red zyx")], SHORT["vicuna_v1"], False)
    assert tokenizer.unk_token_id == end
    assert runs(encoded) == [[end, end], [tokenizer.convert_tokens_to_ids("red"), end, end]]
