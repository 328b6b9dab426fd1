"""Questions about walks through ViZDoom's levels: no doubt about the answer, and none of it told by the text."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from dynfocus.evals.benchmarks.doom import DOOM, GROUPS
from dynfocus.evals.summary import score_hits
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import Question
from dynfocus.world.doom.questions import ask_split
from dynfocus.world.doom.things import CLEAR, GLIMPSE, KINDS, SeenThings, Sighting, find_seen, list_runs

FRAMES = 120
BOX = ((0.0, 0.0, 0.5, 0.5),)


def sample_walk(rng: np.random.Generator) -> SeenThings:
    """A walk on which some kinds are common, and come early, as on real ones."""
    frames: list[list[Sighting]] = [[] for _ in range(FRAMES)]
    for place, name in enumerate(KINDS):
        if rng.random() < (0.7 if place < 10 else 0.2):
            start = int(rng.beta(1, 3 if place < 10 else 1) * (FRAMES - 6))
            for frame in range(start, start + int(rng.integers(1, 6))):
                frames[frame].append(Sighting(name, float(rng.choice([CLEAR / 2, 2 * CLEAR])), BOX))
    return find_seen(frames)


@pytest.fixture(scope="module")
def asked() -> list[tuple[SeenThings, list[Question]]]:
    rng = np.random.default_rng(0)
    videos = [sample_walk(rng) for _ in range(150)]
    return list(zip(videos, ask_split(videos, np.random.default_rng(1)), strict=True))


def of_group(asked: list[tuple[SeenThings, list[Question]]], group: str) -> list[tuple[SeenThings, Question]]:
    return [(video, one) for video, questions in asked for one in questions if one.group == group]


def test_what_counts_as_shown_and_as_glimpsed() -> None:
    frames = [
        [Sighting("imp", CLEAR, BOX), Sighting("TeleportFog", 0.5, BOX)],
        [Sighting("imp", GLIMPSE, BOX), Sighting("DeadDoomImp", 0.5, BOX), Sighting("DeadDemon", 0.5, BOX)],
        [Sighting("imp", GLIMPSE / 2, BOX), Sighting("barrel", GLIMPSE, BOX)],
        [Sighting("imp", CLEAR, BOX)],
    ]
    seen = find_seen(frames)
    assert seen.shown == {"imp": (0, 3)}
    assert seen.glimpsed == {"barrel": (2,), "demon": (1,), "imp": (0, 1, 3)}
    assert list_runs((0, 3, 4, 7)) == [(0,), (3, 4), (7,)]


@pytest.mark.parametrize(("group", "sign"), [("first", 1), ("last", -1)])
def test_the_right_kind_is_clear_before_others_can_be_glimpsed(asked, group: str, sign: int) -> None:
    found = of_group(asked, group)
    assert len(found) > 140
    for video, one in found:
        edge = 0 if group == "first" else -1
        right = video.shown[one.answer][edge]
        others = [video.glimpsed[name][edge] for name in one.options if name != one.answer]
        assert all(sign * (other - right) > 0 for other in others)
        assert one.segments == (list_runs(video.shown[one.answer])[edge],)
        assert one.options[ord(one.meta["letter"]) - ord("A")] == one.answer
        assert sorted(one.options) == sorted({*one.options})
        assert all(name in one.text for name in one.options)


def test_a_kind_that_is_only_glimpsed_is_never_asked_for(asked) -> None:
    doubtful = 0
    for video, questions in asked:
        for one in questions:
            names = set(one.meta["names"])
            doubtful += len(video.glimpsed.keys() - video.shown.keys())
            assert not names & (video.glimpsed.keys() - video.shown.keys())
            if one.group == "count":
                shown = [name for name in one.meta["names"] if name in video.shown]
                assert one.answer == ("zero", "one", "two", "three")[len(shown)]
                assert sorted(one.segments) == sorted(video.shown[name] for name in shown)
            if one.group == "appear":
                (name,) = names
                assert one.answer == ("yes" if name in video.shown else "no")
                assert one.segments == ((video.shown[name],) if name in video.shown else ())
            if one.group == "when":
                (name,) = names
                first = min(video.glimpsed[name])
                assert one.segments == (list_runs(video.shown[name])[0],)
                assert one.options.index(one.answer) == 4 * first // FRAMES == 4 * one.segments[0][0] // FRAMES
    assert doubtful > 1000


def guess_from_text(known: list[Question], question: Question) -> str:
    """The option that is right most often where questions of the group name it, and in the same text if it is known."""
    right, named = Counter(), Counter()
    same = [one for one in known if one.text == question.text]
    for one in same or [one for one in known if one.group == question.group]:
        right[one.answer] += 1
        named.update(one.options)
    return max(question.options, key=lambda option: (right[option] / max(1, named[option]), option))


@pytest.mark.parametrize(
    ("group", "chance"), [("first", 1 / 3), ("last", 1 / 3), ("appear", 0.5), ("when", 0.25), ("count", 0.25)]
)
def test_the_text_alone_tells_little_more_than_chance(asked, group: str, chance: float) -> None:
    rng = np.random.default_rng(2)
    other = ask_split([sample_walk(rng) for _ in range(150)], np.random.default_rng(3))
    known = [one for questions in other for one in questions]
    questions = [one for _, one in of_group(asked, group)]
    hits = [guess_from_text(known, one) == one.answer for one in questions]
    assert abs(np.mean(hits) - chance) < 0.12


def test_answers_are_balanced(asked) -> None:
    for group in ("appear", "when", "count"):
        counts = Counter(one.answer for _, one in of_group(asked, group))
        assert max(counts.values()) - min(counts.values()) <= 6, group
    letters = Counter(one.meta["letter"] for _, one in of_group(asked, "first"))
    assert min(letters.values()) > 30
    shares = defaultdict(Counter)
    for _, one in of_group(asked, "last"):
        for name in one.options:
            shares[name][name == one.answer] += 1
    often = {name: counts[True] / counts.total() for name, counts in shares.items() if counts.total() >= 12}
    assert len(often) >= 10
    assert np.std([*often.values()]) < 0.03, often


def test_a_quarter_that_is_common_waits_for_the_rare_ones() -> None:
    """Most kinds come in the first quarter: asked whenever it can be, it would be the answer of 36 of 40 questions."""
    early, late = {"imp": (3, 4)}, {"imp": (3, 4), "demon": (70,)}
    videos = [SeenThings(FRAMES, shown, shown) for shown in (late if n % 10 == 0 else early for n in range(40))]
    asked = ask_split(videos, np.random.default_rng(0))
    counts = Counter(one.answer for questions in asked for one in questions if one.group == "when")
    assert counts == {"first quarter": 2, "third quarter": 2}


def test_the_benchmark_judges_letters_and_words(asked) -> None:
    _, one = of_group(asked, "first")[0]
    shown = ("1", "v.mp4", "uniform", one.text)
    rest = (one.answer, one.group, (), None, 0, one.options, one.meta)
    for answer, right in ((one.meta["letter"], 1.0), (f"The {one.answer}.", 1.0), ("D", 0.0), ("", 0.0)):
        assert DOOM.check(Prediction(*shown, answer, *rest))[0] == {"correct": right}
    asked_for = DOOM.prompt(one, ())
    assert asked_for.startswith(f"{one.text}\n(A) {one.options[0]}\n")
    assert "letter" in asked_for
    assert score_hits((one.segments[0][0],), one) == 1.0
    assert tuple(DOOM.columns) == ("Acc", *GROUPS)
