"""Answer questions about single videos, and sketch them."""

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any, Literal

from dynfocus.errors import UsageError, VideoError
from dynfocus.verbs.screen import quiet

MODEL = Path("runs/world/stage2/model")


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
    trust_selector: bool = False,
    host: Path | None = None,
    selector: str | None = None,
    keep: int | None = None,
    rods: int | None = None,
    budget: int | None = None,
    pair: Literal["same", "next"] | None = None,
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
        trust_selector: import the selector that the model's folder names by a dotted path.
        host: folder of another video language model of transformers, which answers instead of --model.
        selector: with --host: how frames are chosen, by the host's own features; uniform by default.
        keep: with --host: frames that are shown in full, 8 by default.
        rods: with --host: averaged tokens of every other frame: 0, 1, 2 or 4; 0 by default.
        budget: with --host: visual tokens that the video may cost; fewer frames are kept where more do not fit.
        pair: with --host that reads two frames as one: what goes in beside each frame: the same one or the next one.
    """
    from dynfocus.inspection.answer import list_facts, list_inspections
    from dynfocus.inspection.compare import compare_questions
    from dynfocus.inspection.output import check, compare_lines, lines, numbers, write_report

    check(video, questions, report, compare, max_new_tokens)
    shown = {"keep": keep, "rods": rods, "budget": budget, "pair": pair}
    check_host(host, {"selector": selector, **shown}, trust_selector)
    quiet()
    answerer: Any
    if host is not None:
        from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule

        rule = {name: value for name, value in {**shown, "frames": frames}.items() if value is not None}
        model, answerer = host, HostAnswerer(host, selector, HostRule(**rule), cache, device=device)  # type: ignore[arg-type]
    else:
        from dynfocus.inspection.answerer import Answerer

        answerer = Answerer(model, cache, device=device, frames=frames, trust_selector=trust_selector)
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


def check_host(host: Path | None, options: dict[str, Any], trust_selector: bool) -> None:
    """Refuse options of a host without one; raises UsageError."""
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if host is None and given:
        raise UsageError(
            f"{' and '.join(given)} without --host", "a host, whose frames they choose", "Add --host FOLDER."
        )
    if host is not None and trust_selector:
        raise UsageError(
            "--trust-selector with --host", "a trained model's folder, whose selector it is about", "Leave it out."
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
