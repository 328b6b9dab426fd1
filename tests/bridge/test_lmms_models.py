"""lmms-eval's own runner asks a trained model, offline; `make lmms` installs it into cache/lmms-eval."""

import json
from pathlib import Path
from typing import Any

import pytest
from lmms_runs import read_log, read_score, run_lmms
from PIL import Image

from dynfocus.inspection.answerer import Answerer
from dynfocus.world.dataset import write_world

pytestmark = pytest.mark.slow
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function {name}.show
doc_to_text: !function {name}.ask
doc_to_messages: !function {name}.chat
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 16, do_sample: false, temperature: 0, until: ["never written"]}}
process_results: !function {name}.score
metric_list: [{{metric: word_match, aggregation: mean, higher_is_better: true}}]
"""
FUNCTIONS = """
from PIL import Image

KIND = {kind!r}


def show(row):
    return [row["file"] if KIND == "video" else Image.open(row["file"])]


def ask(row, lmms_eval_specific_kwargs=None):
    return row["question"]


def chat(row, lmms_eval_specific_kwargs=None):
    seen = {{"type": KIND, "url": show(row)[0]}}
    return [{{"role": "user", "content": [seen, {{"type": "text", "text": row["question"]}}]}}]


def score(row, results):
    return {{"word_match": float(row["word"] in results[0].split())}}
"""


def write_task(folder: Path, name: str, kind: str, rows: list[dict[str, Any]]) -> None:
    """A task of lmms-eval about videos in files, or about images in memory."""
    (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, rows=folder / f"{name}.json"))
    (folder / f"{name}.py").write_text(FUNCTIONS.format(kind=kind))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Forty questions about five videos of the world."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, videos=8, val=2, test=5, workers=0, progress=False)
    read = json.loads((folder / "test.json").read_text())
    return [
        {
            "file": str(folder / row["video"]),
            "question": one["text"],
            "answer": one["answer"],
            "word": one["meta"]["word"],
        }
        for row in read
        for one in row["questions"]
    ]


@pytest.mark.parametrize("interface", ["--force_simple", "chat"])
def test_its_runner_gives_our_own_answers(
    interface: str, folder: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """All forty, through both interfaces, and those about an image in memory; the score follows from them."""
    assert len(rows) == 40
    picture = tmp_path / "picture.png"
    Image.new("RGB", (24, 24), "red").save(picture)
    write_task(tmp_path, "videos_here", "video", rows)
    images = [dict(row, file=str(picture)) for row in rows[:3]]
    write_task(tmp_path, "images_here", "image", images)
    simple = [interface] * (interface != "chat")
    out = run_lmms(tmp_path, "dynfocus", f"pretrained={folder},device=cpu", "videos_here,images_here", *simple)
    answerer, answers = Answerer(folder), []
    for name, asked in (("videos_here", rows), ("images_here", images)):
        samples = read_log(out, name)
        exact = [answerer.ask(Path(row["file"]), row["question"]) for row in asked]
        answers += [sample["answer"] for sample in samples]
        assert answers[-len(asked) :] == [reply.answer for reply in exact]
        assert [sample["token_counts"][0]["input_tokens"] for sample in samples] == [one.prompt_tokens for one in exact]
        hits = [row["word"] in reply.answer.split() for row, reply in zip(asked, exact, strict=True)]
        assert read_score(out, name, "word_match") == pytest.approx(sum(hits) / len(hits))
    assert len(set(answers)) > 20  # equal answers to all would agree whatever was asked
