"""Which frames a rule takes of a video, or of a stretch of it."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from hypothesis import given
from hypothesis import strategies as st
from make_videos import EVERY, READERS, X264, X265, numbers, write_video
from PIL import Image

from dynfocus.errors import ConfigError, VideoError
from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule, restore_settings
from dynfocus.video import pick_frames, read_clip, read_media, with_pyav


@given(
    st.lists(st.floats(0.011, 3), min_size=0, max_size=40),
    st.none() | st.floats(0.1, 50),
    st.none() | st.integers(1, 50),
)
def test_picked_frames(gaps, fps, most):
    times = np.cumsum([0, *gaps])
    uncapped = pick_frames(times, FrameRule(fps=fps))
    assert uncapped[0] == 0
    if fps is None:
        assert uncapped == list(range(len(times)))
    else:
        count = int((times[-1] + 1e-3) * fps) + 1
        firsts = {min([n for n, t in enumerate(times) if t >= k / fps - 1e-3], default=len(gaps)) for k in range(count)}
        assert uncapped == sorted(firsts)
    capped = pick_frames(times, FrameRule(fps=fps, frames=most))
    assert len(capped) == min(len(uncapped), most or len(uncapped))
    assert set(capped) <= set(uncapped)
    assert capped == sorted(set(capped))
    if most and most < len(uncapped):
        ranks = np.array([uncapped.index(i) for i in capped])
        assert np.ptp(np.diff(ranks)) <= 1 if most > 1 else ranks[0] == len(uncapped) // 2
        assert abs(ranks[0] - (len(uncapped) - 1 - ranks[-1])) <= 1


@given(
    st.lists(st.floats(0.011, 3), min_size=0, max_size=40),
    st.none() | st.floats(0.1, 50),
    st.floats(-1, 30),
    st.floats(0.01, 30),
)
def test_picked_frames_of_a_stretch(gaps, fps, start, length):
    times, end, begins = np.cumsum([0, *gaps]), start + length, max(start, 0)
    inside = [n for n, t in enumerate(times) if begins - 1e-3 <= t < end - 1e-3]
    taken = pick_frames(times, FrameRule(fps=fps), start, end)
    if fps is None or not inside:
        assert taken == inside
    else:
        count = int((times[inside[-1]] - begins + 1e-3) * fps) + 1
        after = [[n for n in inside if times[n] >= begins + k / fps - 1e-3] for k in range(count)]
        assert taken == sorted({result[0] for result in after if result})


def by_wanted_times(times: np.ndarray, fps: float, start: float, slack: float = 1e-3) -> list[int]:
    """The first frame at or after each time that is wanted, for which all of those are laid out."""
    first = int(np.searchsorted(times, start - slack))
    within = times[first:]
    if not len(within):
        return []
    wanted = start + np.arange(int((within[-1] - start + slack) * fps) + 1) / fps
    return (first + np.unique(np.searchsorted(within, wanted - slack).clip(max=len(within) - 1))).tolist()


@given(
    st.lists(st.floats(0.002, 3), max_size=60) | st.lists(st.integers(2, 150).map(lambda ms: ms / 1000), max_size=60),
    st.sampled_from([0.1, 0.3, 1, 2, 5, 10, 20, 24, 25, 30, 29.97, 100.0]) | st.floats(0.01, 500),
    st.sampled_from([0.0, 1 / 3, 0.1, 0.5, 2.0]) | st.floats(0, 40),
)
def test_frames_are_those_of_the_wanted_times(gaps, fps, start):
    times = np.cumsum([0, *gaps])
    assert pick_frames(times, FrameRule(fps=fps), start) == by_wanted_times(times, fps, start)


@given(
    st.lists(st.integers(1, 200), max_size=40, unique=True),
    st.sampled_from([3, 7, 10, 24, 25, 29.97, 30]) | st.floats(0.1, 100),
    st.sampled_from([0.0, 1 / 3, 0.1, 2.0]) | st.floats(0, 40),
    st.sampled_from([-np.inf, 0, np.inf]),
)
def test_frames_that_are_just_in_time_or_just_late(wanted, fps, start, towards):
    latest = start + np.sort(np.array(wanted, float)) / fps - 1e-3
    times = np.array([0, *(np.nextafter(latest, towards) if towards else latest)])
    assert pick_frames(times, FrameRule(fps=fps), start) == by_wanted_times(times, fps, start)


@pytest.mark.parametrize(("last", "fps"), [(1e8, 1.0), (3600.0, 1e6), (1e8, 1e6), (1e8, 1e300)])
def test_frames_cost_what_frames_are_there_not_what_times(last, fps):
    pick_frames([0.0, 1.0], FrameRule())
    tracemalloc.start()
    try:
        taken = pick_frames([0.0, 0.04, last], FrameRule(fps=fps))
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
    assert taken == ([0, 1, 2] if fps > 1 else [0, 2])


@given(st.floats(500, 1e5), st.integers(2, 40))
def test_frames_closer_than_milliseconds_are_told_apart(rate, count):
    times = np.arange(count) / rate
    assert pick_frames(times, FrameRule(fps=rate)) == list(range(count))
    for number in range(count):
        assert pick_frames(times, FrameRule(fps=None), times[number], times[number] + 1 / rate) == [number]


VIDEOS = {"h264": ("libx264", X264), "hevc": ("libx265", X265)}


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("reader", [None, "pyav"])
def test_a_stretch_is_read_by_the_files_own_time(tmp_path, name, reader):
    codec, options = VIDEOS[name]
    millis = np.cumsum([0, *([40] * 20), *([160] * 19)]).tolist()
    path = write_video(tmp_path / "a.mp4", codec=codec, options=options, millis=millis)
    for start, end in [(0, 99), (0.5, 1.44), (0.48, 0.49), (-3, 0.2), (3.7, 9), (0.1, 2)]:
        inside = [n for n, t in enumerate(millis) if 1000 * start <= t < 1000 * end]
        clip = read_clip(VideoSegment(path, start, end), EVERY, reader)
        assert numbers(clip.frames) == inside
        torch.testing.assert_close(clip.seconds, torch.tensor(millis)[inside] / 1000, atol=2e-3, rtol=0)
    paced = read_media(VideoSegment(path, 0.5, 3.0), FrameRule(size=64, fps=2, interpolation="box"))
    wanted = [next(n for n, t in enumerate(millis) if t >= at) for at in (500, 1000, 1500, 2000, 2500)]
    assert numbers(paced.frames) == wanted


@pytest.mark.parametrize(("start", "end"), [(4.5, 9), (2, 2), (3, 1), (1.01, 1.05), (float("nan"), 2)])
@pytest.mark.parametrize("reader", [None, *READERS])
def test_a_stretch_without_a_frame_is_an_error(tmp_path, start, end, reader):
    path = write_video(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match=r"last frame is at 3\.900 s") as caught:
        read_clip(VideoSegment(path, start, end), FrameRule(fps=None), reader)
    assert str(path) in str(caught.value)


def test_an_image_has_its_frame_at_the_start(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert read_media(VideoSegment(tmp_path / "a.png", 0, 1), FrameRule()).seconds.tolist() == [0]
    with pytest.raises(VideoError, match="no frame from 1 s"):
        read_media(VideoSegment(tmp_path / "a.png", 1, 2), FrameRule())


class Counting:
    """A container that remembers the times of the packets that it hands to the decoder."""

    def __init__(self, container: InputContainer, times: list[float]) -> None:
        self.container, self.times = container, times

    def demux(self, stream: VideoStream) -> Iterator[Packet]:
        for packet in self.container.demux(stream):
            if packet.pts is not None:
                self.times.append(float(packet.pts * packet.time_base))
            yield packet

    def seek(self, at: int, stream: VideoStream) -> None:
        self.container.seek(at, stream=stream)


def test_pyav_decodes_once_and_stops_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    opened = with_pyav._open_video

    @contextmanager
    def counted(stretch: VideoSegment) -> Iterator[tuple[Counting, VideoStream]]:
        with opened(stretch) as (container, stream):
            yield Counting(container, times), stream

    monkeypatch.setattr(with_pyav, "_open_video", counted)
    path = write_video(tmp_path / "a.mp4", count=60, codec="libx265", options=X265)
    assert len(read_clip(path, EVERY).frames) == 60
    assert len(times) == 60
    times.clear()
    assert numbers(read_clip(VideoSegment(path, 1, 2), EVERY).frames) == list(range(10, 20))
    assert 0 < max(times) < 3.5


@pytest.mark.parametrize(
    "wrong",
    [{"size": 0}, {"frames": 0}, {"fps": 0.0}, {"fps": float("nan")}, {"fps": -1.0}, {"frames": -2}, {"max_pixels": 0}],
)
def test_a_rule_that_takes_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FrameRule(**wrong)


def test_rules_saved_before_there_was_a_limit_are_read() -> None:
    content = {"size": 224, "frames": None, "fps": 1.0, "interpolation": "bicubic"}
    assert restore_settings(FrameRule, content) == FrameRule()
