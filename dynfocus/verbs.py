"""Do what the command line asks for: the verbs that are not LightningCLI's, as typed functions that `cli` reads.

Parameters are options, behind ``**options`` those of the function that they are handed to, and docstrings are the help.
What is heavy is imported inside, so that help answers at once.
"""

import re
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any, Literal

from dynfocus.errors import ConfigError, UsageError, VideoError

MODEL = Path("runs/world/stage2/model")
FIGURE = "figure {0} is in {1}, its numbers beside it in {1.stem}.csv"


def ask(
    video: Path,
    questions: Sequence[str],
    model: Path = MODEL,
    cache: Path | None = None,
    report: Path | None = None,
    compare: bool = False,
    json: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    frames: int | None = None,
    max_new_tokens: int = 16,
) -> None:
    """Ask a trained model about a video or an image: answers, kept frames with time stamps, tokens, time.

    Example: dynfocus ask my_video.mp4 "what color is the star" "which place is first" --compare

    Args:
        video: any video or image file.
        questions: one or more; the video is read once for all of them.
        model: folder of a trained model.
        cache: folder to keep the video's sketch in, for the next time.
        report: HTML page to write, which shows what the model looked at, and why.
        compare: say which kept frames change from question to question.
        json: print one JSON object.
        device: where to compute; auto takes a GPU where there is one.
        frames: most frames to look at, evenly over the video, instead of the model's frame_rule.frames.
        max_new_tokens: most tokens of an answer.
    """
    from dynfocus.inspection.answer import list_facts, list_inspections
    from dynfocus.inspection.compare import compare_questions
    from dynfocus.inspection.output import check, compare_lines, lines, numbers, write_report

    check(video, questions, report, compare, max_new_tokens)
    quiet()
    from dynfocus.inspection.answerer import Answerer

    answerer = Answerer(model, cache, device=device, frames=frames)
    answers = []
    for question in questions:
        answers.append(answerer.ask(video, question, max_new_tokens))
        if not json:
            print("\n".join(lines(answers[-1], alone=len(questions) == 1)), flush=True)
    about = list_facts(video, model, answers, answerer.settings | {"max_new_tokens": max_new_tokens})
    compared = compare_questions(list_inspections(video, answers), about) if compare else None
    if report is not None:
        write_report(report, list_inspections(video, answers, answerer.thumbnails(video, answers[0])), about)
    if json:
        print(dumps(numbers(answers, about, compared), allow_nan=False))
    elif compared is not None:
        print("\n".join(compare_lines(compared, answers)))
    if report is not None and not json:
        print(f"report:        {report}")


def sketch(videos: Sequence[Path], *, cache: Path, model: Path = MODEL) -> None:
    """Compute sketches for a trained model ahead of time, of videos (of the data of configs: sketch --config FILE).

    Example: dynfocus sketch my_videos/one.mp4 my_videos/two.mp4 --cache cache/world/sketches

    Args:
        videos: any video or image files.
        cache: folder to keep sketches in.
        model: folder of a trained model.
    """
    quiet()
    from dynfocus.inspection.answerer import trained_cache

    filled = trained_cache(model, cache).fill(videos)
    print(filled)
    if filled.failed:
        raise VideoError(f"{filled.failed} of {len(videos)} files", "videos and images that can be read", "See above.")


def sketch_data(settings: list[str], workers: int = 2, shard: str = "0/1", out: str | None = None) -> None:
    """Compute the sketches of all data of configs, into their data.init_args.sketch_cache or into shards.

    Example: dynfocus sketch --config lightning_configs/stage1.yaml --shard 0/8 --out shards/stage1

    Args:
        settings: configs and settings, as `dynfocus fit` takes them.
        workers: processes that decode videos.
        shard: I/N, such as 0/8: compute share I of N, from 0 to N - 1, into shards.
        out: folder or address to write shards to, wherever fsspec writes.
    """
    share = re.fullmatch("([0-9]+)/([0-9]+)", shard)
    if share is None or int(share[1]) >= int(share[2]):
        raise UsageError(f"--shard {shard}", "I/N with I from 0 to N - 1", "Correct it, such as 0/8.")
    if out is None and shard != "0/1":
        raise ConfigError(f"--shard {shard} without --out", "a place for shards", "Give --out.")
    from dynfocus.train.fit import ready

    data = ready(settings, "sketch")
    print(data.sketch(workers) if out is None else data.share_out(out, (int(share[1]), int(share[2])), workers))


