"""The report card of runs: its numbers, what it says of missing ones, what it refuses, and its three forms."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dynfocus.cli import main
from dynfocus.errors import DataError, UsageError
from dynfocus.evals.benchmarks.world import WORLD
from dynfocus.evals.summary import write_results
from dynfocus.lab.card_entries import read_entries
from dynfocus.lab.card_formats import list_contents
from dynfocus.lab.report_card import make_card
from dynfocus.records.predictions import Prediction

VIDEOS, T = 12, 10
SECONDS = tuple(float(n) for n in range(T))
CONNECTOR = {"selector": "dpe", "redundant_tokens": 2, "events": 4}


def predict(arm: str, kept: Sequence[int], right: int = VIDEOS, scores: tuple[float, ...] = ()) -> list[Prediction]:
    """Two questions about each video, of which the first ``right`` videos' are answered rightly; frame 3 is needed."""
    rows = []
    for video in range(VIDEOS):
        for group, segments in (("color", ((3,),)), ("last", ())):
            answer = "red" if video < right else "blue"
            hit = None if not segments or not kept else float(3 in kept)
            one = Prediction(
                f"{video}_{group}", f"v{video:02}", arm, group, answer, "red", group, tuple(kept), hit, 10 * len(kept)
            )
            shown = {"seconds": SECONDS, "scores": scores, "segments": segments} if kept else {"segments": segments}
            rows.append(replace(one, meta={"word": "red"}, **shown))
    return rows


def write_run(folder: Path, *arms: list[Prediction], seed: int = 0, **connector: object) -> Path:
    facts = {"split": "test", "seed": seed, "made_by": {"settings": {"connector": CONNECTOR | connector}}}
    write_results(folder, [one for arm in arms for one in arm], WORLD, facts)
    return folder


def read_card(*runs: Path, **options: object) -> dict:
    return list_contents(make_card(read_entries(runs), **options))  # type: ignore[arg-type]


