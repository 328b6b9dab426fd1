"""Two real processes that differ, or of which one fails: both end soon, and say what differs or what the other said."""

import json
import shutil
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest
from tiny_world import CONFIGS, call
from training_ranks import several

TWO = ("--trainer.devices", "2", "--data.init_args.batch_size", "2", "--trainer.max_steps", "2")
STRATEGIES = {
    "ddp": ("--trainer.strategy", "ddp"),
    "sharded": ("--config", str(CONFIGS / "fsdp.yaml"), "--trainer.precision", "32-true"),
}
BOTH = [pytest.param("ddp"), pytest.param("sharded", marks=pytest.mark.slow)]


def train_apart(place: Path, trained_runs: Path, run: Path, kind: str, *second: str) -> list[str]:
    """Train in two processes, the second one with more settings; returns the last line that each of them says."""
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"))

    def work(rank: int) -> str:
        with redirect_stderr(StringIO()) as said:
            own = second if rank else ()
            assert call(place, "fit", "stage2", run, *start, *TWO, *STRATEGIES[kind], *own) == 1
        return said.getvalue().splitlines()[-1]

    return several(work, 2, 150)  # torch waits for half an hour


@pytest.fixture
def fewer_rows(place: Path, tmp_path: Path) -> Path:
    """The data with a third of the training rows left out."""
    data = shutil.copytree(place / "data", tmp_path / "data")
    rows = json.loads((data / "stage2.json").read_text())
    (data / "stage2.json").write_text(json.dumps(rows[: len(rows) * 2 // 3]))
    return data


@pytest.mark.parametrize("kind", BOTH)
def test_other_rows_are_refused(place: Path, trained_runs: Path, tmp_path: Path, fewer_rows: Path, kind: str) -> None:
    said = train_apart(place, trained_runs, tmp_path / "run", kind, "--data.init_args.root", str(fewer_rows))
    assert said[0] == said[1]
    assert "processes of one run that differ in training rows (" in said[0]
    assert "the train file stage2.json (" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", STRATEGIES)
@pytest.mark.parametrize(
    ("name", "values"), [("seed_everything", ("0", "7")), ("model.lr", ("0.002", "0.5"))], ids=["seed", "setting"]
)
def test_other_settings_are_refused(
    place: Path, trained_runs: Path, tmp_path: Path, kind: str, name: str, values: tuple[str, str]
) -> None:
    said = train_apart(place, trained_runs, tmp_path / "run", kind, f"--{name}", values[1])
    assert said[0] == said[1]
    assert f"{name} ({values[0]} in process 0, {values[1]} in process 1)" in said[0]


@pytest.mark.parametrize("kind", BOTH)
def test_a_folder_that_one_process_misses_ends_both(place: Path, trained_runs: Path, tmp_path: Path, kind: str) -> None:
    nowhere = tmp_path / "nowhere"
    said = train_apart(place, trained_runs, tmp_path / "run", kind, "--data.init_args.root", str(nowhere))
    own = said[1].removeprefix("dynfocus: ")
    assert str(nowhere) in own
    assert said[0].startswith(f"dynfocus: process 1, which failed ({own.rstrip('.')})")
    assert not (tmp_path / "run").exists()