def doctor(
    settings: list[str],
    workers: int = 2,
    limit: float = 0.05,
    again: bool = False,
    file: Path | None = None,
    media: Path | None = None,
) -> None:
    """Look at every training row of configs as training will read it; training leaves the bad ones out.

    Example: dynfocus doctor --config lightning_configs/stage2.yaml --config my_overlay.yaml --workers 16

    Args:
        settings: configs and settings, as `dynfocus fit` takes them.
        workers: processes that decode videos.
        limit: share of bad rows above which it fails.
        again: look at bad rows once more.
        file: instead of configs: an annotation file whose format is guessed, and of which three rows are shown.
        media: folder of this file's videos and images; by default its own.
    """
    if file is not None:
        from dynfocus.data.doctor.guess import describe_file

        if settings:
            raise UsageError(f"--file beside {settings[0]}", "a file alone, or configs", "Leave one of them out.")
        return print(*describe_file(file, media, Path("cache/index")), sep="\n")
    from dynfocus.data.doctor import findings
    from dynfocus.data.doctor.examine import diagnose
    from dynfocus.train.fit import ready

    diagnosis = diagnose(ready(settings, "training_views").training_views(), workers, retry=again)
    print(findings.format_table(diagnosis))
    findings.refuse(diagnosis, limit)


def plan(config: Sequence[Path] = (), json: bool = False, recipes: Path | None = None, **options: Any) -> None:
    """Count what a video, an answer and a training run cost, before anything runs: tokens, FLOPs and memory.

    Example: dynfocus plan --frames 32 --rows 8 --train stage2 --gpus 8 --strategy fsdp

    Args:
        config: settings of `dynfocus fit`, over which options win; one or more, the last one on top.
        json: print everything as one JSON object.
        recipes: print the memory of every recipe in this folder, as a Markdown table.
    """
    from dynfocus.plan import list_numbers, make_plan, write_page

    if recipes is not None:
        from dynfocus.plan.ways import recipe_table

        return print(recipe_table(recipes, options["frames"] or 32))
    made = make_plan(config, **options)
    parts = [dumps(list_numbers(made), allow_nan=False)] if json else write_page(made, options["train"] is not None)
    for part in parts:
        print(part, flush=True)


def evaluate(
    benchmark: str,
    root: Path,
    *,
    out: Path,
    model: Path = MODEL,
    split: str | None = None,
    arms: Sequence[str] = (),
    frames: int | None = None,
    rows: int | None = None,
    allow_missing: bool = False,
    shuffle: bool = False,
    cache: Path | None = None,
    batch_size: int = 8,
    max_new_tokens: int = 16,
    workers: int = 0,
    devices: int = 1,
) -> None:
    """Ask a trained model the questions of a benchmark, judge its answers by rules, and print the benchmark's table.

    A run that was stopped goes on where it was: called again, it asks only what has no answer yet.

    Example: dynfocus evaluate world cache/world/data --out runs/world/evaluation --arms learned uniform

    Args:
        benchmark: its name, such as mlvu.
        root: folder of its annotation files and videos.
        out: folder for answers and results.
        model: folder of a trained model.
        split: which of its splits, if not its usual one.
        arms: how frames are kept: learned (where none is named), blind (no video), or names of selectors.
        frames: most frames to look at, instead of the model's frame_rule.frames.
        rows: ask only the first so many questions.
        allow_missing: leave out questions whose video is missing.
        shuffle: put the options of each question into another order, as a control of their places.
        cache: folder to keep sketches in, so that no video is read twice.
        batch_size: questions that are answered together.
        max_new_tokens: most tokens of an answer.
        workers: processes that read videos.
        devices: processes that answer, one for each GPU.
    """
    from dynfocus.evals.results_table import format_results

    quiet()
    from dynfocus.train.evaluate import evaluate as run_evaluation

    settings: dict[str, Any] = {"split": split, "rows": rows, "allow_missing": allow_missing, "shuffle": shuffle}
    settings |= {"max_new_tokens": max_new_tokens, "eval_batch_size": batch_size, "num_workers": workers}
    settings["sketch_cache"] = None if cache is None else str(cache)
    metrics = run_evaluation(benchmark, root, out, model, frames, arms or ("learned",), settings, {"devices": devices})
    if metrics:
        print(format_results(metrics))


