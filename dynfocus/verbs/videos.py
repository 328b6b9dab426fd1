"""Answer questions about single videos, and sketch them."""

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

from dynfocus.errors import DataError, UsageError, VideoError
from dynfocus.verbs.answerers import MODEL, check_host, open_answerer
from dynfocus.verbs.screen import quiet


def ask(
    video: Path,
    questions: Sequence[str],
    report: Path | None = None,
    compare: bool = False,
    json: bool = False,
    max_new_tokens: int = 16,
    **options: Any,
) -> None:
    """Ask a trained model or a host about a video or an image: answers, kept frames with time stamps, tokens, time.

    Example: dynfocus ask my_video.mp4 "what color is the star" "which place is first" --compare

    Args:
        video: any video or image file.
        questions: one or more; the video is read once for all of them.
        report: HTML page to write, which shows what the model looked at, and why.
        compare: say which kept frames change from question to question.
        json: print one JSON object.
        max_new_tokens: most tokens of an answer.
    """
    from dynfocus.inspection.answer import list_facts, list_inspections
    from dynfocus.inspection.compare import compare_questions
    from dynfocus.inspection.output import check, compare_lines, lines, numbers, write_report

    check(video, questions, report, compare, max_new_tokens)
    answerer = open_answerer(1, **options)
    answers = []
    for question in questions:
        answers.append(answerer.ask(video, question, max_new_tokens))
        if not json:
            print("\n".join(lines(answers[-1], alone=len(questions) == 1)), flush=True)
    about = list_facts(video, answerer.folder, answers, answerer.settings | {"max_new_tokens": max_new_tokens})
    compared = compare_questions(list_inspections(video, answers), about) if compare else None
    if report is not None:
        write_report(report, list_inspections(video, answers, answerer.thumbnails(video, answers[0])), about)
    if json:
        print(dumps(numbers(answers, about, compared), allow_nan=False))
    elif compared is not None:
        print("\n".join(compare_lines(compared, answers)))
    if report is not None and not json:
        print(f"report:        {report}")


def answer(
    *,
    questions: Path,
    out: Path,
    root: Path | None = None,
    batch_size: int | None = None,
    max_new_tokens: int = 16,
    **options: Any,
) -> None:
    """Answer a file of questions about one's own videos with a trained model or a host, each video encoded once.

    A run that was stopped goes on where it was. Rows that cannot be answered are named, and the others are answered.

    Example: dynfocus answer --questions my_questions.jsonl --out my_answers.jsonl

    Args:
        questions: JSON lines, or a CSV table, with video, question, and where there are such id, start and end; these,
            in seconds, name a part of the video.
        out: file to append answers to, one JSON object a line; those that are there stay.
        root: folder that the videos lie in, if not beside --questions.
        batch_size: questions that are answered together, 8 by default; a host is asked one at a time.
        max_new_tokens: most tokens of an answer.
    """
    from dynfocus.bridge.answers import answer_many, check_card_of
    from dynfocus.bridge.rows import scan_questions
    from dynfocus.train.finished import digest

    host = options["host"]
    check_host(host, {}, {"batch_size": batch_size})
    together = 8 if batch_size is None else batch_size
    if out.is_dir() or out.resolve() == questions.resolve():
        raise UsageError(f"--out {out}, which is there already", "a file for the answers", "Name another one.")
    for option, value in {"batch-size": together, "max-new-tokens": max_new_tokens}.items():
        if value < 1:
            raise UsageError(f"--{option} {value}", "at least 1", "Raise it.")
    found = scan_questions(questions, root)
    answerer = open_answerer(max(4, together), **options)  # so that no video of a batch is encoded twice
    made_with = {"model": digest(answerer.folder), "max_new_tokens": max_new_tokens}
    check_card_of(out, answerer.settings | made_with)
    report = answer_many(found.rows, answerer, out, max_new_tokens, together)
    lost = [str(fault.given) for fault in found.faults]
    lost += [f"question {name!r}: {reason}" for name, reason in report.faults.items()]
    print(f"questions: {report.done} answered, {report.there} were there, {len(lost)} left out")
    print(*(f"left out:  {reason}" for reason in lost), f"written:   {out}", sep="\n")
    if lost:
        raise DataError(
            f"{questions}, of which {len(lost)} rows were left out ({lost[0]}{' ...' * (len(lost) > 1)})",
            "rows that can be answered",
            "Mend them and call the same again: the others are not asked twice.",
        )


def sketch(videos: Sequence[Path], *, cache: Path, model: Path = MODEL) -> None:
    """Compute sketches for a trained model ahead of time, of videos (of the data of configs: sketch --config FILE).

    Example: dynfocus sketch my_videos/one.mp4 my_videos/two.mp4 --cache cache/world/sketches

    Args:
        videos: any video or image files.
        cache: folder to keep sketches in.
        model: folder of a trained model.
    """
    quiet()
    from dynfocus.inspection.answerer import open_trained_cache

    filled = open_trained_cache(model, cache).fill(videos)
    print(filled)
    if filled.failed:
        raise VideoError(f"{filled.failed} of {len(videos)} files", "videos and images that can be read", "See above.")
