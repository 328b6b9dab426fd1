"""Figure 5: the picture and the table of one video, by a trained model and by selectors that say less."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from dynfocus.cli import main
from dynfocus.inspection.figure_5 import list_frames
from dynfocus.records.selections import Selection


def test_a_trained_models_storyboard(trained_runs: Path, video: Path, tmp_path: Path) -> None:
    args = ["figure", "5", str(video), "what color is the star", "--model", str(trained_runs / "stage2/model")]
    for folder in ("one", "two"):
        assert main([*args, "--out", str(tmp_path / folder)]) == 0
    for name in ("figure5.png", "figure5.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with Image.open(tmp_path / "one/figure5.png") as picture:
        assert picture.width == 1200
    text = (tmp_path / "one/figure5.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in text if not line.startswith("# ")))
    assert [float(row["seconds"]) for row in rows] == list(range(20))
    assert sum(int(row["kept"]) for row in rows) == 3
    assert sum(int(row["representative"]) for row in rows) == 5
    kept, left = ({float(r["score"]) for r in rows if (r["kept"] == k and r["representative"] == "1")} for k in "10")
    assert min(kept) >= max(left)
    assert {float(row["score"]) for row in rows} <= {float(s) for s in kept | left}


def test_no_trained_model_is_said_in_three_parts(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["figure", "5", str(video), "what", "--model", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "Needed:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_could_not_be_answered_or_drawn_is_refused_first(
    trained_runs: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    args = ["figure", "5", str(video), "--model", str(trained_runs / "stage2/model"), "--out"]
    assert main([*args, str(tmp_path / "out"), ""]) == 1
    assert "question 1, ''. Needed:" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([*args, str(tmp_path / "file"), "what"]) == 1
    assert "is no folder. Needed:" in capsys.readouterr().err


def test_what_a_selector_does_not_say_stays_empty() -> None:
    uniform = list_frames(Selection((0.0, 1.0), (1,), 38, 4))
    assert [(row["kept"], row["peak"], row["event"], row["score"]) for row in uniform] == [
        (0, "", "", ""),
        (1, "", "", ""),
    ]
    one = list_frames(Selection((0.0,), (0,), 38, 2, (0.5,), (0,), (0,), (0.0,)))
    assert one == [
        {"frame": 0, "seconds": 0.0, "kept": 1, "top": 1, "peak": 0.5, "event": 0, "representative": 1, "score": 0.0}
    ]
