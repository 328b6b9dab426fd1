"""Choose frames without a language model: on pixels alone, with CLIP and SigLIP, with a trained model's encoders."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from ask_runs import CLIPS, RULE, clip, write_model
from make_videos import write_video
from PIL import Image
from tiny_checkpoints import other_encoder
from torch.nn.functional import normalize
from transformers import AutoModel, PreTrainedTokenizerFast

from dynfocus.bridge import Picked, select
from dynfocus.bridge.batch import score_row
from dynfocus.bridge.choose import FrameChooser, SketchedVideo
from dynfocus.bridge.features import Features, PixelFeatures, open_features
from dynfocus.bridge.requirements import frames_of_budget
from dynfocus.bridge.rows import Asked
from dynfocus.bridge.stored_scores import choose_again
from dynfocus.cli import main
from dynfocus.errors import CheckpointError, ConfigError, SelectorError, UsageError, VideoError
from dynfocus.inspection.answerer import Answerer
from dynfocus.method.selectors import SELECTORS
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip
from dynfocus.video.with_pyav import FrameConverter

OWN = '''"""Selectors of one's own."""
from dynfocus.method.selectors import FrameSelector


class Bright(FrameSelector):
    """The brightest frames."""

    def rank(self, sketch, inputs):
        return sketch.pooled.float().mean((2, 3))


class Asking(Bright):
    """Frames for the question."""

    reads = "question"

    def rank(self, sketch, inputs):
        return inputs.relevance
