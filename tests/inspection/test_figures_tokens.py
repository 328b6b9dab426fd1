"""Figure 4: every method's tokens are those of its formula, means are over videos, and files say what is not known."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dynfocus.budget import OTHERS
from dynfocus.cli import main
from dynfocus.errors import DataError
from dynfocus.inspection.charts import write_chart
from dynfocus.inspection.durations import BENCHMARKS, Benchmark, read_durations
from dynfocus.inspection.figure_4 import average_costs, check_claim, list_methods, list_notes
from dynfocus.settings import ConnectorSettings

PAPER = ConnectorSettings()
ANET = next(benchmark for benchmark in BENCHMARKS if benchmark.name == "ActivityNet-QA")


def table(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# ")]
    return list(csv.DictReader(lines))


def count_tokens(
    benchmark: Benchmark, settings: ConnectorSettings = PAPER, limit: int | None = 200
) -> dict[str, float]:
    return {cost.method.name: cost.tokens for cost in average_costs([benchmark], settings, limit)}


@pytest.mark.parametrize(
    ("frames", "tokens"),
    [
        (1, (2, 112, 512, 32, 356, 96, 4608)),
        (16, (32, 112, 512, 512, 356, 96, 4608)),
        (17, (34, 224, 512, 544, 356, 96, 4608)),
        (64, (128, 448, 512, 2048, 356, 96, 4608)),
        (4000, (8000, 448, 512, 128000, 356, 96, 4608)),
    ],
)
def test_others_spend_by_the_formulas_of_their_code(frames: int, tokens: tuple[int, ...]) -> None:
    assert tuple(method.tokens(frames) for method in OTHERS) == tokens


def test_dynfocus_spends_what_the_paper_says() -> None:
    ours = {method.name: method.tokens for method in list_methods(PAPER)}
    assert [ours["DynFocus"](frames) for frames in (1, 16, 32, 200)] == [40, 526, 824, 1160]
    assert [ours[f"DynFocus, {frames} frames"](5) for frames in (16, 32)] == [526, 824]
    assert list_methods(replace(PAPER, events=70, keep=0.4))[0].tokens(200) == 1464


def test_tokens_are_averaged_over_videos_not_taken_of_the_mean_video() -> None:
    two = Benchmark("mine", (2.0, 200.0), "")
    assert count_tokens(two)["DynFocus"] == (80 + 1160) / 2 != count_tokens(replace(two, seconds=(101.0,)))["DynFocus"]


def test_frames_are_at_the_whole_seconds_within_a_video() -> None:
    assert Benchmark("", (0.2, 1.0, 1.01, 9.8), "").frames() == [1, 1, 2, 10]


def test_long_videos_are_cut_for_dynfocus_alone() -> None:
    lvbench = Benchmark("LVBench", (1000.0, 4000.0), "", above=1000)
    assert lvbench.frames(200) == [1000, 200]
    assert count_tokens(lvbench)["DynFocus"] == (2760 + 1160) / 2
    assert count_tokens(lvbench, limit=None)["DynFocus"] == (2760 + 8760) / 2
    assert count_tokens(lvbench)["LLaMA-VID"] == 5000
    assert any("reads 200 frames" in note for note in list_notes([lvbench], PAPER))
    assert not any("reads" in note for note in list_notes([lvbench], PAPER, None))


def test_the_papers_claim_about_activitynet_follows_from_no_setting() -> None:
    tokens = count_tokens(ANET)
    shares = [
        tokens[ours] / tokens[theirs] - 1
        for ours in tokens
        if ours.startswith("DynFocus")
        for theirs in ("ST-LLM", "ST-LLM, every frame")
    ]
    assert len(shares) == 6
    assert not [share for share in shares if -0.35 < share < -0.15]
    assert all(f"{share:+.0%}" in check_claim(ANET) for share in shares)
    assert check_claim(ANET) in list_notes(BENCHMARKS, PAPER)
    for others in (
        list_notes([replace(ANET, seconds=(11.0,))], PAPER),
        list_notes(BENCHMARKS, replace(PAPER, events=9)),
    ):
        assert "ST-LLM" not in " ".join(others), "it holds for the settings that were looked at alone"


def test_every_duration_says_where_it_comes_from() -> None:
    assert len({benchmark.name for benchmark in BENCHMARKS}) == len(BENCHMARKS) == 7
    assert all(benchmark.source and benchmark.mean > 0 for benchmark in BENCHMARKS)
    assert {b.name: b.above for b in BENCHMARKS if b.above} == {"LVBench": 1000, "Video-MME": 2000}


def test_ones_own_durations(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("\ufeffbenchmark,seconds,video\nmine,3,a\nLVBench,1500.5,b\nmine,5,c\n")
    mine, lvbench = read_durations(tmp_path / "mine.csv")
    assert (mine.name, mine.seconds, mine.source, mine.above) == ("mine", (3.0, 5.0), "mine.csv", None)
    assert (lvbench.seconds, lvbench.above, lvbench.certain) == ((1500.5,), 1000, True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the columns of an empty file"),
        ("name,seconds\na,1\n", "the columns name, seconds"),
        ("benchmark,seconds\n", r"mine\.csv without a line of a video\. "),
        ("benchmark,seconds\nmine,3\nmine,long\n", r"^line 3 of .*mine\.csv: seconds = long\. Needed"),
        ("benchmark,seconds\nmine,0\n", "line 2 of .*: seconds = 0"),
        ("benchmark,seconds\nmine,inf\n", "line 2 of .*: seconds = inf"),
        ("benchmark,seconds\nmine\n", "line 2 of .*: seconds = nothing"),
        ("benchmark,seconds\n,3\n", "line 2 of .*: no name"),
    ],
)
def test_durations_that_cannot_be_used_are_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_durations(path)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_durations(path)


def test_the_table_holds_every_number_and_everybodys_call_gives_the_same_files(tmp_path: Path) -> None:
    """Whatever matplotlib style a person has."""
    import matplotlib

    for folder, style in (("one", {}), ("two", {"lines.linewidth": 9, "axes.facecolor": "red"})):
        with matplotlib.rc_context(style):
            assert main(["figure", "4", "--out", str(tmp_path / folder)]) == 0
    for name in ("figure4.png", "figure4.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    rows = table(tmp_path / "one" / "figure4.csv")
    per_benchmark = [row for row in rows if row["panel"] == "benchmark"]
    assert len(per_benchmark) == 7 * len(list_methods(PAPER))
    assert all(row["formula"] and row["duration"] for row in per_benchmark)
    formulas = {row["method"]: row["formula"] for row in per_benchmark}
    assert formulas["DynFocus, 16 frames"] == "40 K' + 2 (16 - K')", "it has no T, so the column T is not what it takes"
    curve = [row for row in rows if row["panel"] == "duration" and row["method"] == "DynFocus"]
    assert [float(row["tokens"]) for row in curve if row["seconds"] in ("1.0", "16.0")] == [40, 526]
    assert "none of the settings found" in (tmp_path / "one" / "figure4.csv").read_text()
    with Image.open(tmp_path / "one" / "figure4.png") as picture:
        assert picture.size == (1950, 960)
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 50
    assert not list((tmp_path / "one").glob(".*"))


def test_the_options_reach_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("benchmark,seconds\nLVBench,200\nLVBench,5000\n")
    args = ["figure", "4", "--durations", str(tmp_path / "mine.csv"), "--out", str(tmp_path)]
    assert main([*args, "--events", "70", "--keep", "0.4", "--long-video-frames", "100"]) == 0
    ours = next(row for row in table(tmp_path / "figure4.csv") if row["method"] == "DynFocus")
    assert (float(ours["tokens"]), ours["videos"], ours["T"]) == ((1464 + 1264) / 2, "2", "150.0")
    assert main([*args, "--long-video-frames", "-1"]) == 1


def test_figure_4_is_drawn_without_torch(tmp_path: Path) -> None:
    code = f"import sys; from dynfocus.cli import main; assert not main(['figure', '4', '--out', {str(tmp_path)!r}]); "
    done = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_chart_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), write_chart(tmp_path / "a.png", 2, 2, []):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())
