"""What a row's neighbours in a batch must not change: its encoded question, its kept frames, its answer."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import tiny
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynfocus.models.collate import Collator, Example
from dynfocus.models.model import DynFocusModel
from dynfocus.records.rows import Row, Turn
from dynfocus.settings import ConnectorSettings

ONE = replace(tiny.SETTINGS, keep=0.1, score_reads_question=True)  # K = 1: the question decides the frame
FRAME = replace(tiny.SETTINGS, instruction_mode="frame")
QUESTIONS = ["star", "what color is the star", "what comes after the blue square ? a green triangle", ""]
VIDEOS = [9, 6, 12, 1, 7, 0]  # frames of each row; 0 is a row of text alone


@cache
def parts(connector: ConnectorSettings, side: str, opening: bool) -> tuple[DynFocusModel, Collator]:
    words = tiny.words(opening)
    words.padding_side = side
    return tiny.model(connector), Collator(words, words, connector, 512, "vicuna_v1_short")


def examples(connector: ConnectorSettings) -> list[Example]:
    rows = []
    for n, frames in enumerate(VIDEOS):
        turns = tuple(Turn(QUESTIONS[(n + k) % len(QUESTIONS)], "star") for k in range(1 + n % 2))
        row = Row(f"r{n}", n, "v.mp4" if frames else None, turns, ())
        if connector.instruction_mode == "frame":
            rows.append(Example(row, frames=tiny.frames(frames or 1, n)))
        else:
            rows.append(Example(row, sketch=tiny.sketch(frames or 1, seed=n, settings=connector)))
    return rows


Read = tuple[Tensor, list[list[int]], list[int]]


@torch.no_grad()
def read(net: DynFocusModel, collate: Collator, rows: list[Example]) -> list[Read]:
    """Of each row: Q of its first slot without padding, the kept frames of its slots, its answer."""
    batch = collate(rows)
    answers, video = net.answer(batch, max_new_tokens=3, min_new_tokens=3)
    encoded, slots, focus = net.instruction(batch.question_ids, batch.question_mask), batch.slot_video, video.focus
    result = []
    for n, answer in enumerate(answers.tolist()):
        own = (slots == n).nonzero().flatten().tolist()
        question = encoded[own[0]][batch.question_mask[own[0]]]
        result.append((question, [focus.frames[slot][focus.mask[slot]].tolist() for slot in own], answer))
    return result


@cache
def read_alone(connector: ConnectorSettings, side: str, opening: bool) -> list[Read]:
    return [read(*parts(connector, side, opening), [row])[0] for row in examples(connector)]


@pytest.mark.parametrize(("side", "opening"), [("left", True), ("left", False), ("right", False)])
@pytest.mark.parametrize("connector", [ONE, FRAME], ids=["instruction", "frame"])
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
@given(order=st.permutations(range(len(VIDEOS))), count=st.integers(2, len(VIDEOS)))
def test_neighbours_change_nothing(
    connector: ConnectorSettings, side: str, opening: bool, order: list[int], count: int
) -> None:
    rows, alone, chosen = examples(connector), read_alone(connector, side, opening), order[:count]
    together = read(*parts(connector, side, opening), [rows[n] for n in chosen])
    for n, (question, kept, answer) in zip(chosen, together, strict=True):
        torch.testing.assert_close(question, alone[n][0], atol=1e-5, rtol=1e-4)
        assert (kept, answer) == alone[n][1:]


def test_questions_are_padded_on_the_right_whatever_the_tokenizer_says() -> None:
    for side in ("left", "right"):
        batch = parts(ONE, side, False)[1](examples(ONE))
        assert batch.question_mask[:, 0].tolist() == [bool(mask.any()) for mask in batch.question_mask]
        assert (batch.question_mask[:, 1:] <= batch.question_mask[:, :-1]).all()


@pytest.mark.parametrize("connector", [ONE, FRAME], ids=["instruction", "frame"])
def test_accumulated_batches_learn_what_one_batch_learns(connector: ConnectorSettings) -> None:
    net, collate = parts(connector, "left", False)
    rows, gradients = examples(connector), []
    for size in (len(rows), 2):
        copy = deepcopy(net)
        copy.connector.train()
        batches = [replace(collate, answers=True)(rows[n : n + size]) for n in range(0, len(rows), size)]
        total = sum(batch.targets for batch in batches)
        for batch in batches:
            (copy(batch, step=3)[0] * batch.targets / total).backward()
        gradients.append({n: p.grad for n, p in copy.connector.named_parameters() if p.grad is not None})
    whole, accumulated = gradients
    assert whole.keys() == accumulated.keys()
    assert any("score" in name for name in whole)
    for name, gradient in whole.items():
        torch.testing.assert_close(
            accumulated[name], gradient, atol=1e-4 * max(1, float(gradient.abs().max())), rtol=1e-3
        )
