"""The settings of a world: what any of them promise about scenes and questions, and which are refused."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynfocus.errors import ConfigError
from dynfocus.evals.benchmarks.world import KINDS
from dynfocus.world.build_rows import split_rows, stage2_rows
from dynfocus.world.pixels import SIZE, render
from dynfocus.world.questions import REPEATED_TYPES, THING_TYPES
from dynfocus.world.recipes import EASY, NAMES, RECIPES, STANDARD, WorldSettings, find_recipe, make_settings
from dynfocus.world.videos import WorldVideo, sample_video

NUMBER_WORDS = {0: "zero", 1: "one", 2: "two"}
Fields = dict[str, Any]


@st.composite
def worlds(draw: st.DrawFn) -> WorldSettings:
    """Settings that can be met together, small and large."""
    repeat = draw(st.booleans())
    events, things = draw(
        st.sampled_from(
            [(2, 4), (3, 3), (3, 4), (4, 3), (4, 4), (5, 4), (7, 3)] if repeat else [(1, 4), (2, 4), (2, 2)]
        )
    )
    decoys = draw(st.integers(0, 3)) if repeat else 0
    scenes = draw(st.integers(max(2, events + decoys), 24))
    shortest = draw(st.integers(1, 4))
    return WorldSettings(
        frames=scenes * shortest + draw(st.integers(3, 20)),
        scenes=scenes,
        shortest_scene=shortest,
        returns=draw(st.sampled_from([0.0, 0.6, 1.0])),
        events=events,
        things=things,
        longest_event=draw(st.integers(1, shortest)),
        glitches=draw(st.integers(0, 3)),
        decoys=decoys,
        words_repeat=repeat,
        thing_size=draw(st.integers(8, 14)),
        look=draw(st.sampled_from(["own", "foreign"])),
    )


def answer_again(fields: Fields, video: WorldVideo) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """The answer and the frames it needs, found a second time from the list of scenes and the question's words."""
    words, places = fields["text"].split(), [scene.place for scene in video.scenes]
    if fields["group"] == "count":
        return NUMBER_WORDS[places.count(words[5])], ()
    if fields["group"] == "after":
        assert places.count(words[-1]) == 1
        return places[places.index(words[-1]) + 1], ()
    if fields["group"] in ("first", "last"):
        return places[0 if fields["group"] == "first" else -1], ()
    shown = [
        (scene.start, scene, thing)
        for scene in video.scenes
        if scene.event
        for thing in scene.event.things
        if words[-1] in (thing.color, thing.shape)
    ]
    if "last" in words:
        assert len(shown) > 1
        _, scene, thing = max(shown, key=lambda one: one[0])
        answer = thing.color
    else:
        assert len(shown) == 1, "the word that is asked by is shown once"
        _, scene, thing = shown[0]
        answers = {"color": thing.color, "shape": thing.shape, "where": thing.cell, "place": scene.place}
        answer = answers[words[0] if words[0] == "where" else words[1]]
    assert scene.event is not None
    assert not scene.event.is_decoy
    return answer, (scene.event.frames,)


def check_scenes(video: WorldVideo, world: WorldSettings) -> None:
    """A video is what its settings say."""
    assert [scene.start for scene in video.scenes] == [0, *(scene.stop for scene in video.scenes[:-1])]
    assert video.length == world.frames
    assert len(video.scenes) == world.scenes
    assert min(scene.stop - scene.start for scene in video.scenes) >= world.shortest_scene
    assert all(a != b for a, b in zip(video.places, video.places[1:], strict=False))
    shows = [scene.event for scene in video.scenes if scene.event]
    assert Counter(show.is_decoy for show in shows) == Counter({False: world.events, True: world.decoys})
    assert len(set(video.glitches)) == world.glitches
    for scene in video.eventful:
        assert scene.event is not None
        frames = scene.event.frames
        assert 1 <= len(frames) <= world.longest_event
        assert all(scene.start <= frame < scene.stop for frame in frames)
        assert not set(frames) & set(video.glitches)
        assert len(scene.event.things) == world.things
        for part in ("color", "shape", "cell"):
            assert len({getattr(thing, part) for thing in scene.event.things}) == world.things
    things = [thing for show in shows for thing in show.things]
    if not world.words_repeat:
        assert len({thing.color for thing in things}) == len({thing.shape for thing in things}) == len(things)


