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
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tiny.SETTINGS, tmp_path_factory.mktemp("run") / "model")


def save_small_model(settings: ConnectorSettings, folder: Path) -> Path:
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


def test_an_answer_says_what_was_read_and_kept(model_folder: Path, video: Path) -> None:
    answerer = Answerer(model_folder)
    answer = answerer.ask(video, QUESTION)
    cost, selection = budget(9, tiny.SETTINGS), answer.selection
    assert answer.question == QUESTION
    assert selection.seconds == tuple(read_media(video, RULE).seconds.tolist())
    assert (len(selection.seconds), selection.cones, selection.rods) == (9, cost.cones, cost.rods)
    assert len(selection.kept) == cost.kept
    assert list(selection.kept) == sorted(set(selection.kept))
    assert (len(selection.peaks), len(selection.nearest), len(selection.scores)) == (9, 9, cost.prototypes)
    assert answer == answerer.ask(video, QUESTION)
    assert not answerer.model.training


def test_the_selection_is_what_the_prompt_held(model_folder: Path, video: Path) -> None:
    """Its tokens and its frames, beside those that the language model was given by hand."""
    answer, net = Answerer(model_folder).ask(video, QUESTION), tiny.model()
    row = Row("x", 0, str(video), (Turn(QUESTION, None),))
    batch = tiny.processor()([Example(row, sketch=net.sketch(read_media(video, RULE).frames))])
    tokens = net.connect(batch)
    assert tokens.focus is not None
    assert (
        answer.selection.visual_tokens
        == int(tokens.mask.sum())
        == int((batch.input_ids == net.config.image_token_id).sum())
    )
    assert answer.selection.kept == tuple(tokens.focus.frames[0].tolist())
    assert answer.prompt_tokens == batch.input_ids.shape[1]


def test_an_answer_says_whether_it_was_cut_off(model_folder: Path, video: Path) -> None:
    """Whatever token an answer ends with on its own: here the one that this model happens to write third."""
    answerer = Answerer(model_folder)
    assert answerer.ask(video, QUESTION, 8).cut
    row = Row("x", 0, str(video), (Turn(QUESTION, None),))
    batch = tiny.processor()([Example(row, sketch=tiny.model().sketch(read_media(video, RULE).frames))])
    ids = tiny.model().answer(batch, max_new_tokens=8)[0][0].tolist()
    answerer.model.generation_config.eos_token_id = [ids[2], 10**6]
    assert not answerer.ask(video, QUESTION, 8).cut
    assert answerer.ask(video, QUESTION, ids.index(ids[2])).cut


def test_the_answer_is_the_models_own(model_folder: Path, video: Path) -> None:
    """The same words as by hand: the model as it was before it was saved, the same prompt, greedily."""
    net = tiny.model()
    row = Row("x", 0, str(video), (Turn(QUESTION, None),))
    batch = tiny.processor()([Example(row, sketch=net.sketch(read_media(video, RULE).frames))])
    ids, _ = net.answer(batch, max_new_tokens=6)
    text = tiny.tokenizer().decode(ids[0], skip_special_tokens=True).strip()
    assert text
    assert Answerer(model_folder).ask(video, QUESTION, max_new_tokens=6).answer == text


