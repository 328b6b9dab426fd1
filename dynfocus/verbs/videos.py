"""Answer questions about single videos, and sketch them."""

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

from dynfocus.errors import VideoError
from dynfocus.verbs.answerers import MODEL, open_answerer
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
