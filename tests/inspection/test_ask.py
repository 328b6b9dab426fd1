"""`dynfocus ask` on real clips: what it prints, for people and for scripts, and what it refuses."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import tiny
import torch
from ask_runs import CLIPS, FIRST, RULE, SECOND, ask, clip, parse_json, write_model
from PIL import Image
from tiny_sketches import count_calls

from dynfocus import cli
from dynfocus.budget import budget
from dynfocus.inspection.answer import Answer, Timing, list_facts, list_versions
from dynfocus.inspection.answerer import Answerer
from dynfocus.inspection.output import lines
from dynfocus.records.selections import Selection
from dynfocus.settings import FrameRule
from dynfocus.video import read_media

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tiny.SETTINGS, tmp_path_factory.mktemp("asked") / "model")


@pytest.mark.parametrize("name", CLIPS)
def test_a_trained_model_answers_about_any_clip(name: str, trained_runs: Path, capsys: Capture) -> None:
    """The miniature world's own, trained by the real command line, at one frame a second."""
    folder = trained_runs / "stage2" / "model"
    assert ask(folder, clip(name), FIRST) == 0
    output = capsys.readouterr()
    answer = Answerer(folder).ask(clip(name), FIRST)
    seconds = read_media(clip(name), FrameRule(size=tiny.SIDE)).seconds.tolist()
    cost = budget(len(seconds), tiny.SETTINGS)
    assert len(seconds) == {"bigbuckbunny": 6, "bikes": 10, "carphone_pristine": 4}[name]
    assert output.out.splitlines()[0].startswith(f"answer:        {answer.answer}")
    kept = ", ".join(f"{seconds[frame]:.2f}".rstrip("0").rstrip(".") + " s" for frame in answer.selection.kept)
    assert f"kept frames:   {cost.kept} of {len(seconds)}, at {kept}\n" in output.out
    assert (
        f"visual tokens: {cost.visual_tokens} ({cost.cones} cones, {cost.rods} rods; {256 * len(seconds)} at the "
        "paper's 256 per frame)\n"
    ) in output.out
    assert re.search(r"s to read and encode the video \([0-9.e+]+ frames a second\), ", output.out)
    assert output.err == ""


