"""Figure 2 as a whole: token counts of every switch, and what may not change an output."""

from dataclasses import replace

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dynfocus.budget import budget
from dynfocus.errors import FeatureError
from dynfocus.method.connector import AveragePooling, Connector, build_connector
from dynfocus.settings import ConnectorSettings
from dynfocus.types import FrameSketch, VideoTokens, stack_sketches

SWITCHES = [replace(tiny.SETTINGS, kept_tokens=k, redundant_tokens=r) for k in (0, 2, 40, 256) for r in (0, 2)]
SWITCHES += [replace(tiny.SETTINGS, encoder="average_pooling"), replace(tiny.SETTINGS, selector="uniform")]
SWITCHES += [replace(tiny.SETTINGS, kept_tokens=38), replace(tiny.SETTINGS, kept_tokens=38, redundant_tokens=0)]
SWITCHES += [replace(tiny.SETTINGS, score_reads_question=True), replace(tiny.SETTINGS, neighbourhood="nearest")]
SWITCHES += [
    replace(tiny.SETTINGS, cone_rows="random", patch_frames="all", selector=name) for name in ("dpe", "random")
]
SWITCHES += [replace(tiny.SETTINGS, selector=name, merge_kept=True) for name in ("k_medoids", "dpe_frozen")]


def made(s: ConnectorSettings = tiny.SETTINGS, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_connector(s, tiny.WIDTH, tiny.TEXT_WIDTH, tiny.OUT).eval()


def asked(videos: int, tokens: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    question = torch.randn(videos, tokens, tiny.TEXT_WIDTH, generator=tiny.generator(seed))
    return question, torch.ones(videos, tokens, dtype=torch.bool)


def run(net: nn.Module, sketch: FrameSketch, step: int = 0, first: int = 0) -> VideoTokens:
    question, mask = asked(10)
    rows = torch.arange(first, first + len(sketch.mask))
    return net(sketch, question[rows], mask[rows], rows, step)


@pytest.mark.parametrize("s", SWITCHES, ids=lambda s: f"{s.kept_tokens}-{s.redundant_tokens}-{s.encoder}-{s.selector}")
@pytest.mark.parametrize("training", [True, False])
def test_tokens_are_counted_before_anything_runs(s: ConnectorSettings, training: bool) -> None:
    lengths = [1, 3, 5, 11]
    sketch = stack_sketches([tiny.sketch(frames, seed=frames, settings=s) for frames in lengths])
    result = run(made(s).train(training), sketch)
    costs = [budget(frames, s).visual_tokens for frames in lengths]
    assert result.mask.sum(1).tolist() == costs
    assert result.tokens.shape == (4, max(costs), tiny.OUT)
    assert result.tokens.isfinite().all()


@given(st.integers(1, 30), st.integers(1, 9), st.sampled_from([0.1, 0.28, 0.4, 0.5, 0.8, 1.0]), st.integers(0, 4))
@settings(max_examples=30)
def test_any_video_costs_its_budget(frames: int, events: int, keep: float, more: int) -> None:
    s = replace(tiny.SETTINGS, events=events, keep=keep)
    result = run(made(s), tiny.pad_sketch(tiny.sketch(frames), more))
    cost = budget(frames, s)
    assert result.mask.sum() == cost.visual_tokens
    assert result.focus is not None
    assert result.focus.mask.sum() == cost.kept


@pytest.mark.parametrize("s", SWITCHES, ids=lambda s: f"{s.kept_tokens}-{s.redundant_tokens}-{s.encoder}-{s.selector}")
@pytest.mark.parametrize("training", [True, False])
def test_padding_and_batch_change_no_output(s: ConnectorSettings, training: bool) -> None:
    videos = [tiny.sketch(frames, seed=frames, settings=s) for frames in (6, 1, 9)]
    net = made(s).train(training)
    together = run(net, stack_sketches(videos), step=3)
    for n, one in enumerate(videos):
        for more in (0, 5):
            alone = run(net, tiny.pad_sketch(one, more), step=3, first=n)
            torch.testing.assert_close(
                together.tokens[n][together.mask[n]], alone.tokens[0][alone.mask[0]], atol=2e-6, rtol=1e-6
            )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=14), st.integers(0, 4), st.sampled_from(["cluster", "nearest"]))
@settings(max_examples=40)
def test_copies_of_frames_tie_alike_in_any_batch(kinds: list[int], more: int, reading: str) -> None:
    """Equal frames stand in different places of the matrix products, whose rounding must not choose between them."""
    net = made(replace(tiny.SETTINGS, neighbourhood=reading))
    one, other = tiny.sketch(5, seed=len(kinds)), tiny.sketch(9, seed=3)
    copied = FrameSketch(*(part[:, kinds] for part in (one.pooled, one.grains, one.mask)))
    alone = run(net, copied)
    for batch in (tiny.pad_sketch(copied, more), stack_sketches([copied, other])):
        result = run(net, batch)
        assert result.focus is not None
        assert alone.focus is not None
        assert result.focus.frames[0][result.focus.mask[0]].tolist() == alone.focus.frames[0].tolist()
        torch.testing.assert_close(result.tokens[0][result.mask[0]], alone.tokens[0], atol=5e-6, rtol=1e-5)


