"""Ask benchmarks, judge answers, and show what came of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from dynfocus.errors import ConfigError, UsageError
from dynfocus.verbs.answerers import MODEL, check_host
from dynfocus.verbs.screen import quiet


def evaluate(
    benchmark: str,
    root: Path,
    *,
    out: Path,
    model: Path | None = None,
    split: str | None = None,
    protocol: str = "dynfocus",
    arms: Sequence[str] = (),
    frames: int | None = None,
    fps: float | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    rows: int | None = None,
    allow_missing: bool = False,
    shuffle: bool = False,
    cache: Path | None = None,
    batch_size: int | None = None,
    max_new_tokens: int | None = None,
    workers: int | None = None,
    devices: int | None = None,
    trust_selector: bool = False,
    host: Path | None = None,
    keep: int | None = None,
    rods: int | None = None,
    budget: int | None = None,
    pair: Literal["same", "next"] | None = None,
) -> None:
    """Ask a trained model or a host the questions of a benchmark, judge the answers by rules, and print the table.

    A run that was stopped goes on where it was: called again, it asks only what has no answer yet.

    Example: dynfocus evaluate world cache/world/data --out runs/world/evaluation --arms learned uniform

    Args:
        benchmark: its name, such as mlvu.
        root: folder of its annotation files and videos.
        out: folder for answers and results.
        model: folder of a trained model; runs/world/stage2/model where neither this nor --host is given.
        split: which of its splits, if not its usual one.
        protocol: whose rules read and count answers: dynfocus, or upstream, those of the benchmark's own code with its
            defects, which published numbers may depend on.
        arms: how frames are kept: learned (where none is named), blind (no video), or selectors: a name, or JSON such
            as '{"class_path": "capped_rate", "init_args": {"fps": 0.25}}'. A host has no learned one, and uniform is
            what it is asked with where none is named.
        frames: most frames of a video, such as 16, 32 or 200, evenly from those that --fps takes; 1 is a control of
            what one frame tells. Without it as many as the model's frame_rule says.
        fps: frames a second, instead of the model's frame_rule; 0 takes every frame of the file, so that with --frames
            a short video too is seen in so many frames.
        temperature: of sampling; 0 takes the most likely word each time.
        top_p: sample among the most likely tokens whose shares sum up to this.
        seed: of sampling, and of selectors without trained weights.
        rows: ask only the first so many questions.
        allow_missing: leave out questions whose video is missing.
        shuffle: put the options of each question into another order, as a control of their places.
        cache: folder to keep sketches in, for other runs too. Without it sketches of videos that several questions are
            about lie in --out until all is answered.
        batch_size: questions that are answered together, 8 by default.
        max_new_tokens: most tokens of an answer, if not as many as suit the benchmark.
        workers: processes that read videos, none by default.
        devices: processes that answer, one for each GPU; 1 by default.
        trust_selector: import the selector that the model's folder names by a dotted path.
        host: folder of another video language model of transformers, which answers instead of a trained model, one
            question at a time.
        keep: with --host: frames that are shown in full, 8 by default.
        rods: with --host: averaged tokens of every other frame: 0, 1, 2 or 4; 0 by default.
        budget: with --host: visual tokens that a video may cost.
        pair: with --host that reads two frames as one: what goes in beside each frame: the same one or the next one.
    """
    from dynfocus.evals.results_table import format_results
    from dynfocus.settings import Sampling, read_choice

    quiet()
    shown: dict[str, Any] = {"keep": keep, "rods": rods, "budget": budget, "pair": pair}
    others = {"batch_size": batch_size, "workers": workers, "devices": devices}
    check_host(host, shown, {"model": model, "trust_selector": trust_selector, **others})
    if top_p != 1 and temperature == 0:
        raise UsageError(f"--top-p {top_p} without --temperature", "answers that are sampled", "Add --temperature.")
    chosen, drawn = [read_choice(arm) for arm in arms], Sampling(temperature, top_p, seed)
    settings: dict[str, Any] = {"split": split, "rows": rows, "allow_missing": allow_missing, "shuffle": shuffle}
    settings["max_new_tokens"] = max_new_tokens
    if host is not None:
        from dynfocus.bridge.hosts.answerer import HostRule
        from dynfocus.bridge.hosts.evaluation import evaluate_host

        named = {name: value for name, value in (shown | {"frames": frames, "fps": fps}).items() if value is not None}
        rule = HostRule(**named if fps is None else named | {"fps": fps or None})
        settings["cache"] = cache
        metrics = evaluate_host(benchmark, root, out, host, chosen or ["uniform"], rule, drawn, settings, protocol)
    else:
        from dynfocus.train.evaluate import evaluate as run_evaluation

        settings |= {"eval_batch_size": batch_size or 8, "num_workers": workers or 0}
        settings["sketch_cache"] = None if cache is None else str(cache)
        reading = {name: value for name, value in (("frames", frames), ("fps", fps)) if value is not None}
        asked = benchmark, root, out, model or MODEL, reading, chosen or ["learned"], drawn
        metrics = run_evaluation(*asked, settings, {"devices": devices or 1}, protocol, trust_selector)
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


def table(
    runs: Sequence[Path],
    *,
    format: Literal["md", "csv", "html"] | None = None,
    out: Path | None = None,
    bars: bool = False,
) -> None:
    """Print the table of a tested run, or lay the results of runs beside the published ones.

    Example: dynfocus table runs/mlvu runs/lvbench --format html --out tables.html

    Args:
        runs: folders of tested runs.
        format: of tables with published rows, all settings and intervals: md, csv or html. Of one run without it a
            short table; of several md.
        out: a file to write instead of printing.
        bars: fail where the embedded world's bars are not reached, by one run.
    """
    from dynfocus.evals.results_table import format_results, read_metrics
    from dynfocus.evals.table_formats import FORMATS
    from dynfocus.evals.table_rows import build_tables
    from dynfocus.lab.gates import find_failed_gates
    from dynfocus.records.atomic import write_text

    if bars and len(runs) > 1:
        raise UsageError(f"--bars with {len(runs)} runs", "one run", "Name one.")
    metrics = read_metrics(runs[0])
    short = len(runs) == 1 and format is None
    text = format_results(metrics) if short else FORMATS[format or "md"](build_tables(runs))
    if out is None:
        print(text)
    else:
        write_text(out, text.rstrip("\n") + "\n")
    if bars and (missed := find_failed_gates(metrics)):
        raise ConfigError("; ".join(missed), "a run that reaches every bar", "Look at what changed since the last one.")


def compare(runs: Sequence[Path], *, arms: Sequence[str] = (), judge: str = "rules") -> None:
    """Compare tested runs, or arms of one run, on identical questions: differences with intervals, McNemar's test.

    Runs of other protocols, splits or judges are refused, because their numbers are counted otherwise.

    Example: dynfocus compare runs/world/stage2 --arms learned uniform random

    Args:
        runs: folders of tested runs; the first one is compared with each of the others.
        arms: of one run, the arms to compare; of several runs, one arm that is taken from each.
        judge: whose verdicts to compare, by the name of the results, such as openai-my-judge.
    """
    from dynfocus.evals.compare import format_comparisons, read_arm

    if (len(runs) > 1 and len(arms) > 1) or (len(runs) == 1 and len(arms) < 2):
        given = f"{len(runs)} runs and {len(arms)} arms"
        raise UsageError(given, "several runs and at most one arm, or one run and several arms", "Correct the command.")
    first, *others = (read_arm(run, arm, judge) for run in runs for arm in (arms or (None,)))
    print(format_comparisons(first, others))


def report_card(
    names: Sequence[str],
    *,
    on: Path | None = None,
    against: str | None = None,
    tolerance: float = 1.0,
    judge: str = "rules",
    out: Path | None = None,
    tensorboard: Path | None = None,
    benchmark: str = "world",
    split: str | None = None,
    keep: Sequence[int] = (),
    seeds: str = "0",
    rows: int | None = None,
    allow_missing: bool = False,
    model: Path | None = None,
    encoder: Path | None = None,
    fps: float | None = None,
    frames: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Write the report card of tested runs, or of selectors alone: every number with its interval.

    Of runs it reads what they hold and asks no model; runs of one arm and K with other seeds are one entry. Selectors
    choose frames for every question of a benchmark, and no language model answers. Seeds enter the intervals. A number
    that cannot be computed says why, and what makes it.

    Example: dynfocus report-card uniform scene_change --on cache/world/data --keep 1 3

    Args:
        names: folders of tested runs; or selectors: names, dotted paths, or JSON with class_path and init_args.
        on: folder of the benchmark's files. Runs need it only where their predictions lack the needed frames.
        against: the arm that the others are compared with at the same K; the first one if not named.
        tolerance: seconds within which a frame counts as near.
        judge: whose verdicts count, by the name of the results, such as openai-my-judge.
        out: folder of report_card.json and report_card.html; of runs the first one's if not named.
        tensorboard: folder to write all numbers into as scalars of TensorBoard.
        benchmark: of selectors: the benchmark in --on.
        split: of selectors: which of its splits, if not its usual one.
        keep: of selectors: how many frames are kept, several numbers for a curve; 3 if not named.
        seeds: of selectors: of what they draw, whole numbers with commas between them.
        rows: of selectors: only the first so many questions.
        allow_missing: of selectors: leave out questions whose video is missing.
        model: of selectors: folder of a trained DynFocus model, whose features they read.
        encoder: of selectors: folder of a CLIP or SigLIP model, whose features they read.
        fps: of selectors: candidate frames a second, as for select; on the world all frames are candidates.
        frames: of selectors: candidate frames of a video, at most.
        device: of selectors: where features are computed.
    """
    from dynfocus.lab.card_entries import read_entries
    from dynfocus.lab.card_formats import format_text, list_contents, write_json, write_page, write_scalars
    from dynfocus.lab.report_card import make_card

    are_runs = [Path(name).is_dir() or ("/" in name and not name.lstrip().startswith("{")) for name in names]
    if len({*are_runs}) > 1:
        raise UsageError(f"{' '.join(names)}, runs and selectors", "runs alone, or selectors alone", "Make two cards.")
    if are_runs[0]:
        own = {"--keep": keep, "--seeds": seeds != "0", "--rows": rows, "--model": model, "--encoder": encoder}
        own |= {"--fps": fps, "--frames": frames, "--split": split, "--allow-missing": allow_missing}
        if given := [option for option, value in own.items() if value]:
            raise UsageError(f"{', '.join(given)} with runs", "these options with selectors alone", "Leave them out.")
        entries = read_entries([*map(Path, names)], on, judge)
        out = out or Path(names[0])
    else:
        if on is None:
            raise UsageError(f"{' '.join(names)} without --on", "the folder of a benchmark's files", "Add --on FOLDER.")
        from dynfocus.bridge.features import open_features
        from dynfocus.bridge.selector_card import measure_selectors
        from dynfocus.lab.seeds import read_seeds
        from dynfocus.settings import read_choice

        if model is not None or encoder is not None:
            quiet()
        chosen, features = [read_choice(name) for name in names], open_features(model, encoder, device)
        entries = measure_selectors(
            *(chosen, on, features, benchmark),
            split=split,
            keep=keep or (3,),
            seeds=read_seeds(seeds),
            rows=rows,
            fps=fps,
            frames=frames,
            allow_missing=allow_missing,
        )
    contents = list_contents(make_card(entries, tolerance, against))
    print(format_text(contents))
    if out is not None:
        write_json(out / "report_card.json", contents)
        write_page(out / "report_card.html", contents)
        print(f"\nthe card is in {out / 'report_card.html'} and {out / 'report_card.json'}")
    if tensorboard is not None:
        print(f"{write_scalars(tensorboard, contents)} scalars are in {tensorboard}")


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


def read_samples(
    log: Path, benchmark: str, root: Path, *, out: Path, split: str | None = None, protocol: str = "dynfocus"
) -> None:
    """Judge the answers in lmms-eval's sample log as `evaluate` judges a model's, and print the benchmark's table.

    Example: dynfocus read-samples samples_world.jsonl world cache/world/data --out runs/theirs

    Args:
        log: a log of one task, written with --log_samples.
        benchmark: the benchmark of that task.
        root: folder of the benchmark's files.
        out: folder for predictions, verdicts and metrics.
        split: the benchmark's split that was asked.
        protocol: whose rules read and count answers, as in `evaluate`.
    """
    from dynfocus.evals import lmms_eval
    from dynfocus.evals.benchmarks import find_benchmark, find_split, read_items
    from dynfocus.evals.results_table import format_results
    from dynfocus.evals.summary import write_results

    predictions = lmms_eval.read_samples(log, read_items(benchmark, root, split), "lmms-eval")
    facts = {"split": find_split(benchmark, split), "samples": str(log)}
    print(format_results(write_results(out, predictions, find_benchmark(benchmark, protocol), facts)))


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