def cells(card: dict, place: int = 0) -> dict:
    return card["entries"][place]["metrics"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rising = tuple(n / 10 for n in range(T))
    learned = predict("learned", [3, 4, 8], 9, rising)
    arms = [predict("uniform", [0, 5, 9], 6), predict("oracle", [3, 5, 9], 12), predict("inverted(of='dpe')", [0], 3)]
    return write_run(tmp_path / "run", learned, *arms, predict("blind", [], 3))


def test_numbers_are_those_counted_by_hand(run: Path) -> None:
    card = read_card(run)
    assert [entry["label"] for entry in card["entries"]][:3] == ["learned, K = 3", "uniform, K = 3", "oracle, K = 3"]
    values = {name: cell["value"] for name, cell in cells(card).items() if cell["value"] is not None}
    expected = {
        "accuracy": 9 / 12,
        "accuracy/detail": 9 / 12,
        "accuracy/temporal": 9 / 12,
        "hit_rate": 1,
        "precision": 1 / 3,
        "frames_per_segment": 1,
        "temporal_precision": 2 / 3,  # of 3, 4 and 8 s the first two are within a second of 3 s
        "temporal_recall": 1,
        "temporal_f1": 0.8,
        "auroc": 3 / 9,  # three of the other nine frames have a lower score
        "coverage": 7 / 10,  # 2 to 5 s and 7 to 9 s
        "redundancy": 1 / 3,
        "largest_gap": 4,
        "visual_tokens": 30,
        "question_sensitivity": 0,
        "question_distance": 0,
        "regret": 3 / 12,
        "necessity": 6 / 12,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert values.keys() - expected.keys() == {"rank_correlation"}
    assert cells(card)["hit_rate"] | {"interval": None} == {
        **{"value": 1.0, "interval": None, "n": 12, "videos": 12, "seeds": 1, "missing": None}
    }
    assert cells(read_card(run, tolerance=5.0))["temporal_precision"]["value"] == 1


def test_intervals_and_mcnemar_are_those_of_the_tables(run: Path) -> None:
    card, metrics = read_card(run), json.loads((run / "metrics.json").read_text())
    column = metrics["arms"]["learned"]["columns"]["balanced"]
    assert cells(card)["accuracy"]["interval"] == pytest.approx(column["interval"])
    first = card["comparisons"][0]
    assert (first["a"], first["b"], first["equal_tokens"]) == ("learned, K = 3", "uniform, K = 3", True)
    assert first["difference"] == pytest.approx(0.25)
    assert first["interval"][0] <= 0.25 <= first["interval"][1]
    assert first["mcnemar"] == pytest.approx(2 * 0.5**6)  # six questions, all won by learned
    known = [one["p"] for one in card["comparisons"]]
    steps = [p * sum(q >= p for q in known) for p in known if p <= first["p"]]
    assert first["p_holm"] == pytest.approx(min(1, max(steps)))
    assert {one["b"] for one in card["comparisons"]} == {"uniform, K = 3", "oracle, K = 3"}


def test_every_missing_number_says_why_and_what_makes_it(run: Path, tmp_path: Path) -> None:
    card = read_card(run)
    for entry in card["entries"]:
        for name, cell in entry["metrics"].items():
            assert (cell["value"] is None) == bool(cell["missing"]), name
    assert "needs two segments" in cells(card)["balance"]["missing"]
    assert "scores no frames" in cells(card, 1)["auroc"]["missing"]
    assert "report-card RUN RUN2" in cells(card)["seed_stability"]["missing"]
    assert "redundant_tokens 0" in cells(card)["sufficiency"]["missing"]
    assert "`dynfocus report-card dpe --model RUN/model" in cells(card)["jitter_stability"]["missing"]
    assert "`dynfocus report-card uniform --model RUN/model" in cells(card, 1)["seconds_select"]["missing"]
    assert "dynfocus ask" in cells(card)["seconds_prefill"]["missing"]
    assert cells(card, 2)["regret"]["missing"] == "It is the oracle itself."
    assert cells(card, 4)["hit_rate"]["missing"] == "No frame is kept."
    old = [replace(one, seconds=(), scores=(), segments=()) for one in predict("dpe", [3])]
    older = read_card(write_run(tmp_path / "old", old))
    assert "dynfocus test" in cells(older)["coverage"]["missing"]
    assert "--on FOLDER" in cells(older)["precision"]["missing"]
    assert "[dpe,oracle]" in cells(older)["regret"]["missing"]
    assert "{of: dpe}" in cells(older)["necessity"]["missing"]
    assert "[dpe,uniform]" in older["missing"]["comparisons"]
    assert "--model.connector.keep" in older["curves"][0]["missing"]


def test_needed_frames_come_from_the_benchmarks_files(tmp_path: Path) -> None:
    old = [replace(one, segments=()) for one in predict("dpe", [3, 4])]
    run = write_run(tmp_path / "old", old)
    rows = [
        {
            **{"id": one.id, "video": one.video},
            "questions": [
                {"text": one.question, "answer": "red", "group": one.group, "meta": {"word": "red"}}
                | {"options": [], "segments": [[3]] if one.group == "color" else []}
            ],
        }
        for one in old
    ]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    card = list_contents(make_card(read_entries([run], tmp_path)))
    assert cells(card)["precision"]["value"] == 0.5
    foreign = write_run(
        tmp_path / "foreign", [replace(one, hit=None) for one in old]
    )  # its frames are counted otherwise
    assert cells(list_contents(make_card(read_entries([foreign], tmp_path))))["precision"]["value"] is None


def test_runs_of_other_seeds_are_one_entry_with_wider_intervals(run: Path, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(n), predict("learned", [3, n], 12 - 4 * n), seed=n) for n in (0, 1, 2)]
    card = read_card(*runs)
    assert [entry["seeds"] for entry in card["entries"]] == [[0, 1, 2]]
    cell = cells(card)["accuracy"]
    assert cell["value"] == pytest.approx((12 + 8 + 4) / 36)
    assert cell["seeds"] == 3
    low, high = cell["interval"]
    assert high - low > 0.5  # seeds alone range over .67
    assert cells(card)["seed_stability"]["value"] == pytest.approx(1 / 3)  # frame 3 of each two pairs' union of three


def test_comparisons_say_what_they_lack(tmp_path: Path) -> None:
    few = [[one for one in predict(arm, [3], 1) if one.video < "v09"] for arm in ("learned", "uniform")]
    assert [*read_card(write_run(tmp_path / "few", *few))["missing"].values()] == [
        "Fewer than 10 videos. Test on more of them."
    ]
    alike = read_card(write_run(tmp_path / "alike", predict("learned", [3]), predict("uniform", [3])))
    assert "The two never differ" in alike["missing"]["80 % power of some comparisons"]
    assert alike["comparisons"][0]["smallest"] is None
    runs = [write_run(tmp_path / str(n), predict("learned", [3]), predict("uniform", [4], 3), seed=n) for n in (0, 1)]
    assert "Several seeds" in read_card(*runs)["missing"]["McNemar's p of some comparisons"]


def test_the_curve_over_k_has_its_area(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / str(keep), predict("learned", range(3, 3 + keep), right), events=keep)
        for keep, right in ((1, 4), (2, 8), (4, 12))
    ]
    curve = read_card(*runs)["curves"][0]
    assert [(point["keep"], point["value"]) for point in curve["points"]] == [
        (1, pytest.approx(4 / 12)),
        (2, pytest.approx(8 / 12)),
        (4, pytest.approx(1)),
    ]
    assert curve["area"]["value"] == pytest.approx((0.5 + 2 * 10 / 12) / 3)
    assert curve["area"]["interval"][0] < curve["area"]["value"] < curve["area"]["interval"][1]