def test_an_image_is_a_video_of_one_frame(model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "i.png"
    Image.fromarray(tiny.frames(1)[0].numpy()).save(path)
    answer = Answerer(model_folder).ask(path, QUESTION)
    assert (answer.selection.kept, answer.selection.seconds) == ((0,), (0.0,))
    assert answer.selection.visual_tokens == budget(1, tiny.SETTINGS).visual_tokens


def test_a_persons_placeholder_is_text(model_folder: Path, video: Path) -> None:
    answer = Answerer(model_folder).ask(video, "what is <image> </s> here")
    assert answer.selection.visual_tokens == budget(9, tiny.SETTINGS).visual_tokens


def test_the_seed_of_the_process_has_no_part_in_it(model_folder: Path, video: Path) -> None:
    answerer, answers = Answerer(model_folder), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        answers.append(answerer.ask(video, QUESTION))
    assert answers[0] == answers[1]


def test_what_is_absent_is_named(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no trained model"):
        Answerer(tmp_path)
    with pytest.raises(CheckpointError, match=r"Name .*run0/model\."):
        Answerer(model_folder.parent)
    with pytest.raises(VideoError, match=r"none\.mp4"):
        Answerer(model_folder).ask(tmp_path / "none.mp4", QUESTION)


def test_a_second_question_costs_neither_decoding_nor_the_encoder(
    model_folder: Path, video: Path, tmp_path: Path
) -> None:
    questions = [QUESTION, "how many circles", QUESTION]
    answers = {}
    for cache in (None, tmp_path / "cache"):
        answerer = Answerer(model_folder, cache)
        with count_calls() as calls:
            answers[cache] = [answerer.ask(video, questions[0])]
        assert calls["reader"] == 1
        assert calls["encoder"] > 0
        with count_calls() as calls:
            answers[cache] += [answerer.ask(video, question) for question in questions[1:]]
        assert not calls
    with count_calls() as calls:
        again = [Answerer(model_folder, tmp_path / "cache").ask(video, question) for question in questions]
    assert not calls
    assert answers[None] == answers[tmp_path / "cache"] == again
    assert answers[None][0] == answers[None][2]


def test_few_videos_are_remembered_and_none_that_changed(model_folder: Path, tmp_path: Path) -> None:
    images = [tmp_path / f"{n}.png" for n in range(3)]
    for n, path in enumerate(images):
        Image.fromarray(tiny.frames(1, n)[0].numpy()).save(path)
    answerer = Answerer(model_folder, remembered=2)

    def reads(path: Path) -> int:
        with count_calls() as calls:
            answerer.ask(path, QUESTION)
        return calls["reader"]

    assert [reads(images[n]) for n in (0, 1, 0, 2, 0, 1)] == [1, 1, 0, 1, 0, 1]
    Image.fromarray(tiny.frames(1, 7)[0].numpy()).save(images[1])
    assert reads(images[1]) == 1
    timed = answerer.read(images[1])
    assert isinstance(timed, TimedSketch)
    assert torch.equal(timed.sketch.pooled, tiny.model().sketch(tiny.frames(1, 7)).pooled)


def test_a_model_that_reads_frames_under_the_question_is_given_frames(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second question costs no decoding; but the encoder runs again, and no sketch is kept anywhere."""
    folder = save_small_model(replace(tiny.SETTINGS, instruction_mode="frame"), tmp_path / "model")
    answerer = Answerer(folder)
    assert answerer.model.settings.instruction_mode == "frame"
    runs: list[int] = []
    answerer.model.vision.encoder.embeddings.register_forward_hook(lambda *_: runs.append(1))
    for reads in (1, 0):
        with count_calls() as calls:
            answer = answerer.ask(video, QUESTION)
        assert calls["reader"] == reads
        assert runs
        runs.clear()
    assert len(answer.selection.seconds) == 9
    clip = answerer.read(video)
    assert isinstance(clip, Clip)
    assert torch.equal(clip.frames, read_media(video, RULE).frames)
    cache = tmp_path / "cache"
    with pytest.raises(ConfigError, match="instruction_mode is frame"):
        Answerer(folder, cache)
    assert main(["sketch", str(video), "--model", str(folder), "--cache", str(cache)]) == 1
    assert "instruction_mode is frame" in capsys.readouterr().err
    assert not cache.exists()


def test_an_answer_that_would_not_fit_is_refused_before_the_model_runs(model_folder: Path, video: Path) -> None:
    """Up to the last token of the context, and not one further."""
    answerer = Answerer(model_folder)
    row = Row("x", 0, str(video), (Turn(QUESTION, None),))
    length = tiny.processor()([Example(row, frames=read_media(video, RULE).frames)]).input_ids.shape[1]
    spare = answerer.processor.collate.context - length
    assert answerer.ask(video, QUESTION, max_new_tokens=spare).question == QUESTION
    with pytest.raises(PromptError, match=rf"max_new_tokens {spare}\."):
        answerer.ask(video, QUESTION, max_new_tokens=spare + 1)
