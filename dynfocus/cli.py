"""The one entry point: LightningCLI's verbs over the configs, and verbs of our own as plain typed functions."""

import argparse
import os
import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path

from dynfocus.errors import ConfigError, DynFocusError

LIGHTNING = ("fit", "validate", "test", "predict")


def main(args: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 a mistake said in one sentence, 130 stopped by Ctrl-C."""
    verb = (sys.argv[1:] if args is None else args)[:1]
    sys.path.insert(0, os.getcwd())  # a selector of one's own lies where one works
    try:
        if verb and verb[0] in LIGHTNING:
            from dynfocus.experiment import run

            run(args)
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
    ask_.add_argument("question")
    ask_.add_argument("--model", type=Path, default=Path("runs/world/stage2/model"), help="a trained model's folder")
    ask_.set_defaults(run=ask)

    plan_ = verbs.add_parser("plan", help="count what a video costs, before anything runs")
    plan_.add_argument("--frames", type=int, required=True, help="T, frames of the video")
    plan_.add_argument("--events", type=int, default=25, help="L, event prototypes")
    plan_.add_argument("--keep", type=float, default=0.8, help="K/L, the share of them that is kept")
    plan_.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object")
    plan_.set_defaults(run=plan)

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

    table_ = verbs.add_parser("table", help="print the table of a tested run")
    table_.add_argument("folder", type=Path, help="the run's, such as runs/world/stage2")
    table_.add_argument("--bars", action="store_true", help="fail where the embedded world's bars are not reached")
    table_.set_defaults(run=table)

    seeds_ = verbs.add_parser("seeds", help="repeat the embedded world's result, and its baseline, over seeds")
    seeds_.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    seeds_.set_defaults(run=seeds)
    return root


def ask(video: Path, question: str, model: Path) -> None:
    """Print a trained model's answer, the kept frames with their time stamps, and the tokens."""
    quiet()
    from dynfocus.answering import Answerer

    reply = Answerer(model).ask(video, question)
    kept = ", ".join(f"{frame} ({second:.1f} s)" for frame, second in zip(reply.kept, reply.seconds, strict=True))
    print(f"answer:        {reply.answer}")
    print(f"kept frames:   {kept} of {reply.frames}")
    print(f"visual tokens: {reply.visual_tokens}")


def plan(frames: int, events: int, keep: float, as_json: bool) -> None:
    """Print what a video of that many frames costs; no torch is imported."""
    from dynfocus.budget import budget
    from dynfocus.settings import ConnectorSettings

    cost = budget(frames, ConnectorSettings(events=events, keep=keep))
    numbers = asdict(cost) | {"visual_tokens": cost.visual_tokens}
    print(dumps(numbers) if as_json else "\n".join(f"{name:14} {value}" for name, value in numbers.items()))


def world(out: Path, videos: int, seed: int, val: int, test: int) -> None:
    """Write the embedded world: videos, images and annotation files."""
    from dynfocus.world.dataset import write_world

    print(f"the embedded world is in {write_world(out, videos=videos, seed=seed, val=val, test=test)}")


def towers(data: Path, out: Path, seed: int) -> None:
    """Train the tiny towers on the world's frames and texts."""
    quiet()
    from dynfocus.towers import train_towers

    train_towers(data, out, seed=seed)


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


def quiet() -> None:
    """Keep transformers' own bars and reports off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


if __name__ == "__main__":
    sys.exit(main())
