"""Answers as text and settings beside scores, as TensorBoard holds them."""

import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tiny
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from observed_runs import events, render_markdown, tags
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.hparams import metadata
from torch.utils.data import DataLoader
from training_ranks import NOISY, StepData, several, strategy

from callbacks.answers import Answers, flatten_settings, format_table
from callbacks.predictions import Predictions
from dynfocus.errors import ConfigError
from dynfocus.evals.benchmarks.world import WORLD
from dynfocus.records.commit import read_commit
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction, Verdict
from dynfocus.train.fit import EXPECTED
from dynfocus.train.module import DynFocusModule

RIGHT = Verdict("0", "learned", "rules", {"correct": 1.0}, "red")


class Cells(HTMLParser):
    """The text of a page's table cells, and the names of all its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.add(tag)
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


HOSTILE = (
    "a | b \\| c",
    "<script>alert(1)</script> <img src=x>",
    "**bold** _thin_ `code` ~~no~~ # head",
    "[link](http://x.y) ![i](z) <image> &lt; &#124;",
    "two\nlines\r\n\tand | a tab",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_shows_text_letter_by_letter(text: str) -> None:
    """As TensorBoard's own Markdown makes it."""
    one = Prediction("0", text, "learned", text, text, text, "color", (3, 5), 1.0, 85)
    other = replace(one, answer="", kept=()), replace(RIGHT, scores={"correct": 0.0})
    page = Cells(render_markdown(format_table([(one, RIGHT), other])))
    line = " ".join(text.split())
    rows = [page.cells[start : start + 5] for start in range(0, len(page.cells), 5)]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells == [
        [line, f"right: {line}", line, "3, 5", line],
        [line, "wrong: (nothing)", line, "none", line],
    ]
    assert page.names <= {"table", "thead", "tbody", "tr", "th", "td", "strong"}


def test_long_text_is_cut() -> None:
    one = Prediction("0", "v", "learned", "why " * 100, "a", "a", "color", (), None, 85)
    assert len(Cells(render_markdown(format_table([(one, RIGHT)]))).cells[0].strip()) == 200


def test_the_text_is_a_sample_of_the_predictions(observed_run: Path, accumulator: Any) -> None:
    assert tags(accumulator, "tensors", "answers/") == [
        f"answers/{phase}/samples/text_summary" for phase in ("test", "val")
    ]
    assert [one.step for one in accumulator.Tensors("answers/val/samples/text_summary")] == [6, 12]
    [shown] = accumulator.Tensors("answers/test/samples/text_summary")
    lines = shown.tensor_proto.string_val[0].decode().splitlines()[2:]
    predictions = [one for one in read_jsonl(observed_run / "predictions.jsonl", Prediction) if one.arm == "learned"]
    expected = format_table(WORLD.judge(predictions)).splitlines()[2:]
    places = [expected.index(line) for line in lines]
    assert len(lines) == 8 < len(predictions)
    assert places == sorted(places)
    assert len({one.video for one in (predictions[place] for place in places)}) == 2


def test_an_answer_that_was_cut_off_is_marked() -> None:
    one = Prediction("0", "v", "learned", "why", "a b", "a", "color", (), None, 85, cut=True)
    cells = Cells(render_markdown(format_table([(one, RIGHT), (replace(one, cut=False), RIGHT)]))).cells
    assert [cells[1].strip(), cells[6].strip()] == ["right: a b (cut off)", "right: a b"]


def test_a_layout_shows_loss_hit_rate_and_tokens_first(accumulator: Any) -> None:
    [config] = accumulator.Tensors(custom_scalars.CONFIG_SUMMARY_TAG)
    layout = layout_pb2.Layout()
    layout.ParseFromString(config.tensor_proto.string_val[0])
    [category] = layout.category
    assert [chart.title for chart in category.chart][:3] == ["loss", "hit rate", "tokens"]
    known = accumulator.Tags()["scalars"]
    for chart, expected in ((0, ["train/loss"]), (3, ["val/balanced", "val/detail", "val/temporal"])):
        patterns = category.chart[chart].multiline.tag
        assert sorted(tag for tag in known if any(re.match(one, tag) for one in patterns)) == expected


def test_settings_stand_beside_the_last_scores(observed_run: Path, accumulator: Any) -> None:
    plugins = accumulator.summary_metadata
    session = metadata.parse_session_start_info_plugin_data(
        plugins[metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    assert session.hparams["connector/events"].number_value == 5
    assert session.hparams["stage"].string_value == "stage2"
    assert session.hparams["data/batch_size"].number_value == 4
    declared = metadata.parse_experiment_plugin_data(plugins[metadata.EXPERIMENT_TAG].plugin_data.content).metric_infos
    scores = {one.name.tag for one in declared}
    assert set(tags(accumulator, "scalars", "final/")) == scores
    assert len(scores) == 9
    final = {name: [one.value for one in accumulator.Scalars(name)] for name in scores}
    metrics = json.loads((observed_run / "metrics.json").read_text())
    values = {name: column["value"] for name, column in metrics["columns"].items()}
    for name, value in (values | {"hit_rate": metrics["hit_rate"]}).items():
        if f"final/test/{name}" in final:
            assert final.pop(f"final/test/{name}") == [pytest.approx(value)]
    for name in ("balanced", "detail", "temporal", "hit_rate"):
        assert final.pop(f"final/val/{name}") == [accumulator.Scalars(f"val/{name}")[-1].value]
    assert list(final) == ["final/train/loss"]
    assert len(final["final/train/loss"]) == 1


def test_settings_are_told_by_their_paths() -> None:
    settings = flatten_settings({"a": {"b": 1, "c": None, "d": {"e": [1, 2]}}, "f": True, "g": 0.5})
    assert settings == {"a/b": 1, "a/d/e": "[1, 2]", "f": "True", "g": 0.5}


def test_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="rows = 0"):
        Answers(0)


class DataToTest(StepData):
    def test_dataloader(self) -> DataLoader | list:
        return self.val_dataloader()


def test_scores_are_those_of_all_processes(towers: Path, tmp_path: Path) -> None:
    """Three rows on two processes, whose answers are right as often as not."""
    val_rows = [tiny.example(n, 4 + n, NOISY, segments=((n,),)) for n in range(3)]

    def work(rank: int) -> None:
        for message in EXPECTED:
            warnings.filterwarnings("ignore", message)
        module = DynFocusModule(towers / "encoders", towers / "language", NOISY, max_new_tokens=3)
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy=strategy("ddp"),
            callbacks=[Answers(), Predictions()],
            logger=TensorBoardLogger(tmp_path, name="", version="tensorboard", default_hp_metric=False),
            default_root_dir=tmp_path,
            use_distributed_sampler=False,
            enable_progress_bar=False,
        )
        trainer.test(module, DataToTest([], NOISY, 1, val_rows))

    several(work)
    metrics, accumulator = json.loads((tmp_path / "metrics.json").read_text()), events(tmp_path)
    assert metrics["n"] == 3
    assert accumulator.Scalars("final/test/hit_rate")[0].value == pytest.approx(metrics["hit_rate"])
    own = [one.hit for one in read_jsonl(tmp_path / "predictions.jsonl", Prediction)]
    assert len(set(own)) > 1


def test_a_test_needs_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(read_commit()) == 40 or read_commit() == "unknown"
    monkeypatch.setenv("PATH", "")
    assert read_commit() == "unknown"
