"""lmms-eval's own runner asks a trained model, offline; `make slow` installs it into cache/lmms-eval."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dynfocus.inspection.answerer import Answerer
from dynfocus.world.dataset import write_world

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "cache" / "lmms-eval"
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
    assert (PACKAGES / "lmms_eval").is_dir(), "lmms-eval is not installed: `make slow` puts it into cache/lmms-eval"
    assert len(rows) == 40
    picture = tmp_path / "picture.png"
    Image.new("RGB", (24, 24), "red").save(picture)
    write_task(tmp_path, "videos_here", "video", rows)
    images = [dict(row, file=str(picture)) for row in rows[:3]]
    write_task(tmp_path, "images_here", "image", images)
    command = [
        *(sys.executable, "-m", "lmms_eval", "--model", "dynfocus", "--model_args", f"pretrained={folder},device=cpu"),
        *("--tasks", "videos_here,images_here", "--include_path", str(tmp_path), "--batch_size", "1"),
        *("--log_samples", "--output_path", str(tmp_path / "out"), *[interface] * (interface != "chat")),
    ]
    places = {"PYTHONPATH": f"{PACKAGES}:{ROOT}", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    answerer, answers = Answerer(folder), []
    for name, asked in (("videos_here", rows), ("images_here", images)):
        log = next((tmp_path / "out").rglob(f"*samples_{name}.jsonl")).read_text().splitlines()
        samples = sorted((json.loads(line) for line in log), key=lambda sample: sample["doc_id"])
        exact = [answerer.ask(Path(row["file"]), row["question"]) for row in asked]
        given = [sample["filtered_resps"] for sample in samples]
        answers += [one if isinstance(one, str) else one[0] for one in given]
        assert answers[-len(asked) :] == [reply.answer for reply in exact]
        assert [sample["token_counts"][0]["input_tokens"] for sample in samples] == [one.prompt_tokens for one in exact]
        hits = [row["word"] in reply.answer.split() for row, reply in zip(asked, exact, strict=True)]
        results = json.loads(next((tmp_path / "out").rglob("*results.json")).read_text())["results"]
        assert results[name]["word_match,none"] == pytest.approx(sum(hits) / len(hits))
    assert len(set(answers)) > 20  # equal answers to all would agree whatever was asked