def judge(paths: Sequence[Path], **options: Any) -> None:
    """Judge the answers of tested runs by rules or with a model, or compare the verdicts of two judges.

    Example: dynfocus judge runs/mlvu --judge openai --max-requests 500

    Args:
        paths: folders of tested runs, which get verdicts.NAME.jsonl and metrics.NAME.json, or two files of verdicts.
    """
    from dynfocus.train.judge import judge_runs

    print(*judge_runs(paths, **options), sep="\n")


def export(
    model: Path, out: Path, merge: bool = False, dtype: Literal["float32", "bfloat16", "float16"] | None = None
) -> None:
    """Write a trained model as one plain checkpoint of transformers, with its processor.

    Example: dynfocus export runs/world/stage2/model my_model --merge --dtype bfloat16

    Args:
        model: folder of a trained model.
        out: folder to write; it must be empty or absent.
        merge: add adapters to the weights that they adapt.
        dtype: precision of the towers, instead of what they have.
    """
    quiet()
    from dynfocus.models.export import export as write_model

    write_model(model, out, merge, dtype)
    print(f"the model is in {out}")


def world(out: Path, videos: int = 1600, seed: int = 0, val: int = 100, test: int = 200) -> None:
    """Write the embedded world, a data set of videos, images and questions.

    Example: dynfocus world my_world --videos 100 --seed 0

    Args:
        out: folder to write; it may hold the same world already.
        videos: videos to train on.
        seed: another seed draws another world.
        val: videos to validate on.
        test: videos to test on.
    """
    from dynfocus.world.dataset import write_world

    print(f"the embedded world is in {write_world(out, videos=videos, seed=seed, val=val, test=test)}")


def towers(data: Path, out: Path, seed: int = 0) -> None:
    """Train the embedded world's tiny vision, instruction and language towers.

    Example: dynfocus towers cache/world/data cache/world/towers

    Args:
        data: the world, as `dynfocus world` writes it.
        out: folder for the towers; finished ones are kept.
        seed: another seed starts from other weights.
    """
    from dynfocus.world.towers.record import list_unfinished, write_records
    from dynfocus.world.towers.tower_settings import TowerSettings

    if list_unfinished(data, out, seed, TowerSettings()):
        quiet()
        from dynfocus.world.towers.train import train_towers

        train_towers(data, out, seed=seed)
    write_records(out)
    print(f"the towers are in {out}")


def smol(out: Path) -> None:
    """Write a small real language model, SmolLM2-135M-Instruct, from its package.

    Example: dynfocus smol cache/smol

    Args:
        out: folder to write; a finished one is kept.
    """
    quiet()
    from dynfocus.world.towers.smol import write_smol

    print(f"SmolLM2-135M-Instruct is in {write_smol(out)}")


def table(folder: Path, bars: bool = False) -> None:
    """Print the table of a tested run.

    Example: dynfocus table runs/world/stage2

    Args:
        folder: folder of the run.
        bars: fail where the embedded world's bars are not reached.
    """
    from dynfocus.evals.results_table import format_results, read_metrics
    from dynfocus.lab.gates import find_failed_gates

    metrics = read_metrics(folder)
    print(format_results(metrics))
    if bars and (short := find_failed_gates(metrics)):
        raise ConfigError("; ".join(short), "a run that reaches every bar", "Look at what changed since the last one.")


