"""Read prompts for judges, fill them with an answer, and read the scores of a reply."""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template as Words
from typing import Any

from dynfocus.errors import ConfigError, DataError

FOLDER = Path(__file__).parent
YES_NO = {"yes": 1.0, "no": 0.0}
Range = tuple[float, float]


@dataclass(frozen=True)
class Template:
    """A prompt with places such as ``$answer``, and the scores that a reply has to give.

    Its file begins with a line such as ``scores: correct yes|no, score 0-5``.

    Attributes:
        name: the file's name without its ending.
        scores: the lowest and highest value of each score; None where it is yes or no, which count as 1 and 0.
        text: the prompt.
    """

    name: str
    scores: Mapping[str, Range | None]
    text: str

    def fill(self, fields: Mapping[str, str]) -> str:
        """Put the fields of an answer into the prompt; raises DataError where it asks for one that there is not."""
        try:
            return Words(self.text).substitute(fields)
        except KeyError as error:
            raise DataError(
                f"the template {self.name}, which asks for ${error.args[0]}, and an answer without it",
                f"names among {', '.join(sorted(fields))}",
                "Correct the template.",
            ) from None

    def read(self, reply: str) -> dict[str, float]:
        """Read the scores from the first JSON object of a reply; raises ValueError that says what is wrong with it."""
        fields = find_object(reply.rpartition("</think>")[2])
        return {name: _read_score(name, fields.get(name), span) for name, span in self.scores.items()}


def read_template(file: Path) -> Template:
    """Read a template; raises ConfigError where it cannot be read, or is none."""
    try:
        head, _, text = file.read_text(encoding="utf-8").partition("\n")
        scores = dict(_read_range(part) for part in _rest(head, "scores:").split(","))
        names = {match["named"] or match["braced"] for match in Words.pattern.finditer(text)}
        if bad := next((match for match in Words.pattern.finditer(text) if match["invalid"] is not None), None):
            raise ValueError(f"a lone $ in line {2 + text[: bad.start()].count(chr(10))}; $$ writes one")
        if "answer" not in names:
            raise ValueError("no $answer in it")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the template {file} ({error})",
            "a text with $answer in it, whose first line is such as `scores: correct yes|no, score 0-5`",
            "See docs/judges.md, and correct the file.",
        ) from error
    return Template(file.stem, scores, text.strip() + "\n")


def find_object(text: str) -> dict[str, Any]:
    """Find the first JSON object in a text, which may also be written as Python's; raises ValueError if there is none.

    It reaches from the first ``{`` to the ``}`` that closes it; braces between double quotes do not count.
    """
    start, depth, quoted, escaped = text.find("{"), 0, False, False
    for end in range(start, len(text)) if start >= 0 else ():
        sign = text[end]
        if escaped or (sign == "\\" and quoted):
            escaped = not escaped
        elif sign == '"':
            quoted = not quoted
        elif not quoted and sign in "{}":
            depth += 1 if sign == "{" else -1
            if depth == 0:
                return _decode(text[start : end + 1])
    raise ValueError("no whole JSON object" if start >= 0 else "no JSON object")


def _decode(text: str) -> dict[str, Any]:
    for decode in (json.loads, ast.literal_eval):
        try:
            fields = decode(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(fields, dict):
            return fields
    raise ValueError("an object that is no JSON")


def _read_score(name: str, value: Any, span: Range | None) -> float:
    if span is None:
        word = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value).strip(" .!").lower()
        if word not in YES_NO:
            raise ValueError(f"a {name} that is neither yes nor no")
        return YES_NO[word]
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not span[0] <= number <= span[1]:
        raise ValueError(f"a {name} that is no number from {span[0]:g} to {span[1]:g}")
    return number


def _read_range(part: str) -> tuple[str, Range | None]:
    name, _, values = part.strip().partition(" ")
    low, dash, high = values.strip().partition("-")
    if not name.isidentifier() or not (dash or values.strip() == "yes|no"):
        raise ValueError(f"the score {part.strip()!r}")
    return name, (float(low), float(high)) if dash else None


def _rest(line: str, start: str) -> str:
    if not line.startswith(start):
        raise ValueError(f"a first line without {start}")
    return line.removeprefix(start)
