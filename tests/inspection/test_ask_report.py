"""The page of `dynfocus ask --report` on real clips, in a real browser, and the frames that it shows."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import tiny
from ask_runs import FIRST, RULE, SECOND, ask, clip, write_model
from browser import chromium, complaints, requests, visit
from PIL import Image
from tiny_sketches import count_calls

from dynfocus.errors import VideoError
from dynfocus.inspection.answerer import Answerer
from dynfocus.settings import FrameRule
from dynfocus.video import read_media
from dynfocus.video.packets import Packets, read_packets
from dynfocus.video.thumbnails import Thumbnails, display_size

HOSTILE = "</script><img src=x onerror=alert(2)> \u202e &amp; what color is the star"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tiny.SETTINGS, tmp_path_factory.mktemp("asked") / "model")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.mark.parametrize("reads", [False, True])
def test_a_hostile_name_and_question_are_text_in_a_browser(reads: bool, browser: Any, tmp_path: Path) -> None:
    """One page with its frames, the comparison of the questions, no request and no script of anybody else's."""
    folder = write_model(replace(tiny.SETTINGS, score_reads_question=reads), tmp_path / "model")
    video = tmp_path / 'a"><script>alert(1)</script>.mp4'  # a slash parts a folder's name from a file's
    video.parent.mkdir()
    video.symlink_to(clip("bikes"))
    out = tmp_path / "out.html"
    questions = ["after", HOSTILE]
    assert ask(folder, video, *questions, "--report", str(out), "--compare") == 0
    answers = [Answerer(folder).ask(video, question) for question in questions]
    kept = [set(answer.selection.kept) for answer in answers]
    assert (kept[0] != kept[1]) == reads
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["model", video.parent.name, "out.html"])
    requests(browser)
    visit(browser, out)
    assert browser.title == f"DynFocus: {video}"
    page = read_page(browser)
    assert requests(browser) == [out.resolve().as_uri()]
    assert complaints(browser) == []
    assert page["scripts"] == 1
    assert page["images"] == 0
    assert page["heads"][: len(questions)] == [
        "Question 1 after",
        "Question 2 " + HOSTILE.replace("\u202e", r"\u202e"),
    ]
    assert [set(map(int, frames)) for frames in page["kept"]] == (kept if reads else kept[:1])
    assert f"Both questions share {len(kept[0] & kept[1])} of {len(kept[0] | kept[1])} kept frames" in page["text"]
    assert ("With the paper's score net none can" in page["text"]) != reads
    for answer in answers:
        assert f"Answer: {answer.answer}" in page["text"]
        assert f"prompt tokens: {answer.prompt_tokens}" in page["text"]
    assert "raise --max-new-tokens" in page["text"]
    assert str(video) in page["text"]
    assert str(folder) in page["text"]


def read_page(browser: Any) -> dict[str, Any]:
    """What a page shows, and what of it is not text."""
    return browser.execute_script("""
        const all = (where, what) => [...where.querySelectorAll(what)];
        return {
            text: document.body.innerText,
            heads: all(document, "h2").map(one => one.innerText.trim()),
            scripts: document.scripts.length - all(document, "script[type='application/json']").length,
            images: all(document, "img, iframe, object, embed, a").length,
            kept: all(document, "section[data-first]").map(
                one => all(one, "figure[data-frame]").map(figure => figure.dataset.frame)),
        };
    """)


def test_the_report_is_read_once_more_and_only_if_asked_for(model: Path, tmp_path: Path) -> None:
    """Thumbnails are larger than what the model saw; a sketch that was kept holds no pixels."""
    args = [FIRST, SECOND, "--cache", str(tmp_path / "cache")]
    for more, reads in (((), 1), ((), 0), (("--report", str(tmp_path / "out.html")), 1)):
        with count_calls() as calls:
            assert ask(model, clip("bikes"), *args, *more) == 0
        assert calls["reader"] == reads
    assert (tmp_path / "out.html").read_text().count("<symbol ") == 20


