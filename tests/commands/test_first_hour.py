"""Run docs/first-hour.md as it stands: a wheel, a new environment, ten real clips; then once more without decord."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import av
import numpy as np
import pytest
from test_wheel import SOURCES
from tiny_world import ROOT

from dynfocus.cli import LIGHTNING, find_recipes, read_options, split_command

PAGE = (ROOT / "docs/first-hour.md").read_text()
RGB = {"red": (220, 50, 47), "green": (60, 170, 60), "blue": (50, 90, 220), "yellow": (235, 205, 60)}
RGB |= {"purple": (150, 70, 190)}
CONDITIONS = ("CI", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM", "PYTHONPATH", "PYTHONSAFEPATH")


@dataclass(frozen=True)
class Block:
    """A block of the page, the heading it stands under, and the file that the sentence before it names."""

    heading: str
    language: str
    text: str
    file: str | None


def read_page() -> list[Block]:
    """The blocks of the page in its order."""
    heading, before, blocks = "", "", []
    for part in re.split(r"(^```\w+\n.*?^```\n)", PAGE, flags=re.M | re.S):
        if fence := re.fullmatch(r"```(\w+)\n(.*?)```\n", part, re.S):
            named = re.findall(r"Save this[^`]* as `([\w./]+)`", before)
            blocks.append(Block(heading, fence[1], fence[2], named[-1] if named else None))
        else:
            heading, before = [heading, *re.findall(r"^## (.*)$", part, re.M)][-1], part
    return blocks


BLOCKS = read_page()
COMMANDS = [line for block in BLOCKS if block.language == "bash" for line in block.text.splitlines()]
STEPS = list(dict.fromkeys(block.heading for block in BLOCKS if block.language == "bash"))


def test_every_block_is_run_or_saved() -> None:
    assert len(STEPS) == 10
    assert all(block.language == "bash" or block.file for block in BLOCKS)
    assert len({block.file for block in BLOCKS if block.file}) == 4


def test_its_commands_can_be_read() -> None:
    """Without running them: verbs, options and recipes exist, and torch is the one that make installs."""
    verbs = set()
    for line in COMMANDS:
        if line.startswith(".venv/bin/dynfocus ") and not line.endswith("--version"):
            verb, words = split_command(shlex.split(line)[1:])
            verbs.add(verb)
            if verb in LIGHTNING:
                assert find_recipes([verb, *words])
            else:
                assert read_options(verb, words)
    assert verbs >= {"plan", "select", "ask", "fit", "configs", "report-card", "serve", "demo"}
    (torch,) = re.findall(r"pip install (torch==\S+)", PAGE)
    assert f"TORCH ?= {torch}\n" in (ROOT / "Makefile").read_text()


def test_every_step_has_its_time() -> None:
    table = PAGE.partition("## How long it took")[2]
    assert re.findall(r"^\| (.*?) +\| +[\d.]+ \|", table, re.M) == STEPS


def write_clip(path: Path, color: str, square: bool) -> None:
    """Eight seconds of H.264 in which a thing of this color moves over grey."""
    y, x = np.mgrid[:180, :320]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for number in range(80):
            away = np.abs(x - 40 - 3 * number), np.abs(y - 90)
            frame = np.full((180, 320, 3), 40, np.uint8)
            frame[np.maximum(*away) < 32 if square else np.hypot(*away) < 35] = RGB[color]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


@dataclass
class Reader:
    """Somebody at a shell in a folder, who does what the page says: what each step printed, and its seconds."""

    home: Path
    printed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def call(self, block: Block, folder: Path) -> None:
        """Run a block of commands, as a shell does that stops at the first one that fails."""
        environment = {name: value for name, value in os.environ.items() if name not in CONDITIONS}
        start = time.monotonic()
        done = subprocess.run(
            ["bash", "-ec", block.text], cwd=folder, env=environment, text=True, capture_output=True, check=False
        )
        self.note(block, done.stdout + done.stderr, time.monotonic() - start)
        assert done.returncode == 0, f"{block.text}{done.stdout[-2000:]}{done.stderr[-4000:]}"
        assert "Traceback" not in done.stderr, done.stderr[-4000:]

    def note(self, block: Block, printed: str, seconds: float) -> None:
        self.printed[block.heading] = self.printed.get(block.heading, "") + printed
        self.seconds[block.heading] = self.seconds.get(block.heading, 0) + seconds

    @contextmanager
    def serve(self, block: Block) -> Iterator[str]:
        """Run a server's block until Ctrl-C; gives the address that it prints."""
        environment = {name: value for name, value in os.environ.items() if name not in CONDITIONS}
        start = time.monotonic()
        with open(self.home / "server.txt", "w+") as complaints:
            server = subprocess.Popen(
                ["bash", "-ec", block.text],
                **{"cwd": self.home, "env": environment, "text": True, "start_new_session": True},
                **{"stdout": subprocess.PIPE, "stderr": complaints},
            )
            try:
                assert server.stdout is not None
                line = server.stdout.readline()
                self.note(block, line, time.monotonic() - start)
                assert " at http://" in line, (self.home / "server.txt").read_text()
                yield line.rpartition(" ")[2].strip()
            finally:
                os.killpg(server.pid, signal.SIGINT)
                rest = server.communicate(timeout=600)[0]
        assert server.returncode == 0, (self.home / "server.txt").read_text()
        self.note(block, rest, 0)

    def follow(self, steps: list[str], at_first: Path | None = None) -> None:
        """Do these steps of the page; the commands of the first one are called in the checkout, ``at_first``."""
        for step in steps:
            with ExitStack() as servers:
                for block in (block for block in BLOCKS if block.heading == step):
                    if block.file:
                        (self.home / block.file).write_text(block.text)
                    elif re.search(r"dynfocus (serve|demo)\b", block.text):
                        address = servers.enter_context(self.serve(block))
                        if "demo" in block.text:
                            with urlopen(address) as page:
                                assert b"gradio" in page.read().lower()
                    else:
                        self.call(block, at_first if at_first and step == steps[0] else self.home)
            if at_first and step == steps[0]:
                (wheel,) = at_first.glob("my_wheels/dynfocus-*.whl")
                shutil.copy(wheel, self.home)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """One who has followed the whole page, in a folder that held nothing but ten clips."""
    checkout, reader = tmp_path_factory.mktemp("checkout"), Reader(tmp_path_factory.mktemp("home"))
    for name in SOURCES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, checkout / name)
    (reader.home / "my_clips").mkdir()
    rows = re.findall(r"^(\d+\.mp4),.*,(circle|square) (\w+)$", PAGE, re.M)
    assert len(rows) == 10
    for name, thing, color in rows:
        write_clip(reader.home / "my_clips" / name, color, thing == "square")
    reader.follow(STEPS, checkout)
    return reader


