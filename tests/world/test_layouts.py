"""The mixed layouts of visual tokens: as many tokens as the connector gives, and what each question needs is shown."""

import numpy as np
import pytest

from dynfocus.budget import budget
from dynfocus.settings import ConnectorSettings, count_kept
from dynfocus.world.questions import video_questions
from dynfocus.world.recipes import RECIPES, STANDARD
from dynfocus.world.towers.layouts import DYNFOCUS, MIXED, Layout, draw_layout
from dynfocus.world.towers.scenes import COVER, SymbolicEye
from dynfocus.world.towers.symbolic_rows import RowMaker
from dynfocus.world.towers.tokenizer import train_tokenizer
from dynfocus.world.towers.tower_settings import LanguageSettings
from dynfocus.world.towers.train import CORPUS_SEED
from dynfocus.world.videos import CELLS, sample_video

PLACE = {
    "patches": 36,
    "pooled": 4,
    "events": 16,
    "keep": 0.1875,
    "spatial_prototypes": (6, 3),
    "spatial_neighbours": (5, 3),
}
LAYOUTS = {
    "(2,40)": (Layout(prototypes=(6, 3)), {}),
    "(2,256)": (Layout("patches"), {"kept_tokens": 256}),
    "(0,256)": (Layout("patches", rods=0), {"kept_tokens": 256, "redundant_tokens": 0}),
    "(0,40)": (Layout(prototypes=(6, 3), rods=0), {"redundant_tokens": 0}),
    "(2,2)": (Layout("none"), {"kept_tokens": 2}),
    "(2,0)": (Layout("none", kept_rods=0), {"kept_tokens": 0}),
    "average pooling": (Layout(pooled=True), {"encoder": "average_pooling"}),
}


@pytest.fixture(scope="module")
def eye() -> SymbolicEye:
    return SymbolicEye(train_tokenizer(CORPUS_SEED).get_vocab())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_has_the_tokens_of_its_row_in_table_6(eye: SymbolicEye, name: str) -> None:
    layout, switches = LAYOUTS[name]
    settings = ConnectorSettings(**PLACE | switches)
    frames = STANDARD.frames
    kept = count_kept(frames, settings)
    tokens = kept * (layout.count_cones(True) + layout.count_rods(True))
    tokens += (frames - kept) * (layout.count_cones(False) + layout.count_rods(False))
    assert tokens == budget(frames, settings).visual_tokens


def test_every_layout_is_drawn_about_as_often_as_it_should_be() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_layout(rng) for _ in range(3000)]
    assert sum(share for share, _ in MIXED) == pytest.approx(1)
    assert DYNFOCUS in drawn
    for share, layout in MIXED:
        alike = [
            one
            for one in drawn
            if (one.cones, one.rods, one.kept_rods, one.pooled)
            == (layout.cones, layout.rods, layout.kept_rods, layout.pooled)
        ]
        assert share - 0.04 < len(alike) / len(drawn) < share + 0.04, layout


@pytest.mark.parametrize("layout", [layout for _, layout in MIXED] + [Layout(prototypes=(4, 2))], ids=str)
def test_a_stream_shows_the_place_and_the_things_of_needed_frames(eye: SymbolicEye, layout: Layout) -> None:
    for index in range(12):
        rng, video = np.random.default_rng(index), sample_video(5, index, STANDARD)
        questions = video_questions(video, rng, 3, 0)
        needed = [segment for question in questions for segment in question.segments]
        stream = eye.film(video, rng, layout, needed)
        seen = {word for word, n in eye.vocabulary.items() if (stream[:, n] > 0.15).any()}
        if layout.pooled or layout.cones != "none":
            words = {text.split()[-1] for question in questions for text in question.meta.values()}
            assert words <= seen, (words - seen, layout)
        elif layout.kept_rods:
            assert set(video.places) <= seen


def test_every_patch_shows_the_thing_of_its_cell(eye: SymbolicEye) -> None:
    assert COVER.sum(0).tolist() == [4.0] * len(CELLS)
    for index in range(10):
        rng, video = np.random.default_rng(index), sample_video(6, index, STANDARD)
        scene = next(scene for scene in video.scenes if scene.event and scene.event.frames[0] not in video.glitches)
        assert scene.event is not None
        tokens = eye.frame(video, scene.event.frames[0], True, rng, Layout("patches", kept_rods=0))
        assert len(tokens) == 36
        for thing in scene.event.things:
            cell = np.divmod(CELLS.index(thing.cell), 3)
            shown = (tokens[:, eye.vocabulary[thing.cell]] > 0).reshape(6, 6)
            assert shown[2 * cell[0] : 2 * cell[0] + 2, 2 * cell[1] : 2 * cell[1] + 2].all()
            assert shown.sum() == 4
            at = tokens[:, eye.vocabulary[thing.color]] > 0
            assert (at & shown.ravel()).sum() == 4


def test_mixed_rows_are_of_many_lengths_and_easy_ones_of_two() -> None:
    tokenizer = train_tokenizer(CORPUS_SEED)
    mixed = RowMaker(tokenizer, LanguageSettings(layouts="mixed"), STANDARD)
    lengths = {len(mixed.video(1, index).weights) for index in range(40)}
    assert len(lengths) > 15
    plain = RowMaker(tokenizer, LanguageSettings())
    assert {len(plain.video(1, index).weights) for index in range(10)} == {85}


@pytest.mark.parametrize("recipe", ["easy", "standard", "long"])
def test_rows_of_every_kind_can_be_made_where_towers_are_trained(recipe: str) -> None:
    maker = RowMaker(train_tokenizer(CORPUS_SEED), LanguageSettings(layouts="mixed"), RECIPES[recipe])
    for kind, make in maker.kinds.items():
        for index in range(12):
            row = make(1, index)
            assert (row.ids == maker.image_id).sum() == len(row.weights), kind


def test_a_glimpse_stays_inside_scenes_of_two_frames(eye: SymbolicEye) -> None:
    video = sample_video(0, 0, STANDARD)
    streams = [eye.glimpse(video, np.random.default_rng(seed)) for seed in range(20)]
    longest = 2 * sum(min(3, scene.stop - scene.start) for scene in video.scenes)
    assert max(map(len, streams)) <= longest
