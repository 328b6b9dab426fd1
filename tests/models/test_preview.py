"""A row as it is taught: what is shown of it before training begins."""

from dataclasses import replace

import pytest
import tiny
import tiny_tokenizers

from dynfocus.errors import PromptError
from dynfocus.models.collate import Collator
from dynfocus.models.preview import audit
from dynfocus.records.rows import Turn
from dynfocus.records.skipped import Skipped


def teaching(prompt: str = "vicuna_v1_short", **options: bool) -> Collator:
    words = tiny_tokenizers.tokenizer("byte pairs", "ChatML")
    return Collator(words, tiny.tokenizer(), tiny.SETTINGS, 2048, prompt, **{"answers": True, **options})


def test_a_conversation_about_a_video() -> None:
    """The slot of this row's first turn stands before its question, of its second one too."""
    row = replace(tiny.row(1, turns=2), source="talks")
    each = tiny.processor().measure(row, 7).visual
    heading, text = audit(teaching(), tiny.Example(row, sketch=tiny.sketch(7))).split("\n", 1)
    assert heading == "an example as the language model reads it; what it learns to write stands between ⟦ and ⟧:"
    shown, counts = text.rsplit("\n", 1)
    assert shown == (
        f"<s>USER: <image x {each}>\nhow many circles ASSISTANT:⟦ star red</s>⟧"
        f"USER: <image x {each}>\nwhat comes after the blue square ? ASSISTANT:⟦ star red</s>⟧"
    )
    measured = teaching().measure(row, 7)
    assert counts == (
        f"row 'r1' of talks: {measured.total} tokens, {2 * each} of them visual (in 2 slots), "
        f"{measured.targets} learned (in 2 answers)"
    )


def test_other_templates_and_text_alone() -> None:
    row = replace(tiny.row(3, media=None), turns=(Turn("<image> what", "two</s>"),))
    example = tiny.Example(row, sketch=tiny.sketch(1))
    chat = audit(teaching(prompt="chat", system_prompt=False), example)
    assert chat.split("\n", 1)[1].startswith(
        "<|im_start|>user\n< image > what<|im_end|>\n<|im_start|>assistant\n⟦two< /s ><|im_end|>⟧\n\nrow 'r3': "
    )
    assert "0 of them visual (in 0 slots)" in chat
    assert audit(teaching(prompt="plain"), example).split("\n", 1)[1].startswith("<s>⟦two< /s ></s>⟧\nrow")


@pytest.mark.parametrize("why", ["skipped", "open", "asking"])
def test_a_row_of_which_nothing_is_learned_is_refused(why: str) -> None:
    example = tiny.example(0, 3)
    if why == "skipped":
        example = replace(example, skipped=Skipped("talks", 0, "r0", "v.mp4", "no such file"))
    if why == "open":
        example = replace(example, row=replace(example.row, turns=(Turn("what", None),)))
    output = {"skipped": "no such file", "open": "without any answer", "asking": "its answer is left open"}
    with pytest.raises(PromptError, match=output[why]):
        audit(teaching(skip_invalid=True, answers=why != "asking"), example)
