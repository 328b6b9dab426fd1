"""Runs are judged through the real command line, by a real server: results, resuming, caching, failures, the key."""

import json
import logging
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import judge_server as served
import pytest

from dynfocus.cli import main
from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.judges.endpoint import KEY
from dynfocus.evals.summary import write_results
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction, Verdict

SECRET = "sk-Tr0ub4dor-and-3-more-words"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setenv("DYNFOCUS_JUDGE_MODEL", "org/judge:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def answer(id: str, group: str = "", text: str = "a dog", **changes: Any) -> Prediction:
    one = Prediction(id, f"{id}.mp4", "learned", f"what is {id}", text, "dog", group, (), None, 85)
    return replace(one, **changes)


def write_run(folder: Path, benchmark: str, predictions: list[Prediction]) -> Path:
    write_results(folder, predictions, find_benchmark(benchmark), {})
    return folder


def judge(run: Path, server: served.JudgeServer, *more: str) -> int:
    return main(["judge", str(run), "--judge", "openai", "--url", server.url, "--concurrency", "2", *more])


def results(run: Path, name: str = "openai-org-judge-1") -> tuple[dict[str, Verdict], dict[str, Any]]:
    verdicts = read_jsonl(run / f"verdicts.{name}.jsonl", Verdict)
    return {one.id: one for one in verdicts}, json.loads((run / f"metrics.{name}.json").read_text())


def values(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: one["value"] for name, one in metrics["columns"].items()}


def mark(**by_words: Any) -> served.Behaviour:
    """Reply with the scores of the first word that the prompt holds."""

    def behave(handler: served.Handler, prompt: str) -> None:
        reply = next(reply for word, reply in by_words.items() if word in prompt)
        handler.reply(served.completion(reply if isinstance(reply, str) else json.dumps(reply)))

    return behave


def test_open_answers_are_judged_with_their_scores(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path / "run", "msvd-qa", [answer("a"), answer("b"), answer("c", text="puppy"), answer("d")])
    no = {"correct": "no", "score": 1}
    with served.serve(mark(puppy={"correct": "yes", "score": 4.5}, **{"what is": no})) as server:
        assert judge(run, server) == 0
    verdicts, metrics = results(run)
    assert verdicts["c"] == Verdict(
        *("c", "learned", "openai-org-judge-1", {"f1": 0.0, "correct": 1.0, "score": 4.5}),
        *('{"correct": "yes", "score": 4.5}', "org/judge:1"),
    )
    assert list(verdicts) == ["a", "b", "c", "d"]
    assert values(metrics) == {"Acc": 25.0, "Score": 7.5 / 4}
    assert (metrics["judge"], metrics["judge_model"], metrics["failed"]) == ("openai-org-judge-1", "org/judge:1", 0)
    assert list(metrics["templates"]) == ["open_answer"]
    assert json.loads((run / "metrics.json").read_text())["columns"]["Acc"]["value"] == 75.0, "rules as they were"
    output = capsys.readouterr()
    assert "25.000" in output.out
    assert "verdicts.openai-org-judge-1.jsonl" in output.out
    assert "judging by org/judge:1: 4 of 4 answers, 00:0" in output.err


def test_vcg_bench_has_its_five_aspects(tmp_path: Path) -> None:
    predictions = [
        answer("g", "generic"),
        answer("t", "temporal"),
        answer("c1", "consistency", "cat"),
        answer("c2", "consistency", "a dog", meta={"pair": "c1"}),
    ]
    run = write_run(tmp_path, "vcg-bench", predictions)
    with served.serve(
        mark(
            **{"how right the facts": {"correctness": 5}, "how much of the reference": {"detail": 4}},
            **{"as a whole": {"context": 3}, "grasps time": {"temporal": 2}, "hold together": {"consistency": 1}},
        )
    ) as server:
        assert judge(run, server) == 0
    verdicts, metrics = results(run)
    rules = json.loads((run / "metrics.json").read_text())
    assert values(metrics) == {"CI": 5, "DO": 4, "CU": 3, "TU": 2, "CO": 1, "Avg": 3, "F1": values(rules)["F1"]}
    assert verdicts["g"].scores == {"correctness": 5, "detail": 4, "context": 3, "f1": 1.0}
    assert verdicts["c1"].judge == "rules"
    [pair] = [text for one in server.requests if "together" in (text := one["messages"][0]["content"])]
    assert all(part in pair for part in ("what is c1", "cat", "what is c2", "a dog"))


def test_of_mlvu_rules_judge_choices_and_a_model_texts(tmp_path: Path) -> None:
    points = {"scoring_points": ["He walks.", "He sits."]}
    predictions = [
        answer("TR_0", "TR", "(B)", options=("cat", "dog"), meta={"letter": "B"}),
        answer("VS_0", "VS", "A long day.</s>"),
        answer("SSC_0", "SSC", "He walks.", meta=points),
    ]
    run = write_run(tmp_path, "mlvu", predictions)
    with served.serve(
        mark(
            **{"summary": {"completeness": 2, "reliability": 4}},
            **{"- He walks.\n- He sits.": {"accuracy": 3.5, "relevance": 5}},
        )
    ) as server:
        assert judge(run, server) == 0
    assert len(server.requests) == 2
    assert "</s>" not in str(server.requests)
    assert {"TR": 100, "VS": 6, "SSC": 8.5, "G-Avg": 7.25}.items() <= values(results(run)[1]).items()


def test_answers_are_asked_for_once_whatever_happens(tmp_path: Path, capsys: Capture) -> None:
    predictions = [answer(str(n)) for n in range(6)]
    predictions += [replace(one, arm="uniform") for one in predictions]
    run = write_run(tmp_path, "msvd-qa", predictions)
    with served.serve(served.right()) as server:
        assert judge(run, server, "--max-requests", "4") == 1
        assert "4 requests are sent" in capsys.readouterr().err
        assert not list(run.glob("*openai*")), "no results of a part"
        assert judge(run, server, "--max-requests", "4") == 0
        assert len(server.requests) == 6, "the same answer of another arm is no question"
        first = results(run)
        assert judge(run, server) == 0
        assert results(run) == first
        assert len(server.requests) == 6
        assert judge(run, server, "--model", "another") == 0
        assert len(server.requests) == 12
        assert judge(run, server, "--temperature", "1") == 0
        assert len(server.requests) == 18
    assert len(results(run)[1]["arms"]) == 2


def test_a_killed_judge_goes_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "msvd-qa", [answer(str(n)) for n in range(12)])
    kept = run / "judged" / "openai-org-judge-1.jsonl"
    with served.serve(served.slow(0.2)) as server:
        command = ["judge", str(run), "--judge", "openai", "--url", server.url, "--concurrency", "1"]
        process = subprocess.Popen([sys.executable, "-m", "dynfocus", *command], stderr=subprocess.DEVNULL)
        while not kept.exists() or kept.read_text().count("\n") < 3:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with kept.open("a") as file:
            file.write('{"key": "half')
        done, asked = kept.read_text().count("\n"), len(server.requests)
        server.script[:] = [served.right()]
        assert judge(run, server) == 0
        assert len(server.requests) - asked == 12 - done
    assert len(results(run)[0]) == 12


