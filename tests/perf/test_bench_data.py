"""`--data` at a small size, through the command line."""

import json
from pathlib import Path

import pytest

from perf.__main__ import main


def test_what_reading_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--data", "--quick", "--out", str(tmp_path / "out.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {row["case"].split(",")[0].split(" ")[0] for row in rows} == {"video", "image", "one", "annotations"}
    assert all(row["seconds"] > 0 for row in rows)
    assert all(row["times_faster"] > 0 for row in rows if row.get("pass") == "as we do" and "times_faster" in row)
    shown = capsys.readouterr()
    assert all(row["case"] in shown.out + shown.err for row in rows)
