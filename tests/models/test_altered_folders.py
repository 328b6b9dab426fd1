"""Altered folders of models end in a named error or in the same answer, within bounds of memory and time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from ask_runs import write_model

from dynfocus.errors import CheckpointError
from dynfocus.models.towers import check_files, load_language_model, load_tokenizer

SUPPORT = Path(__file__).parents[1] / "support" / "alterations.py"
MAY_ANSWER_OTHERWISE = ("has other bits", ": connector.", ": frame_rule", ": prompt", ": system_prompt")


def test_no_alteration_ends_in_a_traceback_or_never(video: Path, tmp_path: Path) -> None:
    model = write_model(tiny.SETTINGS, tmp_path / "model")
    command = [sys.executable, str(SUPPORT), str(model), str(video), str(tmp_path)]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    (_, _, answer), *results = map(json.loads, done.stdout.splitlines())
    assert len(results) >= 60
    failures = {name: text for name, kind, text in results if kind == "traceback"}
    assert failures == {}
    named = {name: text for name, kind, text in results if kind == "named"}
    assert all("\n" not in text and len(text) < 900 for text in named.values()), named
    for name in (
        "a billion layers",
        "many tokens",
        "an index of ../outside.safetensors",
        "an index of /dev/zero",
        "frames of a huge size",
    ):
        assert name in named
    others = {name: text for name, kind, text in results if kind == "answer" and text != answer}
    assert [name for name in others if not any(part in name for part in MAY_ANSWER_OTHERWISE)] == []
    assert any(kind == "answer" for _, kind, _ in results)


def test_a_file_of_another_owner_is_said_to_be_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, language = tiny.towers(tmp_path)
    weights = language / "model.safetensors"
    weights.chmod(0o600)
    may_read = os.access
    monkeypatch.setattr(os, "access", lambda file, way: Path(file) != weights and may_read(file, way))  # root reads all
    with pytest.raises(CheckpointError, match=r"only user \d+ may read \(mode 600\).*chmod a\+r"):
        load_language_model(language)


def test_the_cache_of_hugging_face_is_no_way_out(tmp_path: Path) -> None:
    """Its snapshots are links to files of the same checkpoint beside them; others are not."""
    _, language = tiny.towers(tmp_path / "towers")
    snapshot, blobs = tmp_path / "models--a" / "snapshots" / "1f", tmp_path / "models--a" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    for number, file in enumerate(sorted(language.iterdir())):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert len(load_tokenizer(snapshot)) > 0
    load_language_model(snapshot)
    (snapshot / "extra.json").symlink_to(tmp_path / "towers")
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        check_files(snapshot)
