"""A model's card says what its run's own files say, and nothing that they do not."""

import json
import re
from pathlib import Path

import pytest
import tiny
from huggingface_hub import ModelCard

from dynfocus.budget import budget
from dynfocus.cli import main
from dynfocus.models.model_card import Training, read_training, write_card


def read_tables(card: str) -> list[list[str]]:
    rows = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_training_writes_a_card_without_numbers(trained_runs: Path) -> None:
    """The test comes later; the run's numbers are not those of the folder as it was written."""
    card = ModelCard.load(trained_runs / "stage2" / "model" / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "image-text-to-text"
    assert card.data.license is None
    assert "* stage: `stage2`, seed 0, 1 epochs, learning rate 0.002, precision 32-true" in card.text
    assert "* data: WorldDataModule" in card.text
    assert "* language model: language" in card.text
    assert "None: the model was not tested when this card was written." in card.text
    assert "language: its folder does not say" in card.text
    assert str(trained_runs.parent) not in card.text  # no path of this machine
    assert str(budget(32, tiny.SETTINGS).visual_tokens) in card.text


def test_export_writes_every_number_with_what_it_rests_on(trained_runs: Path, tmp_path: Path) -> None:
    run = trained_runs / "stage2"
    metrics = json.loads((run / "metrics.json").read_text())
    assert main(["export", str(run / "model"), str(tmp_path / "out"), "--license", "cc-by-4.0"]) == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert f"on {metrics['n']} questions of the benchmark `world`, seed 0" in card.text
    head, _, *rows = read_tables(card.text)
    assert {row[0]: row for row in rows}.keys() == metrics["arms"].keys()
    for row in rows:
        arm = metrics["arms"][row[0]]
        for name, cell in list(zip(head, row, strict=True))[1:-2]:
            value, low, high, count = map(float, re.findall(r"[\d.]+", cell))
            column = arm["columns"][name]
            exact = [column["value"], *column["interval"], column["n"]]
            assert [value, low, high, count] == pytest.approx(exact, abs=6e-4)
        assert float(row[-1]) == round(arm["visual_tokens"])
    assert "nothing about real videos" in card.text


def test_licences_come_from_the_folders_of_the_parts(tmp_path: Path) -> None:
    for name, text in {"own": None, "published": "---\nlicense: llama2\n---\n# A model", "bare": "# A model"}.items():
        (tmp_path / name).mkdir()
        file = tmp_path / name / ("tower.json" if text is None else "README.md")
        file.write_text(text or "{}")
    parts = {name: str(tmp_path / name) for name in ("own", "published", "bare")}
    model = dict(zip(("encoders", "language_model", "vision"), parts.values(), strict=True))
    write_card(tmp_path, Training({"model": model}), tiny.SETTINGS)
    text = (tmp_path / "README.md").read_text()
    assert "own: trained by this project on its own rendered world, Apache-2.0" in text
    assert "published: llama2" in text
    assert "bare: its folder does not say" in text
    assert "No licence of the weights was stated" in text


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    write_card(tmp_path, read_training(tmp_path), tiny.SETTINGS)
    assert "Not known: no `config.yaml` of a run" in (tmp_path / "README.md").read_text()
    (tmp_path / "config.yaml").write_text("colour: red\n")
    assert read_training(tmp_path) == Training()