'''


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own", None)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times of all frames that are turned into pixels."""
    times: list[float] = []
    convert = FrameConverter.__call__

    def call(self: FrameConverter, frame: object) -> np.ndarray:
        times.append(frame.time)  # type: ignore[attr-defined]
        return convert(self, frame)  # type: ignore[arg-type]

    monkeypatch.setattr(FrameConverter, "__call__", call)
    return times


def brightening(folder: Path, count: int = 40) -> Path:
    """Frames whose numbers, and so their brightness where one bit is lit, are their own."""
    return write_video(folder / "a.mp4", count)


@pytest.mark.parametrize("name", CLIPS)
def test_two_frames_a_second_are_decoded_and_the_kept_ones_again(name: str, shown: list[float]) -> None:
    picked = select(clip(name), keep=4)
    assert len(shown) == len(picked.candidates) == {"bigbuckbunny": 11, "bikes": 20, "carphone_pristine": 8}[name]
    assert set(picked.frames) <= set(picked.candidates)
    shown.clear()
    assert {image.size for image in picked.images()} == {
        {"bigbuckbunny": (1280, 720), "bikes": (640, 272), "carphone_pristine": (193, 144)}[
            name
        ]  # its pixels are wider than high
    }
    assert np.allclose(shown, picked.seconds, atol=2e-3)
    assert len(shown) == 4


def test_candidates_are_the_frames_that_a_model_would_see_at_this_rate() -> None:
    picked = select(clip("bikes"), keep=99, fps=3.0)
    expected = read_clip(clip("bikes"), FrameRule(fps=3.0)).seconds
    assert picked.frames == picked.candidates
    assert np.allclose(picked.seconds, expected, atol=1e-5)
    few = select(clip("bikes"), keep=99, fps=3.0, frames=7)
    assert np.allclose(few.seconds, read_clip(clip("bikes"), FrameRule(fps=3.0, frames=7)).seconds, atol=1e-5)


def test_pixels_are_the_mean_colors_of_cells(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:2, 2:4] = (255, 0, 51)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    sketch = FrameChooser(None, PixelFeatures()).sketch(tmp_path / "a.png").sketch
    assert sketch.pooled.shape == sketch.grains.shape == (1, 1, 64, 3)
    assert torch.allclose(sketch.pooled[0, 0, 1], torch.tensor([1.0, -1.0, -0.6]))
    assert torch.equal(sketch.pooled[0, 0, [0, 2, 63]], -torch.ones(3, 3))


def test_a_selector_of_ones_own_chooses_by_pixels(tmp_path: Path) -> None:
    picked = select(brightening(tmp_path), keep=5, selector="own.Bright", fps=10)
    brightness = [bin(number).count("1") for number in range(40)]  # lit columns
    assert picked.scores is not None
    assert np.corrcoef(picked.scores, brightness)[0, 1] > 0.99
    assert min(brightness[frame] for frame in picked.frames) == sorted(brightness)[-5]


def test_no_weights_mean_no_transformers() -> None:
    code = (
        "import sys\nfrom dynfocus.cli import main\n"
        f"assert main(['select', {str(clip('carphone_pristine'))!r}, '--keep', '2']) == 0\n"
        "sys.exit(any(name in sys.modules for name in ('transformers', 'lightning', 'peft')))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mean colors of 8 x 8 cells (no encoder)" in done.stdout


@pytest.mark.parametrize("keep", [0, -3])
def test_no_frame_at_all_is_refused(keep: int) -> None:
    with pytest.raises(ConfigError, match="at least 1 frame"):
        select(clip("bikes"), keep=keep)


def test_more_than_there_are_keeps_all(tmp_path: Path) -> None:
    assert select(brightening(tmp_path, 1), keep=3).frames == (0,)
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    still = select(tmp_path / "a.png", keep=3, selector="random")
    assert (still.frames, still.seconds, still.total, still.duration) == ((0,), (0.0,), 1, 0.0)
    assert [image.size for image in still.images()] == [(30, 20)]
    assert len(select(brightening(tmp_path), keep=100, fps=5).frames) == 20


def test_a_budget_is_frames_times_their_tokens() -> None:
    assert [frames_of_budget(*pair) for pair in ((256, 256), (1000, 256), (100, 16))] == [1, 3, 6]
    with pytest.raises(ConfigError, match="a budget of 100 tokens, where one frame costs 256"):
        frames_of_budget(100, 256)
    with pytest.raises(ConfigError, match="frame_tokens = 0"):
        frames_of_budget(100, 0)


def test_what_a_selector_reads_must_be_there(tmp_path: Path) -> None:
    video = clip("carphone_pristine")
    for name, told in (("oracle", "any video"), ("dpe", "--model"), ("own.Asking", "--encoder")):
        with pytest.raises(ConfigError, match=told):
            select(video, "what falls", selector=name)
    with pytest.raises(ConfigError, match=r"one of dpe.* Did you mean mmr\? Correct --selector"):
        select(video, selector="mrm")
    with pytest.raises(UsageError, match="one of them"):
        open_features(tmp_path, tmp_path)
    with pytest.raises(VideoError, match="there is no file"):
        select(tmp_path / "absent.mp4")


def text_encoder(folder: Path, family: str) -> Path:
    # An end of 2 lets CLIP read the largest id's place, for the tokenizer writes no end.
    own = {"eos_token_id": 2} if family == "clip" else {"projection_size": tiny.WIDTH}
    other_encoder(folder, family, vocab_size=len(tiny.tokenizer()), **own)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_relevance_is_the_checkpoints_own_similarity(family: str, tmp_path: Path) -> None:
    folder = text_encoder(tmp_path / family, family)
    chooser = FrameChooser("own.Asking", open_features(encoder=folder), fps=3.0)
    sketched = chooser.sketch(clip("carphone_pristine"))
    picked = chooser.choose(sketched, tiny.QUESTIONS[0], 3)

    model = AutoModel.from_pretrained(folder).eval()
    fit = "crop" if family == "clip" else "squeeze"
    frames = read_clip(clip("carphone_pristine"), FrameRule(tiny.SIDE, fps=3.0, fit=fit), "pyav").frames
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    pixels = ((frames / 255 - mean) / std).permute(0, 3, 1, 2)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    most = model.config.text_config.max_position_embeddings
    padding = {"padding": "max_length", "max_length": most} if family == "siglip" else {}
    ids = tokenizer([tiny.QUESTIONS[0]], return_tensors="pt", **padding)["input_ids"]
    with torch.no_grad():
        output = model(input_ids=ids, pixel_values=pixels)
    similarity = normalize(output.image_embeds, dim=-1) @ normalize(output.text_embeds, dim=-1).T
    assert picked.scores is not None
    assert torch.allclose(torch.tensor(picked.scores), similarity[:, 0], atol=1e-5)
    assert set(picked.frames) == {picked.candidates[n] for n in similarity[:, 0].topk(3).indices.tolist()}
    assert sketched.sketch.grains.shape[2] == 16
    with pytest.raises(ConfigError, match="without a question"):
        chooser.choose(sketched, " ", 3)


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_encoder(tmp_path_factory.mktemp("encoders") / "clip", "clip")


@pytest.fixture(scope="module")
def sketches(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Features, list[SketchedVideo]]]:
    """Pixels and CLIP, and what they make of a clip, of a short one, and of a picture."""
    picture = tmp_path_factory.mktemp("pictures") / "a.png"
    Image.new("RGB", (30, 20), "red").save(picture)
    kinds = [PixelFeatures(), open_features(encoder=tiny_clip)]
    videos = (clip("bikes"), clip("carphone_pristine"), picture)
    return [(kind, [FrameChooser(None, kind).sketch(video) for video in videos]) for kind in kinds]


@pytest.mark.parametrize("selector", SELECTORS)
def test_every_selector_chooses_or_names_what_it_lacks(
    selector: str, sketches: list[tuple[Features, list[SketchedVideo]]]
) -> None:
    """On one frame, on fewer than are asked for, and on a clip."""
    reads = getattr(SELECTORS[selector], "reads", "frames")
    for features, videos in sketches:
        if reads in ("nothing", "frames") or (reads == "question" and features.compares_text):
            chooser = FrameChooser(selector, features)
            for sketched, keep, count in zip(videos, (5, 20, 2), (5, 8, 1), strict=True):
                picked = chooser.choose(sketched, tiny.QUESTIONS[0], keep)
                assert len(picked.frames) == count
                assert set(picked.frames) <= set(picked.candidates)
        else:
            told = {"question": "--encoder FOLDER", "truth": "any video"}.get(reads, "--model FOLDER")
            with pytest.raises(ConfigError, match=told):
                FrameChooser(selector, features)


@pytest.mark.parametrize("selector", ["text_top_k", "aks", "bolt", "q_frame"])
def test_selectors_of_relevance_choose_from_stored_scores(selector: str, tiny_clip: Path) -> None:
    features, question = open_features(encoder=tiny_clip), tiny.QUESTIONS[1]
    asked = Asked("a", "bikes.mp4", question, clip("bikes"))
    by_relevance, other = FrameChooser("text_top_k", features), FrameChooser(selector, features)
    sketched = other.sketch(clip("bikes"))
    row = score_row(asked, sketched, by_relevance, 8)
    for keep in (1, 3, 6, 50):
        (chosen,) = choose_again([row], keep, selector)
        assert chosen.frames == other.choose(sketched, question, keep).frames
        assert (chosen.selector, chosen.keep) == (selector, keep)


def test_selectors_that_read_more_are_refused_on_stored_scores(tiny_clip: Path) -> None:
    chooser = FrameChooser("random", PixelFeatures())
    row = score_row(Asked("a", "a", None, clip("bikes")), chooser.sketch(clip("bikes")), chooser, 8)
    for selector, told in (("aks", "stored scores of random"), ("mmr", "mmr on the stored")):
        with pytest.raises(ConfigError, match=told):
            choose_again([row], 3, selector)


def test_settings_of_a_selector_change_what_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    choice = {"class_path": "dpp", "init_args": {"weight": 0}}
    assert len(select(clip("bikes"), keep=5, selector=choice).frames) == 5
    with pytest.raises(ConfigError, match="--encoder"):
        select(clip("bikes"), "what", keep=5, selector="dpp")
    assert main(["select", str(clip("bikes")), "--keep", "5", "--selector", json.dumps(choice), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["selector"] == "dpp(weight=0)"
    assert tuple(row["frames"]) == select(clip("bikes"), keep=5, selector=choice).frames


def test_another_question_chooses_other_frames_with_clip(tiny_clip: Path) -> None:
    picks = [select(clip("bikes"), text, 3, "mmr", encoder=tiny_clip) for text in tiny.QUESTIONS[:2]]
    assert picks[0].scores != picks[1].scores


def test_a_folder_that_is_no_text_encoder_is_refused(tmp_path: Path) -> None:
    other_encoder(tmp_path / "dinov2", "dinov2", alone="bare")
    with pytest.raises(CheckpointError, match="clip or siglip"):
        open_features(encoder=tmp_path / "dinov2")
    other_encoder(tmp_path / "clip", "clip")
    with pytest.raises(CheckpointError, match="does not fit"):  # without a tokenizer
        open_features(encoder=tmp_path / "clip")


def test_a_trained_model_chooses_as_it_does_when_it_answers(tmp_path: Path) -> None:
    folder = write_model(tiny.SETTINGS, tmp_path / "model")
    chooser = FrameChooser(None, open_features(model=folder))
    assert chooser.label == "dpe"
    for name in CLIPS:
        answer = Answerer(folder).ask(clip(name), tiny.QUESTIONS[0]).selection
        sketched = chooser.sketch(clip(name))
        picked = chooser.choose(sketched, tiny.QUESTIONS[0], len(answer.kept))
        assert picked.frames == tuple(sketched.candidates[place] for place in answer.kept)
        assert picked.scores == pytest.approx(answer.frame_scores)
        assert np.allclose([sketched.video.times[n] for n in sketched.candidates], answer.seconds, atol=1e-5)


def test_a_model_looks_at_as_many_frames_as_it_was_trained_on(tmp_path: Path) -> None:
    folder = write_model(tiny.SETTINGS, tmp_path / "model", replace(RULE, fps=None, frames=9))
    assert len(select(clip("bikes"), keep=2, model=folder).candidates) == 9
    assert len(select(clip("bikes"), keep=2, model=folder, fps=1.0, frames=50).candidates) == 10
    assert FrameChooser(None, open_features(folder)).description.endswith("model; all frames, at most 9")


def test_events_are_all_that_dpe_can_keep(tmp_path: Path) -> None:
    folder = write_model(tiny.SETTINGS, tmp_path / "model")
    picked = select(clip("bikes"), keep=50, model=folder)
    assert len(picked.frames) == tiny.SETTINGS.events < len(picked.candidates)


def test_code_that_a_folder_names_is_run_only_where_the_user_names_it(tmp_path: Path) -> None:
    folder = write_model(replace(tiny.SETTINGS, selector="own.Bright"), tmp_path / "model")
    with pytest.raises(ConfigError, match="Name it as --selector"):
        select(clip("carphone_pristine"), model=folder)
    assert len(select(clip("carphone_pristine"), keep=3, selector="own.Bright", model=folder).frames) == 3


@pytest.mark.parametrize("selector", ["random", "own.Bright", "dpe"])
def test_scores_are_cut_at_any_number(selector: str, tmp_path: Path) -> None:
    model = write_model(tiny.SETTINGS, tmp_path / "model") if selector == "dpe" else None
    chooser = FrameChooser(selector, open_features(model), fps=4.0)
    sketched = chooser.sketch(clip("bikes"))
    ranking = chooser.rank(sketched, "what color is the star", 4)
    for keep in (1, 2, 5, 7, 1000):
        assert ranking.cut(keep) == chooser.choose(sketched, "what color is the star", keep).frames


def test_scores_that_hang_on_the_number_are_refused() -> None:
    chooser = FrameChooser("uniform", PixelFeatures())
    with pytest.raises(SelectorError, match="one score a frame"):
        chooser.rank(chooser.sketch(clip("bikes")), None, 4)


def test_random_frames_are_the_same_in_every_run_and_others_for_another_question() -> None:
    chooser = FrameChooser("random", PixelFeatures())
    sketched, picks = chooser.sketch(clip("bikes")), []
    for seed, question in ((1, "what"), (2, "what"), (1, "who"), (1, "where")):
        torch.manual_seed(seed)
        picks.append(chooser.choose(sketched, question, 4).frames)
        assert torch.initial_seed() == seed
    assert picks[0] == picks[1]
    assert len(set(picks)) == 3


def test_a_pick_is_a_plain_record() -> None:
    picked = select(clip("bikes"), keep=2)
    assert isinstance(picked, Picked)
    assert picked.video == clip("bikes")
    assert (picked.total, picked.fps, picked.duration) == (250, 25.0, 10.0)


def test_the_python_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "bridge.md").read_text()
    brightening(tmp_path).rename(tmp_path / "my_video.mp4")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    assert len(names["images"]) == len(names["picked"].frames) == 4