def test_choices_are_fp32_whatever_the_precision_of_products() -> None:
    """TF32, which a trainer's advice may have switched on, is off where distances and scores are computed."""
    precisions: dict[str, set[str]] = {}

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            precisions.setdefault(str(func), set()).add(torch.get_float32_matmul_precision())
            return func(*args, **(kwargs or {}))

    torch.set_float32_matmul_precision("high")
    try:
        with Watch():
            run(made(), tiny.sketch(12))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    for deciding in ("aten.baddbmm.default", "aten.native_layer_norm.default"):  # D, and the score net
        assert precisions[deciding] == {"highest"}
    assert "high" in precisions["aten.addmm.default"]  # the projectors may be faster


def test_a_question_without_a_token_gives_finite_tokens() -> None:
    for s in (tiny.SETTINGS, replace(tiny.SETTINGS, score_reads_question=True)):
        question, mask = asked(1)
        result = made(s)(tiny.sketch(4), question, ~mask, torch.arange(1))
        assert result.tokens.isfinite().all()
        assert result.focus.scores.isfinite().all()


def test_a_sketch_without_patches_is_refused_where_they_are_asked_for() -> None:
    with pytest.raises(FeatureError, match="without patches"):
        run(made(replace(tiny.SETTINGS, kept_tokens=256)), tiny.sketch(4))


def test_a_static_video_costs_and_answers_like_any_other() -> None:
    one = tiny.sketch(1)
    still = FrameSketch(*(v.expand(-1, 12, *v.shape[2:]) for v in (one.pooled, one.grains, one.mask)))
    for training in (True, False):
        result = run(made().train(training), still)
        assert result.tokens.isfinite().all()
        assert result.mask.sum() == budget(12, tiny.SETTINGS).visual_tokens
    assert result.focus is not None
    assert result.focus.frames.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("part", ["pooled", "grains"])
def test_one_bad_frame_is_refused(part: str) -> None:
    for value in (torch.nan, torch.inf):
        sketch = tiny.sketch(6)
        getattr(sketch, part)[0, 2, 1, 3] = value
        for s in (tiny.SETTINGS, replace(tiny.SETTINGS, encoder="average_pooling")):
            with pytest.raises(FeatureError, match="NaN or infinite"):
                run(made(s), sketch)


def test_training_moves_with_the_step_and_evaluation_does_not() -> None:
    net, one = made(replace(tiny.SETTINGS, sigma=1.0)), tiny.sketch(9)
    assert torch.equal(run(net, one, 0).tokens, run(net, one, 1).tokens)
    net.train()
    assert torch.equal(run(net, one, 1).tokens, run(net, one, 1).tokens)
    assert not torch.equal(run(net, one, 0).tokens, run(net, one, 1).tokens)


def test_the_question_moves_the_grounded_rod_of_every_frame_and_nothing_else() -> None:
    net, one = made(), tiny.sketch(5)
    rows = torch.arange(1)
    (first, mask), (second, _) = asked(1), asked(1, seed=1)
    a, b = net(one, first, mask, rows), net(one, second, mask, rows)
    moved = (a.tokens - b.tokens).abs().amax(-1)[0] > 1e-6
    assert moved.sum() == 5  # one grounded rod for each frame
    assert a.focus is not None
    assert a.focus.frames.tolist() == b.focus.frames.tolist()


def test_every_parameter_of_the_connector_trains() -> None:
    net = made().train()
    run(net, tiny.sketch(9)).tokens.pow(3).sum().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert not silent


def test_cones_without_rods_are_the_same_cones() -> None:
    both = [run(made(replace(tiny.SETTINGS, kept_tokens=k, redundant_tokens=0)), tiny.sketch(9)) for k in (38, 40)]
    cones = both[1].tokens[0].unflatten(0, (-1, tiny.SETTINGS.cones + 2))[:, : tiny.SETTINGS.cones]
    assert torch.equal(both[0].tokens[0], cones.flatten(0, 1))
    assert torch.equal(both[0].focus.frames, both[1].focus.frames)


@pytest.mark.parametrize("kept_tokens", [0, 2])
def test_without_cones_no_score_trains(kept_tokens: int) -> None:
    net = made(replace(tiny.SETTINGS, kept_tokens=kept_tokens)).train()
    run(net, tiny.sketch(9)).tokens.sum().backward()
    assert all(p.grad is None or p.grad.eq(0).all() for p in net.select.parameters())


def test_average_pooling_gives_each_pooled_patch_in_time_order() -> None:
    net, one = made(replace(tiny.SETTINGS, encoder="average_pooling")), tiny.sketch(3)
    assert isinstance(net, AveragePooling)
    result = run(net, one)
    for t in range(3):
        for p in range(4):
            torch.testing.assert_close(result.tokens[0, 4 * t + p], net.fine(one.pooled[0, t, p]))
    assert isinstance(made(), Connector)


@pytest.mark.parametrize("s", SWITCHES[4:9], ids=lambda s: f"{s.kept_tokens}-{s.redundant_tokens}-{s.encoder}")
def test_half_precision_weights_choose_the_same_frames(s: ConnectorSettings) -> None:
    net, one = made(s), tiny.sketch(9, settings=s)
    full = run(net, one)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = run(net, one)
    net.to(torch.bfloat16)
    question, mask = asked(1)
    half = net(one, question.bfloat16(), mask, torch.arange(1))
    assert half.tokens.dtype == torch.bfloat16
    for result in (mixed, half):
        torch.testing.assert_close(result.tokens.float(), full.tokens, atol=0.1, rtol=0.1)
        if full.focus is not None:
            assert torch.equal(result.focus.frames, full.focus.frames)
    if mixed.focus is not None:
        assert torch.equal(mixed.focus.scores, full.focus.scores)