@settings(max_examples=25)
@given(worlds(), st.integers(0, 1000))
def test_every_world_keeps_what_its_settings_promise(world: WorldSettings, seed: int) -> None:
    videos = 3
    rows = split_rows(seed, "val", videos, world)
    groups = Counter(row["questions"][0]["group"] for row in rows)
    types = REPEATED_TYPES if world.words_repeat else THING_TYPES
    assert groups == dict.fromkeys((*types, *KINDS["temporal"]), videos), "as many questions of each type"
    rows += [row for row in stage2_rows(seed, videos, 2, 12, world) if "video" in row]
    for row in rows:
        video = sample_video(row["seed"], row["index"], world)
        check_scenes(video, world)
        for fields in row["questions"]:
            word, segments = answer_again(fields, video)
            assert (fields["meta"]["word"], fields["segments"]) == (word, segments)
            assert fields["answer"] == f"{fields['meta']['key']} {word}"
        texts = [fields["text"] for fields in row["questions"]]
        assert len(set(texts)) == len(texts)
        assert {fields["group"] for fields in row["questions"]} <= groups.keys()


def test_a_conversation_of_repeating_words_asks_about_different_things() -> None:
    for row in stage2_rows(3, 20, 2, 60, STANDARD):
        if "video" in row:
            video = sample_video(row["seed"], row["index"], STANDARD)
            about = [
                (scene.start, thing)
                for fields in row["questions"]
                for scene in video.eventful
                for thing in scene.event.things  # type: ignore[union-attr]
                if fields["segments"] == (scene.event.frames,)  # type: ignore[union-attr]
                and {fields["meta"]["key"], fields["meta"]["word"]}
                <= {thing.color, thing.shape, thing.cell, scene.place}
            ]
            assert len(set(about)) == len(about)


@pytest.mark.parametrize("name", RECIPES)
def test_no_answer_of_a_recipe_is_right_too_often(name: str) -> None:
    """The largest shares of 200 videos, measured: .15 to .21, of count .37 to .44."""
    answers: dict[str, Counter[str]] = {}
    for row in split_rows(9, "val", 200, RECIPES[name]):
        fields = row["questions"][0]
        answers.setdefault(fields["group"], Counter())[fields["meta"]["word"]] += 1
    rates = {group: max(words.values()) / words.total() for group, words in answers.items()}
    assert all(rate <= (0.55 if group == "count" else 0.25) for group, rate in rates.items()), rates


