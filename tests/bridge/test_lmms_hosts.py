"""lmms-eval's own Video-MME task is answered by a host and a selector, in its runner and through `dynfocus serve`."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tiny_hosts
from lmms_runs import PACKAGES, RUNNER, read_log, read_score, run_lmms, run_process
from PIL import Image
from serving import KEY, Served, start

from dynfocus import cli
from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule
from dynfocus.evals.benchmarks.videomme import FILE, VIDEOMME
from dynfocus.evals.rules import make_choice, strip_letters
from dynfocus.settings import read_choice
from dynfocus.world.dataset import write_world

pytestmark = pytest.mark.slow
COLORS = ("red", "blue", "green", "yellow", "purple", "orange", "cyan", "white")
SELECTOR = '{"class_path": "mmr", "init_args": {"balance": 0.2}}'
RULE = {"keep": 3, "rods": 1, "frames": 10}
OTHER = '{"class_path": "mmr", "init_args": {"balance": 0.9}}'
THEIRS = """
include: {packages}/lmms_eval/tasks/videomme/videomme.yaml
task: videomme_here
dataset_path: parquet
dataset_kwargs: {{data_files: {{test: {rows}}}}}
"""
OURS = "include: videomme_here.yaml\ntask: videomme_ours\ndoc_to_text: !function videomme_ours.ask\n"
ASK = """
from dynfocus.evals.benchmarks.videomme import VIDEOMME
from dynfocus.evals.rules import make_choice, strip_letters


def ask(row, lmms_eval_specific_kwargs=None):
    return VIDEOMME.prompt(make_choice(row["question"], strip_letters(row["options"]), row["answer"]), [])
"""


@dataclass
class Place:
    """A folder that is lmms-eval's HF_HOME and the ROOT of our benchmark, the rows of its file, and a host."""

    home: Path
    rows: list[dict[str, Any]]
    host: Path

    def video(self, row: dict[str, Any]) -> Path:
        return self.home / "videomme" / "data" / f"{row['videoID']}.mp4"


def write_rows(home: Path) -> list[dict[str, Any]]:
    """Two questions about each of five videos of the world, in the form of the published file, and the videos."""
    write_world(home / "world", videos=8, val=2, test=5, workers=0, progress=False)
    colors = {}
    for row in json.loads((home / "world" / "test.json").read_text()):
        if row["questions"][0]["text"].startswith("what color"):
            colors.setdefault(row["video"], row["questions"][0])
    rows = []
    (home / "videomme" / "data").mkdir(parents=True)
    for number, (video, one) in enumerate(colors.items()):
        shutil.copy(home / "world" / video, home / "videomme" / "data" / f"made_{number}.mp4")
        word = one["meta"]["word"]
        for part in range(2):
            words = [word, *(color for color in COLORS if color != word)][:4]
            place = (2 * number + 3 * part) % 4
            words = words[4 - place :] + words[: 4 - place]
            rows.append(
                {
                    **{"video_id": f"{number + 1:03}", "duration": ("short", "medium", "long")[number % 3]},
                    **{"domain": "Knowledge", "sub_category": "Technology", "url": "", "videoID": f"made_{number}"},
                    **{"question_id": f"{number + 1:03}-{part + 1}", "task_type": "Attribute Perception"},
                    **{"question": one["text"], "answer": "ABCD"[place]},
                    "options": [f"{letter}. {text}." for letter, text in zip("ABCD", words, strict=True)],
                }
            )
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), home / FILE)
    return rows


def ask_as_ours(row: dict[str, Any]) -> str:
    return VIDEOMME.prompt(make_choice(row["question"], strip_letters(row["options"]), row["answer"]), [])


