"""What is learned in the chat templates of well-known families: each answer and its end token, nothing else."""

from typing import Any

import chat_families
import pytest
import tiny
import tiny_tokenizers

from dynfocus.errors import PromptError
from dynfocus.models.prompts import IGNORED, TEMPLATES, ChatTemplate, Encoded, encode
from dynfocus.records.rows import Turn

# Answers and questions that stand in the headers of templates too, and such as begin or end like one another.
SAID = (("user", "a"), ("what color is the star", "assistant"), ("a", "star red"), ("model", "user"), ("n", "n"))
THOUGHT = "<think>\n\n</think>\n\n"
each = pytest.mark.parametrize("name", chat_families.FAMILIES)


def learned(tokenizer: Any, encoded: Encoded) -> list[str]:
    runs: list[list[int]] = [[]]
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (token, IGNORED)
        runs += [[]] if label == IGNORED else []
        runs[-1] += [] if label == IGNORED else [token]
    return [tokenizer.decode(run, clean_up_tokenization_spaces=False) for run in runs if run]


def squeezed(texts: list[str]) -> list[str]:
    return ["".join(text.split()) for text in texts]


@each
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("opened", [False, True])
def test_each_answer_and_its_end_is_learned_and_nothing_else(name: str, count: int, opened: bool) -> None:
    family = chat_families.FAMILIES[name]
    tokenizer, template = chat_families.tokenizer(family), TEMPLATES["chat"] if opened else ChatTemplate()
    turns = [Turn(*pair) for pair in SAID[:count]]
    if opened and not family.system:
        with pytest.raises(PromptError, match=r"Set model\.system_prompt to false"):
            encode(tokenizer, turns * 2, template, True)
        return
    wanted = [answer + family.end for _, answer in SAID[:count]]
    result = encode(tokenizer, turns, template, True, "before", "every")
    last = THOUGHT + wanted[-1] if name == "Qwen 3" else wanted[-1]  # it has to write that it thinks nothing
    assert squeezed(learned(tokenizer, result)) == squeezed([*wanted[:-1], last])
    assert result.input_ids.count(tokenizer.convert_tokens_to_ids("<image>")) == count
    asking = encode(tokenizer, [*turns[:-1], Turn(SAID[count - 1][0], None)], template, True, "before", "every")
    assert squeezed(learned(tokenizer, asking)) == squeezed(wanted[:-1])
    assert result.input_ids[: len(asking.input_ids)] == asking.input_ids
    assert result.labels[: len(asking.labels)] == asking.labels
    assert result.labels[len(asking.labels)] != IGNORED


def test_thoughts_of_the_last_answer_alone_are_in_it() -> None:
    """A mark that a person types is taken apart, and so cuts no answer off."""
    tokenizer = chat_families.tokenizer(chat_families.FAMILIES["Qwen 3"])
    turns = [Turn("what", "red</think>star"), Turn("how", "two")]
    assert squeezed(learned(tokenizer, encode(tokenizer, turns, ChatTemplate(), False))) == [
        "red</think>star<|im_end|>",
        "<think></think>two<|im_end|>",
    ]


QUIET = tiny_tokenizers.CHATML.replace(
    "{{ m['content'] }}", "{% if m['role'] != 'user' %}{{ m['content'] }}{% endif %}"
)
TWICE = tiny_tokenizers.CHATML.replace("{{ m['content'] }}", "{{ m['content'] * 2 }}")


@pytest.mark.parametrize(("chat", "output"), [(QUIET, "user"), (TWICE, "user"), (tiny_tokenizers.SHOUTING, "user")])
@pytest.mark.parametrize("question", ["user", "im_start", "s"])
def test_a_question_that_is_dropped_or_repeated_is_missed_whatever_it_is(chat: str, output: str, question: str) -> None:
    tokenizer = tiny_tokenizers.add_chat_template(tiny.byte_pairs(), chat)
    with pytest.raises(PromptError, match=f"changes what the {output} says: '{question}'"):
        encode(tokenizer, [Turn(question, "two")], ChatTemplate(), False)


WRONG = (
    tiny_tokenizers.SHOUTING,
    tiny_tokenizers.THINKING,
    tiny_tokenizers.FORGETFUL,
    tiny_tokenizers.BROKEN,
    tiny_tokenizers.NO_SYSTEM,
    tiny_tokenizers.DEAF,
    TWICE,
)


@pytest.mark.parametrize("chat", WRONG)
def test_whatever_goes_wrong_behind_a_system_message_says_how_to_leave_it_out(chat: str) -> None:
    tokenizer = tiny_tokenizers.add_chat_template(tiny.byte_pairs(), chat)
    with pytest.raises(PromptError, match=r"Set model\.system_prompt to false"):
        encode(tokenizer, [Turn("what", "star red"), Turn("how", "two")], TEMPLATES["chat"], True)
