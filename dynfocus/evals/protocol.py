"""Define what a benchmark is: how its answers are judged without a model, and which numbers its table shows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NamedTuple

from dynfocus.errors import ConfigError, DataError
from dynfocus.evals.answers import LETTERS
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.records.predictions import Prediction, Verdict
from dynfocus.records.rows import Question

RULES = "rules"
# Whose rules read and count answers: this project's, or those of each benchmark's own published code.
OWN, UPSTREAM = "dynfocus", "upstream"
PROTOCOLS = (OWN, UPSTREAM)


class Value(NamedTuple):
    """One number that columns average.

    Attributes:
        key: what it counts under, such as the question's group.
        cluster: what it is drawn with in intervals, such as the video.
        value: the number.
        id: of the question that it is about, or of the pair of questions.
    """

    key: str
    cluster: str
    value: float
    id: str = ""


@dataclass(frozen=True)
class Mean:
    """How a column follows from values: the unweighted mean of its parts, each the mean of all values with its keys."""

    parts: tuple[tuple[str, ...], ...]
    scale: float = 1.0


Judged = tuple[Prediction, Verdict]


class Item(NamedTuple):
    """One question of a benchmark, as its files have it.

    Attributes:
        id: unique in the benchmark.
        video: the published name of the video or image, which `BenchmarkFiles.find_video` finds; None for no picture.
        question: what is asked.
        span: start and end in seconds, where the question is about a segment of the video alone.
        subtitles: start and end in seconds, and text, of each subtitle; the prompt finds them in ``meta["subtitles"]``
            of its question, and no result keeps them.
        exact: whether the folders in ``video`` are part of its name, because different videos share file names.
        fps: frames a second, where ``video`` names a folder of frames.
        evidence: start and end in seconds of each stretch of the video that shows the answer, where that is known.
    """

    id: str
    video: str | None
    question: Question
    span: tuple[float, float] | None = None
    subtitles: tuple[tuple[float, float, str], ...] = ()
    exact: bool = False
    fps: float | None = None
    evidence: tuple[tuple[float, float], ...] = ()


def shuffle_options(item: Item) -> Item:
    """Put the options of a choice into another order, which follows from the question's id, as a control."""
    question = item.question
    if not any(question.options):  # they stand in the question's text
        return item
    order = sorted(range(len(question.options)), key=lambda n: sha256(f"{item.id}/{n}".encode()).hexdigest())
    letter = question.meta.get("letter")
    moved = LETTERS[order.index(LETTERS.index(letter))] if letter else letter
    options = tuple(question.options[n] for n in order)
    meta = dict(question.meta) | ({"letter": moved} if "letter" in question.meta else {})
    return item._replace(question=replace(question, options=options, meta=meta))


def check_options(items: Iterable[Item], benchmark: str) -> None:
    """Refuse to shuffle options where there are none; raises ConfigError."""
    if not any(any(item.question.options) for item in items):
        raise ConfigError(f"--shuffle with {benchmark}, whose questions have no options", "choices", "Leave it out.")


def digest_prompts(benchmark: "Benchmark", items: Iterable[Item]) -> str:
    """Digest what a model is asked: prompts as they are without frames, and all subtitles."""
    digest = sha256()
    for item in items:
        digest.update(f"{item.id}\0{benchmark.prompt(item.question, ())}\0{item.subtitles}\0".encode())
    return digest.hexdigest()[:12]


def ask_plainly(question: Question, seconds: Sequence[float]) -> str:
    """Ask the question as it is."""
    return question.text


def list_values(judged: Iterable[Judged]) -> list[Value]:
    """List one value a prediction: whether it is right, under its question's group; clusters are videos."""
    return [Value(one.group, one.video, verdict.scores["correct"], one.id) for one, verdict in judged]


def name_no_template(prediction: Prediction) -> tuple[str, ...]:
    """Name no prompt of a judge: rules judge every answer."""
    return ()