def ask_as_theirs(row: dict[str, Any]) -> str:
    """Near enough to its prompt to find what its prompts share."""
    return "\n".join([f"Select a letter. {row['question']}", *row["options"], "Answer with the letter."])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("home")
    rows, host = write_rows(home), tiny_hosts.save("qwen3_vl", home / "host")
    assert (len(rows), len({row["videoID"] for row in rows})) == (10, 5)
    made = Place(home, rows, host)
    answerer = HostAnswerer(host, None, HostRule(**RULE), remembered=5)
    prompts = [[(made.video(row), ask(row)) for row in rows] for ask in (ask_as_ours, ask_as_theirs)]
    tiny_hosts.teach_letters(answerer.host, lambda asked: answerer.ask(*asked, 1), prompts)
    answerer.host.model.save_pretrained(host)
    (home / "videomme_here.yaml").write_text(THEIRS.format(packages=PACKAGES, rows=home / FILE))
    (home / "videomme_ours.yaml").write_text(OURS)
    (home / "videomme_ours.py").write_text(ASK)
    return made


@pytest.fixture(scope="module")
def run(place: Place) -> Path:
    """What its runner wrote where the host and the selector answered: the task with its own prompt, and with ours."""
    words = [f"host={place.host},device=cpu,selector={SELECTOR}", *(f"{name}={value}" for name, value in RULE.items())]
    tasks = "videomme_here,videomme_ours"
    one = ["--gen_kwargs", "max_new_tokens=1"]
    return run_lmms(place.home, "dynfocus", ",".join(words), tasks, *one, "--force_simple", runner=[str(RUNNER)])


def test_its_video_mme_gives_our_own_answers_and_scores(place: Place, run: Path, tmp_path: Path) -> None:
    """With its own prompt as the same host answers that prompt; with ours as `evaluate --host` does, score and all."""
    answerer = HostAnswerer(place.host, read_choice(SELECTOR), HostRule(**RULE))
    theirs, ours = read_log(run, "videomme_here"), read_log(run, "videomme_ours")
    exact = [answerer.ask(place.video(row), one["input"], 1) for row, one in zip(place.rows, theirs, strict=True)]
    assert all(row["question"] in one["input"] for row, one in zip(place.rows, theirs, strict=True))
    assert theirs[0]["input"] != ours[0]["input"] == ask_as_ours(place.rows[0])
    assert [one["answer"] for one in theirs] == [reply.answer for reply in exact]
    assert [one["token_counts"][0]["input_tokens"] for one in theirs] == [reply.prompt_tokens for reply in exact]
    root, shown = [str(place.home), "--out", str(tmp_path / "ours")], ["--keep", "3", "--rods", "1", "--frames", "10"]
    words = ["evaluate", "videomme", *root, "--host", str(place.host), *shown, "--max-new-tokens", "1"]
    assert cli.main([*words, "--arms", SELECTOR, OTHER]) == 0
    answers = [json.loads(line) for line in (tmp_path / "ours" / "predictions.jsonl").read_text().splitlines()]
    arms = [[one["answer"] for one in answers if f"balance={balance}" in one["arm"]] for balance in (0.2, 0.9)]
    assert [one["answer"] for one in ours] == arms[0]
    assert arms[0] != arms[1]  # the answers hang on the frames
    assert len(set(arms[0])) > 2
    metrics = json.loads((tmp_path / "ours" / "metrics.json").read_text())
    score = next(iter(metrics["arms"].values()))["columns"]["Overall"]["value"]
    assert read_score(run, "videomme_ours", "videomme_perception_score") == pytest.approx(score)
    log = next(run.rglob("*samples_videomme_here.jsonl"))
    assert cli.main(["read-samples", str(log), "videomme", str(place.home), "--out", str(tmp_path / "theirs")]) == 0
    score = json.loads((tmp_path / "theirs" / "metrics.json").read_text())["columns"]["Overall"]["value"]
    assert read_score(run, "videomme_here", "videomme_perception_score") == pytest.approx(score)


def ask_directly(served: Served, parts: list[dict[str, Any]], question: str, tokens: int) -> Any:
    content = [*parts, {"type": "text", "text": question}]
    with served.client() as client:
        messages: Any = [{"role": "user", "content": content}]
        return client.chat.completions.create(model="dynfocus", messages=messages, max_tokens=tokens)


