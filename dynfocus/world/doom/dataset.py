"""Write walks through ViZDoom's levels as a data set: H.264 videos, what each frame shows, and questions."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av

from dynfocus.errors import ConfigError, DataError
from dynfocus.evals.benchmarks.doom import prompt
from dynfocus.records.rows import Question
from dynfocus.world.build_rows import SLOT, Split, split_seed
from dynfocus.world.dataset import ENCODER, encode_pictures
from dynfocus.world.doom.episodes import FPS, HEIGHT, PLACES, WIDTH, find_version, play
from dynfocus.world.doom.questions import ask_split
from dynfocus.world.doom.things import Sighting, find_seen
from dynfocus.world.folder import WorldFolder, run_jobs
from dynfocus.world.videos import generator

RECORD = "doom.json"
SIGHTINGS = "sightings.jsonl"
CONTENT = 1  # another number whenever the same settings give other walks or questions
SPLITS: tuple[Split, ...] = ("train", "val", "test")
LEAST_SECONDS, MOST_SECONDS = 10, 20 * 60
OPTIONS = ENCODER | {"crf": "26"}
BYTES = 20_000  # what a frame takes on disk, generously


@dataclass(frozen=True)
class DoomWorld:
    """The settings that a written data set follows from.

    Attributes:
        seed: data of different seeds share no walk.
        videos, val, test: videos in each split.
        seconds: how long each is.
        vizdoom: the version of ViZDoom; another one may walk elsewhere.
        content: the version of the rules that turn settings into walks and questions.
    """

    seed: int
    videos: int
    val: int
    test: int
    seconds: int
    vizdoom: str
    content: int = CONTENT

    def count(self, split: Split) -> int:
        """The videos of a split."""
        return int(self.videos if split == "train" else getattr(self, split))


@dataclass(frozen=True)
class _Job:
    split: Split
    seed: int
    index: int

    @property
    def path(self) -> str:
        return f"videos/{self.split}_{self.index:06d}.mp4"


def write_doom(
    root: Path | str,
    videos: int = 104,
    seed: int = 0,
    *,
    val: int = 39,
    test: int = 39,
    seconds: int = 60,
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Write the data set into the folder ``root``, whole or not at all; one that is there is kept if it is this one.

    Args:
        root: the folder to make.
        videos: training videos.
        seed: another seed walks elsewhere.
        val, test: videos of the two other splits; no split shares a walk with another.
        seconds: how long each video is, from 10 seconds to 20 minutes.
        workers: processes that play; 0 plays in this one. They are spawned: a script that calls this needs
            ``if __name__ == "__main__":``.
        progress: whether to show a bar.

    Returns:
        ``root`` as given.

    Raises:
        ConfigError: if a number is out of range, ViZDoom is not installed, or ``root`` holds anything else.
        DataError: if ViZDoom's engine ends before a walk does, or ``root`` lacks some of its files.
        DiskError: if there is no room.
    """
    world = DoomWorld(seed, videos, val, test, seconds, find_version())
    _check(world, workers)
    jobs = [_Job(s, split_seed(seed, s), index) for s in SPLITS for index in range(world.count(s))]
    frames = len(jobs) * seconds * FPS
    record = asdict(world) | {"settings": {}, "encoder": OPTIONS}
    holds = f"{len(jobs)} videos of {seconds} s"
    files = [job.path for job in jobs]
    folder = WorldFolder(Path(root).resolve(), "data set of ViZDoom", RECORD, record, files, frames * BYTES, holds)

    def fill(temporary: Path) -> None:
        (temporary / "videos").mkdir()
        done: dict[str, list[list[Sighting]]] = {}
        try:
            film = partial(_film, temporary, seconds)
            for part in run_jobs(film, [[job] for job in jobs], workers, progress, "doom"):
                done |= part
        except BrokenProcessPool as error:
            given, needed = "ViZDoom, which broke down while it played", "an engine that plays on to the end"
            raise DataError(given, needed, "Call it again; if it ends again, take another seed.") from error
        _write_rows(temporary, world, {path: done[path] for path in files})

    folder.write(fill)
    return Path(root)


def read_doom(data: Path) -> dict[str, Any]:
    """Read what a written data set follows from; raises DataError if there is none."""
    if not (Path(data) / RECORD).is_file():
        raise DataError(f"no {RECORD} in {data}", "a data set of ViZDoom", "Write it first: `dynfocus doom`.")
    return json.loads((Path(data) / RECORD).read_text())


