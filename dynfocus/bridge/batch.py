"""Choose frames for many questions: each video is read once, a stopped run goes on, broken videos stop no other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path

from tqdm import tqdm

from dynfocus.bridge.choose import FrameChooser, SketchedVideo
from dynfocus.bridge.picked import pick
from dynfocus.bridge.requirements import check_keep, check_question
from dynfocus.bridge.rows import Asked, Chosen, Scored
from dynfocus.errors import ConfigError, FeatureError, VideoError
from dynfocus.records.jsonl import append_jsonl, read_appended

log = getLogger(__name__)
Line = Chosen | Scored


@dataclass
class BatchReport:
    """Counts of a run over many questions.

    Attributes:
        there: questions that an earlier run had done.
        done: questions that this one did.
        broken: of each video that could not be read, why.
        lost: questions about these videos.
    """

    there: int = 0
    done: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    lost: int = 0


def choose_many(
    questions: Sequence[Asked], chooser: FrameChooser, keep: int, out: Path | None, scores: Path | None
) -> BatchReport:
    """Choose frames for many questions, and append a line for each to ``out``, and to ``scores`` one with all scores.

    Each video is decoded and sketched once for all of its questions. What an earlier run has written to the files is
    kept, and not asked again.

    Raises:
        ConfigError: if a file holds lines of another selector, of other features, of another ``keep``, or of another
            question under the same id, or a question is missing that the selector reads.
        SelectorError: if scores are asked for and the selector ranks no single frames.
    """
    check_keep(keep)
    for asked in questions:
        check_question(chooser.reads, f"{chooser.label} on question {asked.id!r}", asked.question)
    writers = [_Writer(path, kind, chooser, keep) for path, kind in ((out, Chosen), (scores, Scored)) if path]
    groups = [rows for group in _by_video(questions) if (rows := [one for one in group if _is_missing(writers, one)])]
    missing = sum(map(len, groups))
    report = BatchReport(there=len(questions) - missing)
    with tqdm(total=missing, desc="choosing frames", unit="question") as bar:
        for rows in groups:
            try:
                sketched = chooser.sketch(rows[0].path)
                for asked in rows:
                    for writer in writers:
                        writer.write(asked, sketched)
                    report.done += 1
                    bar.update()
            except (VideoError, FeatureError) as error:
                report.broken[rows[0].video] = error.given
                report.lost += len(rows)
                log.warning("left out: %s", error.given)
                bar.update(len(rows))
    return report


def choose_row(asked: Asked, sketched: SketchedVideo, chooser: FrameChooser, keep: int) -> Chosen:
    """The frames that are chosen for one question, as a line of frames.jsonl."""
    picked = chooser.choose(sketched, asked.question, keep)
    return Chosen.of(asked, picked, chooser.label, chooser.description, keep)


def score_row(asked: Asked, sketched: SketchedVideo, chooser: FrameChooser, keep: int) -> Scored:
    """The scores of all frames that may be kept for one question, as a line of a file of scores."""
    ranking = chooser.rank(sketched, asked.question, keep)
    picked = pick(sketched.video, list(ranking.frames))
    shared = (asked.id, asked.video, asked.question, chooser.label, chooser.description)
    return Scored(*shared, picked.frames, picked.seconds, ranking.scores, picked.fps, picked.total, picked.duration)


class _Writer:
    """A file of one line a question, to which lines are appended; ``done`` are those that it holds, by id."""

    def __init__(self, path: Path, kind: type[Line], chooser: FrameChooser, keep: int) -> None:
        self.path, self.kind, self.chooser, self.keep = path, kind, chooser, keep
        rows: list[Line] = list(read_appended(path, kind)) if path.exists() else []
        for row in rows:
            own: dict[str, str | int] = {"selector": chooser.label, "features": chooser.description}
            own |= {"keep": keep} if kind is Chosen else {}
            for name, value in own.items():
                if getattr(row, name) != value:
                    raise ConfigError(
                        f"{path}, whose line of {row.id!r} was made with {name} {getattr(row, name)}",
                        f"lines of {name} {value} in one file",
                        "Name another file, or remove this one.",
                    )
        self.done = {row.id: row for row in rows}

    def lacks(self, asked: Asked) -> bool:
        """Whether the file has no line of a question; raises ConfigError if it has one of another with the same id."""
        row = self.done.get(asked.id)
        if row is not None and (row.video, row.question) != (asked.video, asked.question):
            raise ConfigError(
                f"{self.path}, whose line of {asked.id!r} is of the question {row.question!r} about {row.video}",
                f"one of the question {asked.question!r} about {asked.video}",
                "Name another file, or remove this one.",
            )
        return row is None

    def write(self, asked: Asked, sketched: SketchedVideo) -> None:
        """Append the line of a question, unless it is there."""
        if self.lacks(asked):
            make = choose_row if self.kind is Chosen else score_row
            row = make(asked, sketched, self.chooser, self.keep)
            append_jsonl(self.path, [row])
            self.done[asked.id] = row


def _is_missing(writers: Sequence[_Writer], asked: Asked) -> bool:
    return sum(writer.lacks(asked) for writer in writers) > 0  # each file is checked, also behind one that lacks it


def _by_video(questions: Sequence[Asked]) -> Iterator[list[Asked]]:
    """The questions about each video together, videos in the order of their first questions."""
    groups: dict[Path, list[Asked]] = {}
    for asked in questions:
        groups.setdefault(asked.path, []).append(asked)
    yield from groups.values()
