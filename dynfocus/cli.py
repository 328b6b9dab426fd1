"""The one entry point: LightningCLI's verbs over the configs, and verbs of our own as plain typed functions."""

import os
import select
import sys
from io import TextIOWrapper
from json import dumps
from pathlib import Path
from typing import Any

from dynfocus.arguments import LIGHTNING, over_data, parser
from dynfocus.errors import ConfigError, DynFocusError, VideoError


def main(args: list[str] | None = None) -> int:
    """Run one verb; returns the exit code.

    Returns:
        0: done; 1: a mistake, said in one sentence; 130: stopped by Ctrl-C; 141: nobody reads what is printed any more.
    """
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text, nor a terminal know it
    try:
        try:
            return _main(args)
        finally:
            print(end="", flush=True)  # else the interpreter finds out that a pipe broke, and complains as it ends
    except BrokenPipeError:
        if not _unread():
            raise
        return 141


def _unread() -> bool:
    """Whether the reader of stdout has gone; then what is still printed goes nowhere."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _main(args: list[str] | None) -> int:
    given = sys.argv[1:] if args is None else args
    verb = given[:1]
    sys.path.insert(0, os.getcwd())  # a selector of one's own lies where one works
    try:
        if verb and verb[0] in LIGHTNING:
            from dynfocus.train.fit import run

            run(args)
        elif verb == ["doctor"] or (verb == ["sketch"] and any(arg.split("=")[0] == "--config" for arg in given)):
            known, rest = over_data(verb[0]).parse_known_args(given[1:])
            _run(args=rest, **vars(known))
        else:
            _run(**vars(parser().parse_args(args)))
    except DynFocusError as error:
        print(f"dynfocus: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dynfocus: stopped; called again, long work goes on from here", file=sys.stderr)
        return 130
    return 0


def _run(run: str, **options: Any) -> None:
    globals()[run](**options)


def ask(
    video: Path,
    questions: list[str],
    model: Path,
    cache: Path | None,
    report: Path | None,
    swap: bool,
    as_json: bool,
    device: str,
    frames: int | None,
    max_new_tokens: int,
) -> None:
    """Print a trained model's answers, the kept frames with their time stamps, the tokens and the time."""
    from dynfocus.inspection.answer import facts, stories
    from dynfocus.inspection.output import check, lines, numbers, swap_lines, write_report
    from dynfocus.inspection.report.swap import compare

    check(video, questions, report, swap, max_new_tokens)
    quiet()
    from dynfocus.inspection.answerer import Answerer

    answerer = Answerer(model, cache, device=device, frames=frames)
    answers = []
    for question in questions:
        answers.append(answerer.ask(video, question, max_new_tokens))
        if not as_json:
            print("\n".join(lines(answers[-1], alone=len(questions) == 1)), flush=True)
    about = facts(video, model, answers, answerer.settings | {"max_new_tokens": max_new_tokens})
    swapped = compare(stories(video, answers), about) if swap else None
    if report is not None:
        write_report(report, stories(video, answers, answerer.thumbnails(video, answers[0])), about)
    if as_json:
        print(dumps(numbers(answers, about, swapped), allow_nan=False))
        return
    if swapped is not None:
        print("\n".join(swap_lines(swapped, answers)))
    if report is not None:
        print(f"report:        {report}")


def sketch(videos: list[Path], model: Path, cache: Path) -> None:
    """Fill a sketch cache for a trained model, and say what was there."""
    quiet()
    from dynfocus.inspection.answerer import trained_cache

    filled = trained_cache(model, cache).fill(videos)
    print(filled)
    if filled.failed:
        raise VideoError(f"{filled.failed} of {len(videos)} files", "videos and images that can be read", "See above.")


def sketch_data(args: list[str], workers: int, shard: tuple[int, int], out: str | None) -> None:
    """Compute the sketches of a config's data, and say what was there."""
    from dynfocus.train.fit import ready

    if out is None and shard != (0, 1):
        raise ConfigError(f"--shard {shard[0]}/{shard[1]} without --out", "a place for shards", "Give --out.")
    data = ready(args, "sketch")
    print(data.sketch(workers) if out is None else data.share_out(out, shard, workers))


