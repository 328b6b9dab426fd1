"""DPE as a whole: which frames are kept, and what fills their slots."""

import math
from dataclasses import replace

import oracles
import pytest
import tiny
import torch
from hypothesis import strategies as st

from dynfocus.errors import FeatureError
from dynfocus.method.dpe import EventPrototypeSelector, patches_of
from dynfocus.method.events import find_events
from dynfocus.method.score import TimeInteraction
from dynfocus.method.selectors.variants import QuestionEventSelector, QuestionTimeSelector
from dynfocus.method.topk import draw_keyed_noise
from dynfocus.settings import ConnectorSettings, count_kept
from dynfocus.types import FrameSketch, stack_sketches

SEEDS = st.integers(0, 10**6)


@pytest.mark.parametrize("reading", ["cluster", "nearest"])
def test_a_video_without_change_keeps_its_first_frames(reading: str) -> None:
    """Also where its prototypes' scores differ by rounding, as those of wide features do."""
    for seed, (width, frames) in enumerate([(64, 8), (256, 13), (48, 25), (512, 9)]):
        wide = replace(tiny.SETTINGS, events=6, keep=0.5, neighbourhood=reading)
        still = tiny.sketch(1, seed, width=width).gather(torch.tensor([0]))
        still = FrameSketch(*(v.expand(-1, frames, *v.shape[2:]) for v in (still.pooled, still.grains, still.mask)))
        torch.manual_seed(seed)
        focus = EventPrototypeSelector(wide, width, tiny.TEXT_WIDTH).eval()(still, tiny.inputs(still, [3]))
        assert focus.scores is not None
        assert focus.scores.eq(0).all()
        assert focus.frames.tolist() == [[0, 1, 2]]


def selector(events: ConnectorSettings = tiny.SETTINGS, seed: int = 0) -> EventPrototypeSelector:
    torch.manual_seed(seed)
    return EventPrototypeSelector(events, tiny.WIDTH, tiny.TEXT_WIDTH)