@pytest.mark.slow
def test_the_page_does_what_it_says(reader: Reader, capsys: pytest.CaptureFixture[str]) -> None:
    times = [f"| {step} | {seconds:.0f} |" for step, seconds in reader.seconds.items()]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *times, ""]))
    assert "0.1.0" in reader.printed["Install"]
    assert "1464" in reader.printed["Plan"]
    assert "kept frames: 4 of 16" in reader.printed["Choose frames"]
    assert "report.html" in reader.printed["Ask"]
    assert "square green" in reader.printed["Learn from your own clips"].rpartition("answer:")[2]
    assert (reader.home / "my_configs/worlds/long.yaml").is_file()
    for name in ("motion.Motion", "uniform", "scene_change"):
        assert name in reader.printed["A selector of your own"]
    for page in ("report.html", "my_card/report_card.html"):
        assert (reader.home / page).read_text().lower().startswith("<!doctype html>")
    assert re.search(r"^\w.* \[[\d., ]+\]$", reader.printed["Serve"], re.M)
    assert "stopped after 1 answers" in reader.printed["Serve"]


@pytest.mark.slow
def test_it_holds_without_decord(reader: Reader) -> None:
    """As on aarch64, for which there is no decord: frames are chosen, and a model learns and answers, all by PyAV."""
    python = str(reader.home / ".venv/bin/python")
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "decord"], check=True)
    assert subprocess.run([python, "-c", "import decord"], capture_output=True, check=False).returncode
    before = dict(reader.printed)
    reader.printed.clear()
    shutil.rmtree(reader.home / "runs/mine")
    shutil.rmtree(reader.home / "cache/world/sketches")
    reader.follow(["Choose frames", "Ask", "Learn from your own clips"])
    numbers = re.compile(r"^  numbers: .*$", re.M)
    assert numbers.findall(reader.printed["Choose frames"]) == numbers.findall(before["Choose frames"])
    assert "square green" in reader.printed["Learn from your own clips"].rpartition("answer:")[2]
