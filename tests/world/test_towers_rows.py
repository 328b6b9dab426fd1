"""The symbolic rows that the language model learns from: their prompts, labels and visual tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from reference_reader import read_row

from dynfocus.budget import budget
from dynfocus.models.collate import Collator, Example
from dynfocus.models.prompts import IGNORED
from dynfocus.settings import ConnectorSettings
from dynfocus.world.build_rows import stage2_rows
from dynfocus.world.questions import caption
from dynfocus.world.towers.scenes import OVERLAP, QUIET, SymbolicEye
from dynfocus.world.towers.symbolic_rows import RowMaker
from dynfocus.world.towers.tokenizer import train_tokenizer
from dynfocus.world.towers.tower_settings import LanguageSettings
from dynfocus.world.towers.train import CORPUS_SEED
from dynfocus.world.videos import CELLS, sample_image, sample_video

WORLD = ConnectorSettings(
    patches=36, pooled=4, events=8, keep=0.375, spatial_prototypes=(8, 3), spatial_neighbours=(5, 3)
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CORPUS_SEED)


@pytest.fixture(scope="module")
def maker(tokenizer) -> RowMaker:
    return RowMaker(tokenizer, LanguageSettings())


def test_the_world_is_told_without_an_unknown_word(tokenizer) -> None:
    for index in range(40):
        row = stage2_rows(5, 8, 8, 8)[index % 8]
        text = " ".join(turn["value"] for turn in row["conversations"]) + " " + caption(sample_video(77, index))
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], text


def test_rows_are_prompts_as_the_stages_write_them(maker: RowMaker) -> None:
    instruction = train_tokenizer(CORPUS_SEED, opening=False)
    processor = Collator(maker.tokenizer, instruction, WORLD, 2048, "vicuna_v1", False, "first", answers=True)
    for index, entry in enumerate(stage2_rows(5, 8, 8, 40)):
        row = read_row(entry, index, Path("rows.json"))
        video = (sample_video if "video" in entry else sample_image)(entry["seed"], entry["index"])
        weights = None if row.media is None else maker.eye.film(video, np.random.default_rng(index))
        batch = processor([Example(row, frames=torch.zeros(video.length, 48, 48, 3, dtype=torch.uint8))])
        coded = [maker.row(list(row.turns), "vicuna_v1_short", weights, before=before) for before in (True, False)]
        assert any(torch.equal(batch.input_ids[0], torch.from_numpy(one.ids)) for one in coded)
        assert any(torch.equal(batch.labels[0], torch.from_numpy(one.labels)) for one in coded)


def test_streams_are_as_long_as_the_budget(maker: RowMaker) -> None:
    for index in range(20):
        rng = np.random.default_rng(index)
        assert len(maker.eye.film(sample_video(7, index), rng)) == budget(20, WORLD).visual_tokens == 85
        assert len(maker.eye.film(sample_image(7, index), rng)) == budget(1, WORLD).visual_tokens == 17


@pytest.mark.parametrize("kind", ["videos", "images", "texts", "captions", "orders", "repeats"])
def test_labels_are_the_answers_and_their_ends(maker: RowMaker, kind: str) -> None:
    tokenizer = maker.tokenizer
    for index in range(30):
        row = maker.kinds[kind](3, index)
        assert (row.ids == maker.image_id).sum() == len(row.weights)
        assert (row.labels[row.ids == maker.image_id] == IGNORED).all()
        learned = row.labels != IGNORED
        assert (row.labels[learned] == row.ids[learned]).all()
        text, labels = tokenizer.decode(row.ids), tokenizer.decode(row.labels[learned])
        turns = max(1, text.count("assistant"))
        assert labels.count("</s>") == turns
        assert "assistant" not in labels
        assert "user" not in labels
        for answer in labels.split("</s>")[:-1]:
            assert answer.strip()
            assert f"{answer.strip()}</s>" in text.replace(" </s>", "</s>")


def test_every_conversation_asks_about_a_thing_once(maker: RowMaker) -> None:
    """Two questions about one thing, or two the same, would tell each other's answers."""
    for index in range(50):
        text = maker.tokenizer.decode(maker.video(3, index).ids, skip_special_tokens=True)
        questions = [part.split("assistant")[0].strip() for part in text.split("user :")[1:]]
        assert len(questions) == len(set(questions))
        assert sum(q.split()[0] in ("what", "where") and "after" not in q for q in questions) <= 4


def test_the_quarters_share_every_cell() -> None:
    np.testing.assert_allclose(OVERLAP.sum(0), 4 / 9, rtol=1e-6)
    np.testing.assert_allclose(OVERLAP.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(OVERLAP[0].reshape(3, 3)[:2, :2] * 9, [[4, 2], [2, 1]], rtol=1e-6)


def test_symbols_say_what_the_frame_shows(tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    eye = SymbolicEye(vocabulary)
    for index in range(30):
        video, rng = sample_video(11, index), np.random.default_rng(index)
        for frame in range(video.length):
            scene = video.scene_at(frame)
            tokens = eye.frame(video, frame, is_kept=True, rng=rng)
            if frame in video.glitches:
                assert not tokens[:, :-1].any()
                assert (tokens[:, -1] == 1).all()
                continue
            assert (tokens[:, -1] == np.float32(QUIET)).all()
            assert (tokens[:, vocabulary[scene.place]] > 0).all()
            things = scene.event.things if scene.event and frame in scene.event.frames else ()
            words = {scene.place} | {word for thing in things for word in (thing.color, thing.shape, thing.cell)}
            assert set(np.flatnonzero(tokens[:, :-1].any(0))) == {vocabulary[word] for word in words}
            for thing in things:
                color, shape, cell = (tokens[:, vocabulary[word]] for word in (thing.color, thing.shape, thing.cell))
                assert (color == shape).all()
                assert (color == cell).all()
                quarters = OVERLAP[:, CELLS.index(thing.cell)]
                assert (color[:4] > 0).tolist() == (quarters > 0).tolist()
