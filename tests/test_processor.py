"""Mixed rows -> Batch."""

from dataclasses import replace

import pytest
import tiny
import torch

from dynfocus.budget import budget
from dynfocus.errors import PromptError
from dynfocus.processor import Example
from dynfocus.prompts import IGNORED
from dynfocus.records import Row, Turn

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


def test_a_row_beyond_the_context_is_named_with_its_visual_tokens() -> None:
    with pytest.raises(PromptError, match=rf"row 'r5' of \d+ tokens, {cost(300)} of them visual"):
        tiny.processor()([tiny.example(1, 2), tiny.example(5, 300)])
    length = tiny.processor()([tiny.example(5, 6)]).input_ids.shape[1]
    exact = replace(tiny.processor(), context=length)
    assert exact([tiny.example(5, 6)]).input_ids.shape[1] == length
    with pytest.raises(PromptError, match=f"at most {length - 1}"):
        replace(exact, context=length - 1)([tiny.example(5, 6)])


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
        tiny.example(0, 6, events=((1, 2), (4,))),
        tiny.example(1, 3),
        tiny.example(2, 1, media=None, events=((0,),)),
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
