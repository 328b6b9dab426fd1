"""The one entry point: `dynfocus fit|validate|test|predict|world|towers|ask|plan|table`."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dynfocus.errors import DynFocusError

LIGHTNING = ("fit", "validate", "test", "predict")


def main(args: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 a mistake said in one sentence, 130 stopped by Ctrl-C."""
    args = sys.argv[1:] if args is None else args
    sys.path.insert(0, os.getcwd())  # a selector of one's own lies where one works
    try:
        if args and args[0] in LIGHTNING:
            from dynfocus.experiment import run

            run(args)
        else:
            from jsonargparse import auto_cli

            verbs: dict[str, Callable] = {f.__name__: f for f in (world, towers, ask, plan, table)}
            auto_cli(verbs, args=args, prog="dynfocus", as_positional=True)
    except DynFocusError as error:
        print(f"dynfocus: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dynfocus: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def world(out: Path, videos: int = 1600, seed: int = 0, val: int = 100, test: int = 200) -> None:
    """Write the embedded world as a data set: videos, images and annotation files.

    Args:
        out: folder to write; it may hold the same world already.
        videos: training videos.
        seed: of the world.
        val: validation videos.
        test: test videos.
    """
    from dynfocus.world.dataset import write_world

    print(write_world(out, videos=videos, seed=seed, val=val, test=test))


def towers(data: Path, out: Path, seed: int = 0) -> None:
    """Train the embedded world's tiny towers on its frames and texts.

    Args:
        data: the world, as `dynfocus world` writes it.
        out: folder for the towers; finished ones are kept.
        seed: of the training.
    """
    from dynfocus.towers import train_towers

    train_towers(data, out, seed=seed)


def plan(frames: int, events: int = 25, keep: float = 0.8, as_json: bool = False) -> None:
    """Count what a video costs, before anything runs.

    Args:
        frames: T, frames of the video.
        events: L, event prototypes.
        keep: K/L, the share of them that is kept.
        as_json: print one JSON object (also as --json).
    """
    from dataclasses import asdict

    from dynfocus.budget import budget
    from dynfocus.settings import ConnectorSettings

    cost = budget(frames, ConnectorSettings(events=events, keep=keep))
    numbers = asdict(cost) | {"visual_tokens": cost.visual_tokens}
    print(json.dumps(numbers) if as_json else "\n".join(f"{name:14} {value}" for name, value in numbers.items()))


def table(run: Path) -> None:
    """Print the table of a tested run.

    Args:
        run: its folder, such as runs/world/stage2.
    """
    from dynfocus.evals.table import read_metrics
    from dynfocus.evals.table import table as drawn

    print(drawn(read_metrics(run)))


def ask(video: Path, question: str, model: Path = Path("runs/world/stage2/model")) -> None:
    """Ask a trained model about any video or image; prints the answer, the kept frames and the tokens.

    Args:
        video: any video or image file.
        question: what to ask.
        model: a model folder, as stage 2 leaves it.
    """
    from dynfocus.answering import Answerer

    reply = Answerer(model).ask(video, question)
    kept = ", ".join(f"{frame} ({second:.1f} s)" for frame, second in zip(reply.kept, reply.seconds, strict=True))
    print(f"answer:        {reply.answer}")
    print(f"kept frames:   {kept} of {reply.frames}")
    print(f"visual tokens: {reply.visual_tokens}")


if __name__ == "__main__":
    sys.exit(main())
