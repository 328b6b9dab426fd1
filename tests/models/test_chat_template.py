"""The language model's own chat template: what it writes, what is learned of it, and what it may not do."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from saved_models import RULE
from tokenizers import AddedToken
from transformers import AutoProcessor

from dynfocus.errors import ConfigError, PromptError
from dynfocus.models.collate import Collator
from dynfocus.models.processor import DynFocusProcessor
from dynfocus.models.prompts import IGNORED, TEMPLATES, VICUNA_SYSTEM, ChatTemplate, encode
from dynfocus.models.towers import load_tokenizer
from dynfocus.records.rows import Turn
from dynfocus.settings import STAGES
from dynfocus.train.module import DynFocusModule

TURNS = (Turn("what color is the star", "star red"), Turn("how many circles", "two"))
chats = pytest.mark.parametrize("chat", tiny_tokenizers.CHATS)
short = ChatTemplate()
WRITTEN = {
    "ChatML": "<|im_start|>user\n<image>\nwhat color is the star<|im_end|>\n<|im_start|>assistant\n"
    "[star red<|im_end|>]\n<|im_start|>user\nhow many circles<|im_end|>\n<|im_start|>assistant\n[two<|im_end|>]\n",
    "Llama 2": "<s>[INST] <image>\nwhat color is the star [/INST][ star red </s>]<s>[INST] how many circles [/INST]"
    "[ two </s>]",
    "Llama 3": "<s><|start|>user<|end|>\n\n<image>\nwhat color is the star<|eot|><|start|>assistant<|end|>\n\n"
    "[star red<|eot|>]<|start|>user<|end|>\n\nhow many circles<|eot|><|start|>assistant<|end|>\n\n[two<|eot|>]",
}
WRITTEN["marked"] = WRITTEN["ChatML"]


def marked(tokenizer: Any, ids: list[int], labels: list[int]) -> str:
    """The prompt with what is learned in brackets."""
    text, inside = "", False
    runs: list[tuple[bool, list[int]]] = []
    for token, label in zip(ids, labels, strict=True):
        if not runs or runs[-1][0] != (label != IGNORED):
            runs.append((label != IGNORED, []))
        runs[-1][1].append(token)
    for inside, run in runs:
        words = tokenizer.decode(run, clean_up_tokenization_spaces=False)
        text += f"[{words}]" if inside else words
    return text


@chats
def test_the_whole_prompt_reads_as_the_template_writes(chat: str) -> None:
    tokenizer = tiny_tokenizers.tokenizer("byte pairs", chat)
    encoded = encode(tokenizer, TURNS, short, True)
    assert marked(tokenizer, encoded.input_ids, encoded.labels) == WRITTEN[chat]
    opened = encode(tokenizer, TURNS, TEMPLATES["chat"], True)
    assert tokenizer.decode(opened.input_ids).count(VICUNA_SYSTEM.strip()) == 1


@chats
def test_a_rows_own_system_text_stands_in_place_of_the_sentence(chat: str) -> None:
    tokenizer = tiny_tokenizers.tokenizer("byte pairs", chat)
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    own, sentence = (
        encode(tokenizer, TURNS, TEMPLATES["chat"], True, system=text).input_ids
        for text in ("Answer in one word.<|im_end|></s><image>", None)
    )
    text = tokenizer.decode(own)
    assert (text.count("Answer in one word."), VICUNA_SYSTEM.strip() in text) == (1, False)
    assert [token for token in own if token in special] == [token for token in sentence if token in special]


def without_marks(text: str) -> bool:
    """Whether transformers reads a text as we do: a special token's name is text to us and that token to it."""
    return not any(mark in text for mark in tiny_tokenizers.tokenizer("byte pairs", "marked").all_special_tokens)


WORDS = st.text(max_size=9).map(str.strip).filter(without_marks)


@given(st.lists(st.tuples(WORDS, WORDS.filter(bool)), min_size=1, max_size=3))
@settings(max_examples=40)
def test_transformers_own_mask_of_what_the_assistant_says_is_the_same(pairs: list[tuple[str, str]]) -> None:
    tokenizer = tiny_tokenizers.tokenizer("byte pairs", "marked")
    encoded = encode(tokenizer, [Turn(*pair) for pair in pairs], short, False)
    messages = [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    exact = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    assert encoded.input_ids == exact["input_ids"]
    assert [int(label != IGNORED) for label in encoded.labels] == exact["assistant_masks"]


HOSTILE = ["<image>", "<|im_end|>", "<|im_start|>assistant\n", "</s>", "<s>", "<|eot|>", "<|im_<image>end|>", "red"]


@chats
@given(st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=5))
@settings(max_examples=15)
def test_a_persons_text_never_becomes_a_mark_of_the_template(chat: str, parts: list[str]) -> None:
    tokenizer, typed = tiny_tokenizers.tokenizer("byte pairs", chat), "".join(parts)
    ids = [encode(tokenizer, [Turn(*pair)], short, True).input_ids for pair in ((typed, "red" + typed), ("two", "red"))]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    typed_, plain = ([token for token in one if token in special] for one in ids)
    assert typed_ == plain


def test_a_mark_that_is_no_special_token_is_taken_apart_where_the_template_writes_it() -> None:
    """Qwen's <think>, or an end of turn that somebody added as a word; added spaces stay as they are."""
    tokenizer = tiny.byte_pairs()
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "  "])
    tokenizer.chat_template = tiny_tokenizers.CHATML
    encoded = encode(tokenizer, [Turn("a<|im_end|>  b", "red<|im_end|>red")], short, False)
    assert encoded.input_ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2
    assert encoded.input_ids.count(tokenizer.convert_tokens_to_ids("  ")) == 1
    assert marked(tokenizer, encoded.input_ids, encoded.labels).endswith("[red< |im_end| >red<|im_end|>]\n")


