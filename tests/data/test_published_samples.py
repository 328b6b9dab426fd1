"""Real rows of published sets, where a checkout has them beside it: they read, and none is copied into the project."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.data.doctor.guess import guess_format

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT.parent / "shared" / "samples"
WORDS = 6  # a text of fewer may be anybody's
DIGITS = 9  # of a number that names a video or image

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no real rows of published sets beside this checkout")

# Each file of training rows, its format, and how many rows it holds.
FILES: list[tuple[str, dict[str, Any], int]] = [
    ("llava-cc3m-595k/chat.json", {}, 3),
    ("llava-pretrain-558k/blip_laion_cc_sbu_558k.json", {}, 1),
    ("llava-665k/llava_v1_5_mix665k.json", {}, 1),
    ("llama-vid/llava_v1_5_mix665k_with_video_chatgpt.json", {}, 1),
    ("scienceqa/problems.json", {"format": "scienceqa"}, 9),
    ("scienceqa/problems.json", {"format": "scienceqa", "split": "val"}, 9),
    ("scienceqa/problems.json", {"format": "scienceqa", "split": "test"}, 9),
    ("nextqa-oe/train.csv", {"format": "nextqa"}, 0),
    ("nextqa-oe/val.csv", {"format": "nextqa"}, 0),
    ("nextqa-oe/test.csv", {"format": "nextqa"}, 0),
    ("nextqa-mc/val.csv", {"format": "nextqa"}, 0),
    ("nextqa-mc/test.csv", {"format": "nextqa"}, 0),
    ("nextqa-mc/edge/val.csv", {"format": "nextqa"}, 0),
    ("nextqa-mc/edge/test.csv", {"format": "nextqa"}, 0),
]


@pytest.mark.parametrize(("name", "options", "count"), FILES)
def test_every_real_row_reads(tmp_path: Path, name: str, options: dict[str, Any], count: int) -> None:
    shutil.copytree((SAMPLES / name).parent, tmp_path / "set")
    rows = list(Annotations(Source("set", Path(name).name, folder="set", **options), tmp_path, tmp_path / "index"))
    if name.endswith(".csv"):
        with (SAMPLES / name).open(newline="") as file:
            count = sum(1 for _ in csv.DictReader(file))
    assert len(rows) == count
    assert all(row.turns and row.turns[0].answer for row in rows)


@pytest.mark.parametrize(("name", "options", "count"), FILES)
def test_the_format_of_every_real_file_is_guessed(
    tmp_path: Path, name: str, options: dict[str, Any], count: int
) -> None:
    shutil.copytree((SAMPLES / name).parent, tmp_path / "set")
    source = Source("set", Path(name).name, folder=str(tmp_path / "set"))
    assert guess_format(source, tmp_path / "index").format == options.get("format", "conversations")


def strings(text: str) -> list[str]:
    """Every line of every string of a JSON text, which need not be a whole one."""
    return [
        line for part in re.findall(r'"(?:[^"\\]|\\.)*"', text) for line in json.loads(part, strict=False).split("\n")
    ]


def published() -> Iterator[str]:
    """Every line of text in the real rows that is long enough to be theirs, and their videos' names."""
    for path in sorted(SAMPLES.rglob("*")):
        if path.suffix == ".json":
            lines = strings(path.read_text())
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                lines = [cell for record in csv.reader(file) for cell in record]
        else:
            lines = path.read_text().split() if path.suffix == ".txt" else []
        for line in map(str.strip, lines):
            name = line.rpartition("/")[2].partition(".")[0].removeprefix("GCC_train_")
            if len(line.split()) >= WORDS:
                yield line
            elif (name.isdigit() and len(name) >= DIGITS) or (name.startswith("v_") and len(name) == 13):
                yield name


def test_no_published_row_is_copied_here() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    files = [ROOT / name for name in listed.split("\0") if name and Path(name).suffix not in (".png", ".ipynb")]
    lines = set(published())
    assert len(lines) > 500
    copied = {}
    for path in files:
        if path.is_file():
            text = path.read_text(errors="replace")
            plain = text if path.suffix != ".json" else "\n".join(strings(text))
            copied |= {line: str(path.relative_to(ROOT)) for line in lines if line in plain}
    assert copied == {}
