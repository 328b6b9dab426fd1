"""Two connectors in one process: `python -m perf --against`."""

import json
from pathlib import Path

import pytest
import torch

from dynfocus.budget import budget
from dynfocus.errors import ConfigError
from dynfocus.plan.connector_flops import Sizes
from dynfocus.settings import ConnectorSettings
from perf.__main__ import main
from perf.against import compare_connectors

SMALL = Sizes(width=24, text=12, out=40, question=5)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("patch_pooling:PatchPooling", 1), ("dynfocus.method.connector:AveragePooling", ConnectorSettings().pooled)],
)
def test_both_connectors_are_called_in_turn(name: str, tokens: int, tmp_path: Path) -> None:
    """``tokens`` are the other's a frame; a ratio above 1 says that the other takes longer."""
    messages: list[str] = []
    compare_connectors(name, tmp_path / "rows.jsonl", [3, 70], False, ConnectorSettings(), SMALL, messages.append)
    rows = [json.loads(text) for text in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["frames"] for row in rows] == [3, 70]
    for row in rows:
        assert row["tokens"] == budget(row["frames"], ConnectorSettings()).visual_tokens
        assert row["tokens_other"] == tokens * row["frames"]
        assert 0 < row["ratio_least"] <= row["ratio"] <= row["ratio_most"]
        assert min(row["seconds"], row["seconds_other"], row["roofline"]) > 0
    if name == "patch_pooling:PatchPooling":
        assert rows[1]["ratio"] < 0.5  # it computes next to nothing
        assert rows[1]["extra_bytes_other"] > 70 * 256 * 24 * 4  # all patches at once
    assert len(messages) == 2 + len(rows)
    assert messages[1].split()[:4] == ["T", "seconds", "other", "ratio"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:Thing", "No module"),
        ("patch_pooling:Absent", "no attribute"),
        ("patch_pooling", "--against patch_pooling"),
        ("json:loads", "no class of torch modules"),
        ("patch_pooling:Unmade", "fails .TypeError"),
        ("torch.nn:Identity", "fails"),
    ],
)
def test_what_is_no_connector_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        compare_connectors(name, tmp_path / "rows.jsonl", [2], True, ConnectorSettings(), SMALL)
    assert not (tmp_path / "rows.jsonl").exists()


def test_the_command_line_reads_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert main(["--against", "no_such_module:Thing"]) == 1
    assert "package.module:Class" in capsys.readouterr().err
    assert torch.get_num_threads() == threads
