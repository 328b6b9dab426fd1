"""Eq. 8-11 against loops: cones, rods, and how they are woven."""

from dataclasses import replace

import oracles
import pytest
import tiny
import torch
from torch import Tensor

from dynfocus.method.cce import Cones, Projector, Rods, draw_patches, ground, weave
from dynfocus.settings import ConnectorSettings, count_kept
from dynfocus.types import Focus, FrameSketch, stack_sketches


def exact(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().double().requires_grad_() for name, value in net.named_parameters()}


def part(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def same_gradients(net: torch.nn.Module, slow: dict[str, Tensor]) -> None:
    for name, value in net.named_parameters():
        assert value.grad is not None
        torch.testing.assert_close(value.grad.double(), slow[name].grad, atol=1e-5, rtol=1e-5, msg=name)


def focus_on(sketch: FrameSketch, frames: list[list[int]]) -> Focus:
    slots = max(map(len, frames))
    index = torch.tensor([row + [0] * (slots - len(row)) for row in frames])
    mask = torch.tensor([[n < len(row) for n in range(slots)] for row in frames])
    video = torch.arange(len(frames))[:, None]
    patches = None if sketch.patches is None else sketch.patches[video, index]
    return Focus(index, mask, sketch.pooled[video, index], sketch.grains[video, index], patches)


@pytest.mark.parametrize(("kept_tokens", "count"), [(38, 13), (40, 13), (256, 36), (2, 0), (0, 0)])
def test_cones_equal_the_loops(kept_tokens: int, count: int) -> None:
    settings = replace(tiny.SETTINGS, kept_tokens=kept_tokens)
    torch.manual_seed(0)
    cones, one = Cones(settings, tiny.WIDTH, tiny.OUT), tiny.sketch(3, settings=settings)
    focus = focus_on(one, [[0, 2]])
    result = cones(focus)
    assert result.shape == (1, 2, count, tiny.OUT)
    assert count == settings.cones
    if count == 0:
        return
    slow = exact(cones)
    weight = torch.randn(result.shape[1:], generator=tiny.generator(1))
    total = 0.0
    for slot, frame in enumerate((0, 2)):
        read = (
            one.patches[0, frame]
            if one.patches is not None
            else torch.cat([one.pooled[0, frame], one.grains[0, frame]])
        )
        for n, row in enumerate(read.double()):
            token = oracles.mlp(row, part(slow, "fine"))
            torch.testing.assert_close(result[0, slot, n].double(), token, atol=1e-5, rtol=1e-5)
            total = total + (token * weight[slot, n]).sum()
    (result[0] * weight).sum().backward()
    total.backward()
    same_gradients(cones, slow)


@pytest.mark.parametrize(("frames", "tokens", "padding"), [(1, 1, 0), (3, 4, 0), (2, 3, 2)])
def test_rods_and_their_gradients_equal_the_loops(frames: int, tokens: int, padding: int) -> None:
    torch.manual_seed(frames)
    rods, one = Rods(tiny.WIDTH, tiny.TEXT_WIDTH, tiny.OUT), tiny.sketch(frames)
    question = torch.randn(1, tokens + padding, tiny.TEXT_WIDTH) * 3
    mask = torch.arange(tokens + padding)[None] < tokens
    result = rods(one, question, mask)
    assert result.shape == (1, frames, 2, tiny.OUT)
    slow, weight = exact(rods), torch.randn(result.shape[1:], generator=tiny.generator(1))
    total = 0.0
    for t in range(frames):
        g = one.grains[0, t].double()
        e = oracles.eq9(list(question[0, :tokens].double()), g, part(slow, "f_q"), part(slow, "f_k"))
        for n, token in enumerate((e, sum(g) / len(g))):
            rod = oracles.mlp(token, part(slow, "coarse"))
            torch.testing.assert_close(result[0, t, n].double(), rod, atol=1e-5, rtol=1e-5)
            total = total + (rod * weight[t, n]).sum()
    (result[0] * weight).sum().backward()
    total.backward()
    same_gradients(rods, slow)


def test_padding_of_the_question_holds_nothing() -> None:
    g = torch.randn(2, 3, 5, 8)
    query, mask = torch.randn(2, 4, 8), torch.tensor([[True, True, False, False], [True] * 4])
    result = ground(g, query, mask)
    torch.testing.assert_close(result[:1], ground(g[:1], query[:1, :2], mask[:1, :2]))
    other = query.clone()
    other[0, 2:] = 1e4
    torch.testing.assert_close(result, ground(g, other, mask))


def test_f_q_may_be_applied_to_the_question_instead_of_the_grains() -> None:
    torch.manual_seed(0)
    grains, tokens, mask = torch.randn(2, 3, 5, 8), torch.randn(2, 4, 8), torch.arange(4) < torch.tensor([[2], [4]])
    f_q = torch.nn.Linear(8, 8, bias=False)
    result = ground(grains, tokens @ f_q.weight, mask)
    torch.testing.assert_close(result, oracles.ground(grains, f_q, tokens, mask))
    f_q = torch.nn.Linear(8, 8)  # the paper's layer may have a bias: it changes nothing
    torch.testing.assert_close(ground(grains, tokens @ f_q.weight, mask), oracles.ground(grains, f_q, tokens, mask))


@pytest.mark.parametrize("redundant", [0, 2])
@pytest.mark.parametrize("kept_tokens", [0, 2, 38, 40, 256])
def test_tokens_stand_in_time_order(kept_tokens: int, redundant: int) -> None:
    """Every token carries its frame, its kind and its number, so that each place can be read off."""
    settings = replace(tiny.SETTINGS, kept_tokens=kept_tokens, redundant_tokens=redundant)
    sketch = stack_sketches([tiny.sketch(frames, settings=settings) for frames in (1, 7, 4)])
    chosen = [[0], [1, 2, 6], [0, 2]]
    focus = focus_on(sketch, chosen)
    cones = torch.full((3, 3, settings.cones, 4), -1.0)
    rods = torch.full((3, 7, 2, 4), -1.0)
    for video, frames in enumerate(chosen):
        for slot, t in enumerate(frames):
            for n in range(settings.cones):
                cones[video, slot, n] = torch.tensor([video, t, 1.0, n])
    for video, length in enumerate((1, 7, 4)):
        for t in range(length):
            for n in range(2):
                rods[video, t, n] = torch.tensor([video, t, 2.0, n])
    result = weave(cones, rods, focus, sketch, settings)
    for video, (frames, length) in enumerate(zip(chosen, (1, 7, 4), strict=True)):
        by_frame = {t: list(cones[video, slot]) for slot, t in enumerate(frames)}
        inputs = [2 if t not in frames else 0 if kept_tokens in (0, 38) else 2 for t in range(length)]
        inputs = [0 if t not in frames and redundant == 0 else g for t, g in enumerate(inputs)]
        expected = oracles.eq11(length, by_frame, [list(rods[video, t, : inputs[t]]) for t in range(length)])
        assert result.mask[video].sum() == len(expected)
        assert result.mask[video, : len(expected)].all()
        assert result.tokens[video, : len(expected)].tolist() == [token.tolist() for token in expected]
        assert result.tokens[video, len(expected) :].eq(0).all()


def test_every_token_passes_its_gradient_back_once() -> None:
    sketch = stack_sketches([tiny.sketch(2), tiny.sketch(6)])
    focus = focus_on(sketch, [[0], [1, 5]])
    cones = torch.randn(2, 2, tiny.SETTINGS.cones, 3, requires_grad=True)
    rods = torch.randn(2, 6, 2, 3, requires_grad=True)
    weave(cones, rods, focus, sketch, tiny.SETTINGS).tokens.sum().backward()
    assert cones.grad is not None
    assert rods.grad is not None
    assert torch.equal(cones.grad, focus.mask[..., None, None].float().expand_as(cones))
    assert torch.equal(rods.grad, sketch.mask[..., None, None].float().expand_as(rods))


def test_paper_token_count_and_projector() -> None:
    settings = ConnectorSettings()
    sketch = tiny.sketch(16, settings=settings)
    keep = count_kept(16, settings)
    focus = focus_on(sketch, [list(range(keep))])
    assert (
        weave(
            Cones(settings, 16, 8)(focus),
            Rods(16, 8, 8)(sketch, torch.randn(1, 2, 8), torch.ones(1, 2).bool()),
            focus,
            sketch,
            settings,
        ).mask.sum()
        == 526
    )
    assert [type(layer).__name__ for layer in Projector(3, 5)] == ["Linear", "GELU", "Linear"]


@pytest.mark.parametrize("frames", [5, 8, 9, 20])
def test_rods_made_in_blocks_are_the_same_and_learn_the_same(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    rods, one = Rods(16, 8, 24), tiny.sketch(frames)
    question, mask = torch.randn(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)
    whole = rods(one, question, mask)
    gradients = torch.autograd.grad(whole.pow(3).sum(), list(rods.parameters()))
    monkeypatch.setattr("dynfocus.method.cce.BLOCK", 4)
    parts = rods(one, question, mask)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
    for result, exact in zip(torch.autograd.grad(parts.pow(3).sum(), list(rods.parameters())), gradients, strict=True):
        torch.testing.assert_close(result, exact, atol=1e-4, rtol=1e-4)


RANDOM = replace(tiny.SETTINGS, cone_rows="random", patch_frames="all")
HELD = replace(tiny.SETTINGS, kept_tokens=256)  # its sketches hold every patch too


def test_random_cones_are_as_many_patches_of_the_kept_frame() -> None:
    one = tiny.sketch(7, settings=HELD)
    focus = focus_on(one, [[1, 4]])
    drawn = draw_patches(focus.patches, RANDOM.cones, focus.frames, torch.tensor([3]))
    assert drawn.shape == (1, 2, RANDOM.cones, tiny.WIDTH)
    for k, frame in enumerate((1, 4)):
        places = [int((one.patches[0, frame] == row).all(-1).nonzero()) for row in drawn[0, k]]
        assert places == sorted(set(places))
    own = Cones(RANDOM, tiny.WIDTH, tiny.OUT)
    assert torch.equal(own(focus, torch.tensor([3])), own.fine(drawn))
    assert not torch.equal(own(focus, torch.tensor([4])), own.fine(drawn))
    assert torch.equal(own(focus), own(focus, torch.tensor([0])))


def test_random_places_of_a_frame_follow_from_row_and_frame_alone() -> None:
    patches = torch.arange(36.0).expand(2, 3, 36)[..., None].contiguous()
    one = draw_patches(patches, 9, torch.tensor([[0, 2, 5], [1, 2, 3]]), torch.tensor([3, 4]))
    other = draw_patches(patches[:1, :2], 9, torch.tensor([[2, 5]]), torch.tensor([3]))
    assert torch.equal(one[0, 1:], other[0])
    assert len({tuple(row.flatten().tolist()) for row in one.flatten(0, 1)}) == 6
    counts = torch.zeros(36)
    for row in range(200):
        counts[draw_patches(patches[:1, :1], 9, torch.tensor([[0]]), torch.tensor([row])).long().flatten()] += 1
    assert (counts - 50).abs().max() < 5 * (200 * 0.25 * 0.75) ** 0.5