def keep_of(sketch: FrameSketch, s: ConnectorSettings = tiny.SETTINGS) -> list[int]:
    return [count_kept(frames, s) for frames in sketch.frames.tolist()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frames", [1, 3, 5, 12])
def test_b_has_one_for_each_kept_representative(frames: int, training: bool) -> None:
    one = tiny.sketch(frames, seed=frames)
    keep = keep_of(one)
    focus = selector().train(training)(one, tiny.inputs(one, keep))
    b = focus.kept(frames)
    assert focus.events is not None
    assert focus.scores is not None
    assert b.sum() == keep[0]
    assert set(b[0].nonzero()[:, 0].tolist()) <= set(focus.events.frames[0].tolist())
    best = oracles.top(focus.scores[0].tolist(), keep[0])  # unperturbed scores in training too
    assert b[0].nonzero()[:, 0].tolist() == focus.events.frames[0][best].tolist()


@pytest.mark.parametrize("frames", [4, 9])
def test_training_mixes_and_evaluation_takes(frames: int) -> None:
    one, net = tiny.sketch(frames, seed=3), selector()
    keep = keep_of(one)
    events = find_events(one, tiny.SETTINGS)
    soft = net.train()(one, tiny.inputs(one, keep, 7, 2))
    assert soft.scores is not None
    assert soft.mixture is not None
    noise = draw_keyed_noise(
        [5 if frames > 5 else 4], events.mask.shape[1], tiny.SETTINGS.samples, torch.tensor([7]), 2
    )
    p = oracles.eq6(soft.scores[0].tolist(), keep[0], noise[0], tiny.SETTINGS.sigma).float()
    grains = one.grains[0, events.frames[0]]
    for slot in range(keep[0]):
        h = sum(p[slot, n] * events.prototypes[0, n] for n in range(p.shape[1]))
        g = sum(p[slot, n] * grains[n] for n in range(p.shape[1]))
        torch.testing.assert_close(soft.pooled[0, slot], h, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(soft.grains[0, slot], g, atol=1e-5, rtol=1e-5)
    hard = net.eval()(one, tiny.inputs(one, keep, 7, 2))
    torch.testing.assert_close(hard.grains[0], one.grains[0, hard.frames[0]], atol=1e-6, rtol=1e-6)
    assert torch.equal(hard.frames, soft.frames)


def test_straight_through_slots_are_the_kept_events_and_their_gradient_is_that_of_the_mixture() -> None:
    videos = [tiny.sketch(9, seed=3), tiny.sketch(4, seed=4)]
    both, net = stack_sketches(videos), selector().train()
    hard_net = selector(replace(tiny.SETTINGS, straight_through=True)).train()
    inputs = tiny.inputs(both, keep_of(both), 7, 2)
    hard, soft, asked = hard_net(both, inputs), net(both, inputs), hard_net.eval()(both, inputs)
    torch.testing.assert_close(hard.pooled * hard.mask[..., None, None], asked.pooled * asked.mask[..., None, None])
    assert not torch.allclose(soft.pooled, hard.pooled, atol=1e-3)
    for focus in (hard, soft):
        (focus.pooled * torch.linspace(-1, 1, focus.pooled[0, 0].numel()).view_as(focus.pooled[0, 0])).sum().backward()
    gradients = [[weight.grad for weight in one.parameters()] for one in (hard_net, net)]
    torch.testing.assert_close(*gradients)
    assert any(gradient.any() for gradient in gradients[0])


def test_without_noise_training_is_the_hard_choice() -> None:
    still = replace(tiny.SETTINGS, sigma=0.0)
    one, net = tiny.sketch(9), selector(still)
    trained = net.train()(one, tiny.inputs(one, keep_of(one, still)))
    asked = net.eval()(one, tiny.inputs(one, keep_of(one, still)))
    assert torch.equal(trained.pooled, asked.pooled)
    assert trained.mixture is None
    trained.pooled.sum().backward()  # no noise, no Eq. 7: never a division by sigma, but a gradient that is there
    assert all(weight.grad is not None and not weight.grad.any() for weight in net.parameters())


def test_a_ratio_of_one_keeps_all_and_trains_no_score() -> None:
    every = replace(tiny.SETTINGS, keep=1.0)
    one, net = tiny.sketch(9), selector(every)
    focus = net.train()(one, tiny.inputs(one, keep_of(one, every)))
    assert focus.events is not None
    assert torch.equal(focus.frames, focus.events.frames)
    torch.testing.assert_close(focus.pooled, focus.events.prototypes)
    focus.pooled.square().sum().backward()
    assert all(p.grad is None or p.grad.eq(0).all() for p in net.parameters())


def test_the_choice_of_a_video_does_not_hang_on_its_batch() -> None:
    videos = [tiny.sketch(frames, seed=frames) for frames in (1, 4, 11, 7)]
    net = selector().train()
    both = stack_sketches(videos)
    together = net(both, tiny.inputs(both, keep_of(both), 5, 9))
    for n, one in enumerate(videos):
        keep = keep_of(one)[0]
        alone = net(one, tiny.inputs(one, keep_of(one), 5 + n, 9))
        assert together.frames[n, :keep].tolist() == alone.frames[0].tolist()
        assert together.mask[n].sum() == keep
        torch.testing.assert_close(together.pooled[n, :keep], alone.pooled[0], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(together.grains[n, :keep], alone.grains[0], atol=1e-6, rtol=1e-6)


def test_the_score_net_hears_from_every_token_of_the_kept_frames() -> None:
    one, net = tiny.sketch(9), selector().train()
    for part in ("pooled", "grains"):
        net.zero_grad()
        focus = net(one, tiny.inputs(one, keep_of(one)))
        getattr(focus, part)[0, 0, -1].sum().backward()
        assert sum(p.grad.abs().sum() for p in net.parameters() if p.grad is not None) > 0


def test_the_question_moves_the_choice_only_where_the_score_reads_it() -> None:
    one = tiny.sketch(12, seed=4)
    kept_by = {}
    for reads in (False, True):
        net = selector(replace(tiny.SETTINGS, score_reads_question=reads)).eval()
        kept_by[reads] = {tuple(net(one, tiny.inputs(one, [2], row)).frames[0].tolist()) for row in range(8)}
    assert len(kept_by[False]) == 1
    assert len(kept_by[True]) > 1


def test_patches_that_the_sketch_does_not_hold_are_refused() -> None:
    s = replace(tiny.SETTINGS, kept_tokens=256)
    one = tiny.sketch(9, settings=s)
    assert one.patches is not None
    assert one.patch_frames is not None
    some = replace(one, patches=one.patches[:, ::2], patch_frames=one.patch_frames[:, ::2])
    real = torch.ones(1, 2, dtype=torch.bool)
    result = patches_of(some, torch.tensor([[4, 8]]), real)
    assert result is not None
    assert torch.equal(result, one.patches[:, [4, 8]])
    with pytest.raises(FeatureError, match=r"patches of frame 3, .* Set connector.patch_frames to all"):
        patches_of(some, torch.tensor([[4, 3]]), real)


def test_representatives_of_a_sketch_are_not_chosen_again() -> None:
    """The rounding of a padded batch may choose otherwise where two frames are nearly alike."""
    s = replace(tiny.SETTINGS, kept_tokens=256)
    videos = [tiny.sketch(frames, seed=frames, settings=s) for frames in (9, 3)]
    others = [torch.tensor([[0, 2, 3, 5, 8]]), torch.tensor([[0, 1, 2]])]
    content = [replace(v, patches=v.patches[:, o[0]], patch_frames=o) for v, o in zip(videos, others, strict=True)]
    both = stack_sketches(content)
    for net in (selector(s).eval(), selector(s).train()):
        focus = net(both, tiny.inputs(both, [3, 2]))
        assert focus.events is not None
        assert focus.patches is not None
        assert focus.events.frames[0].tolist() == [0, 2, 3, 5, 8]
        assert focus.events.frames[1, :3].tolist() == [0, 1, 2]
        assert set(focus.frames[0].tolist()) <= {0, 2, 3, 5, 8}
    alone = selector(s).eval()(content[1], tiny.inputs(content[1], [2], row=1))
    torch.testing.assert_close(selector(s).eval()(both, tiny.inputs(both, [3, 2])).patches[1, :2], alone.patches[0])


def test_the_question_tells_frames_apart_whose_prototypes_are_equal() -> None:
    """Their pooled patches are copies, their grains are not: the score net's part ties, the question's does not."""
    s = replace(tiny.SETTINGS, score_reads_question=True)
    one = tiny.sketch(4, seed=2)
    one.pooled[:] = one.pooled[:, :1].clone()
    net, kept_by = selector(s).eval(), set()
    for row in range(8):
        focus = net(one, tiny.inputs(one, [2], row))
        assert focus.events is not None
        assert focus.events.first.tolist() == [[0, 0, 0, 0]]
        kept_by.add(tuple(focus.frames[0].tolist()))
    assert len(kept_by) > 1


def test_the_question_ties_between_frames_that_are_copies() -> None:
    s = replace(tiny.SETTINGS, score_reads_question=True, events=6, keep=0.5)
    for seed, (width, frames) in enumerate([(64, 8), (256, 13), (48, 25), (512, 9)]):
        still = tiny.sketch(1, seed, width=width).gather(torch.tensor([0]))
        still = FrameSketch(*(v.expand(-1, frames, *v.shape[2:]) for v in (still.pooled, still.grains, still.mask)))
        torch.manual_seed(seed)
        focus = EventPrototypeSelector(s, width, tiny.TEXT_WIDTH).eval()(still, tiny.inputs(still, [3]))
        assert focus.scores is not None
        assert focus.scores.eq(0).all()


def test_the_time_term_is_the_sum_of_its_cosines() -> None:
    torch.manual_seed(0)
    term = TimeInteraction(6, cosines=3)
    question, known = torch.randn(2, 4, 6), torch.tensor([[True] * 4, [True, True, False, False]])
    times = torch.rand(2, 5)
    assert not term(times, question, known).any()  # at first it says nothing
    torch.nn.init.normal_(term.weigh.weight)
    for n, count in enumerate((4, 2)):
        mean = question[n, :count].mean(0)
        for event, t in enumerate(times[n].tolist()):
            expected = sum((term.weigh.weight[h] @ mean).item() * math.cos(math.pi * (h + 1) * t) for h in range(3))
            assert term(times, question, known)[n, event].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("frames", [1, 9])
def test_a_question_can_ask_for_the_first_or_the_last_of_equal_frames(frames: int) -> None:
    torch.manual_seed(0)
    net = QuestionTimeSelector(tiny.SETTINGS, tiny.WIDTH, tiny.TEXT_WIDTH).eval()
    still = tiny.sketch(1).gather(torch.tensor([0]))
    still = FrameSketch(*(v.expand(-1, frames, *v.shape[2:]) for v in (still.pooled, still.grains, still.mask)))
    inputs = tiny.inputs(still, [1])
    kept = []
    for sign in (1, -1):  # the first cosine falls with time
        with torch.no_grad():
            net.score_time.weigh.weight[0] = sign * inputs.question[0].mean(0)
        focus = net(still, inputs)
        assert focus.events is not None
        kept.append(focus.events.frames[0].tolist().index(focus.frames.item()))
    assert kept == [0, len(focus.events.frames[0]) - 1]


def test_a_rotated_question_is_read_as_if_it_had_been_rotated_before() -> None:
    torch.manual_seed(0)
    turned = QuestionEventSelector(tiny.SETTINGS, tiny.WIDTH, tiny.TEXT_WIDTH, rotation=3).eval()
    torch.manual_seed(0)
    plain = QuestionEventSelector(tiny.SETTINGS, tiny.WIDTH, tiny.TEXT_WIDTH).eval()
    one = tiny.sketch(9)
    inputs = tiny.inputs(one, [2])
    assert turned.rotation is not None
    torch.testing.assert_close(turned.rotation @ turned.rotation.mT, torch.eye(tiny.TEXT_WIDTH))
    before = replace(inputs, question=inputs.question @ turned.rotation)
    torch.testing.assert_close(turned(one, inputs).scores, plain(one, before).scores)
    assert not torch.allclose(turned(one, inputs).scores, plain(one, inputs).scores)
    assert turned.bfloat16()(one, inputs).scores.dtype == torch.float32
    assert "rotation" in turned.state_dict()  # a folder keeps it, as it keeps weights
