"""A small data set with everything broken that can be."""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tiny
from count_doctor import CountingView
from make_videos import cut, sound, with_bytes, write_video
from PIL import Image

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.data.doctor.examine import diagnose
from dynfocus.settings import FrameRule

RULE = FrameRule(size=tiny.SIDE, fps=None, interpolation="box")
CONTEXT = 300


def make_row(index: int, turns: int = 1, answer: str = "star red", **media: str) -> dict[str, Any]:
    """One row of a conversation file."""
    turn = [{"from": "human", "value": "what color is the star"}, {"from": "gpt", "value": answer}]
    return {"id": f"r{index}", **media, "conversations": turn * turns}


def corrupt(path: Path) -> Path:
    """A video whose packets in the middle hold anything, behind an index that is whole."""
    data = bytearray(write_video(path, options={"g": "4"}, muxing={"movflags": "faststart"}).read_bytes())
    start = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    data[start : start + len(data) // 4] = np.random.default_rng(0).bytes(len(data) // 4)
    return with_bytes(path, bytes(data))


def broken_set(root: Path) -> tuple[list[dict], dict[int, str]]:
    """Write media of all sorts into ``root``; the rows that show them, and the fault of each bad one."""
    root.mkdir()
    write_video(root / "good.mp4", count=7)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(root / "good.png")
    write_video(root.parent / "outside.mp4", count=3)
    (root / "link.mp4").symlink_to(root.parent / "outside.mp4")
    with_bytes(root / "empty.mp4", b"")
    cut(write_video(root / "truncated.mp4"), 0.7)
    sound(root / "audio.mp4")
    corrupt(root / "middle.mp4")
    with_bytes(root / "garbage.png", b"no image" * 99)
    cut(write_video(root / "deep.mp4", muxing={"movflags": "faststart"}), 0.7)
    write_video(root / "long.mp4", count=40)
    named: list[tuple[dict[str, Any], str | None]] = [
        ({"video": "good.mp4"}, None),
        ({"video": "good.mp4"}, None),
        ({"image": "good.png"}, None),
        ({}, None),
        ({"video": "long.mp4"}, None),
        ({"video": "missing.mp4"}, "missing"),
        ({"image": "missing.png"}, "missing"),
        ({"video": "empty.mp4"}, "unreadable"),
        ({"video": "truncated.mp4"}, "unreadable"),
        ({"video": "audio.mp4"}, "unreadable"),
        ({"video": "middle.mp4"}, "unreadable"),
        ({"video": "deep.mp4"}, "unreadable"),
        ({"image": "garbage.png"}, "unreadable"),
        ({"image": "garbage.png"}, "unreadable"),
        ({"video": "../outside.mp4"}, "leaves its folder"),
        ({"video": str(root.parent / "outside.mp4")}, "leaves its folder"),
        ({"video": "link.mp4"}, "leaves its folder"),
    ]
    rows = [make_row(n, **media) for n, (media, _) in enumerate(named)]
    faults = {n: fault for n, (_, fault) in enumerate(named) if fault}
    more = {"does not fit": {"id": "no turns", "video": "good.mp4"}, "no target": make_row(18, answer=" ")}
    more["too long"] = make_row(19, turns=8, video="long.mp4")
    for fault, row in more.items():
        faults[len(rows)] = fault
        rows.append(row)
    return rows, faults


def many(root: Path, count: int = 24) -> list[dict]:
    """Rows of ``count`` videos, each of which two rows show, and every sixth of which is cut off."""
    root.mkdir()
    write_video(root / "0.mp4", count=5)
    for n in range(1, count):
        data = (root / "0.mp4").read_bytes()
        with_bytes(root / f"{n}.mp4", data[: len(data) // 2] if n % 6 == 5 else data)
    return [make_row(n, video=f"{n % count}.mp4") for n in range(2 * count)]


def patient(root: Path, log: Path, most: int | None = None, **how: Any) -> CountingView:
    """The data set in ``root``, whose rows are in rows.json."""
    annotations = Annotations(Source("films", "rows.json"), root, root.parent / "index")
    processor = replace(tiny.processor(answers=True), context=CONTEXT, **how)
    return CountingView(annotations, processor, RULE, log=log, most=most)


def write_rows(root: Path, rows: list[dict]) -> None:
    (root / "rows.json").write_text(json.dumps(rows))


def count_openings(log: Path) -> Counter:
    """How often each file was opened."""
    return Counter(line.split()[1] for line in log.read_text().splitlines()) if log.exists() else Counter()


if __name__ == "__main__":
    diagnose([patient(Path(sys.argv[1]), Path(sys.argv[2]), most=8)], workers=int(sys.argv[3]), progress=False)
