"""Rows that do not fit: an error, or a blank row in their place from which nothing is learned."""

from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch

from dynfocus.errors import DataError, PromptError
from dynfocus.models.collate import Example, blank_row
from dynfocus.models.prompts import IGNORED
from dynfocus.records.rows import Row, Turn
from dynfocus.records.skipped import FAULTS, Skipped
from dynfocus.types import FrameSketch

WIDE = replace(tiny.SETTINGS, kept_tokens=256)
GONE = Skipped("talks", 7, "x", "gone.mp4", "gone.mp4: no such file")


def unreadable(index: int, settings: Any = tiny.SETTINGS) -> Example:
    """As a data set gives it: a blank row that shows one blank frame."""
    return Example(
        blank_row(index), sketch=tiny.sketch(1, 9, settings), skipped=replace(GONE, index=index), place=index
    )


def bad(why: str, settings: Any = tiny.SETTINGS) -> Example:
    example = replace(tiny.example(5, 6, settings), place=2)
    row = replace(example.row, source="talks")
    rows = {
        "empty answer": replace(row, turns=(*row.turns, Turn("how many", " \n"))),
        "open": replace(row, turns=(Turn("how many", None),)),
        "no turn": replace(row, turns=()),
        "middle": replace(row, turns=(Turn("how many", None), *row.turns)),
        "too long": replace(row, turns=(Turn("two " * 600, "red"),)),
        "event": replace(row, questions=tiny.row(5, segments=((1,), (3, 6))).questions),
        "negative": replace(row, questions=tiny.row(5, segments=((-1,),)).questions),
    }
    return replace(example, row=rows[why])


SAID: dict[str, tuple[type[Exception], str]] = {
    "empty answer": (PromptError, "empty answer"),
    "open": (PromptError, "row 'r5' without any answer"),
    "no turn": (PromptError, "row 'r5' without any turn"),
    "middle": (PromptError, "an open answer before the last turn"),
    "too long": (PromptError, r"row 'r5' of \d+ tokens.*The text itself is too long"),
    "event": (DataError, r"row 'r5' \(number 5\), whose `segments` name the frame 6 of 6 that were read.*frame_rule"),
    "negative": (DataError, "name the frame -1 of 6"),
}


@pytest.mark.parametrize("why", SAID)
@pytest.mark.parametrize("kind", ["sketch", "frames", "patches"])
def test_a_row_that_does_not_fit(why: str, kind: str) -> None:
    settings = WIDE if kind == "patches" else tiny.SETTINGS
    examples = [tiny.example(0, 4, settings), bad(why, settings), tiny.example(2, 3, settings, turns=2)]
    if kind == "frames":
        examples = [replace(one, sketch=None, frames=tiny.frames(one.length)) for one in examples]
    error, output = SAID[why]
    strict = tiny.processor(settings, answers=True)
    with pytest.raises(error, match=output) as caught:
        strict(examples)
    batch = replace(strict, skip_invalid=True)(examples)
    (skipped,) = batch.skipped
    assert (skipped.source, skipped.index, skipped.id, skipped.media) == ("talks", 2, "r5", "v.mp4")
    assert skipped.fault in FAULTS
    assert skipped.cause == f"{skipped.fault}: {caught.value.given}"
    assert batch.records == (examples[0].row, None, examples[2].row)
    assert batch.labels[1].eq(IGNORED).all()
    assert batch.attention_mask.sum(1)[1] == 1
    assert batch.slot_row.tolist() == [0, -1, 2, 2]
    assert batch.video_rows.tolist() == [0, 5, 2]
    assert batch.relevant is None
    assert batch.question_mask.sum(1)[1] == 2  # <s> and a stop: nothing of its own question
    shown = batch.sketch.frames.tolist() if batch.sketch is not None else [len(one) for one in batch.frames]
    assert shown == [4, 1, 3]
    others = strict([examples[0], examples[2]])
    assert torch.equal(batch.input_ids[[0, 2]], others.input_ids)
    assert torch.equal(batch.labels[[0, 2]], others.labels)


def test_the_number_is_that_in_the_whole_where_no_other_is_known() -> None:
    example = replace(bad("open"), place=None)
    (skipped,) = tiny.processor(answers=True, skip_invalid=True)([example]).skipped
    assert skipped.index == 5


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("skip_invalid", [True, False])
def test_a_row_that_could_not_be_read_is_passed_on(answers: bool, skip_invalid: bool) -> None:
    batch = tiny.processor(answers=answers, skip_invalid=skip_invalid)([unreadable(3), tiny.example(1, 5)])
    assert batch.skipped == (replace(GONE, index=3),)
    assert batch.records == (None, tiny.row(1))
    assert batch.slot_row.tolist() == [-1, 1]
    assert tiny.processor(skip_invalid=True)([replace(unreadable(3), is_padding=True)]).skipped == ()