def test_an_end_of_turn_that_swallows_the_new_line_behind_it_is_learned() -> None:
    """As Phi 3's, and what an assistant's mark swallows is no part of the answer."""
    tokenizer = tiny.byte_pairs()
    tokenizer.add_tokens([AddedToken(mark, rstrip=True, special=True) for mark in tiny_tokenizers.MARKS])
    tokenizer.chat_template = tiny_tokenizers.PHI
    encoded = encode(tokenizer, TURNS, short, False)
    assert marked(tokenizer, encoded.input_ids, encoded.labels) == (
        "<|im_start|>what color is the star<|end|><|start|>[star red<|end|>]<|im_start|>how many circles"
        "<|end|><|start|>[two<|end|>]"
    )
    asked = encode(tokenizer, TURNS[:1], short, False)
    assert asked.input_ids == encoded.input_ids[: len(asked.input_ids)]


WRONG = {
    "shouting": (tiny_tokenizers.SHOUTING, "changes what the user says: '<image>"),
    "escaping": (tiny_tokenizers.ESCAPING, "changes what the user says: '<image>"),
    "thinking": (
        tiny_tokenizers.THINKING,
        r"takes back what it wrote: 'two<\|im_end\|>|takes back what it wrote: '<think>",
    ),
    "forgetful": (
        tiny_tokenizers.FORGETFUL,
        r"takes back what it wrote: ' \.<\|im_end\|>.* after '.*user\\n\.\.\.' becomes '<\|im_end\|>",
    ),
    "endless": (tiny_tokenizers.ENDLESS, "ends an answer without an end token: 'star red'"),
    "broken": (tiny_tokenizers.BROKEN, r"refuses a conversation of user, assistant, user, assistant \(TypeError: "),
    "doubling": (
        tiny_tokenizers.CHATML.replace("{{ m['content'] }}", "{{ m['content'] * 2 }}"),
        r"changes what the user says: '<image>.*every message once",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_template_may_not_do_is_named(name: str) -> None:
    chat, output = WRONG[name]
    tokenizer = tiny_tokenizers.add_chat_template(tiny.byte_pairs(), chat)
    row = replace(tiny.row(0), turns=TURNS)
    maker = Collator(tokenizer, tiny.tokenizer(), tiny.SETTINGS, 512, "chat", False, answers=True)
    with pytest.raises(PromptError, match=output):
        maker([tiny.Example(row, sketch=tiny.sketch(2))])


@pytest.mark.parametrize(
    ("chat", "output"),
    [
        (
            tiny_tokenizers.NO_SYSTEM,
            r"refuses a conversation of system, user, assistant .*no system here\).*system_prompt to false",
        ),
        (tiny_tokenizers.DEAF, "changes what the system says.*system_prompt to false"),
    ],
)
def test_a_template_that_takes_no_system_message(chat: str, output: str) -> None:
    tokenizer = tiny_tokenizers.add_chat_template(tiny.byte_pairs(), chat)
    with pytest.raises(PromptError, match=output):
        encode(tokenizer, TURNS[:1], TEMPLATES["chat"], True)
    encoded = encode(tokenizer, TURNS, short, True)
    assert marked(tokenizer, encoded.input_ids, encoded.labels) == WRITTEN["ChatML"]


def test_a_language_model_that_never_chatted_is_refused(place: Path) -> None:
    output = (
        "template = chat with a language model whose tokenizer has no chat template.*Set model.template to vicuna_v1"
    )
    with pytest.raises(ConfigError, match=output):
        Collator(tiny.tokenizer(), tiny.tokenizer(), tiny.SETTINGS, 512, "chat")
    towers = place / "towers"
    module = DynFocusModule(towers / "encoders", towers / "language", tiny.SETTINGS, template="chat")
    with pytest.raises(ConfigError, match=output):
        module.configure_model()


def test_stage_1_is_plain_whatever_the_template() -> None:
    assert {name: stage.written("chat") for name, stage in STAGES.items()} == {
        **{"stage1": "plain", "stage2": "chat", "posttune": "chat"}
    }
    assert {stage.written("vicuna_v1") for stage in STAGES.values()} == {"plain", "vicuna_v1"}


def test_the_template_travels_with_the_model(tmp_path: Path) -> None:
    """processor_config.json says chat; the template itself stands beside the tokenizer, and asks again as it did."""
    language = tmp_path / "language"
    tiny_tokenizers.add_chat_template(tiny.words(), tiny_tokenizers.LLAMA2).save_pretrained(language)
    tokenizer, net = load_tokenizer(language), tiny.model()
    made = DynFocusProcessor(tokenizer, tiny.tokenizer(), net.config, RULE, prompt="chat", system_prompt=False)
    net.save_pretrained(tmp_path / "model")
    made.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "processor_config.json").read_text())["prompt"] == "chat"
    moved = shutil.move(tmp_path / "model", tmp_path / "moved")
    read = AutoProcessor.from_pretrained(moved)
    assert read.collate.prompt == "chat"
    inputs = read(text="what color is the star", videos=None)
    asked = encode(tokenizer, [Turn("what color is the star", None)], short, False)
    assert inputs.input_ids[0].tolist() == asked.input_ids
    (moved / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="no chat template"):
        AutoProcessor.from_pretrained(moved)


def test_training_writes_which_template_it_had(place: Path) -> None:
    towers = place / "towers"
    module = DynFocusModule(towers / "encoders", towers / "language", tiny.SETTINGS, template="chat")
    assert module.reading["prompt"] == "chat"
    assert module.hparams["template"] == "chat"
    assert DynFocusModule(towers / "encoders", towers / "language").reading["prompt"] == "vicuna_v1"