@pytest.mark.parametrize(
    ("wrong", "given", "advice"),
    [
        ({"frames": 15}, "4 scenes of at least 4 in 15 frames", "Raise frames"),
        ({"events": 2, "scenes": 2, "decoys": 1, "words_repeat": True}, "2 events and 1 decoys in 2 scenes", "scenes"),
        ({"longest_event": 5}, "longest_event=5 in scenes of 4", "Lower longest_event"),
        ({"glitches": 17}, "17 glitches beside events", "Lower glitches"),
        ({"events": 3}, "3 events of 4 things whose words do not repeat", "words_repeat"),
        ({"decoys": 1}, "1 decoys in a world whose words do not repeat", "words_repeat"),
        ({"words_repeat": True, "things": 2}, "words_repeat with 2 events of 2 things", "Change events or things"),
        ({"words_repeat": True, "things": 5}, "words_repeat with 2 events of 5 things", "at most 4 things"),
        ({"look": "other"}, "look=other", "Correct look"),
        ({"thing_size": 15}, "thing_size=15", "thing_size from 8 to 14"),
        ({"returns": 1.5}, "returns=1.5", "returns from 0.0 to 1.0"),
        ({"scenes": 1}, "scenes=1", "scenes from 2"),
        ({"glitch": 3}, "the settings glitch", "glitches"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(wrong: Fields, given: str, advice: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_settings("easy", **wrong)
    assert given in str(error.value)
    assert advice in str(error.value)


def test_a_recipe_is_a_name_for_settings() -> None:
    assert make_settings() == RECIPES["easy"] == WorldSettings() == EASY
    assert make_settings("standard", glitches=3, frames=None) == replace(STANDARD, glitches=3)
    assert [find_recipe(world) for world in RECIPES.values()] == [*RECIPES]
    assert find_recipe(replace(EASY, glitches=1)) is None
    assert tuple(asdict(EASY)) == NAMES
    with pytest.raises(ConfigError, match="one of easy, standard, long"):
        make_settings("hard")


def test_the_foreign_world_shows_the_same_in_another_look() -> None:
    for index in range(3):
        own, foreign = (sample_video(2, index, RECIPES[name]) for name in ("standard", "foreign"))
        assert own.scenes == foreign.scenes
        frames = [render(video).astype(float) for video in (own, foreign)]
        plain = [t for t in range(own.length) if t not in own.glitches]
        assert np.abs(frames[0] - frames[1])[plain].mean() > 15
        assert (frames[0] == frames[1])[list(own.glitches)].all()


def test_smaller_things_cover_less() -> None:
    def covered(size: int) -> int:
        world = replace(EASY, thing_size=size)
        videos = [sample_video(4, index, world) for index in range(3)]
        bare = [replace(video, scenes=tuple(replace(one, event=None) for one in video.scenes)) for video in videos]
        pairs = [(render(a), render(b)) for a, b in zip(videos, bare, strict=True)]
        frames = [[t for s in v.eventful for t in s.event.frames] for v in videos]  # type: ignore[union-attr]
        return sum(
            (np.abs(a[t].astype(int) - b[t]).max(-1) > 60).sum()
            for (a, b), of in zip(pairs, frames, strict=True)
            for t in of
        )

    assert 0 < covered(10) < covered(12) < covered(14) < 10 * SIZE**2


def test_the_easy_world_is_that_of_before_its_settings() -> None:
    """SHA-256 of the scenes of 40 videos, made before worlds had settings."""
    videos = [sample_video(1, index) for index in range(40)]
    plain = [
        [
            video.glitches,
            [
                [
                    s.place,
                    s.start,
                    s.stop,
                    s.event and [s.event.frames, [[t.color, t.shape, t.cell] for t in s.event.things]],
                ]
                for s in video.scenes
            ],
        ]
        for video in videos
    ]
    assert hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:12] == "e624aa7a05b5"


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_standard_parts_selectors_even_if_every_frame_is_read_without_an_error(keep: int) -> None:
    """Hit rates over the validation split, measured at K = 1, 2, 3: .17, .34, .51 blind to the question, which sees no
    difference between events and decoys; .85, .89, .93 by the asked word; in `easy` 1.00 by it and .50, 1.00, 1.00."""
    blind, by_word, rng = [], [], np.random.default_rng(0)
    for row in split_rows(0, "val", 100, STANDARD):
        fields, video = row["questions"][0], sample_video(row["seed"], row["index"], STANDARD)
        if fields["segments"]:
            shows = [scene.event for scene in video.eventful if scene.event]
            word = fields["text"].split()[-1]
            with_word = [one for one in shows if any(word in (thing.color, thing.shape) for thing in one.things)]
            picked = [shows[n].frames for n in rng.permutation(len(shows))[:keep]]
            blind.append(fields["segments"][0] in picked)
            frames = rng.permutation([frame for show in with_word for frame in show.frames])[:keep]
            by_word.append(not set(fields["segments"][0]).isdisjoint(frames.tolist()))
    assert len(blind) == 500
    assert np.mean(by_word) - np.mean(blind) > 0.3
    assert np.mean(blind) < 0.6
    assert np.mean(by_word) < 0.96, "the oracle hits always"
