"""How far long work is: one moving line on a terminal, whole lines elsewhere."""

import fcntl
import os
import re
import struct
import sys
import termios

import pytest

from dynfocus.progress import Progress


def test_elsewhere_there_are_whole_lines_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(10, "answering", "question", pause=0.0) as progress:
        for _ in range(2):
            progress.update(4, "1 failed")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        *("answering: 4 of 10 questions", "answering: 8 of 10 questions", "answering: 8 of 10 questions")
    ]
    assert all(line.endswith(" left, 1 failed") and "\r" not in line for line in lines)


def test_lines_are_rare_and_the_last_one_says_that_all_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3000, "answering", "question", pause=1e6) as progress:
        for _ in range(3000):
            progress.update()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"answering: 3000 of 3000 questions, \d\d:\d\d so far", line)
    assert "left" not in line


def test_who_knows_better_says_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(10, "running", "run", pause=0.0) as progress:
        progress.update(4, left=90.0)
    assert all(line.endswith("about 01:30 left") for line in capsys.readouterr().err.splitlines())


def test_nothing_is_said_of_no_work_or_by_other_processes(capsys: pytest.CaptureFixture[str]) -> None:
    Progress(0, "answering", "question").close()
    with Progress(2, "answering", "question", shown=False, pause=0.0) as progress:
        progress.update()
    assert capsys.readouterr().err == ""


def read_to_end(terminal: int) -> str:
    """All that was written to a terminal whose other end is closed: one read may return a part of it."""
    parts = []
    try:
        while part := os.read(terminal, 2**16):
            parts.append(part)
    except OSError:  # Linux says so where the other end is closed
        pass
    os.close(terminal)
    return b"".join(parts).decode()


def test_on_a_terminal_a_bar_moves_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(4, "answering", "question") as progress:
            progress.update(4)
    shown = read_to_end(reader)
    assert "answering: 100%" in shown
    assert "4/4" in shown
    assert shown.count("\n") == 1
