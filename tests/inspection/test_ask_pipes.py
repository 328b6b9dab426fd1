"""What happens where nobody reads what is printed: `dynfocus ask ... | head -1` ends without a word."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ask_runs import FIRST, SECOND, ask, clip

from dynfocus import cli
from dynfocus.inspection.answerer import Answerer

ROOT = Path(__file__).parents[2]


def run_without_reader(*args: str, buffered: bool = True) -> tuple[int, str]:
    """Exit code and complaints of a command whose stdout is a pipe that nobody reads."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= {} if buffered else {"PYTHONUNBUFFERED": "1"}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "dynfocus", *args]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("args", [["plan", "--frames", "16"], ["table", "--help"]], ids=" ".join)
def test_a_reader_that_has_gone_is_no_error(args: list[str]) -> None:
    assert run_without_reader(*args) == (141, "")


def test_what_is_not_buffered_finds_out_at_once() -> None:
    assert run_without_reader("plan", "--frames", "16", buffered=False) == (141, "")


def test_questions_after_the_first_are_not_asked_for_nobody(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer finds out that nobody reads it."""
    questions: list[str] = []
    answer = Answerer.ask
    monkeypatch.setattr(Answerer, "ask", lambda *args: (questions.append(args[2]), answer(*args))[1])
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert ask(folder, clip("carphone_pristine"), FIRST, SECOND, "--report", str(tmp_path / "out.html")) == 141
    assert questions == [FIRST]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("letters", ["ascii", "latin-1", "utf-8"])
def test_what_a_terminal_cannot_show_is_named(
    letters: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The questions' letters, and bytes of a name that are no text anywhere."""
    page = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.html"))
    terminal = io.TextIOWrapper(io.BytesIO(), letters)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert ask(folder, clip("carphone_pristine"), "日本", "é", "--report", str(page)) == 0
    output = terminal.buffer.getvalue().decode(letters)  # type: ignore[attr-defined]
    assert page.is_file()
    assert r"\udcff.html" in output
    assert ("日本" if letters == "utf-8" else r"\u65e5\u672c") in output


def test_where_there_is_no_stdout_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `>&-` leaves it."""
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["plan", "--frames", "16"]) == 0


def test_head_takes_one_line() -> None:
    command = f"set -o pipefail; {sys.executable} -m dynfocus plan --frames 16 | head -1; echo ${{PIPESTATUS[@]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    line, codes = done.stdout.splitlines()
    assert "16" in line
    assert codes in ("0 0", "141 0")  # whether head has gone by then is between the two


def test_a_broken_pipe_between_processes_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def break_pipe(frames: int = 16) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            os.write(writer, b"x")
        finally:
            os.close(writer)

    monkeypatch.setitem(cli.VERBS, "plan", break_pipe)
    with pytest.raises(BrokenPipeError):
        cli.main(["plan", "--frames", "16"])
    assert capfd.readouterr().out == ""