def test_an_earlier_report_is_replaced_and_stays_where_asking_fails(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.html"
    out.write_text("earlier")
    assert ask(model, clip("bikes"), "star " * 600, "--report", str(out)) == 1
    assert out.read_text() == "earlier"
    capsys.readouterr()
    assert ask(model, clip("bikes"), FIRST, "--report", str(out)) == 0
    assert capsys.readouterr().out.endswith(f"report:        {out}\n")
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [out]


def test_an_image_and_average_pooling_have_pages_too(model: Path, browser: Any, tmp_path: Path) -> None:
    image = tmp_path / "one.png"
    Image.fromarray(np.full((40, 90, 3), 200, np.uint8)).save(image)
    average = write_model(replace(tiny.SETTINGS, encoder="average_pooling"), tmp_path / "average")
    for folder, media in ((model, image), (average, clip("carphone_pristine"))):
        out = tmp_path / f"{media.stem}.html"
        assert ask(folder, media, FIRST, "--report", str(out)) == 0
        visit(browser, out)
        assert complaints(browser) == []
        assert read_page(browser)["heads"][0] == f"Question 1 {FIRST}"


@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes", "carphone_pristine"])
def test_thumbnails_are_the_frames_that_were_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the shape that players show, and the same whether all are read at once or each by itself."""
    rule = replace(RULE, frames=5)
    clip_ = read_media(clip(name), rule)
    seconds = clip_.seconds.tolist()
    wide, high = {"bigbuckbunny": (1280, 720), "bikes": (640, 272), "carphone_pristine": (1408, 1053)}[name]
    together = Thumbnails(clip(name), seconds, rule)
    assert len(together) == len(seconds)
    assert together[0].shape == together[-1].shape == (round(160 * high / wide), 160, 3)
    monkeypatch.setattr("dynfocus.video.thumbnails.FEW", 0)
    alone = Thumbnails(clip(name), seconds, rule)
    with count_calls() as calls:
        assert all(np.array_equal(*pair) for pair in zip(together[1:4], alone[1:4], strict=True))
    assert calls["reader"] == 3
    for frame, frame_of_clip in zip(alone, clip_.frames, strict=True):
        small = np.asarray(Image.fromarray(frame).resize((tiny.SIDE, tiny.SIDE), Image.Resampling.BOX)).astype(int)
        assert abs(small - frame_of_clip.numpy().astype(int)).mean() < 8


def test_a_video_of_hours_is_scanned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of its frames are looked at; one in which nothing can jump is read once, its frames smaller."""
    jumping, other = tmp_path / "v.mp4", tmp_path / "v.ts"
    for path in (jumping, other):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=1)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for n in range(60):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 4 * n, np.uint8), "rgb24")))
            container.mux(stream.encode())
    scans: list[Path] = []

    def record_scan(path: Path, rule: FrameRule) -> Packets:
        scans.append(path)
        return read_packets(path, rule)

    monkeypatch.setattr("dynfocus.video.thumbnails.read_packets", record_scan)
    monkeypatch.setattr("dynfocus.video.read_packets", record_scan)
    monkeypatch.setattr("dynfocus.video.thumbnails.FEW", 15)
    rule = FrameRule(size=8)
    for path, reads, size in ((jumping, 20, (160, 160)), (other, 1, (80, 80))):
        media = read_media(path, rule)
        frames = Thumbnails(path, media.seconds.tolist(), rule)
        scans.clear()
        with count_calls() as calls:
            thumbnails = [frames[n] for n in range(0, 60, 3)]
        assert calls["reader"] == reads
        assert len(scans) <= 2
        assert {frame.shape[:2] for frame in frames.cache.values()} == {size}
        colors = media.frames[::3].float().mean((1, 2, 3)).tolist()
        assert [frame.mean() for frame in thumbnails] == pytest.approx(colors, abs=1.5)


def test_times_of_many_frames_a_second_find_their_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame of 60 a second, late in a video, where fp32 rounds time stamps."""
    path = tmp_path / "late.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=60)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for n in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 6 * n, np.uint8), "rgb24")
            frame.pts = n if n < 1 else n + 60 * 3600
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    rule = FrameRule(size=8, fps=None)
    clip_ = read_media(path, rule)
    monkeypatch.setattr("dynfocus.video.thumbnails.FEW", 0)
    thumbnails = Thumbnails(path, clip_.seconds.tolist(), rule)
    frames = read_media(path, replace(rule, size=160)).frames.numpy()
    assert len({frame.mean() for frame in frames}) == len(thumbnails) == 40
    assert all(np.array_equal(*pair) for pair in zip(thumbnails, frames, strict=True))


def test_a_file_that_changed_meanwhile_is_named(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(clip("bikes").read_bytes())
    frames = Thumbnails(path, read_media(path, RULE).seconds.tolist(), RULE)
    path.write_bytes(clip("carphone_pristine").read_bytes())
    with pytest.raises(VideoError, match="other frames than when"):
        frames[0]


@pytest.mark.parametrize("turned", [False, True])
def test_shown_shapes_are_upright(turned: bool, tmp_path: Path) -> None:
    image, video = tmp_path / "i.jpg", tmp_path / "v.mp4"
    picture = Image.new("RGB", (60, 20))
    exif = picture.getexif()
    exif[274] = 6 if turned else 1
    picture.save(image, exif=exif)
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 60, 20, "yuv420p"
        if turned:
            stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((20, 60, 3), np.uint8), "rgb24")))
        container.mux(stream.encode())
    for path in (image, video):
        assert display_size(path) == ((20, 60) if turned else (60, 20))
        assert Thumbnails(path, [0.0], RULE)[0].shape == ((160, 53, 3) if turned else (53, 160, 3))
