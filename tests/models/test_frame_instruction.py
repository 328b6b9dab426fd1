"""The instruction mode in which query tokens read every frame."""

from dataclasses import replace

import pytest
import tiny
import torch

from dynfocus.errors import ConfigError, FeatureError
from dynfocus.method.cce import Rods, ground
from dynfocus.method.sketch import encoder_calls, sketch_frames
from dynfocus.models.collate import Example
from dynfocus.models.frame_instruction import encode_with_instruction

FRAME = replace(tiny.SETTINGS, instruction_mode="frame")


def examples(counts: list[int], **options: object) -> list[Example]:
    return [Example(tiny.row(n, **options), frames=tiny.frames(count, n)) for n, count in enumerate(counts)]


@pytest.mark.parametrize("slots", ["first", "every"])
def test_every_frame_is_read_under_its_own_question(slots: str) -> None:
    net, rows = tiny.model(FRAME), examples([5, 3], turns=2)
    batch = tiny.processor(FRAME, slots=slots)(rows)
    with torch.no_grad():
        sketch, read = encode_with_instruction(batch, net.vision, net.instruction, net.settings)
        for slot, video in enumerate(batch.slot_video.tolist()):
            length = int(batch.question_mask[slot].sum())
            ids, mask = batch.question_ids[slot : slot + 1, :length], torch.ones(1, length, dtype=torch.bool)
            for n, frame in enumerate(rows[video].frames):
                alone = net.instruction.look(net.vision.rows(frame[None])[1], ids, mask)[0, 0]
                torch.testing.assert_close(read[slot, n], alone, atol=1e-5, rtol=1e-4)
            assert not read[slot, len(rows[video].frames) :].any()
        torch.testing.assert_close(sketch.pooled[0, :5], net.sketch(rows[0].frames).pooled[0])
    assert (read[0, 0] - read[0, 1]).abs().max() > 1e-3  # frames differ in what is read of them


def test_rods_hear_each_frames_own_tokens() -> None:
    torch.manual_seed(0)
    rods, sketch = Rods(tiny.WIDTH, tiny.TEXT_WIDTH, tiny.OUT), tiny.sketch(4)
    read = torch.randn(1, 4, 6, tiny.TEXT_WIDTH)
    mask = torch.ones(1, 6, dtype=torch.bool)
    with torch.no_grad():
        together = rods(sketch, read, mask)
        for n in range(4):
            one = replace(sketch, **{p: getattr(sketch, p)[:, n : n + 1] for p in ("pooled", "grains", "mask")})
            torch.testing.assert_close(together[:, n : n + 1], rods(one, read[:, n], mask), atol=1e-5, rtol=1e-4)
        queries = torch.randn(1, 6, tiny.WIDTH)
        grains = sketch.grains.float()
        same = queries[:, None].expand(-1, 4, -1, -1)
        torch.testing.assert_close(ground(grains, queries, mask), ground(grains, same, mask), atol=1e-6, rtol=1e-5)


def test_long_videos_are_read_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    rods, sketch = Rods(tiny.WIDTH, tiny.TEXT_WIDTH, tiny.OUT), tiny.sketch(7)
    read, mask = torch.randn(1, 7, 3, tiny.TEXT_WIDTH), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        at_once = rods(sketch, read, mask)
        monkeypatch.setattr("dynfocus.method.cce.BLOCK", 3)
        torch.testing.assert_close(rods(sketch, read, mask), at_once, atol=1e-6, rtol=1e-5)


def test_batch_and_padding_change_no_answer() -> None:
    net, rows = tiny.model(FRAME), examples([9, 1, 4])
    with torch.no_grad():
        together, video = net.answer(tiny.processor(FRAME)(rows), max_new_tokens=4, min_new_tokens=4)
        for n, row in enumerate(rows):
            alone, own = net.answer(tiny.processor(FRAME)([row]), max_new_tokens=4, min_new_tokens=4)
            assert alone[0].tolist() == together[n].tolist()
            size = int(own.mask.sum())
            torch.testing.assert_close(video.tokens[n, :size], own.tokens[0, :size], atol=1e-4, rtol=1e-4)
    assert len({tuple(answer) for answer in together.tolist()}) > 1


@pytest.mark.parametrize("patch_frames", ["representatives", "all"])
def test_frames_that_are_encoded_twice_are_read_once(patch_frames: str) -> None:
    settings = replace(FRAME, kept_tokens=256, patch_frames=patch_frames)
    net, rows = tiny.model(settings), examples([18])
    batch = tiny.processor(settings)(rows)
    with torch.no_grad():
        _, read = encode_with_instruction(batch, net.vision, net.instruction, settings)
        _, plain = encode_with_instruction(batch, net.vision, net.instruction, FRAME)
    assert torch.equal(read, plain)


@pytest.mark.parametrize("kept_tokens", [40, 256])
@pytest.mark.parametrize("patch_frames", ["representatives", "all"])
@pytest.mark.parametrize("frames", [1, 5, 16, 17, 40])
def test_the_encoder_is_called_as_often_as_is_said(kept_tokens: int, patch_frames: str, frames: int) -> None:
    settings = replace(tiny.SETTINGS, kept_tokens=kept_tokens, patch_frames=patch_frames)
    net, calls = tiny.model(settings), 0

    def counted(part: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return net.vision(part)

    sketch_frames(tiny.frames(frames), counted, settings)
    assert calls == encoder_calls(frames, settings)


def test_sketches_and_scores_that_need_the_question_first_are_refused() -> None:
    net = tiny.model(FRAME)
    with pytest.raises(FeatureError, match=r"sketches with instruction_mode = frame.*no sketch cache"):
        net(tiny.batch([3], FRAME, answers=True))
    with pytest.raises(ConfigError, match="score_reads_question with instruction_mode = frame"):
        replace(FRAME, score_reads_question=True)
