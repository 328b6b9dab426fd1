"""Time stamps that do not ascend in the order in which frames are shown, and clocks that start again."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from make_videos import EVERY, VP9, X264, numbers, write_video

from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip
from dynfocus.video.packets import join_clocks, split_clocks

SECOND = FrameRule(size=64, fps=1, interpolation="box")
REORDERED = {
    "H.264": ("libx264", X264),
    "H.264, references among B-frames": ("libx264", {"x264-params": "keyint=24:bframes=7:b-pyramid=normal:b-adapt=0"}),
    "MPEG-2": ("mpeg2video", {"g": "12", "bf": "2"}),
    "MPEG-4": ("mpeg4", {"g": "12", "bf": "2"}),
}


@pytest.mark.parametrize("kind", REORDERED)
def test_frames_of_an_avi_are_timed_in_the_order_they_are_shown_in(tmp_path, kind):
    """AVI stores no time stamps: what FFmpeg makes up for them counts the frames in the order of decoding."""
    codec, options = REORDERED[kind]
    path = write_video(tmp_path / "a.avi", 40, codec, options)
    every = read_clip(path, EVERY)
    assert numbers(every.frames) == list(range(40))
    torch.testing.assert_close(every.seconds, torch.arange(40) / 10)
    assert numbers(read_clip(path, SECOND).frames) == [0, 10, 20, 30]
    for start, end in [(0, 0.3), (0.9, 1.3), (2.5, 3.1), (3.7, 9)]:
        segment = read_clip(VideoSegment(path, start, end), EVERY)
        assert numbers(segment.frames) == list(range(round(10 * start), min(40, round(10 * end))))
        paced = read_clip(VideoSegment(path, start, end), SECOND)
        assert numbers(paced.frames) == list(range(round(10 * start), min(40, round(10 * end)), 10))


JOINED = {
    "MPEG-TS": ("a.ts", "libx264", X264),
    "MPEG-TS of MPEG-2": ("a.ts", "mpeg2video", {"g": "12", "bf": "2"}),
    "MPEG-PS": ("a.mpg", "mpeg2video", {"g": "12", "bf": "2"}),
    "Matroska": ("a.mkv", "libx264", X264),
    "WebM": ("a.webm", "libvpx-vp9", VP9),
}


@pytest.mark.parametrize("kind", JOINED)
def test_a_clock_that_starts_again_counts_on(tmp_path, kind):
    """Two files, one after the other, as broadcasts and cameras join them."""
    name, codec, options = JOINED[kind]
    first, path = write_video(tmp_path / f"1{name}", 40, codec, options), tmp_path / name
    path.write_bytes(2 * first.read_bytes())
    every = read_clip(path, EVERY)
    assert numbers(every.frames) == 2 * list(range(40))
    torch.testing.assert_close(every.seconds, torch.arange(80) / 10, atol=2e-3, rtol=0)
    assert numbers(read_clip(path, SECOND).frames) == 2 * [0, 10, 20, 30]
    for start in (0.9, 3.7, 4.0, 4.2, 7.6):
        shown = [number % 40 for number in range(round(10 * start), min(80, round(10 * start) + 7))]
        assert numbers(read_clip(VideoSegment(path, start, start + 0.7), EVERY).frames) == shown


def test_a_clock_of_another_pace_that_starts_again_counts_on(tmp_path):
    """No time stamp is there twice, so that all of them sorted would mix the two parts."""
    millis = list(range(0, 2000, 100)), list(range(50, 4050, 200))
    parts = [write_video(tmp_path / f"{n}.mkv", 20, "libx264", X264, millis[n]) for n in (0, 1)]
    path = tmp_path / "a.mkv"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_clip(path, EVERY)
    assert numbers(clip.frames) == 2 * list(range(20))
    seconds = [*range(0, 2000, 100), *range(2000, 6000, 200)]
    torch.testing.assert_close(clip.seconds, torch.tensor(seconds) / 1000, atol=2e-3, rtol=0)
    assert numbers(read_clip(path, SECOND).frames) == [0, 10, 0, 5, 10, 15]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(0, 16), st.randoms())
def test_stamps_that_are_only_out_of_order_are_sorted(gaps, most, draw):
    stamps = np.cumsum(gaps).tolist()
    late = [number + draw.uniform(0, most) for number in range(len(stamps))]  # each comes at most so many places late
    shuffled = [stamp for _, stamp in sorted(zip(late, stamps, strict=True))]
    assert split_clocks(shuffled) == [stamps]
    assert join_clocks([stamps, stamps]).tolist() == sorted(join_clocks([stamps, stamps]).tolist())
