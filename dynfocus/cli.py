"""The one entry point: LightningCLI's verbs over the configs, and verbs of our own as plain typed functions."""

import os
import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

from dynfocus.arguments import LIGHTNING, over_data, parser
from dynfocus.errors import ConfigError, DynFocusError, VideoError


def main(args: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 a mistake said in one sentence, 130 stopped by Ctrl-C."""
    given = sys.argv[1:] if args is None else args
    verb = given[:1]
    sys.path.insert(0, os.getcwd())  # a selector of one's own lies where one works
    try:
        if verb and verb[0] in LIGHTNING:
            from dynfocus.experiment import run

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
        print("dynfocus: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _run(run: str, **options: Any) -> None:
    globals()[run](**options)


def ask(video: Path, questions: list[str], model: Path, cache: Path | None) -> None:
    """Print a trained model's answers, the kept frames with their time stamps, and the tokens."""
    quiet()
    from dynfocus.answering import Answerer

    answerer = Answerer(model, cache)
    for question in questions:
        reply = answerer.ask(video, question)
        kept = ", ".join(f"{frame} ({second:.1f} s)" for frame, second in zip(reply.kept, reply.seconds, strict=True))
        if len(questions) > 1:
            print(f"question:      {question}")
        print(f"answer:        {reply.answer}")
        print(f"kept frames:   {kept} of {reply.frames}")
        print(f"visual tokens: {reply.visual_tokens}")


def sketch(videos: list[Path], model: Path, cache: Path) -> None:
    """Fill a sketch cache for a trained model, and say what was there."""
    quiet()
    from dynfocus.answering import trained_cache

    filled = trained_cache(model, cache).fill(videos)
    print(filled)
    if filled.failed:
        raise VideoError(f"{filled.failed} of {len(videos)} files", "videos and images that can be read", "See above.")


def sketch_data(args: list[str], workers: int, shard: tuple[int, int], out: str | None) -> None:
    """Compute the sketches of a config's data, and say what was there."""
    from dynfocus.experiment import ready

    if out is None and shard != (0, 1):
        raise ConfigError(f"--shard {shard[0]}/{shard[1]} without --out", "a place for shards", "Give --out.")
    data = ready(args, "sketch")
    print(data.sketch(workers) if out is None else data.share_out(out, shard, workers))


def doctor(args: list[str], workers: int, limit: float, again: bool) -> None:
    """Look at every training row of a config's data, and print what is wrong with how many."""
    from dynfocus.doctor.examining import diagnose
    from dynfocus.doctor.findings import refuse
    from dynfocus.doctor.findings import table as drawn
    from dynfocus.experiment import ready

    found = diagnose(ready(args, "readings").readings(), workers, retry=again)
    print(drawn(found))
    refuse(found, limit)


def plan(
    frames: int,
    events: int,
    keep: float,
    as_json: bool,
    train: str | None,
    encoders: Path | None,
    language_model: Path | None,
    **how: Any,
) -> None:
    """Print what a video of that many frames costs, and what training on such needs; no torch is imported."""
    from dynfocus.budget import budget
    from dynfocus.settings import ConnectorSettings

    settings = ConnectorSettings(events=events, keep=keep)
    cost = budget(frames, settings)
    numbers: dict[str, Any] = asdict(cost) | {"visual_tokens": cost.visual_tokens}
    lines = [f"{name:14} {value}" for name, value in numbers.items()]
    if train is not None:
        from dynfocus.plan import Training, memory, memory_numbers, memory_table, read_towers

        needs = memory(frames, settings, Training(train, **how), read_towers(encoders, language_model))  # type: ignore[arg-type]
        numbers["memory"] = memory_numbers(needs)
        lines += ["", memory_table(needs)]
    print(dumps(numbers) if as_json else "\n".join(lines))


def export(model: Path, out: Path, merge: bool, dtype: str | None) -> None:
    """Write a trained model as one plain checkpoint, with its processor."""
    quiet()
    from dynfocus.export import export as written

    written(model, out, merge, dtype)
    print(f"the model is in {out}")


def world(out: Path, videos: int, seed: int, val: int, test: int) -> None:
    """Write the embedded world: videos, images and annotation files."""
    from dynfocus.world.dataset import write_world

    print(f"the embedded world is in {write_world(out, videos=videos, seed=seed, val=val, test=test)}")


def towers(data: Path, out: Path, seed: int) -> None:
    """Train the tiny towers on the world's frames and texts."""
    quiet()
    from dynfocus.towers import train_towers

    train_towers(data, out, seed=seed)


def smol(out: Path) -> None:
    """Write SmolLM2-135M-Instruct as a plain checkpoint folder."""
    quiet()
    from dynfocus.towers.smol import write_smol

    print(f"SmolLM2-135M-Instruct is in {write_smol(out)}")


def table(folder: Path, bars: bool) -> None:
    """Print the table of a tested run, and with ``bars`` refuse one that the embedded world's bars are too high for."""
    from dynfocus.evals.bars import missed
    from dynfocus.evals.table import read_metrics
    from dynfocus.evals.table import table as drawn

    metrics = read_metrics(folder)
    print(drawn(metrics))
    if bars and (short := missed(metrics)):
        raise ConfigError("; ".join(short), "a run that reaches every bar", "Look at what changed since the last one.")


def seeds(seeds: list[int]) -> None:
    """Train and test the embedded world once a seed, DynFocus and the average-pooling baseline, and print both."""
    from dynfocus.seeds import repeat

    drawn, short = repeat(seeds)
    print(drawn)
    if short:
        raise ConfigError("; ".join(short), "runs that reach every bar", "Look at what changed since the last ones.")


def bench(out: Path, frames: list[int] | None, quick: bool, training: bool, data: bool, rows: int) -> None:
    """Measure the method at real sizes; print a table and write each of its rows as a JSON line."""
    quiet()
    from dynfocus.bench import bench as measure
    from dynfocus.bench import bench_data, bench_training

    if data:
        bench_data(out, Path("cache/bench"), quick)
    elif training:
        bench_training(out, frames or [32], rows)
    else:
        measure(out, frames or [1, 16, 32, 64, 128, 256, 512, 1024], quick)


def quiet() -> None:
    """Keep transformers' own bars and reports off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


if __name__ == "__main__":
    sys.exit(main())
