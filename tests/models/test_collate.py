"""Mixed rows -> Batch."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import BloomConfig, Gemma3Config, GPT2Config

from dynfocus.budget import budget
from dynfocus.errors import CheckpointError, PromptError
from dynfocus.models.collate import Collator, Example, longest_prompt
from dynfocus.models.prompts import IGNORED
from dynfocus.records.rows import Row, Turn
from dynfocus.settings import ConnectorSettings

IMAGE = tiny.tokenizer().convert_tokens_to_ids("<image>")


def cost(frames: int) -> int:
    return budget(frames, tiny.SETTINGS).visual_tokens


@pytest.mark.parametrize("answers", [True, False])
def test_text_image_and_video_rows_stand_side_by_side(answers: bool) -> None:
    batch = tiny.batch([7, 0, 1], answers=answers)
    assert batch.input_ids.eq(IMAGE).sum(1).tolist() == [cost(7), 0, cost(1)]
    assert batch.slot_row.tolist() == [0, -1, 2]
    assert batch.slot_video.tolist() == [0, 1, 2]
    assert batch.sketch is not None
    assert batch.sketch.frames.tolist() == [7, 1, 1]
    assert batch.video_rows.tolist() == [0, 1, 2]
    assert batch.labels.ne(IGNORED).any(1).tolist() == [answers] * 3
    assert batch.relevant is None
    for ids, mask, labels in zip(batch.input_ids, batch.attention_mask, batch.labels, strict=True):
        room = int((mask == 0).sum())
        assert mask.tolist() == [0] * room + [1] * (len(ids) - room)
        assert ids[room] == tiny.tokenizer().bos_token_id
        assert labels[:room].eq(IGNORED).all()


@pytest.mark.parametrize("slots", ["every", "first"])
def test_turns_of_a_conversation(slots: str) -> None:
    examples = [tiny.example(0, 4, turns=3), tiny.example(1, 1, media=None, turns=2), tiny.example(2, 6)]
    batch = tiny.processor(slots=slots, answers=True)(examples)
    read = [tiny.tokenizer().decode(ids, skip_special_tokens=True) for ids in batch.question_ids]
    if slots == "every":
        assert batch.slot_video.tolist() == [0, 0, 0, 1, 2]
        assert batch.slot_row.tolist() == [0, 0, 0, -1, 2]
        assert read[:3] == [turn.question for turn in examples[0].row.turns]
    else:
        assert batch.slot_video.tolist() == [0, 1, 2]
        assert read[0] == " ".join(turn.question for turn in examples[0].row.turns)
    times = 3 if slots == "every" else 1
    assert batch.input_ids.eq(IMAGE).sum(1).tolist() == [times * cost(4), 0, cost(6)]


def test_asking_leaves_the_last_answer_open_and_the_slot_first() -> None:
    """The same row may stand on either side in training, keyed by the seed and its number alone."""
    ends, sides = tiny.tokenizer().eos_token_id, []
    for index in range(40):
        one = [tiny.example(index, 2)]
        asked, taught = tiny.processor()(one), tiny.processor(answers=True)(one)
        assert asked.input_ids[0, -1] != ends
        assert taught.input_ids[0, -1] == ends
        first = int(asked.input_ids[0].eq(IMAGE).nonzero()[0])
        assert first == 3  # <s> user :
        side = int(taught.input_ids[0].eq(IMAGE).nonzero()[0]) == first
        sides.append(side)
        again = tiny.processor(answers=True)([tiny.example(99, 5), *one])
        assert again.video_rows.tolist() == [99, index]
        assert again.input_ids[1, -taught.input_ids.shape[1] :].tolist() == taught.input_ids[0].tolist()
    assert 10 <= sum(sides) <= 30


def test_questions_are_masked_where_padded() -> None:
    batch = tiny.batch([2, 2, 2])
    lengths = batch.question_mask.sum(1).tolist()
    assert len(set(lengths)) > 1
    assert max(lengths) == batch.question_ids.shape[1]
    short = tiny.processor(longest_instruction=3)([tiny.example(0, 2)])
    assert short.question_ids.shape[1] == 3


def within(context: int, settings: ConnectorSettings = tiny.SETTINGS, **options: Any) -> Collator:
    return replace(tiny.processor(settings, **options), context=context)


def refused(maker: Collator, one: Example) -> str:
    with pytest.raises(PromptError) as error:
        maker([one])
    return str(error.value)


def test_a_row_beyond_the_context_is_named_with_its_counts() -> None:
    text = tiny.processor()([tiny.example(5, 6)]).input_ids.shape[1] - cost(6)
    with pytest.raises(PromptError, match=rf"row 'r5' of {text + cost(300)} tokens, {cost(300)} of them visual\. "):
        tiny.processor()([tiny.example(1, 2), tiny.example(5, 300)])
    length, example = text + cost(6), tiny.example(5, 6)
    assert within(length)([example]).input_ids.shape[1] == length
    assert f"at most {length - 1}, the language model's context" in refused(within(length - 1), example)


def given_values(message: str) -> dict[str, str]:
    """The settings that a refusal offers, with their values as they are printed."""
    offered = re.search(r"Each of these alone makes it fit: (.*?)\.(?: [A-Z]|$)", message)
    return {} if offered is None else dict(part.rsplit(" ", 1) for part in offered[1].split(", "))  # type: ignore[misc]


@pytest.mark.parametrize(("turns", "context"), [(1, 512), (1, 400), (3, 512), (3, 1023)])
def test_each_value_that_a_refusal_offers_makes_the_row_fit_and_the_next_larger_one_does_not(
    turns: int, context: int
) -> None:
    settings = replace(tiny.SETTINGS, events=60, keep=0.5)
    maker, frames = within(context, settings, answers=True), 100
    row = tiny.example(4, frames, settings, turns=turns)
    message = refused(maker, row)
    each = budget(frames, settings).visual_tokens
    text = tiny.processor(settings, answers=True)([tiny.example(4, 1, settings, turns=turns)]).input_ids.shape[1]
    text -= turns * budget(1, settings).visual_tokens
    assert f"of {text + turns * each} tokens, {turns * each} of them visual" in message
    assert (f"({turns} slots of {each})" in message) == (turns > 1)
    offered = given_values(message)
    slots_first = offered.pop("slots", None)
    assert offered.keys() <= {"frame_rule.frames", "connector.events", "connector.keep"}
    assert "frame_rule.frames" in offered
    for name in {"connector.events", "connector.keep"} - offered.keys():
        assert name in message.split("Not enough alone at any value: ")[1]
    for name, printed in offered.items():
        step = 10.0 ** -len(printed.partition(".")[2])
        for value, fits in ((float(printed), True), (round(float(printed) + step, 6), False)):
            count = int(value) if name == "frame_rule.frames" else frames
            field = name.partition(".")[2]
            changed = {} if field == "frames" else {field: int(value) if field == "events" else value}
            then = replace(settings, **changed)
            new = replace(maker, settings=then), tiny.example(4, count, then, turns=turns)
            if fits:
                assert new[0]([new[1]]).input_ids.shape[1] <= context
            else:
                assert "language model's context" in refused(*new)
    once = replace(maker, slots="first")
    if slots_first:
        assert once([row]).input_ids.shape[1] <= context
    elif turns > 1:
        refused(once, row)


def test_which_settings_are_offered() -> None:
    """Three turns of 100 frames: L and K/L have nothing to give where the rods alone, 200 each, are too many."""
    settings = replace(tiny.SETTINGS, events=60, keep=0.5)
    row = tiny.example(4, 100, settings, turns=3)
    assert given_values(refused(within(1500, settings), row)).keys() == {
        *("frame_rule.frames", "connector.events", "connector.keep", "slots")
    }
    assert given_values(refused(within(512, settings), row)).keys() == {"frame_rule.frames"}
    single = refused(within(150, settings), tiny.example(4, 100, settings))
    assert "Not enough alone at any value: connector.events, connector.keep." in single


def test_an_image_that_does_not_fit_cannot_be_helped_by_any_of_them() -> None:
    length = tiny.processor()([tiny.example(0, 1)]).input_ids.shape[1]
    message = refused(within(length - 1), tiny.example(0, 1))
    assert given_values(message) == {}
    assert "Not enough alone at any value: frame_rule.frames, connector.events, connector.keep. Shorten" in message


@pytest.mark.parametrize("media", ["v.mp4", None])
def test_a_text_too_long_by_itself_is_called_so(media: str | None) -> None:
    row = Row("r", 0, media, (Turn("what " * 600, None),))
    message = refused(tiny.processor(), Example(row, sketch=tiny.sketch(3)))
    visual = cost(3) if media else 0
    text = 600 + 5  # <s> user : ... assistant :
    assert f"of {text + visual} tokens, {visual} of them visual, {text} of them text" in message
    assert "The text itself is too long" in message
    assert "connector" not in message


def test_a_question_is_never_cut() -> None:
    """One token more of context than it needs, none, and one too few: all of the words or none."""
    asked = "how many circles are there " * 20
    row = Row("r", 0, "v.mp4", (Turn(asked, None),))
    example = Example(row, sketch=tiny.sketch(3))
    ids = tiny.tokenizer()(asked.strip(), add_special_tokens=False)["input_ids"]
    length = len(ids) + 5 + cost(3)
    for context in (length + 1, length):
        result = within(context)([example]).input_ids[0].tolist()
        assert result[3 + cost(3) : -2] == ids
    refused(within(length - 1), example)


def test_an_open_question_leaves_room_for_its_answer() -> None:
    """As much as is asked for, in asking alone; what is then too much is named with the answer that would fit."""
    example, single = tiny.example(0, 6, turns=2), tiny.example(0, 6)
    length = tiny.processor()([example]).input_ids.shape[1]
    assert within(length + 16, new_tokens=16)([example]).input_ids.shape[1] == length
    message = refused(within(length + 15, new_tokens=16), example)
    assert f"at most {length - 1}, the language model's context of {length + 15} less 16 new tokens" in message
    offered = given_values(message)
    assert offered["max_new_tokens"] == "15"
    assert within(length + 15, new_tokens=15)([example]).input_ids.shape[1] == length
    frames = int(offered["frame_rule.frames"])
    assert within(length + 15, new_tokens=16)([tiny.example(0, frames, turns=2)])
    refused(within(length + 15, new_tokens=16), tiny.example(0, frames + 1, turns=2))
    assert "max_new_tokens" not in refused(within(length - 1, new_tokens=16), example)
    taught = tiny.processor(answers=True)([single]).input_ids.shape[1]
    assert within(taught, new_tokens=16, answers=True)([single]).input_ids.shape[1] == taught
    text = refused(within(length, new_tokens=length - 3), example)
    assert "The text itself is too long" not in refused(within(length, new_tokens=1), example)
    assert "The text itself is too long" in text


@pytest.mark.parametrize("question", ["what color is the star", "how many circles are there , two"])
def test_a_long_question_keeps_its_end_for_the_instruction_encoder(place: Path, question: str) -> None:
    """Of a conversation's questions in one instruction, it is the last that has no answer yet."""
    towers = place / "towers"
    made = Collator.from_folders(towers / "encoders", towers / "language", tiny.SETTINGS, slots="first")
    assert made.longest_instruction == 256
    made = replace(made, context=2048)
    asked = "square " * 300 + question
    read = made([Example(Row("r", 0, "v.mp4", (Turn(asked, None),)), sketch=tiny.sketch(3))])
    exact = tiny.tokenizer()(asked, add_special_tokens=False)["input_ids"]
    assert read.question_ids.shape == (1, 256)
    assert read.question_ids[0].tolist() == [tiny.tokenizer().bos_token_id, *exact[-255:]]
    assert tiny.tokenizer().decode(read.question_ids[0]).endswith(question)
    assert len(read.input_ids[0]) > len(exact)