def test_failures_are_counted_never_invented(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path, "msvd-qa", [answer("a"), answer("b", text="cat"), answer("c", text="bird")])
    bad = '{"correct": "yes", "score": 9}'
    yes = {"correct": "yes", "score": 5}
    with served.serve(mark(cat=bad, **{"what is": yes})) as server:
        assert judge(run, server) == 0
        assert len(server.requests) == 2 + 4, "asked again three times"
        reminded = [one for one in server.requests if "no number from 0 to 5" in one["messages"][0]["content"]]
        assert len(reminded) == 3
        verdicts, metrics = results(run)
        assert (verdicts["b"].scores, verdicts["b"].parsed) == ({}, None)
        assert "4 replies that could not be read" in str(verdicts["b"].failure)
        assert values(metrics) == {"Acc": 100, "Score": 5}
        assert metrics["columns"]["Acc"]["n"] == 2
        assert metrics["failed"] == pytest.approx(1 / 3)
        assert metrics["unparsed"] == 0
        output = capsys.readouterr()
        assert "33.3% have no verdict of openai-org-judge-1" in output.out
        assert "3 of 3 answers" in output.err
        assert "so far, 1 failed\n" in output.err
        server.script[:] = [served.right()]
        assert judge(run, server) == 0
        assert len(server.requests) == 6 + 1, "what failed is asked again by the next call"
    assert results(run)[1]["failed"] == 0


