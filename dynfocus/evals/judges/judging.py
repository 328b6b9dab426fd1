"""Judge the answers of a run with a model: what it said once is kept, so that a stopped run goes on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any, Protocol, runtime_checkable

from dynfocus.errors import CheckpointError, ConfigError, DataError, JudgeError
from dynfocus.evals.answers import cut_answer
from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.judges.template import FOLDER, Template, read_template
from dynfocus.evals.protocol import Benchmark, Judged
from dynfocus.evals.results_table import read_metrics
from dynfocus.evals.rules import format_options
from dynfocus.evals.summary import summarize_arms
from dynfocus.progress import Progress
from dynfocus.records.atomic import write_text
from dynfocus.records.jsonl import append_jsonl, read_appended, read_jsonl, write_jsonl
from dynfocus.records.predictions import Prediction, Verdict

AGAIN = 3  # times that a reply which cannot be read is asked for again
KEPT = "judged"  # the folder of what each judge has said so far
LONGEST = 2000  # characters of a reply that a verdict keeps


class NoReply(Exception):
    """A judge gives no reply to this one prompt; others may fare better."""


@runtime_checkable  # annotations are checked while tests run
class Judge(Protocol):
    """A model that replies to prompts.

    Attributes:
        kind: ``openai`` or ``local``.
        model: its name.
        settings: what else its replies depend on.
        workers: prompts that it takes at once.
    """

    kind: str
    model: str
    settings: Mapping[str, Any]
    workers: int

    def ask(self, prompt: str, stop: Event) -> str:
        """Reply to one prompt; called from several threads at once, and soon over once ``stop`` is set.

        Raises:
            ValueError: if the reply cannot be read.
            NoReply: if there is none to this prompt.
            JudgeError: if there will be none to any.
        """


@dataclass(frozen=True)
class Judgement:
    """What a judge said to one prompt.

    Attributes:
        key: the hash of the judge and the prompt.
        scores, reply: the scores, and where they were read.
    """

    key: str
    scores: Mapping[str, float]
    reply: str


@dataclass(frozen=True)
class Task:
    """One prompt about one prediction."""

    key: str
    template: Template
    prompt: str


def judge_run(
    run: Path, judge: Judge | None, name: str, own: Sequence[Path] = (), protocol: str | None = None
) -> dict[str, Any]:
    """Judge a run's predictions, and write ``verdicts.NAME.jsonl`` and ``metrics.NAME.json`` into its folder.

    Answers that the benchmark names no template for are judged by rules. An answer that the judge fails on has no
    score: it counts in no column, and the results show the share of such answers.

    Args:
        run: folder of a tested run.
        judge: who judges; None: rules alone.
        name: of the results.
        own: template files that replace those of the same name.
        protocol: whose rules read and count answers, if not the run's own.

    Returns:
        what ``metrics.NAME.json`` holds.

    Raises:
        CheckpointError: if the run is not tested, or lacks some of its answers.
        ConfigError: if the benchmark has no template, or none of the name of one of ``own``.
        JudgeError: if the judge gives up; what it has said so far is kept.
    """
    metrics = read_metrics(run)
    benchmark = find_benchmark(metrics["benchmark"], protocol or metrics["protocol"])
    predictions = list(read_jsonl(run / "predictions.jsonl", Prediction))
    if len(predictions) != (count := sum(arm["n"] for arm in metrics["arms"].values())):
        raise CheckpointError(
            f"{run}, whose predictions.jsonl holds {len(predictions)} answers, and its metrics.json {count}",
            "all answers of the run",
            "Test or evaluate it again.",
        )
    if judge is None:
        judged, used = benchmark.judge(predictions), {}
    else:
        templates = read_templates(benchmark, predictions, own)
        used = {one.name: _digest(one.text) for one in templates.values()}
        judged = judge_predictions(predictions, benchmark, judge, name, templates, run / KEPT / f"{name}.jsonl")
    about = {
        "protocol": benchmark.protocol,
        "judge": name,
        "judge_model": judge and judge.model,
        "judge_settings": judge and dict(judge.settings),
    }
    metrics = {**metrics, **summarize_arms(judged, benchmark), **about, "templates": used}
    write_jsonl(run / f"verdicts.{name}.jsonl", [verdict for _, verdict in judged])
    write_text(run / f"metrics.{name}.json", json.dumps(metrics, indent=2) + "\n")
    return metrics


def read_templates(
    benchmark: Benchmark, predictions: Iterable[Prediction], own: Sequence[Path] = ()
) -> dict[str, Template]:
    """Read the templates that predictions need; raises ConfigError if there are none, or one of ``own`` is unused."""
    names = list(dict.fromkeys(name for one in predictions for name in benchmark.templates(one)))
    if not names:
        raise ConfigError(
            f"the benchmark {benchmark.name}, which has no prompt for a judge",
            "a benchmark whose answers are texts",
            "Judge it by rules.",
        )
    files = {name: FOLDER / f"{name}.txt" for name in names}
    for file in own:
        if file.stem not in files:
            raise ConfigError(
                f"the template {file}", f"a file named as one of {', '.join(names)}", "Rename or leave it out."
            )
        files[file.stem] = file
    return {name: read_template(file) for name, file in files.items()}


def judge_predictions(
    predictions: Sequence[Prediction],
    benchmark: Benchmark,
    judge: Judge,
    name: str,
    templates: Mapping[str, Template],
    kept: Path,
) -> list[Judged]:
    """Judge predictions by templates, and by rules where the benchmark names none.

    Args:
        predictions: of one benchmark, of any arms.
        benchmark: theirs.
        judge: who judges.
        name: the judge's in the verdicts.
        templates: by their names.
        kept: JSON lines of what this judge has said; what is in them is not asked again.

    Raises:
        JudgeError: if the judge gives up.
    """
    by_id = {(one.arm, one.id): one for one in predictions}
    tasks = [
        [_make_task(templates[part], one, by_id, judge) for part in benchmark.templates(one)] for one in predictions
    ]
    said = {one.key: one for one in read_appended(kept, Judgement)} if kept.exists() else {}
    # Equal answers to one question, such as those of several arms, are asked for once.
    pending = {task.key: task for group in tasks for task in group if task.key not in said}
    failures = _ask_all(list(pending.values()), judge, said, kept)
    by_rules = benchmark.judge(predictions)
    return [
        (one, _join(ruled, name, judge, [said.get(task.key, failures.get(task.key, "")) for task in group]))
        if group
        else (one, ruled)
        for (one, ruled), group in zip(by_rules, tasks, strict=True)
    ]


def _make_task(template: Template, one: Prediction, by_id: Mapping[tuple[str, str], Prediction], judge: Judge) -> Task:
    fields = {name: _write_field(value) for name, value in one.meta.items()}
    fields |= {"question": one.question, "truth": one.truth, "answer": cut_answer(one.answer)}
    fields |= {"options": format_options(one.options)}
    if "pair" in one.meta:
        pair = by_id.get((one.arm, one.meta["pair"]))
        if pair is None:
            raise DataError(
                f"the answer {one.id} of {one.arm}, without the answer {one.meta['pair']} beside which it is judged",
                "the answers to both questions",
                "Evaluate again without --rows.",
            )
        fields |= {"pair_question": pair.question, "pair_answer": cut_answer(pair.answer)}
    prompt = template.fill(fields)
    return Task(_digest([judge.kind, judge.model, judge.settings, template.scores, prompt]), template, prompt)


def _write_field(value: Any) -> str:
    return "\n".join(f"- {part}" for part in value) if isinstance(value, list | tuple) else str(value)


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=dict).encode()).hexdigest()


def _ask_all(tasks: Sequence[Task], judge: Judge, said: dict[str, Judgement], kept: Path) -> dict[str, str]:
    """Ask, and keep each judgement as it comes; returns why others failed, by their keys."""
    failures: dict[str, str] = {}
    stop, end = Event(), None
    with ThreadPoolExecutor(judge.workers) as pool, Progress(len(tasks), f"judging by {judge.model}", "answer") as bar:
        futures = {pool.submit(_ask, task, judge, stop): task.key for task in tasks}
        try:
            for future in as_completed(futures):
                key = futures[future]
                if future.cancelled():
                    continue
                try:
                    said[key] = future.result()
                    append_jsonl(kept, [said[key]])
                except NoReply as error:
                    failures[key] = str(error)
                except JudgeError as error:  # those that are asked already are kept too: they have been paid for
                    end = end or error
                    _cancel(futures, stop)
                bar.update(note=f"{len(failures)} failed" if failures else "")
        finally:
            _cancel(futures, stop)
    if end is not None:
        raise end
    return failures


def _cancel(futures: Iterable[Any], stop: Event) -> None:
    stop.set()
    for future in futures:
        future.cancel()


def _ask(task: Task, judge: Judge, stop: Event) -> Judgement:
    """Ask until a reply can be read; raises NoReply after `AGAIN` more tries."""
    reminder = ""
    for _ in range(1 + AGAIN):
        try:
            reply = judge.ask(task.prompt + reminder, stop)
            return Judgement(task.key, task.template.read(reply), reply[:LONGEST])
        except ValueError as error:
            reason = str(error)
            reminder = f"\nYour last reply was of no use: {reason}. Reply with the JSON object alone.\n"
    raise NoReply(f"{1 + AGAIN} replies that could not be read, the last one: {reason}")


def _join(ruled: Verdict, name: str, judge: Judge, parts: Sequence[Judgement | str]) -> Verdict:
    """One verdict of what the judge said to each of a prediction's prompts, or why it did not.

    Of the rules' scores it keeps what is no judgement, such as ``f1``: answers without a template have it too.
    """
    said = [part for part in parts if isinstance(part, Judgement)]
    failure = "; ".join(part for part in parts if isinstance(part, str)) or None
    scores = {score: value for score, value in ruled.scores.items() if score != "correct"} if said else {}
    scores |= {score: value for part in said for score, value in part.scores.items()}
    parsed = "\n".join(part.reply for part in said) or None
    return Verdict(ruled.id, ruled.arm, name, scores, parsed, judge.model, failure)