@pytest.mark.parametrize("kind", [GPT2Config, Gemma3Config, BloomConfig])
def test_the_context_is_what_the_config_says_wherever_it_says_it(kind: Any) -> None:
    """GPT-2 has another name for it, Gemma 3 nests it; BLOOM has none, as its attention knows no end."""
    known = {GPT2Config: kind(n_positions=77), Gemma3Config: kind(text_config={"max_position_embeddings": 77})}
    if kind in known:
        assert longest_prompt(known[kind]) == 77
        return
    with pytest.raises(CheckpointError, match=r"\(bloom\) whose config\.json does not say max_position_embeddings"):
        longest_prompt(kind())
    assert longest_prompt(kind(max_position_embeddings=77)) == 77


def test_frames_go_along_where_there_is_no_sketch() -> None:
    examples = [Example(tiny.row(0), frames=tiny.frames(3)), Example(tiny.row(1), frames=tiny.frames(5))]
    batch = tiny.processor()(examples)
    assert batch.sketch is None
    assert [len(one) for one in batch.frames] == [3, 5]
    assert batch.input_ids.eq(IMAGE).sum(1).tolist() == [cost(3), cost(5)]
    with pytest.raises(ValueError, match="sketches and frames"):
        tiny.processor()([examples[0], tiny.example(1, 2)])