@dataclass(frozen=True)
class Benchmark:
    """One benchmark; `dynfocus.evals.benchmarks.BENCHMARKS` lists all.

    Attributes:
        name: what the command line and results call it.
        read: the questions of a split, from the benchmark's published files.
        splits: the splits that there are; the first is the one that is meant where none is named.
        prompt: what the model is asked, of a question and of the seconds at which frames are taken, for subtitles.
        check: judges one answer by rules, without a model: what its verdict's ``scores`` and ``parsed`` are.
        columns: the numbers of its table, in the table's order; empty parts are left out.
        list_values: what the columns are made of; one value a prediction unless the benchmark counts otherwise.
        templates: names of the prompts in ``dynfocus/evals/judges`` by which a judge that is a model scores an answer;
            what they ask for beyond question, truth and answer stands in the prediction's ``meta``. There ``pair`` is
            the id of another question, which the prompt shows as ``$pair_question`` and ``$pair_answer``.
        new_tokens: most tokens of an answer, where the command line names no number.
        submit: the answers in the form in which the benchmark publishes or takes them, as JSON holds it.
        subtitled: whether prompts show subtitles.
        protocol: whose rules these are: ``dynfocus``, or ``upstream``, those of the benchmark's own code.
        upstream: those of these attributes that the benchmark's own code has otherwise, where published numbers depend
            on it.
        failures_count: whether an answer that its judge failed on is counted, as `list_values` does it, instead of
            being left out.
    """

    name: str
    read: Callable[[BenchmarkFiles, str], Iterable[Item]]
    check: Callable[[Prediction], tuple[dict[str, float], str | None]]
    columns: Mapping[str, Mean]
    prompt: Callable[[Question, Sequence[float]], str] = ask_plainly
    splits: tuple[str, ...] = ("test",)
    list_values: Callable[[Iterable[Judged]], Sequence[Value]] = list_values
    templates: Callable[[Prediction], tuple[str, ...]] = name_no_template
    new_tokens: int = 16
    submit: Callable[[Iterable[Judged]], object] | None = None
    subtitled: bool = False
    protocol: str = OWN
    upstream: Mapping[str, Any] = field(default_factory=dict)
    failures_count: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of a value, in the columns' order."""
        return tuple(dict.fromkeys(key for mean in self.columns.values() for part in mean.parts for key in part))

    def read_items(self, files: BenchmarkFiles, split: str) -> list[Item]:
        """Read the questions of a split; raises DataError where they are not as published."""
        items: list[Item] = []
        try:
            for item in self.read(files, split):
                items.append(item)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"the files of {self.name} below {files.root}, whose row after {len(items)} questions cannot be read"
                f" ({type(error).__name__}: {error})",
                "the benchmark's files as it publishes them",
                "Download them again.",
            ) from error
        return items

    def follow(self, protocol: str) -> "Benchmark":
        """Return this benchmark under a protocol; raises ConfigError where that does not exist, or counts alike."""
        if protocol not in PROTOCOLS:
            raise ConfigError(f"the protocol {protocol!r}", f"one of {', '.join(PROTOCOLS)}", "Correct --protocol.")
        if protocol == self.protocol:
            return self
        if not self.upstream:
            raise ConfigError(
                f"the protocol {protocol} of {self.name}, whose answers are read and counted in one way only",
                f"the protocol {self.protocol}",
                "Leave --protocol out.",
            )
        return replace(self, protocol=protocol, **self.upstream)

    def list_counted(self, judged: Iterable[Judged]) -> list[Judged]:
        """List the judged answers that columns count: those that their judge failed on only if `failures_count`."""
        return [one for one in judged if self.failures_count or one[1].scores or not one[1].failure]

    def judge(self, predictions: Iterable[Prediction]) -> list[Judged]:
        """Judge predictions by rules."""
        return [(one, Verdict(one.id, one.arm, RULES, *self.check(one))) for one in predictions]
