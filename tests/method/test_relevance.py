"""How well frames fit a question: given from outside, or measured where words and patches share a space."""

from dataclasses import replace

import pytest
import tiny
import torch

from dynfocus.errors import ConfigError, SelectorError
from dynfocus.method.relevance import measure_relevance
from dynfocus.method.selectors import build_selector
from dynfocus.types import SelectorInputs, stack_sketches


def ask(inputs: SelectorInputs, seed: int = 0) -> SelectorInputs:
    """The same inputs with a question in the patches' space, whose last token is padding."""
    count = len(inputs.keep)
    question = torch.randn(count, 4, tiny.WIDTH, generator=tiny.generator(seed))
    mask = torch.tensor([[True, True, True, False]]).expand(count, 4)
    return replace(inputs, question=question, question_mask=mask)


def test_it_is_the_mean_over_words_of_the_best_row_of_a_frame() -> None:
    one = tiny.pad_sketch(tiny.sketch(5), 2)
    inputs = ask(tiny.inputs(one, [2]))
    result = measure_relevance(one, inputs)
    for t in range(5):
        rows = [*one.pooled[0, t].double(), *one.grains[0, t].double()]
        best = [
            max(float(word @ row / (word.norm() * row.norm())) for row in rows)
            for word in inputs.question[0, :3].double()
        ]
        assert float(result[0, t]) == pytest.approx(sum(best) / 3, abs=1e-6)
    assert result[0, 5:].tolist() == [0, 0]


def test_neither_padding_nor_the_batch_nor_half_precision_of_copies_changes_it() -> None:
    videos = [tiny.sketch(count, seed=count) for count in (4, 7)]
    videos[0].pooled[:, 2], videos[0].grains[:, 2] = videos[0].pooled[:, 0], videos[0].grains[:, 0]
    both = stack_sketches(videos)
    inputs = ask(tiny.inputs(both, [2, 2]))
    together = measure_relevance(both, inputs)
    for n, one in enumerate(videos):
        question, mask = inputs.question[n : n + 1], inputs.question_mask[n : n + 1]
        alone = measure_relevance(one, replace(tiny.inputs(one, [2]), question=question, question_mask=mask))
        assert torch.equal(alone[0], together[n, : alone.shape[1]])
    assert together[0, 0] == together[0, 2]
    silent = replace(inputs, question_mask=torch.zeros_like(inputs.question_mask))
    assert measure_relevance(both, silent).count_nonzero() == 0


def test_what_is_given_is_taken() -> None:
    one = tiny.pad_sketch(tiny.sketch(3), 1)
    given = torch.tensor([[0.5, -1.0, 3.0, torch.nan]])
    result = measure_relevance(one, ask(tiny.inputs(one, [2], relevance=given)))
    assert result.tolist() == [[0.5, -1.0, 3.0, 0.0]]
    for wrong, output in ((given[:, :3], r"of shape \[1, 3\]"), (given.flip(1), "NaN or infinite at a real frame")):
        with pytest.raises(SelectorError, match=rf"a relevance .*{output}.*\[B, T\] = \[1, 4\]"):
            measure_relevance(one, tiny.inputs(one, [2], relevance=wrong))


@pytest.mark.parametrize("name", ["text_top_k", "aks", "bolt", "q_frame", "mmr", "event_mmr", "dpp", "mdp3"])
def test_words_of_another_space_are_refused_by_each_selector_that_reads_them(name: str) -> None:
    one = tiny.sketch(5)
    select = build_selector(replace(tiny.SETTINGS, selector=name), tiny.WIDTH, tiny.TEXT_WIDTH)
    with pytest.raises(ConfigError, match=r"tokens of 8 numbers, and patches of 16 numbers.*Set relevance"):
        select(one, tiny.inputs(one, [2]))
    assert select(one, ask(tiny.inputs(one, [2]))).mask.all()
    of_frames = replace(tiny.inputs(one, [2]), question=torch.randn(1, 5, 4, tiny.WIDTH))
    with pytest.raises(ConfigError, match="one question a frame"):
        select(one, of_frames)