def _check(world: DoomWorld, workers: int) -> None:
    least = {"seed": 0, "videos": 1, "val": 1, "test": 1, "seconds": LEAST_SECONDS, "workers": 0}
    numbers = {name: value for name, value in asdict(world).items() if name in least} | {"workers": workers}
    for name, value in numbers.items():
        most = MOST_SECONDS if name == "seconds" else None
        if value < least[name] or (most is not None and value > most):
            needed = f"a whole number of at least {least[name]}{'' if most is None else f' and at most {most}'}"
            raise ConfigError(f"{name}={value}", needed, f"Change {name}.")


def _film(root: Path, seconds: int, jobs: list[_Job]) -> dict[str, list[list[Sighting]]]:
    """Play and write the videos of some jobs; returns by each one's path what each of its frames shows."""
    seen: dict[str, list[list[Sighting]]] = {}
    for job in jobs:

        def pictures(job: _Job = job) -> Iterator[av.VideoFrame]:
            for frame, sightings in play(job.seed, job.index, seconds):
                seen.setdefault(job.path, []).append(sightings)
                yield av.VideoFrame.from_ndarray(frame, "rgb24")

        (root / job.path).write_bytes(encode_pictures(pictures(), FPS, OPTIONS))
    return seen


def _write_rows(root: Path, world: DoomWorld, seen: Mapping[str, list[list[Sighting]]]) -> None:
    with (root / SIGHTINGS).open("w") as file:
        for path, frames in seen.items():
            listed = [[[one.name, one.share, one.boxes] for one in frame] for frame in frames]
            file.write(json.dumps({"video": path, "frames": listed}) + "\n")
    counts: dict[Split, int] = {}
    for split in SPLITS:
        own = {path: find_seen(frames) for path, frames in seen.items() if path.startswith(f"videos/{split}_")}
        asked = ask_split([*own.values()], generator(split_seed(world.seed, split), 1))
        rows = [_row(path, question) for path, some in zip(own, asked, strict=True) for question in some]
        (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        counts[split] = len(rows)
    (root / "README.md").write_text(_format_card(world, counts))


def _row(path: str, question: Question) -> dict[str, Any]:
    turns = [("human", f"{SLOT}\n{prompt(question, ())}"), ("gpt", question.meta["letter"])]
    return {
        "id": f"{Path(path).stem}_{question.group}",
        "video": path,
        "question": question.text,
        "conversations": [{"from": speaker, "value": text} for speaker, text in turns],
        "questions": [asdict(question)],
    }


def _format_card(world: DoomWorld, rows: Mapping[Split, int]) -> str:
    counts = "\n".join(f"| `{split}.jsonl` | {world.count(split)} | {count} |" for split, count in rows.items())
    return _CARD.format(
        counts=counts,
        fps=FPS,
        width=WIDTH,
        height=HEIGHT,
        places=len(PLACES),
        settings=", ".join(f"{name} {value}" for name, value in asdict(world).items()),
        command=f"dynfocus doom OUT_DIR --videos {world.videos} --val {world.val} --test {world.test}"
        f" --seconds {world.seconds} --seed {world.seed}",
    )


_CARD = """# Walks through ViZDoom's levels, with questions that know the frames they need

A random walk through one of {places} levels that ship with ViZDoom, recorded in first person at {fps} frames a second,
{width} x {height} pixels, H.264. What a frame shows is known from the engine's labels of its pixels.

| file | videos | questions |
|---|---|---|
{counts}

Each line of a `.jsonl` file is a question about one video, with its prompt and answer as a conversation. Groups of
questions: `first` and `last` (which of three kinds of things is shown first, or last), `appear` (whether one is shown),
`when` (in which quarter of the video one is shown first), `count` (how many of three are shown). `segments` lists the
frames, counted from 0, that show what is asked; a question is answered by seeing one frame of each segment.
`sightings.jsonl` says of each frame of each video which kinds of things it shows, on which share of its pixels, and in
which boxes (x, y, width and height as shares of the frame).

Made by `{command}`: {settings}.

License of questions and code: Apache-2.0. The pictures are those of ViZDoom (MIT) and Freedoom (BSD-3-Clause).
"""