def test_a_run_with_the_kept_frames_alone_tells_what_suffices(run: Path, tmp_path: Path) -> None:
    alone = write_run(tmp_path / "alone", predict("learned", [3, 4, 8], 7), seed=1, redundant_tokens=0)
    card = read_card(run, alone)
    assert cells(card)["sufficiency"]["value"] == pytest.approx(7 / 12)
    assert card["entries"][-1]["label"] == "learned, K = 3, kept frames alone"


def test_what_cannot_stand_in_one_card_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one run twice"):
        read_entries([run, run])
    again = write_run(tmp_path / "again", predict("learned", [3, 4, 8]))
    with pytest.raises(DataError, match="with the seed 0"):
        read_entries([run, again])
    other = write_run(tmp_path / "other", predict("learned", [3, 4, 8]), seed=1, events=9)
    with pytest.raises(DataError, match="differ in events"):
        read_entries([run, other])
    with pytest.raises(DataError, match="no arm 'nobody'"):
        read_card(run, against="nobody")


def test_the_verb_writes_json_page_and_scalars(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, board = tmp_path / "card", tmp_path / "board"
    assert main(["report-card", str(run), "--out", str(out), "--tensorboard", str(board)]) == 0
    card = json.loads((out / "report_card.json").read_text(), parse_constant=pytest.fail)
    assert card == json.loads(json.dumps(read_card(run)))
    text = capsys.readouterr().out
    assert re.search(r"hit_rate +1\.000 \[1\.000, 1\.000\]", text)
    accumulator = EventAccumulator(str(board)).Reload()
    scalars = {tag: accumulator.Tensors(tag)[0].tensor_proto.float_val[0] for tag in accumulator.Tags()["tensors"]}
    assert scalars["report_card/temporal_f1/learned, K = 3"] == pytest.approx(0.8)
    low, high = cells(card)["accuracy"]["interval"]
    assert scalars["report_card/accuracy/learned, K = 3/low"] == pytest.approx(low)
    assert scalars["report_card/accuracy/learned, K = 3/high"] == pytest.approx(high)


def test_the_page_escapes_every_text_and_loads_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", predict("<script>x</script>", [3]))
    assert main(["report-card", str(run)]) == 0
    page = (run / "report_card.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "No arm `oracle` at K = 1" in page
