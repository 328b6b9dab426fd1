"""Hold an answer with the frames behind it and what it cost, and list what a page shows of several (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynfocus.inspection.content import Inspection, PageFacts
from dynfocus.records.selections import Selection

LIBRARIES = ("dynfocus", "torch", "transformers", "av", "decord", "pillow")  # what an answer may hang on
UNREAD = "the model's tokenizer has no token for them: the answer cannot depend on them"
CUT, EMPTY = {"cut off": "raise --max-new-tokens"}, {"answer": "empty"}


@dataclass(frozen=True)
class Timing:
    """Seconds that an answer took.

    Attributes:
        reading: to decode and encode the video; next to nothing where it is known already. A model whose
            instruction_mode is frame encodes while it answers.
        answering: to choose frames and to write the answer.
    """

    reading: float
    answering: float


@dataclass(frozen=True)
class Answer:
    """An answer of the model, and the frames behind it.

    Attributes:
        question: as it was asked.
        answer: the text.
        cut: whether it ends only because it may not be longer.
        selection: which frames were kept, and the tokens they cost.
        prompt_tokens: of the whole prompt, visual ones included.
        timing: what it took.
        unknown: words of the question that the model's tokenizers have no token for, where they are many.
        default: how many frames the model's own processor would take of the file, and the visual tokens that they would
            cost; None where the model has no way of its own.
        visual_tokens: of the whole prompt, in which a conversation may show its video at every question.
        new_tokens: of the answer.
    """

    question: str
    answer: str
    cut: bool
    selection: Selection
    prompt_tokens: int
    timing: Timing = field(compare=False)
    unknown: tuple[str, ...] = ()
    default: tuple[int, int] | None = None
    visual_tokens: int = 0
    new_tokens: int = 0


def list_inspections(
    video: Path, answers: Sequence[Answer], frames: Sequence[NDArray[np.uint8]] = ()
) -> list[Inspection]:
    """What a page shows of the answers about one video."""
    return [Inspection(reply.selection, frames, video.name, reply.question, reply.answer) for reply in answers]


def list_facts(video: Path, model: Path, answers: Sequence[Answer], settings: Mapping[str, object]) -> PageFacts:
    """What holds for all answers about one video."""
    timing = {"reading and encoding the video": sum(reply.timing.reading for reply in answers)}
    timing |= {f"answering question {n}": reply.timing.answering for n, reply in enumerate(answers, 1)}
    details: list[dict[str, object]] = [
        {
            "prompt tokens": reply.prompt_tokens,
            **(CUT if reply.cut else {}),
            **({} if reply.answer else EMPTY),
            **name_unknown(reply),
        }
        for reply in answers
    ]
    return PageFacts(str(video), str(model), settings, list_versions(), timing, details, list_others(answers))


def list_others(answers: Sequence[Answer]) -> dict[str, int]:
    """The visual tokens of the model's own way with the same file, by its name; empty where it has none."""
    return {
        f"its own processor, {frames:,} frame{'s' * (frames != 1)}": tokens
        for frames, tokens in (reply.default for reply in answers[:1] if reply.default is not None)
    }


def name_unknown(reply: Answer) -> dict[str, str]:
    """The words of a question that the model does not know, with what follows from it; empty where there are none."""
    return {"unknown words": f"{', '.join(reply.unknown)} ({UNREAD})"} if reply.unknown else {}


def list_versions() -> dict[str, str]:
    """Versions of the project and of the libraries that an answer may hang on, where they are installed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
