"""Walks through ViZDoom's levels as files: the same bytes each time, and questions that the project's readers read."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from dynfocus.bridge.rows import Chosen
from dynfocus.cli import main
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.errors import ConfigError, DataError
from dynfocus.evals.benchmarks import read_items
from dynfocus.evals.summary import score_hits
from dynfocus.records.jsonl import read_jsonl
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip
from dynfocus.world.doom import episodes
from dynfocus.world.doom.dataset import write_doom
from dynfocus.world.doom.encoder import EncoderSettings, train_encoder
from dynfocus.world.doom.things import CLEAR, KINDS

pytest.importorskip("vizdoom", reason='no ViZDoom: pip install "dynfocus[doom]"')

SIZES = {"videos": 1, "val": 1, "test": 1, "seconds": 20}
WORDS = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walks") / "doom"
    assert main(["doom", str(folder), *WORDS, "--workers", "1"]) == 0
    return folder


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_walks_each_time_and_others_by_another_seed(walks: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    again = write_doom(tmp_path / "again", **SIZES, workers=0, progress=False)
    assert digest(again) == digest(walks)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]  # the engine leaves nothing where one works
    videos = [name for name in digest(walks) if name.startswith("videos/")]
    assert len(videos) == len({digest(walks)[name] for name in videos}) == 3
    first = next(episodes.play(11, 0, 1))[0]
    assert (first != next(episodes.play(12, 0, 1))[0]).any()


def test_a_video_shows_what_its_sightings_say(walks: Path) -> None:
    lines = [json.loads(line) for line in (walks / "sightings.jsonl").read_text().splitlines()]
    for line in lines:
        clip = read_clip(walks / line["video"], FrameRule(240, fps=None))
        assert len(clip.frames) == len(line["frames"]) == 2 * SIZES["seconds"]
        assert clip.seconds.tolist() == [n / 2 for n in range(len(clip.frames))]
        clear = [(name, boxes) for frame in line["frames"] for name, share, boxes in frame if share >= CLEAR]
        assert any(name in KINDS for name, _ in clear)
        edges = [(x, x + width, y, y + height) for _, boxes in clear for x, y, width, height in boxes]
        assert all(-1e-3 <= edge <= 1.001 for box in edges for edge in box)


def test_walks_are_kept_and_others_refused(walks: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(episodes, "play", None)  # playing anything would fail
    before = digest(walks)
    assert write_doom(walks, **SIZES) == walks
    for change in ({"seed": 1}, {"seconds": 21}, {"videos": 2}):
        name, value = next(iter(change.items()))
        with pytest.raises(ConfigError, match=f"holds a data set of ViZDoom with {name}=.*Needed: {name}={value}"):
            write_doom(walks, **SIZES | change)
    assert digest(walks) == before
    assert main(["doom", str(tmp_path / "short"), "--seconds", "5"]) == 1
    assert "seconds=5. Needed: a whole number of at least 10 and at most 1200" in capsys.readouterr().err
    part = shutil.copytree(walks, tmp_path / "part")
    (part / "videos/val_000000.mp4").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of its files, such as videos/val_000000\.mp4"):
        write_doom(part, **SIZES)


def test_without_vizdoom_it_says_what_to_install(tmp_path: Path, monkeypatch, capsys) -> None:
    def find(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(episodes, "version", find)
    assert main(["doom", str(tmp_path / "doom")]) == 1
    error = capsys.readouterr().err
    assert "no ViZDoom, which plays the episodes. Needed: the package vizdoom" in error
    assert 'pip install "dynfocus[doom]"' in error


def test_an_engine_that_ends_is_a_named_error() -> None:
    walk = episodes.play(1, 0, 20)
    next(walk)
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-x", "vizdoom"], capture_output=True, check=True)
    (engine,) = found.stdout.split()
    os.kill(int(engine), signal.SIGKILL)
    with pytest.raises(DataError, match=r"walk 0 of seed 1 through deathmatch\.wad map01, at which ViZDoom ended"):
        list(walk)


def test_questions_are_read_by_every_reader_and_selectors_are_scored(walks: Path, tmp_path: Path) -> None:
    items = {item.id: item for item in read_items("doom", walks, "val")}
    rows = [*Annotations(Source("val", "val.jsonl", "jsonl"), walks, tmp_path / "index")]
    assert [row.id for row in rows] == [*items]
    assert len(items) >= 3
    sightings = {
        one["video"]: one["frames"] for one in map(json.loads, (walks / "sightings.jsonl").read_text().splitlines())
    }
    for row in rows:
        question = items[row.id].question
        assert row.questions == (question,)
        assert row.turns[0].answer == question.meta["letter"]
        shown = [[name for name, share, _ in frame if share >= CLEAR] for frame in sightings[row.media]]
        for segment in question.segments:
            assert any(all(name in shown[frame] for frame in segment) for name in question.meta["names"])
    out = tmp_path / "frames.jsonl"
    asked = [str(walks / "val.jsonl"), "--selector", "uniform", "--keep", "8", "--out", str(out)]
    assert main(["select", "--questions", *asked]) == 0
    hits = [score_hits(one.frames, items[one.id].question) for one in read_jsonl(out, Chosen)]
    known = [hit for hit in hits if hit is not None]
    assert len(hits) == len(items)
    assert 0 <= min(known) <= max(known) <= 1


def test_a_tiny_encoder_compares_frames_with_questions(walks: Path, tmp_path: Path) -> None:
    settings = EncoderSettings(width=16, hidden=16, layers=1, steps=8, batch=8, texts=2)
    quality = train_encoder(walks, tmp_path / "clip", settings=settings, progress=False)
    assert 0 <= quality["kinds"] <= 1
    assert quality["measured"] >= 1
    before = digest(tmp_path / "clip")
    assert train_encoder(walks, tmp_path / "clip", settings=settings, progress=False) == quality
    assert digest(tmp_path / "clip") == before
    with pytest.raises(ConfigError, match="made with other seed"):
        train_encoder(walks, tmp_path / "clip", 1, settings, progress=False)
    out = tmp_path / "frames.jsonl"
    asked = [str(walks / "val.jsonl"), "--selector", "text_top_k", "--keep", "4", "--out", str(out)]
    assert main(["select", "--questions", *asked, "--encoder", str(tmp_path / "clip")]) == 0
    assert len({one.frames for one in read_jsonl(out, Chosen)}) > 1  # the question decides