def training(settings: Any) -> Any:
    net = tiny.model(settings)
    net.connector.train()
    net.language_model.train()
    return net


@pytest.mark.parametrize("settings", [tiny.SETTINGS, WIDE], ids=["pooled", "patches"])
def test_rows_beside_skipped_ones_learn_what_they_would_alone(settings: Any) -> None:
    """Through the whole model: its loss, and the gradient of what is trained."""
    net, maker = training(settings), tiny.processor(settings, answers=True, skip_invalid=True)
    good = [tiny.example(0, 6, settings), tiny.example(2, 3, settings)]
    beside = [good[0], bad("too long", settings), good[1], unreadable(4, settings)]
    losses, gradients = [], []
    for examples in (good, beside):
        net.zero_grad()
        loss, _ = net(maker(examples))
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([weight.grad.flatten() for weight in net.parameters() if weight.grad is not None]))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
    assert gradients[0].norm() > 0


@pytest.mark.parametrize("settings", [tiny.SETTINGS, WIDE], ids=["pooled", "patches"])
def test_a_batch_of_nothing_but_skipped_rows_teaches_nothing(settings: Any) -> None:
    net, maker = training(settings), tiny.processor(settings, answers=True, skip_invalid=True)
    batch = maker([unreadable(3, settings), bad("too long", settings), bad("event", settings)])
    assert batch.targets == 0
    assert batch.records == (None, None, None)
    assert [one.index for one in batch.skipped] == [3, 2, 2]
    loss, video = net(batch)
    loss.backward()
    assert loss == 0
    assert video.tokens.isfinite().all()
    trained = [weight for part in (net.connector, net.language_model) for weight in part.parameters()]
    assert all(weight.grad is None or weight.grad.eq(0).all() for weight in trained)
    assert all(weight.grad is not None for weight in net.connector.parameters() if weight.requires_grad)


def test_what_is_skipped_of_a_long_video_costs_one_frame() -> None:
    """A row that was too long must not make the others as long."""
    example = tiny.example(1, 400)
    with pytest.raises(PromptError, match=r"frame_rule\.frames"):
        tiny.processor(answers=True)([example])
    batch = tiny.processor(answers=True, skip_invalid=True)([tiny.example(0, 2), example])
    assert isinstance(batch.sketch, FrameSketch)
    assert batch.sketch.mask.shape == (2, 2)
    assert torch.equal(batch.sketch.pooled[1, 0], example.sketch.pooled[0, 0])  # type: ignore[union-attr]


@pytest.mark.parametrize("slots", ["first", "every"])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("media", ["v.mp4", None])
def test_a_measure_is_what_the_batch_holds(slots: Any, answers: bool, media: str | None) -> None:
    maker = tiny.processor(slots=slots, answers=answers)
    for frames, turns in ((1, 1), (7, 3)):
        example = tiny.example(4, frames, turns=turns, media=media)
        result, batch = maker.measure(example.row, frames), maker([example])
        image = batch.input_ids.eq(maker.image_id).sum()
        assert result.total == batch.input_ids.shape[1]
        assert result.slots * result.visual == image
        assert result.text == batch.input_ids.shape[1] - image
        assert result.slots == batch.slot_row.ge(0).sum()
        assert result.targets == batch.targets
        assert (result.targets > 0) == (answers or turns > 1)


def test_the_first_token_of_a_prompt_is_no_target() -> None:
    """A caption alone, where the tokenizer opens with nothing."""
    maker = replace(tiny.processor(answers=True, prompt="plain"), tokenizer=tiny.words(opening=False))
    example = tiny.example(4, 1, media=None)
    assert maker.measure(example.row, 1).targets == maker([example]).targets == 2


def test_a_measure_says_how_long_what_is_too_long_would_be_and_refuses_what_cannot_be_written() -> None:
    maker, row = tiny.processor(answers=True), tiny.row(4)
    assert maker.measure(row, 5000).total > maker.context
    assert maker.measure(row, 5000).text == maker.measure(row, 1).text
    for why in ("empty answer", "open", "no turn", "middle"):
        with pytest.raises(PromptError, match=SAID[why][1]):
            maker.measure(bad(why).row, 6)
    assert maker.measure(bad("too long").row, 6).text > 600
    with pytest.raises(PromptError, match="without any answer"):
        maker.measure(Row("", 0, None, (Turn("what", None),)), 1)