def compare(runs: Sequence[Path], *, arms: Sequence[str] = ()) -> None:
    """Compare tested runs, or arms of one run, on identical questions: differences with intervals, McNemar's test.

    Example: dynfocus compare runs/world/stage2 --arms learned uniform random

    Args:
        runs: folders of tested runs; the first one is compared with each of the others.
        arms: of one run, the arms to compare; of several runs, one arm that is taken from each.
    """
    from dynfocus.evals.compare import format_comparisons, read_arm

    if (len(runs) > 1 and len(arms) > 1) or (len(runs) == 1 and len(arms) < 2):
        given = f"{len(runs)} runs and {len(arms)} arms"
        raise UsageError(given, "several runs and at most one arm, or one run and several arms", "Correct the command.")
    first, *others = (read_arm(run, arm) for run in runs for arm in (arms or (None,)))
    print(format_comparisons(first, others))


def write_samples(run: Path, root: Path, *, out: Path, arm: str | None = None, split: str | None = None) -> None:
    """Write the answers of a tested run as lmms-eval's sample log, so that its scores can be computed on them.

    Example: dynfocus write-samples runs/world/evaluation cache/world/data --out samples_world.jsonl

    Args:
        run: folder of the run.
        root: folder of the benchmark's files.
        out: the log to write.
        arm: whose answers, if not the first arm's.
        split: the benchmark's split that was asked.
    """
    from dynfocus.evals import lmms_eval
    from dynfocus.evals.benchmarks import read_items
    from dynfocus.evals.compare import read_arm

    answers = read_arm(run, arm)
    lmms_eval.write_samples(out, answers.judged.values(), read_items(answers.benchmark, root, split))
    print(f"{len(answers.judged)} samples are in {out}")


def read_samples(log: Path, benchmark: str, root: Path, *, out: Path, split: str | None = None) -> None:
    """Judge the answers in lmms-eval's sample log as `evaluate` judges a model's, and print the benchmark's table.

    Example: dynfocus read-samples samples_world.jsonl world cache/world/data --out runs/theirs

    Args:
        log: a log of one task, written with --log_samples.
        benchmark: the benchmark of that task.
        root: folder of the benchmark's files.
        out: folder for predictions, verdicts and metrics.
        split: the benchmark's split that was asked.
    """
    from dynfocus.evals import lmms_eval
    from dynfocus.evals.benchmarks import find_benchmark, find_split, read_items
    from dynfocus.evals.results_table import format_results
    from dynfocus.evals.summary import write_results

    predictions = lmms_eval.read_samples(log, read_items(benchmark, root, split), "lmms-eval")
    facts = {"split": find_split(benchmark, split), "samples": str(log)}
    print(format_results(write_results(out, predictions, find_benchmark(benchmark), facts)))


def seeds(seeds: str = "0,1,2") -> None:
    """Train and test the embedded world once a seed, DynFocus and its baseline, average pooling.

    Example: dynfocus seeds --seeds 0,1,2

    Args:
        seeds: whole numbers with commas between them.
    """
    from dynfocus.lab.seeds import repeat

    lines, short = repeat(seeds)
    print(lines)
    if short:
        raise ConfigError("; ".join(short), "runs that reach every bar", "Look at what changed since the last ones.")


def figure_1a(**options: Any) -> None:
    """Draw figure 1a: the share of repeated and of irrelevant frames of a data set.

    Example: dynfocus figure 1a --data cache/world/data
    """
    from dynfocus.inspection.figure_1a import draw_figure_1a

    print(FIGURE.format("1a", draw_figure_1a(**options)))


def figure_4(**options: Any) -> None:
    """Draw figure 4: visual tokens of many methods, per benchmark and against duration.

    Example: dynfocus figure 4
    """
    from dynfocus.inspection.figure_4 import draw_figure_4

    print(FIGURE.format("4", draw_figure_4(**options)))


def figure_5(video: Path, question: str, model: Path = MODEL, **options: Any) -> None:
    """Draw figure 5: the storyboard and the scores of one video under a trained model.

    Example: dynfocus figure 5 cache/world/data/videos/test_000000.mp4 "what color is the star"

    Args:
        video: any video or image file.
        question: what the model is asked about it.
        model: folder of a trained model.
    """
    from dynfocus.inspection.output import check

    check(video, [question], None, False, 1)
    quiet()
    from dynfocus.inspection.figure_5 import draw_figure_5

    print(FIGURE.format("5", draw_figure_5(video, question, model, **options)))


def quiet() -> None:
    """Keep transformers' own bars and reports off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
