"""From a file on disk to words, with the folder that training leaves and nothing beside it."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny_sketches import count_calls

from dynfocus.budget import budget
from dynfocus.cli import main
from dynfocus.data.sketches.cache import TimedSketch
from dynfocus.errors import CheckpointError, ConfigError, PromptError, VideoError
from dynfocus.inspection.answerer import Answerer
from dynfocus.models.collate import Example
from dynfocus.models.processor import DynFocusProcessor
from dynfocus.records.rows import Row, Turn
from dynfocus.settings import ConnectorSettings, FrameRule
from dynfocus.video import Clip, read_media

QUESTION = "what color is the star"
RULE = FrameRule(size=tiny.SIDE, fps=2.0, frames=9)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept(tiny.SETTINGS, tmp_path_factory.mktemp("run") / "model")


def kept(settings: ConnectorSettings, folder: Path) -> Path:
    net = tiny.model(settings)
    net.save_pretrained(folder)
    words = tiny.tokenizer(), tiny.tokenizer()
    DynFocusProcessor(*words, net.config, RULE, system_prompt=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds at four frames a second, each second of a colour of its own."""
    path = tmp_path_factory.mktemp("videos") / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(20):
            pixels = np.zeros((48, 64, 3), np.uint8)
            pixels[:, :, n // 4 % 3] = 60 + 40 * (n // 4)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path


def test_an_answer_says_what_was_read_and_kept(trained: Path, video: Path) -> None:
    answerer = Answerer(trained)
    result = answerer.ask(video, QUESTION)
    cost, selection = budget(9, tiny.SETTINGS), result.selection
    assert result.question == QUESTION
    assert selection.seconds == tuple(read_media(video, RULE).seconds.tolist())
    assert (len(selection.seconds), selection.cones, selection.rods) == (9, cost.cones, cost.rods)
    assert len(selection.kept) == cost.kept
    assert list(selection.kept) == sorted(set(selection.kept))
    assert (len(selection.peaks), len(selection.nearest), len(selection.scores)) == (9, 9, cost.prototypes)
    assert result == answerer.ask(video, QUESTION)
    assert not answerer.model.training


def test_the_selection_is_what_the_prompt_held(trained: Path, video: Path) -> None:
    """Its tokens and its frames, beside those that the language model was given by hand."""
    result, net = Answerer(trained).ask(video, QUESTION), tiny.model()
    row = Row("x", 0, str(video), (Turn(QUESTION, None),))
    batch = tiny.processor()([Example(row, sketch=net.sketch(read_media(video, RULE).frames))])
    tokens = net.connect(batch)
    assert tokens.focus is not None
    assert (
        result.selection.visual_tokens
        == int(tokens.mask.sum())
        == int((batch.input_ids == net.config.image_token_id).sum())
    )
    assert result.selection.kept == tuple(tokens.focus.frames[0].tolist())
    assert result.prompt_tokens == batch.input_ids.shape[1]


def test_an_answer_says_whether_it_was_cut_off(trained: Path, video: Path) -> None:
    """Whatever token an answer ends with on its own: here the one that this model happens to write third."""
    answerer = Answerer(trained)
    assert answerer.ask(video, QUESTION, 8).cut
    row = Row("x", 0, str(video), (Turn(QUESTION, None),))
    batch = tiny.processor()([Example(row, sketch=tiny.model().sketch(read_media(video, RULE).frames))])
    ids = tiny.model().answer(batch, max_new_tokens=8)[0][0].tolist()
    answerer.model.generation_config.eos_token_id = [ids[2], 10**6]
    assert not answerer.ask(video, QUESTION, 8).cut
    assert answerer.ask(video, QUESTION, ids.index(ids[2])).cut


def test_the_answer_is_the_models_own(trained: Path, video: Path) -> None:
    """The same words as by hand: the model as it was before it was saved, the same prompt, greedily."""
    net = tiny.model()
    row = Row("x", 0, str(video), (Turn(QUESTION, None),))
    batch = tiny.processor()([Example(row, sketch=net.sketch(read_media(video, RULE).frames))])
    ids, _ = net.answer(batch, max_new_tokens=6)
    exact = tiny.tokenizer().decode(ids[0], skip_special_tokens=True).strip()
    assert exact
    assert Answerer(trained).ask(video, QUESTION, max_new_tokens=6).answer == exact


def test_an_image_is_a_video_of_one_frame(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "i.png"
    Image.fromarray(tiny.frames(1)[0].numpy()).save(path)
    result = Answerer(trained).ask(path, QUESTION)
    assert (result.selection.kept, result.selection.seconds) == ((0,), (0.0,))
    assert result.selection.visual_tokens == budget(1, tiny.SETTINGS).visual_tokens


def test_a_persons_placeholder_is_text(trained: Path, video: Path) -> None:
    result = Answerer(trained).ask(video, "what is <image> </s> here")
    assert result.selection.visual_tokens == budget(9, tiny.SETTINGS).visual_tokens


def test_the_seed_of_the_process_has_no_part_in_it(trained: Path, video: Path) -> None:
    answerer, result = Answerer(trained), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        result.append(answerer.ask(video, QUESTION))
    assert result[0] == result[1]


def test_what_is_absent_is_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no trained model"):
        Answerer(tmp_path)
    with pytest.raises(CheckpointError, match=r"Name .*run0/model\."):
        Answerer(trained.parent)
    with pytest.raises(VideoError, match=r"none\.mp4"):
        Answerer(trained).ask(tmp_path / "none.mp4", QUESTION)


def test_a_second_question_costs_neither_decoding_nor_the_encoder(trained: Path, video: Path, tmp_path: Path) -> None:
    asked = [QUESTION, "how many circles", QUESTION]
    result = {}
    for cache in (None, tmp_path / "cache"):
        answerer = Answerer(trained, cache)
        with count_calls() as calls:
            result[cache] = [answerer.ask(video, asked[0])]
        assert calls["reader"] == 1
        assert calls["encoder"] > 0
        with count_calls() as calls:
            result[cache] += [answerer.ask(video, question) for question in asked[1:]]
        assert not calls
    with count_calls() as calls:
        again = [Answerer(trained, tmp_path / "cache").ask(video, question) for question in asked]
    assert not calls
    assert result[None] == result[tmp_path / "cache"] == again
    assert result[None][0] == result[None][2]


def test_few_videos_are_remembered_and_none_that_changed(trained: Path, tmp_path: Path) -> None:
    images = [tmp_path / f"{n}.png" for n in range(3)]
    for n, path in enumerate(images):
        Image.fromarray(tiny.frames(1, n)[0].numpy()).save(path)
    answerer = Answerer(trained, remembered=2)

    def reads(path: Path) -> int:
        with count_calls() as calls:
            answerer.ask(path, QUESTION)
        return calls["reader"]

    assert [reads(images[n]) for n in (0, 1, 0, 2, 0, 1)] == [1, 1, 0, 1, 0, 1]
    Image.fromarray(tiny.frames(1, 7)[0].numpy()).save(images[1])
    assert reads(images[1]) == 1
    result = answerer.read(images[1])
    assert isinstance(result, TimedSketch)
    assert torch.equal(result.sketch.pooled, tiny.model().sketch(tiny.frames(1, 7)).pooled)


def test_a_model_that_reads_frames_under_the_question_is_given_frames(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second question costs no decoding; but the encoder runs again, and no sketch is kept anywhere."""
    folder = kept(replace(tiny.SETTINGS, instruction_mode="frame"), tmp_path / "model")
    answerer = Answerer(folder)
    assert answerer.model.settings.instruction_mode == "frame"
    runs: list[int] = []
    answerer.model.vision.encoder.embeddings.register_forward_hook(lambda *_: runs.append(1))
    for reads in (1, 0):
        with count_calls() as calls:
            result = answerer.ask(video, QUESTION)
        assert calls["reader"] == reads
        assert runs
        runs.clear()
    assert len(result.selection.seconds) == 9
    clip = answerer.read(video)
    assert isinstance(clip, Clip)
    assert torch.equal(clip.frames, read_media(video, RULE).frames)
    cache = tmp_path / "cache"
    with pytest.raises(ConfigError, match="instruction_mode is frame"):
        Answerer(folder, cache)
    assert main(["sketch", str(video), "--model", str(folder), "--cache", str(cache)]) == 1
    assert "instruction_mode is frame" in capsys.readouterr().err
    assert not cache.exists()


def test_an_answer_that_would_not_fit_is_refused_before_the_model_runs(trained: Path, video: Path) -> None:
    """Up to the last token of the context, and not one further."""
    answerer = Answerer(trained)
    row = Row("x", 0, str(video), (Turn(QUESTION, None),))
    length = tiny.processor()([Example(row, frames=read_media(video, RULE).frames)]).input_ids.shape[1]
    spare = answerer.processor.collate.context - length
    assert answerer.ask(video, QUESTION, max_new_tokens=spare).question == QUESTION
    with pytest.raises(PromptError, match=rf"max_new_tokens {spare}\."):
        answerer.ask(video, QUESTION, max_new_tokens=spare + 1)
