"""Two real processes that differ, or of which one fails: both end soon, and say what differs or what the other said."""

import json
import os
import shutil
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest
from spawn_ranks import end, start
from tiny_world import CONFIGS, call
from training_ranks import several

from dynfocus.train import ranks

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


ONE_OF_EACH = [("ddp", "stop", 1), ("ddp", "wait", 1)]
OTHERS = [(kind, how, rank) for kind in STRATEGIES for how in ("stop", "wait") for rank in (0, 1)]
OTHERS = [pytest.param(*one, marks=pytest.mark.slow) for one in OTHERS if one not in ONE_OF_EACH]


@pytest.mark.parametrize(("kind", "how", "rank"), ONE_OF_EACH + OTHERS)
def test_a_process_that_stands_still_ends_all(
    place: Path, trained_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, how: str, rank: int
) -> None:
    """It is stopped, or waits for ever; the others name it, and it ends too unless it is stopped."""
    if how == "stop":
        monkeypatch.setattr(ranks, "SILENCE", 20.0)
    else:
        monkeypatch.setattr(ranks, "SHARE", 0.01)  # of half an hour
    still = ("--trainer.callbacks+=tiny_world.StandStill", f"--trainer.callbacks.how={how}")
    still = (*still, f"--trainer.callbacks.rank={rank}", "--trainer.max_steps", "8")
    first = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"))

    def work(own: int) -> None:
        with open(tmp_path / f"{own}.txt", "w", buffering=1) as said, redirect_stderr(said):
            os._exit(call(place, "fit", "stage2", tmp_path / "run", *first, *TWO[:4], *STRATEGIES[kind], *still))

    children = start(work, 2, 300)
    deadline = time.monotonic() + 300
    ending = [child for number, child in enumerate(children) if (how, number) != ("stop", rank)]
    while any(child.is_alive() for child in ending) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(child.is_alive() for child in ending)
    ends = end(children)
    expected = "has not answered for 20 s" if how == "stop" else "has stood still for"
    for number, code in enumerate(ends):
        if (how, number) == ("stop", rank):
            continue
        said = (tmp_path / f"{number}.txt").read_text()
        assert code == 1, said
        assert f"dynfocus: process {rank}, which {expected}" in said
