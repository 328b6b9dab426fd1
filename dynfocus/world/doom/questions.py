"""Ask what walks through ViZDoom's levels show: choices whose right answer the text alone does not tell.

What is right more often than by chance would let a model answer without the video. Each question is therefore chosen so
that over a split every option is right about as often as it should be by chance; the counts so far decide.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dynfocus.evals.answers import LETTERS
from dynfocus.evals.rules import make_choice
from dynfocus.records.rows import Question
from dynfocus.world.doom.things import KINDS, SeenThings, list_runs

PARTS = ("first quarter", "second quarter", "third quarter", "last quarter")
YES_NO = ("yes", "no")
NUMBERS = ("zero", "one", "two", "three")
NAMED = 3  # kinds that a question of first, last or count names

Segments = tuple[tuple[int, ...], ...]


def ask_split(videos: Sequence[SeenThings], rng: np.random.Generator) -> list[list[Question]]:
    """Ask about the videos of a split, of each at most one question of each of `GROUPS`.

    A question is left out where nothing that a video shows can be asked without doubt: a thing that is only glimpsed,
    or something that looks like it, is never asked for.

    Returns:
        the questions of each video.
    """
    asked: list[list[Question]] = [[] for _ in videos]
    for ask in ASKERS.values():
        balance: Counter[str] = Counter()
        for number in rng.permutation(len(videos)):
            if (question := ask(videos[number], balance, rng)) is not None:
                asked[number].append(question)
    return asked


def ask_first(video: SeenThings, balance: Counter[str], rng: np.random.Generator) -> Question | None:
    """Ask which of three kinds comes first; it is shown clearly before any of the others can be glimpsed at all."""
    starts = {name: (frames[0], video.glimpsed[name][0]) for name, frames in video.shown.items()}
    chosen = _choose_named(starts, balance, rng)
    return None if chosen is None else _ask_order("first", chosen, (list_runs(video.shown[chosen[0]])[0],), rng)


def ask_last(video: SeenThings, balance: Counter[str], rng: np.random.Generator) -> Question | None:
    """Ask which of three kinds comes last; none of the others can be glimpsed any more when it is shown."""
    ends = {name: (-frames[-1], -video.glimpsed[name][-1]) for name, frames in video.shown.items()}
    chosen = _choose_named(ends, balance, rng)
    return None if chosen is None else _ask_order("last", chosen, (list_runs(video.shown[chosen[0]])[-1],), rng)


def ask_appear(video: SeenThings, balance: Counter[str], rng: np.random.Generator) -> Question | None:
    """Ask whether a kind is shown, by turns of one that is and of one that no frame shows at all.

    A kind that was asked for where it is shown is asked for next where it is not.
    """
    wanted = balance["yes"] <= balance["no"]
    for is_there in (wanted, not wanted):
        names = _shuffle(video.shown if is_there else [name for name in KINDS if name not in video.glimpsed], rng)
        names = [name for name in names if is_there or balance[name] > 0]
        if names:
            break
    else:
        return None
    name = min(names, key=lambda one: balance[one] if is_there else -balance[one])
    answer = YES_NO[not is_there]
    balance[name] += 1 if is_there else -1
    balance[answer] += 1
    return _ask("appear", f"is a thing of this kind shown: {name}", YES_NO, answer, _all_of(video, [name]), [name])


def ask_when(video: SeenThings, balance: Counter[str], rng: np.random.Generator) -> Question | None:
    """Ask in which quarter of the video a kind is shown first, of which no earlier quarter shows anything at all.

    Most kinds come first in the first quarter: an answer that is ahead of the rarest one by two waits for it.
    """
    starts = {name: (frames[0], video.glimpsed[name][0]) for name, frames in video.shown.items()}
    quarters = {name: {len(PARTS) * frame // video.frames for frame in pair} for name, pair in starts.items()}
    answers = {name: PARTS[min(quarters[name])] for name in _shuffle(quarters, rng) if len(quarters[name]) == 1}
    rarest = min(balance[part] for part in PARTS)
    answers = {name: answer for name, answer in answers.items() if balance[answer] - rarest < 2}
    if not answers:
        return None
    name = min(answers, key=lambda one: (balance[answers[one]], balance[f"{one}/{answers[one]}"], balance[one]))
    balance.update([answers[name], name, f"{name}/{answers[name]}"])
    text = f"in which quarter of the video is this shown first: {name}"
    return _ask("when", text, PARTS, answers[name], (list_runs(video.shown[name])[0],), [name])


def ask_count(video: SeenThings, balance: Counter[str], rng: np.random.Generator) -> Question | None:
    """Ask how many of three kinds are shown; the others cannot even be glimpsed."""
    there = _shuffle(video.shown, rng)
    absent = _shuffle([name for name in KINDS if name not in video.glimpsed], rng)
    number = min(range(min(NAMED, len(there)) + 1), key=lambda one: (balance[NUMBERS[one]], one))
    if len(absent) < NAMED - number:
        return None
    shown = sorted(there, key=lambda one: balance[one])[:number]
    missing = sorted(absent, key=lambda one: -balance[one])[: NAMED - number]
    balance.update([NUMBERS[number], *shown])
    balance.subtract(missing)
    names = _shuffle([*shown, *missing], rng)
    text = f"how many of these kinds of things are shown: {_list(names, 'and')}"
    return _ask("count", text, NUMBERS, NUMBERS[number], _all_of(video, shown), names)


ASKERS: Mapping[str, Callable[[SeenThings, Counter[str], np.random.Generator], Question | None]] = {
    "first": ask_first,
    "last": ask_last,
    "appear": ask_appear,
    "when": ask_when,
    "count": ask_count,
}


def _choose_named(
    times: Mapping[str, tuple[int, int]], balance: Counter[str], rng: np.random.Generator
) -> tuple[str, ...] | None:
    """Choose three kinds to name, the right one first, so that each named kind is right about once in three times.

    Args:
        times: of each kind when it is shown first and when it can be glimpsed first.
        balance: of each kind twice the times it was right minus the times it was named and wrong; changed.
        rng: breaks ties.
    """
    names = _shuffle(times, rng)
    choices: list[tuple[str, ...]] = []
    for right in names:
        later = [name for name in names if times[right][0] < times[name][1]]
        others = sorted(later, key=lambda one: _error(balance, one, 1))[: NAMED - 1]
        if len(others) == NAMED - 1:
            choices.append((right, *(name for name in later if name in others)))
    if not choices:
        return None
    best = min(choices, key=lambda one: sum(_error(balance, name, n) for n, name in enumerate(one)))
    for n, name in enumerate(best):
        balance[name] += 2 if n == 0 else -1
    return best


def _error(balance: Counter[str], name: str, place: int) -> int:
    """How much the squared balance of a kind grows if it is named as right (0) or as wrong."""
    change = 2 if place == 0 else -1
    return (balance[name] + change) ** 2 - balance[name] ** 2


def _ask_order(which: str, chosen: tuple[str, ...], segments: Segments, rng: np.random.Generator) -> Question:
    names = _shuffle(chosen, rng)
    return _ask(which, f"which of these is shown {which}: {_list(names, 'or')}", names, chosen[0], segments, names)


def _ask(
    group: str, text: str, options: Sequence[str], answer: str, segments: Segments, names: Sequence[str]
) -> Question:
    choice = make_choice(text, options, LETTERS[list(options).index(answer)], group, {"names": list(names)})
    return Question(choice.text, choice.answer, choice.options, group, segments, choice.meta)


def _all_of(video: SeenThings, names: Sequence[str]) -> Segments:
    """A segment for each of these kinds that is shown: all frames that show it, any of which tells that it is there."""
    return tuple(video.shown[name] for name in names if name in video.shown)


def _list(names: Sequence[str], word: str) -> str:
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def _shuffle(names: Sequence[str] | Mapping[str, object], rng: np.random.Generator) -> list[str]:
    ordered = list(names)
    return [ordered[n] for n in rng.permutation(len(ordered))]