def doctor(args: list[str], workers: int, limit: float, again: bool) -> None:
    """Look at every training row of a config's data, and print what is wrong with how many."""
    from dynfocus.data.doctor.examine import diagnose
    from dynfocus.data.doctor.findings import format_table as drawn
    from dynfocus.data.doctor.findings import refuse
    from dynfocus.train.fit import ready

    found = diagnose(ready(args, "training_views").training_views(), workers, retry=again)
    print(drawn(found))
    refuse(found, limit)


def plan(configs: list[Path], as_json: bool, **options: Any) -> None:
    """Print what a video costs, and what answering and training on such need; no torch is imported."""
    from dynfocus.plan import numbers, page, planned

    told = numbers(planned(configs, **options))
    print(dumps(told, allow_nan=False) if as_json else page(told, details=options["train"] is not None))


def export(model: Path, out: Path, merge: bool, dtype: str | None) -> None:
    """Write a trained model as one plain checkpoint, with its processor."""
    quiet()
    from dynfocus.models.export import export as written

    written(model, out, merge, dtype)
    print(f"the model is in {out}")


def world(out: Path, videos: int, seed: int, val: int, test: int) -> None:
    """Write the embedded world: videos, images and annotation files."""
    from dynfocus.world.dataset import write_world

    print(f"the embedded world is in {write_world(out, videos=videos, seed=seed, val=val, test=test)}")


def towers(data: Path, out: Path, seed: int) -> None:
    """Train the tiny towers on the world's frames and texts."""
    quiet()
    from dynfocus.world.towers import train_towers

    train_towers(data, out, seed=seed)


def smol(out: Path) -> None:
    """Write SmolLM2-135M-Instruct as a plain checkpoint folder."""
    quiet()
    from dynfocus.world.towers.smol import write_smol

    print(f"SmolLM2-135M-Instruct is in {write_smol(out)}")


def table(folder: Path, bars: bool) -> None:
    """Print the table of a tested run, and with ``bars`` refuse one that the embedded world's bars are too high for."""
    from dynfocus.evals.results_table import format_results as drawn
    from dynfocus.evals.results_table import read_metrics
    from dynfocus.lab.gates import find_failed_gates

    metrics = read_metrics(folder)
    print(drawn(metrics))
    if bars and (short := find_failed_gates(metrics)):
        raise ConfigError("; ".join(short), "a run that reaches every bar", "Look at what changed since the last one.")


def seeds(seeds: list[int]) -> None:
    """Train and test the embedded world once a seed, DynFocus and the average-pooling baseline, and print both."""
    from dynfocus.lab.seeds import repeat

    drawn, short = repeat(seeds)
    print(drawn)
    if short:
        raise ConfigError("; ".join(short), "runs that reach every bar", "Look at what changed since the last ones.")


def bench(out: Path, frames: list[int] | None, quick: bool, training: bool, data: bool, rows: int) -> None:
    """Measure the method at real sizes; print a table and write each of its rows as a JSON line."""
    quiet()
    from perf.data import bench_data
    from perf.run import bench_connector
    from perf.training import bench_training

    if data:
        bench_data(out, Path("cache/bench"), quick)
    elif training:
        bench_training(out, frames or [32], rows)
    else:
        bench_connector(out, frames or [1, 16, 32, 64, 128, 256, 512, 1024], quick)


def figure(which: str, out: Path, **told: Any) -> None:
    """Draw one of the paper's figures, and say where it is."""
    from dynfocus.inspection.figures import making

    if which == "5":
        from dynfocus.inspection.output import check

        check(told["video"], [told["question"]], report=None, swap=False, new_tokens=1)
        quiet()
    drawn = getattr(making, f"figure_{which}")(out, **told)
    print(f"figure {which} is in {drawn}, its numbers beside it in {drawn.stem}.csv")


def quiet() -> None:
    """Keep transformers' own bars and reports off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


if __name__ == "__main__":
    sys.exit(main())
