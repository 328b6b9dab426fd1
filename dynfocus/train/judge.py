"""Judge tested runs by rules, with an endpoint, or with a language model on this machine, and compare judges."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from dynfocus.errors import UsageError
from dynfocus.evals.agreement import compare_verdicts, format_agreement
from dynfocus.evals.judges.endpoint import Endpoint
from dynfocus.evals.judges.judging import Judge, judge_run
from dynfocus.evals.results_table import format_results
from dynfocus.train.finished import digest


def judge_runs(
    paths: Sequence[Path],
    judge: Literal["rules", "openai", "local"] = "rules",
    model: str | None = None,
    url: str | None = None,
    name: str | None = None,
    template: Sequence[Path] = (),
    max_requests: int | None = None,
    concurrency: int = 8,
    timeout: float = 60.0,
    temperature: float = 0.0,
    protocol: str | None = None,
    agreement: bool = False,
) -> list[str]:
    """Judge runs one after the other, or compare two files of verdicts.

    Args:
        paths: folders of tested runs, or the two files.
        judge: rules, an OpenAI-compatible endpoint, or a language model on this machine.
        model: the endpoint's name of a model (else DYNFOCUS_JUDGE_MODEL), or the local one's folder.
        url: base address of the endpoint (else DYNFOCUS_JUDGE_URL), such as http://localhost:8000/v1; its key is read
            from DYNFOCUS_JUDGE_KEY.
        name: of the results; by default the judge and its model.
        template: files of prompts that replace those of the same name.
        max_requests: most requests to an endpoint, retries with them.
        concurrency: requests to an endpoint at once.
        timeout: seconds that an endpoint has for a reply.
        temperature: sampling temperature of an endpoint; some models take 1 alone.
        protocol: whose rules read and count answers, dynfocus or upstream, if not the run's own; the results' name then
            ends with it.
        agreement: tell instead how often two files of verdicts agree, and Cohen's kappa.

    Returns:
        what to print: a table a run, or the table of the agreement.

    Raises:
        UsageError: if an option has no use, or is missing.
        ConfigError, CheckpointError: if the judge cannot be had.
        JudgeError: if it gives up.
    """
    if agreement:
        if len(paths) != 2:
            raise UsageError(f"--agreement of {len(paths)} files", "two files of verdicts", "Name both.")
        return [format_agreement(*compare_verdicts(*paths))]
    if concurrency < 1 or timeout <= 0 or (max_requests is not None and max_requests < 1):
        raise UsageError(
            f"--concurrency {concurrency}, --timeout {timeout:g}, --max-requests {max_requests}",
            "numbers above 0",
            "Correct them.",
        )
    if re.search(r"[^\w.-]", name or ""):
        raise UsageError(f"--name {name}", "letters, digits, dots and dashes", "It becomes part of a file's name.")
    made = _make_judge(judge, model, url, concurrency, max_requests, timeout, temperature)
    named = name or (judge if made is None else re.sub(r"[^\w.-]+", "-", f"{judge}-{made.model}"))
    named += f"-{protocol}" if protocol and not name else ""
    try:
        results = {run: format_results(judge_run(run, made, named, template, protocol)) for run in paths}
    finally:
        if isinstance(made, Endpoint):
            made.close()
    return [f"{table}\nverdicts: {run / f'verdicts.{named}.jsonl'}" for run, table in results.items()]


def _make_judge(judge: str, model: str | None, url: str | None, *options: Any) -> Judge | None:
    if judge == "openai":
        return Endpoint(url, model, *options)
    if judge == "rules":
        if model or url:
            raise UsageError("a model or its address for rules", "--judge openai or --judge local", "Give --judge.")
        return None
    if model is None:
        raise UsageError("--judge local without --model", "the folder of a language model", "Give --model.")
    from dynfocus.models.local_judge import LocalJudge

    return LocalJudge(Path(model), str(digest(Path(model))))
