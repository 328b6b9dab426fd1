"""Runs that know when they are finished: on a miniature world, through the real command line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_world import CONFIGS, ROOT, arguments, call

from dynfocus.train.finished import (
    LARGE,
    RECORD,
    digest,
    find_finished_run,
    find_run_folder,
    format_results_page,
    is_first_process,
    read_record,
    read_request,
)

BRIEF = ("--trainer.max_steps", "2", "--trainer.limit_val_batches", "0")


@pytest.fixture(scope="module")
def towers(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towers of this file's own, which its tests change."""
    return Path(shutil.copytree(place / "towers", tmp_path_factory.mktemp("changing") / "towers"))


@pytest.fixture
def fit(place: Path, trained_runs: Path, towers: Path, tmp_path: Path) -> Callable[..., int]:
    """Train stage 2 for two steps into one folder, with more settings."""

    def run(*more: str, verb: str = "fit") -> int:
        own = ("--model.encoders", str(towers / "encoders"), "--model.language_model", str(towers / "language"))
        start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors")) if verb == "fit" else ()
        return call(place, verb, "stage2", tmp_path / "run", *own, *BRIEF, *start, *more)

    return run


def runs(folder: Path) -> list[str]:
    """The run and those that were moved aside."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_a_finished_run_is_not_repeated(
    fit: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit() == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert fit() == 0
    output = capsys.readouterr()
    assert "run is trained with these settings already" in output.out
    assert len(output.out.splitlines()) == 1
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert runs(tmp_path) == ["run"]


def test_other_words_for_the_same_settings_are_the_same_run(
    fit: Callable[..., int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit("--trainer.max_epochs", "1") == 0
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        assert fit("--trainer.max_epochs=1") == 0  # it is known when all settings are resolved
    assert "is trained with these settings already" in caplog.text
    record = read_record(tmp_path / "run", "fit")
    assert record is not None
    assert record.args[-1] == "--trainer.max_epochs=1"
    assert runs(tmp_path) == ["run"]


@pytest.mark.parametrize("change", ["setting", "config", "tower", "start", "annotations", "result", "again"])
def test_whatever_changes_trains_anew_and_moves_the_run_aside(
    change: str, fit: Callable[..., int], place: Path, trained_runs: Path, towers: Path, tmp_path: Path
) -> None:
    overlay, start = tmp_path / "mine.yaml", tmp_path / "start.safetensors"
    overlay.write_text("model: {lr: 0.001}\n")
    shutil.copy(trained_runs / "stage1" / "projectors.safetensors", start)
    data = Path(shutil.copytree(place / "data", tmp_path / "data", copy_function=os.link))
    more = ("--config", str(overlay), "--model.init_from", str(start), "--data.init_args.root", str(data))
    more += ("--data.init_args.sketch_cache", "null")
    assert fit(*more) == 0
    assert fit(*more) == 0
    assert [name for name in runs(tmp_path) if name != "data"] == ["run"]
    if change == "setting":
        more += ("--seed_everything", "1")
    elif change == "config":
        overlay.write_text("model: {lr: 0.002}\n")
    elif change == "tower":
        (towers / "language" / "note.txt").write_text(str(os.urandom(8)))
    elif change == "start":
        shutil.copy(trained_runs / "stage2" / "model" / "model.safetensors", tmp_path / "other.safetensors")
        start.write_bytes(other_projectors(start))
    elif change == "annotations":
        text = (data / "stage2.json").read_text()
        (data / "stage2.json").unlink()  # it is linked
        (data / "stage2.json").write_text(text + "\n")
    elif change == "result":
        shutil.rmtree(tmp_path / "run" / "model")
    else:
        more += ("--again",)
    assert fit(*more) == 0
    assert [name for name in runs(tmp_path) if name != "data"] == ["run", "run.1"]
    assert (tmp_path / "run" / "model" / "config.json").exists()


def other_projectors(file: Path) -> bytes:
    """The same projectors with one number changed."""
    from safetensors.torch import load, save

    tensors = load(file.read_bytes())
    next(iter(tensors.values())).view(-1)[0] += 1
    return save(tensors)


def test_a_test_is_done_once_for_a_model(
    fit: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit() == 0
    capsys.readouterr()
    assert fit(verb="test") == 0
    first = capsys.readouterr().out
    metrics = tmp_path / "run" / "metrics.json"
    written_at = metrics.stat().st_mtime_ns
    assert fit(verb="test") == 0
    again = capsys.readouterr().out
    assert metrics.stat().st_mtime_ns == written_at
    assert again.strip()
    assert again in first
    assert "16 questions, seed 0" in again
    model = tmp_path / "run" / "model" / "model.safetensors"
    model.write_bytes(other_projectors(model))
    assert fit(verb="test") == 0
    assert metrics.stat().st_mtime_ns > written_at
    assert set(json.loads((tmp_path / "run" / RECORD).read_text())) == {"fit", "test"}


def test_what_to_try_next_is_there_to_be_tried(trained_runs: Path) -> None:
    lines = format_results_page(trained_runs / "stage2").splitlines()
    command = next(line for line in lines if " ask " in line)
    assert Path(command.split()[2]).is_file()
    assert command.endswith(f"--model {trained_runs / 'stage2' / 'model'}")
    assert f"the model is in {trained_runs / 'stage2' / 'model'}; what to try next:" in lines
    assert format_results_page(trained_runs / "stage1") == ""


def test_nothing_heavy_is_read_to_know_it(place: Path, trained_runs: Path) -> None:
    record = read_record(trained_runs / "stage2", "test")
    assert record is not None
    code = "import sys; from dynfocus.cli import main; code = main(sys.argv[1:]); "
    code += "sys.exit(code or bool({'torch', 'lightning', 'numpy', 'transformers'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, "test", *record.args], cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "questions, seed 0" in done.stdout


def test_the_folder_is_known_from_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = ["--config", str(CONFIGS / "stage2.yaml"), f"--config={CONFIGS / 'world.yaml'}"]
    assert find_run_folder(pair) == Path("runs/world/stage2")
    assert find_run_folder(pair[:2]) == Path("runs/stage2")
    assert find_run_folder([*pair, "--model.stage", "posttune"]) == Path("runs/world/posttune")
    assert find_run_folder([*pair, "--trainer.default_root_dir=mine"]) == Path("mine")
    assert find_run_folder(["--config", "nowhere.yaml"]) is None
    assert find_run_folder(["--model.lr", "1"]) is None
    assert find_run_folder(["-c", str(CONFIGS / "stage1.yaml")]) == Path("runs/stage1")
    (tmp_path / "mine.yaml").write_text("trainer: {default_root_dir: '${oc.env:PLACE}/run'}\n")
    assert find_run_folder(["--config", str(tmp_path / "mine.yaml")]) is None
    monkeypatch.setenv("PLACE", "here")
    assert find_run_folder(["--config", str(tmp_path / "mine.yaml")]) == Path("here/run")


def test_an_environment_that_configs_read_is_a_setting(
    fit: Callable[..., int], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("model: {lr: '${oc.env:RATE}'}\n")
    monkeypatch.setenv("RATE", "0.001")
    assert fit("--config", str(overlay)) == 0
    request = read_request(["fit", *read_record(tmp_path / "run", "fit").args])  # type: ignore[union-attr]
    assert find_finished_run(request) == tmp_path / "run"
    monkeypatch.setenv("RATE", "0.002")
    assert find_finished_run(request) is None


def test_what_is_kept_is_the_finished_run_of_other_settings(place: Path, trained_runs: Path) -> None:
    record = read_record(trained_runs / "stage2", "fit")
    assert record is not None
    folder = ("--trainer.default_root_dir", str(trained_runs / "stage2"))
    kept = read_request(["fit", "--keep", "--heading", "two words", "--model.lr", "5", *folder])
    assert (kept.args, kept.heading) == (record.args, "two words")
    assert find_finished_run(kept) == trained_runs / "stage2"
    assert read_request(["test", "--keep", *folder]).args == record.args
    other = ("--model.lr", "5", "--trainer.default_root_dir", str(trained_runs / "none"))
    assert read_request(["fit", "--keep", *other]).args == other
    assert find_finished_run(read_request(["fit", "--again", *record.args])) is None


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_text("1")
    before = digest(tmp_path / "a")
    (tmp_path / "a" / ".hidden").write_text("2")
    assert digest(tmp_path / "a") == before
    (tmp_path / "a" / "one").rename(tmp_path / "a" / "two")
    assert digest(tmp_path / "a") != before
    assert digest(tmp_path / "nowhere") is None
    with open(tmp_path / "large", "wb") as file:
        file.truncate(LARGE + 1)
    large = digest(tmp_path / "large")
    os.utime(tmp_path / "large", ns=(1, 1))
    assert digest(tmp_path / "large") != large


def test_one_of_many_processes_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_first_process()
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert is_first_process()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_first_process()


def test_the_arguments_of_a_run_are_those_it_was_called_with(place: Path, trained_runs: Path) -> None:
    record = read_record(trained_runs / "stage1", "fit")
    assert record is not None
    assert list(record.args) == arguments(place, "fit", "stage1", trained_runs / "stage1")[1:]
    assert set(map(Path, record.configs)) >= {CONFIGS / "stage1.yaml", CONFIGS / "trainer.yaml", CONFIGS / "world.yaml"}
    assert {Path(name).name for name in record.files} >= {"encoders", "language", "stage1.json"}