def test_an_answer_in_words_imports_little(model: Path) -> None:
    program = (
        "import sys; from dynfocus.cli import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    )
    words = ["ask", str(clip("bikes")), FIRST, SECOND, "--compare", "--model", str(model), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", program, *words], text=True, capture_output=True, check=True, cwd=ROOT)
    imported = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert {"dynfocus", "torch", "transformers"} <= imported
    assert not {"lightning", "torchmetrics", "matplotlib", "peft", "bitsandbytes", "tensorboard"} & imported


def test_json_is_one_object_of_finite_numbers_and_exact_texts(model: Path, tmp_path: Path, capsys: Capture) -> None:
    video = tmp_path / 'a"><script>\u2028 é.mp4'
    video.symlink_to(clip("bikes"))
    questions = ['</script> "quoted" \\ \u202e é 😀', FIRST]
    assert ask(model, video, *questions, "--json", "--max-new-tokens", "5") == 0
    output = capsys.readouterr()
    document = parse_json(output.out)
    answerer = Answerer(model)
    expected = [answerer.ask(video, question, 5) for question in questions]
    assert document["video"] == str(video)
    assert document["model"] == str(model)
    assert [reply["question"] for reply in document["answers"]] == questions
    assert document["frames"] == len(document["seconds"]) == 20
    assert document["tokens"] == {
        "DynFocus": budget(20, tiny.SETTINGS).visual_tokens,
        "every patch": 5120,
        "LLaMA-VID": 40,
    }
    for reply, answer in zip(document["answers"], expected, strict=True):
        assert reply.keys() == {field.name for field in fields(Answer)}
        assert {"question", "answer", "cut", "selection", "prompt_tokens", "timing", "unknown"} < reply.keys()
        assert (reply["answer"], reply["cut"]) == (answer.answer, answer.cut)
        assert reply["timing"]["reading"] >= 0
        assert reply["timing"]["answering"] > 0
        numbers = json.loads(json.dumps(asdict(answer.selection)))
        assert document["seconds"] == numbers.pop("seconds")
        assert reply["selection"] == numbers | {"visual_tokens": answer.selection.visual_tokens}
    assert document["settings"]["samples"] == tiny.SETTINGS.samples
    assert document["settings"]["frame_rule.fps"] == RULE.fps
    assert (document["settings"]["device"], document["settings"]["max_new_tokens"]) == ("cpu", 5)
    assert document["versions"] == list_versions()
    assert document["versions"]["torch"] == torch.__version__
    assert document["compare"] is document["swap"] is None
    assert output.err == ""


OTHERWISE = [
    ({"encoder": "average_pooling"}, "no frame before others"),
    ({"selector": "uniform"}, "the selector uniform"),
    ({"kept_tokens": 256}, "the paper's score net"),
]


@pytest.mark.parametrize(("baseline", "why"), OTHERWISE)
def test_models_that_choose_otherwise_are_told_too(baseline: dict, why: str, tmp_path: Path, capsys: Capture) -> None:
    settings = replace(tiny.SETTINGS, **baseline)
    folder = write_model(settings, tmp_path / "model", replace(RULE, frames=4))
    assert ask(folder, clip("bikes"), FIRST, SECOND, "--json", "--compare") == 0
    document = parse_json(capsys.readouterr().out)
    assert document["tokens"]["DynFocus"] == budget(4, settings).visual_tokens
    assert document["compare"] == document["swap"], "its name of before"
    assert document["compare"]["changes"] is False
    assert why in document["compare"]["why"]
    assert ask(folder, clip("bikes"), FIRST) == 0
    output = capsys.readouterr().out
    assert ("kept frames:   all 4 alike" in output) == ("averaged patches" in output) == ("encoder" in baseline)


def test_an_image_is_asked_as_a_video_is(model: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "one.png"
    Image.fromarray(tiny.frames(1)[0].numpy()).save(path)
    assert ask(model, path, FIRST, "--json") == 0
    document = parse_json(capsys.readouterr().out)
    assert (document["frames"], document["seconds"]) == (1, [0.0])
    assert document["answers"][0]["selection"]["kept"] == [0]


def test_an_answer_without_a_word_is_told() -> None:
    for words, line in (("", "answer:        (empty)"), ("two", "answer:        two")):
        answer = Answer("how many", words, False, Selection((0.0,), (0,), 38, 2), 50, Timing(1.0, 1.0))
        assert line in lines(answer)
        assert ("answer" in list_facts(Path("v.mp4"), Path("m"), [answer], {}).details[0]) == (not words)


def test_several_questions_share_one_reading(model: Path, capsys: Capture) -> None:
    with count_calls() as calls:
        assert ask(model, clip("bikes"), FIRST, SECOND, FIRST) == 0
    assert calls["reader"] == 1
    output = capsys.readouterr().out
    assert output.count("answer: ") == 3
    assert [line.split(maxsplit=1)[1] for line in output.splitlines() if line.startswith("question:")] == [
        *(FIRST, SECOND, FIRST)
    ]


@pytest.mark.parametrize("reads", [False, True])
def test_compare_says_what_the_question_changes(reads: bool, tmp_path: Path, capsys: Capture) -> None:
    """With the paper's score net nothing; with one that reads the question, here some frames."""
    folder = write_model(replace(tiny.SETTINGS, score_reads_question=reads), tmp_path / "model")
    questions = ["star", "how many circles are there , two ?"]
    assert ask(folder, clip("bikes"), *questions, "--compare", "--json") == 0
    document = parse_json(capsys.readouterr().out)
    kept = [set(reply["selection"]["kept"]) for reply in document["answers"]]
    assert document["compare"]["changes"] == (kept[0] != kept[1]) == reads
    assert set(document["compare"]["every"]) == kept[0] & kept[1]
    assert [set(some) for some in document["compare"]["some"]] == [kept[0] - kept[1], kept[1] - kept[0]]
    assert ask(folder, clip("bikes"), *questions, "--swap") == 0
    output = capsys.readouterr().out
    if reads:
        assert "the kept frames change with the question. The score net of this model reads the question" in output
        some = document["compare"]["some"][0][0]
        assert f"  also for 'star': {document['seconds'][some]:g} s" in output
    else:
        assert "no kept frame changes with the question. With the paper's score net none can" in output


def test_a_video_that_is_too_long_is_told_how_many_frames_fit_and_then_answered(
    tmp_path: Path, capsys: Capture
) -> None:
    """Of a trained model nothing but the frames can be changed; sketches of fewer are not those of all."""
    folder = write_model(tiny.SETTINGS, tmp_path / "model", replace(RULE, fps=None))
    args = [FIRST, "--json", "--cache", str(tmp_path / "cache")]
    assert ask(folder, clip("bikes"), *args) == 1
    output = capsys.readouterr().err
    assert output.startswith("dynfocus: the question and its video of ")
    assert "connector" not in output
    advice = re.search(r"makes it fit: frames (\d+)\.", output)
    assert advice is not None
    fits = int(advice[1])
    assert ask(folder, clip("bikes"), *args, "--frames", str(fits + 1)) == 1
    assert f"frames {fits}, " in capsys.readouterr().err
    for count in (fits, 3):
        assert ask(folder, clip("bikes"), *args, "--frames", str(count)) == 0
        document = parse_json(capsys.readouterr().out)
        seconds = read_media(clip("bikes"), replace(RULE, fps=None, frames=count)).seconds.tolist()
        assert (document["frames"], document["seconds"]) == (count, seconds)
        assert document["settings"]["frame_rule.frames"] == count


def list_mistakes(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    """What a user may get wrong, and what is said to it."""
    text, page, folder = tmp_path / "text.mp4", tmp_path / "out.html", tmp_path / "folder.html"
    drawing = tmp_path / "drawing.svg"
    text.write_text("no video\n")
    drawing.write_text("<svg/>")
    folder.mkdir()
    bikes = str(clip("bikes"))
    return {
        "no file": ([str(tmp_path / "none.mp4"), FIRST], "there is no file"),
        "an address": (["https://a.example/v.mp4", FIRST], "a web address has to be fetched first"),
        "videos": ([str(folder), FIRST], "folder.html, which is a folder. Needed: a video"),
        "a drawing": (
            [str(drawing), FIRST],
            "drawing.svg cannot be read (it is a playlist, a numbered image or another description of files",
        ),
        "a text": ([str(text), FIRST, "--report", str(page)], "cannot be read"),
        "empty": ([bikes, FIRST, " \n"], "question 2, ' \\n'"),
        "not text": ([bikes, "\udcff"], "in UTF-8"),
        "too long": ([bikes, "star " * 600, "--report", str(page)], "the question and its video of"),
        "no room": ([bikes, FIRST, "--max-new-tokens", "600"], "less 600 new tokens"),
        "no frame": ([bikes, FIRST, "--frames", "0"], "frames=0"),
        "no answer": ([bikes, FIRST, "--max-new-tokens", "0"], "at least 1"),
        "alone": ([bikes, FIRST, "--compare"], "--compare with one question"),
        "no model": ([bikes, FIRST, "--model", str(tmp_path)], "Run `make stage2` first"),
        "no folder": ([bikes, FIRST, "--report", str(tmp_path / "none" / "out.html")], "folder does not exist"),
        "a folder": ([bikes, FIRST, "--report", str(folder)], "which is a folder"),
        "not a page": ([bikes, FIRST, "--report", str(text)], "ends in .html"),
        "nowhere": ([bikes, FIRST, "--report", "/proc/out.html"], "cannot be written"),
        "long name": ([bikes, FIRST, "--report", str(tmp_path / f"{'x' * 300}.html")], "cannot be written"),
    }


CASES = (
    *("no file", "an address", "videos", "a drawing", "a text", "empty", "not text", "too long", "no room"),
    *("no frame", "no answer", "alone", "no model", "no folder", "a folder", "not a page", "nowhere", "long name"),
)


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(case: str, model: Path, tmp_path: Path, capsys: Capture) -> None:
    cases = list_mistakes(tmp_path)
    assert tuple(cases) == CASES
    args, about = cases[case]
    before = sorted(tmp_path.rglob("*"))
    complete = args if "--model" in args else [*args, "--model", str(model)]
    with count_calls() as calls:
        assert cli.main(["ask", *complete, "--json"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("dynfocus: ")
    assert output.err.count("\n") == 1
    assert about in output.err
    assert sorted(tmp_path.rglob("*")) == before
    assert calls["encoder"] == 0 or case in ("too long", "no room")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(model: Path, capsys: Capture) -> None:
    assert cli.main(["ask", str(clip("bikes")), FIRST, "--model", str(model), "--device", "cuda"]) == 1
    assert "device cuda, of which torch sees none" in capsys.readouterr().err
    assert cli.main(["ask", str(clip("bikes")), FIRST, "--model", str(model), "--device", "auto"]) == 0


@pytest.mark.gpu
def test_a_gpu_answers_as_a_cpu_does(model: Path, tmp_path: Path) -> None:
    answerers = [Answerer(model), Answerer(model, device="auto"), Answerer(model, tmp_path / "cache", device="cuda")]
    assert [one.model.device.type for one in answerers] == ["cpu", "cuda", "cuda"]
    answers = [one.ask(clip("bikes"), FIRST) for one in answerers]
    assert answers[1] == answers[2]
    assert (answers[0].answer, answers[0].selection.kept) == (answers[1].answer, answers[1].selection.kept)


def test_a_process_of_its_own_prints_json_alone(model: Path, tmp_path: Path) -> None:
    """Whatever libraries say, with a sketch to compute and a name that is no text."""
    video = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))
    video.symlink_to(clip("carphone_pristine"))
    command = [sys.executable, "-m", "dynfocus", "ask", str(video), FIRST, "--json"]
    command += ["--model", str(model), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert parse_json(done.stdout)["video"] == str(video)
    assert done.stderr == ""


def test_words_that_the_model_does_not_know_are_named(model: Path, tmp_path: Path, capsys: Capture) -> None:
    """As unknown words at a tenth of the question's or more; punctuation is no word."""
    question, page = "who is the giraffe in the red square?!", tmp_path / "page.html"
    assert ask(model, clip("bikes"), question, "--report", str(page)) == 0
    words = "unknown words: who, giraffe, in (the model's tokenizer has no token for them"
    assert words in capsys.readouterr().out
    assert words.removeprefix("unknown words: ").partition(" (")[0] in page.read_text()
    assert Answerer(model).ask(clip("bikes"), FIRST).unknown == ()
    rare = " ".join(["what color is the star"] * 4 + ["giraffe"])  # 1 of 21
    assert Answerer(model).find_unknown(rare) == ()