def test_a_part_that_failed_leaves_the_others(tmp_path: Path) -> None:
    run = write_run(tmp_path, "vcg-bench", [answer("g", "generic")])
    with served.serve(
        mark(**{"how right": {"correctness": 5}, "how much": {"detail": 4}, "as a whole": "I cannot say"})
    ) as server:
        assert judge(run, server) == 0
    verdicts, metrics = results(run)
    assert verdicts["g"].scores == {"correctness": 5, "detail": 4, "f1": 1.0}
    assert (set(metrics["columns"]), metrics["failed"]) == ({"CI", "DO", "F1"}, 1)


def test_a_template_of_ones_own_replaces_one(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path / "run", "msvd-qa", [answer("a")])
    (tmp_path / "open_answer.txt").write_text("scores: correct yes|no, score 0-5\nMINE: $answer, not {$truth}?\n")
    (tmp_path / "other.txt").write_text("scores: correct yes|no\n$answer\n")
    with served.serve(served.right()) as server:
        assert judge(run, server) == 0
        before = results(run)[1]["templates"]
        assert judge(run, server, "--template", str(tmp_path / "open_answer.txt")) == 0
        assert server.requests[1]["messages"][0]["content"] == "MINE: a dog, not {dog}?\n"
        assert results(run)[1]["templates"] != before
        assert judge(run, server, "--template", str(tmp_path / "other.txt")) == 1
    assert "a file named as one of open_answer" in capsys.readouterr().err


def test_a_run_that_lost_answers_is_refused(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path / "run", "msvd-qa", [answer("a"), answer("b")])
    (run / "predictions.jsonl").write_text("")
    assert main(["judge", str(run)]) == 1
    assert "whose predictions.jsonl holds 0 answers, and its metrics.json 2" in capsys.readouterr().err
    assert not (run / "metrics.rules.json").exists()


def test_rules_and_what_has_no_template(tmp_path: Path, capsys: Capture) -> None:
    world = write_run(tmp_path / "world", "world", [answer("a", "color", "star red", meta={"word": "red"})])
    assert main(["judge", str(world)]) == 0
    verdicts, metrics = results(world, "rules")
    assert verdicts["a"].scores == {"correct": 1.0}
    assert metrics["arms"] == json.loads((world / "metrics.json").read_text())["arms"]
    with served.serve(served.right()) as server:
        assert judge(world, server) == 1
        assert not server.requests
    assert "world, which has no prompt for a judge" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "judge"], "a model or its address for rules"),
        (["--judge", "local"], "--judge local without --model"),
        (["--judge", "openai", "--url", "http://x/v1", "--concurrency", "0"], "numbers above 0"),
        (["--judge", "openai", "--url", "http://x/v1", "--max-requests", "0"], "numbers above 0"),
        (["--name", "../x"], "letters, digits, dots and dashes"),
        (["--key", "sk-1"], "unrecognized arguments: --key"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], message: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["judge", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


def test_the_key_is_in_nothing_that_is_left(tmp_path: Path, capsys: Capture, caplog: pytest.LogCaptureFixture) -> None:
    """Right, failing, hostile and refused: the run's folder, the screen and every log are searched."""
    caplog.set_level(logging.DEBUG)
    echo = served.right(f'{{"correct": "yes", "score": 4, "why": "{SECRET}"}}')
    for script in ([served.right()], [echo], [served.error(400, SECRET)], [served.error(401, SECRET)], [served.cut]):
        run = write_run(tmp_path / str(len(list(tmp_path.iterdir()))), "msvd-qa", [answer("a"), answer("b")])
        with served.serve(*script, served.right()) as server:
            judge(run, server)
        assert server.keys[0] == f"Bearer {SECRET}"
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    shown = capsys.readouterr()
    assert len(files) > 20
    assert "gives no replies" in shown.err
    for text in (*files, shown.out, shown.err, caplog.text):
        assert SECRET not in text