def test_relevant_frames_are_marked_where_the_rows_know_them() -> None:
    examples = [
        tiny.example(0, 6, segments=((1, 2), (4,))),
        tiny.example(1, 3),
        tiny.example(2, 1, media=None, segments=((0,),)),
    ]
    relevant = tiny.processor()(examples).relevant
    assert relevant is not None
    assert relevant.tolist() == [[False, True, True, False, True, False], [False] * 6, [False] * 6]


def test_system_prompt_and_template_are_switches() -> None:
    long = tiny.processor(prompt="vicuna_v1")([tiny.example(0, 2)]).input_ids.shape[1]
    short = tiny.processor(prompt="vicuna_v1", system_prompt=False)([tiny.example(0, 2)]).input_ids
    plain = tiny.processor(prompt="plain")([tiny.example(0, 2)]).input_ids
    assert torch.equal(short, tiny.processor()([tiny.example(0, 2)]).input_ids)
    assert long > short.shape[1]
    assert plain[0].tolist() == [tiny.tokenizer().bos_token_id] + [IMAGE] * cost(2)


def test_a_tokenizer_without_padding_token_is_padded_behind_the_mask() -> None:
    bare = tiny.words()
    bare.pad_token = None
    batch = replace(tiny.processor(), tokenizer=bare)([tiny.example(0, 7), tiny.example(1, 1)])
    assert batch.input_ids[1, 0] == bare.eos_token_id
    assert batch.attention_mask[1, 0] == 0


def test_records_and_rows_stay_as_they_came() -> None:
    row = Row("7", 4, "a.mp4", (Turn("how many circles", None),))
    batch = tiny.processor()([Example(row, sketch=tiny.sketch(2))])
    assert batch.records == (row,)
    moved = batch.to("cpu")
    assert moved.records == (row,)
    assert torch.equal(moved.input_ids, batch.input_ids)