def decode_evenly(video: Path, count: int) -> list[dict[str, Any]]:
    """A video's frames as its client sends them, decoded by the same library."""
    import decord

    reader = decord.VideoReader(str(video))
    parts = []
    for frame in reader.get_batch(np.linspace(0, len(reader) - 1, count, dtype=int).tolist()).asnumpy():
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, format="PNG")
        address = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
        parts.append({"type": "image_url", "image_url": {"url": address}})
    return parts


@pytest.fixture(scope="module")
def served(place: Place) -> Iterator[Served]:
    words = ["--selector", "mmr", "--media", str(place.home), *(f"--{name}={value}" for name, value in RULE.items())]
    with start(place.host, *words, model="--host", runs=place.home / "runs.txt") as server:
        yield server


@pytest.mark.parametrize("interface", ["--force_simple", "chat"])
def test_its_client_of_openai_gets_what_the_server_says(interface: str, place: Place, served: Served) -> None:
    """Frames that it decodes itself, and addresses of videos: both as when the server is asked directly."""
    words = f"model_version=dynfocus,base_url={served.url},api_key={KEY},max_frames_num=6,max_retries=1"
    options = ["--gen_kwargs", "max_new_tokens=1", "--limit", "4"]
    options += [interface] if interface != "chat" else []
    words += ",pass_video_url=True" if interface == "chat" else ""
    samples = read_log(run_lmms(place.home, "openai", words, "videomme_here", *options), "videomme_here")
    assert len(samples) == 4
    for row, sample in zip(place.rows, samples, strict=False):
        video = place.video(row)
        named = [{"type": "video_url", "video_url": {"url": f"file://{video}"}}]
        parts = named if interface == "chat" else decode_evenly(video, 6)
        reply = ask_directly(served, parts, sample["input"], 1)
        assert reply.dynfocus["frames"] == (10 if interface == "chat" else 6)
        assert sample["answer"] == reply.choices[0].message.content in "ABCD"
        assert sample["token_counts"][0]["input_tokens"] == reply.usage.prompt_tokens


WRONG = {
    "a folder of no kind": ({}, "pretrained=FOLDER or host=FOLDER"),
    "two models": ({"host": "here", "pretrained": "there"}, "pretrained in model_args with host"),
    "a setting of a host": ({"pretrained": "there", "keep": 4}, "keep in model_args without host"),
    "a selector of a host": (
        {"pretrained": "there", "selector": "mmr"},
        "selector in model_args without host",
    ),
    "a name that is wrong": ({"host": "here", "selctor": "mmr"}, "selctor in model_args with host"),
    "no whole number": ({"host": "here", "keep": 2.5}, "keep=2.5 in model_args"),
    "no number": ({"host": "here", "frames": "many"}, "frames=many in model_args"),
    "rods of no grid": ({"host": "here", "rods": 3}, "one of 0, 1, 2, 4"),
    "another pair": ({"host": "here", "pair": "last"}, "--pair last"),
    "no selector": ({"host": "here", "selector": "mmmr"}, "one of dpe"),
    "no setting": ({"host": "here", "selector": SELECTOR.replace("balance", "weight")}, "balance"),
    "no JSON": ({"host": "here", "selector": SELECTOR[:-1]}, "class_path"),
    "no trained model": ({"pretrained": "here"}, "trained model"),
}
TRY = """
import json, sys
from dynfocus.bridge.lmms_models import LmmsModel
from dynfocus.errors import DynFocusError
for arguments in json.loads(sys.argv[1]):
    try:
        LmmsModel(**arguments)
    except DynFocusError as error:
        print("refused: " + str(error).replace(chr(10), " "))
"""


def test_wrong_arguments_are_refused_in_a_sentence(place: Place) -> None:
    """In one process for all, as its parts are slow to import."""
    given = [one | ({"host": str(place.host)} if "host" in one else {}) for one, _ in WRONG.values()]
    script = place.home / "tried.py"
    script.write_text(f"from torchvision_beside_torch import import_torchvision\nimport_torchvision()\n{TRY}")
    said = [
        line for line in run_process([str(script), json.dumps(given)], place.home).splitlines() if "refused" in line
    ]
    for name, (_, part), line in zip(WRONG, WRONG.values(), said, strict=True):
        assert part in line, name
