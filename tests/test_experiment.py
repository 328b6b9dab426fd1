"""Both stages, the test and resuming, through the real command line on a miniature of the embedded world."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dynfocus.cli import main
from dynfocus.lit import DynFocusModule
from dynfocus.nn.model import DynFocusModel
from dynfocus.records import Prediction, read_jsonl
from dynfocus.world.dataset import write_world
from tests import tiny

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "lightning_configs"

SMALL = """
model:
  encoders: {towers}/encoders
  language_model: {towers}/language
  connector:
    events: 5
    keep: 0.6
    neighbours: 3
    spatial_prototypes: [6, 3]
    spatial_neighbours: [4, 2]
    samples: 20
  frame_rule:
    size: 24
data:
  init_args:
    root: {data}
    sketch_cache: {cache}
    videos: 8
    val: 2
    test: 2
    batch_size: 4
    check: false
trainer:
  enable_progress_bar: false
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        dirpath: ${{trainer.default_root_dir}}/checkpoints
        save_last: true
        save_top_k: 0
        every_n_train_steps: 2
    - class_path: callbacks.export.Export
      init_args:
        what: {what}
    - class_path: callbacks.predictions.Predictions
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a miniature world and towers of random weights."""
    folder = tmp_path_factory.mktemp("miniature")
    write_world(folder / "data", videos=8, val=2, test=2, workers=0, progress=False)
    tiny.towers(folder / "towers")
    return folder


def arguments(place: Path, verb: str, stage: str, run: Path, *more: str) -> list[str]:
    overlay = run.with_name(f"{run.name}.yaml")
    overlay.parent.mkdir(parents=True, exist_ok=True)
    parts = {"towers": place / "towers", "data": place / "data", "cache": place / "sketches"}
    overlay.write_text(SMALL.format(**parts, what="projectors" if stage == "stage1" else "model"))
    configs = [CONFIGS / f"{stage}.yaml", CONFIGS / "world.yaml", overlay]
    flags = [part for config in configs for part in ("--config", str(config))]
    return [verb, *flags, "--trainer.default_root_dir", str(run), *more]


def call(place: Path, verb: str, stage: str, run: Path, *more: str) -> int:
    return main(arguments(place, verb, stage, run, *more))


@pytest.fixture(scope="session")
def trained(place: Path) -> Path:
    """Both stages and the test, run once."""
    runs = place / "runs"
    assert call(place, "fit", "stage1", runs / "stage1") == 0
    assert call(place, "fit", "stage2", runs / "stage2") == 0
    assert call(place, "test", "stage2", runs / "stage2") == 0
    return runs


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_every_config_goes_through_the_real_command_line(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    stage = config if config.startswith("stage") else "stage2.yaml"
    overlay = config if not config.startswith("stage") else "world.yaml"
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", str(CONFIGS / stage), "--config", str(CONFIGS / overlay), "--print_config"])
    assert done.value.code in (None, 0)
    shown = capsys.readouterr().out
    assert "default_root_dir: runs/world/" + stage.removesuffix(".yaml") in shown


def test_the_end_of_a_run(trained: Path) -> None:
    metrics = json.loads((trained / "stage2" / "metrics.json").read_text())
    wanted = {"balanced", "accuracy", "accuracy_by_type", "hit_rate", "visual_tokens", "seconds", "seed", "n", "commit"}
    assert wanted <= metrics.keys()
    assert metrics["n"] == 2 * 8
    assert metrics["visual_tokens"] == 3 * (4 + 9 + 2) + 17 * 2
    assert set(metrics["arms"]) == {"learned", "uniform", "random", "blind"}
    predictions = list(read_jsonl(trained / "stage2" / "predictions.jsonl", Prediction))
    assert len(predictions) == 4 * metrics["n"]
    tokens = {arm: {p.visual_tokens for p in predictions if p.arm == arm} for arm in metrics["arms"]}
    assert tokens["learned"] == tokens["uniform"] == tokens["random"] == {79}
    assert tokens["blind"] == {0}
    assert all(len(p.kept) == 3 for p in predictions if p.arm != "blind")
    assert {p.hit for p in predictions if p.kind == "temporal"} == {None}


def test_stages_train_what_their_table_says(place: Path, trained: Path) -> None:
    start = DynFocusModel.from_towers(
        place / "towers" / "encoders", place / "towers" / "language", tiny.SETTINGS
    ).state_dict()
    first = torch.load(trained / "stage1" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    second = torch.load(trained / "stage2" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in start.items():
        part = name.split(".")[0]
        if part in ("vision", "instruction"):
            assert torch.equal(first[f"model.{name}"], tensor), name
            assert torch.equal(second[f"model.{name}"], tensor), name
        if part == "language_model":
            assert torch.equal(first[f"model.{name}"], tensor), name
    changed = [
        n for n, t in start.items() if n.startswith("language_model") and not torch.equal(second[f"model.{n}"], t)
    ]
    assert len(changed) > 10
    scores = "model.connector.select.score_net.net.1.weight"
    assert not torch.equal(first[scores], start[scores.removeprefix("model.")])


def test_stage2_takes_over_the_projectors_and_nothing_else(place: Path, trained: Path) -> None:
    file = trained / "stage1" / "projectors.safetensors"
    handed = load_file(file)
    assert {name.rsplit(".", 2)[0] for name in handed} == {"connector.cones.fine", "connector.rods.coarse"}
    torch.manual_seed(1)
    towers = place / "towers"
    module = DynFocusModule(towers / "encoders", towers / "language", tiny.SETTINGS, init_from=file)
    module.configure_model()
    assert module.model is not None
    own = module.model.state_dict()
    learned = torch.load(trained / "stage1" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in own.items():
        if name in handed:
            assert torch.equal(tensor, handed[name]), name
            assert torch.equal(tensor, learned[f"model.{name}"]), name
    for name in ("connector.select.score_net.net.1.weight", "connector.rods.f_q.weight", "connector.rods.f_k.weight"):
        assert not torch.equal(own[name], learned[f"model.{name}"]), name


def test_a_setting_at_test_time_reaches_the_trained_model(place: Path, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "stage2"
    (tmp_path / "stage2").mkdir()
    (run / "model").symlink_to(trained / "stage2" / "model")
    more = ("--model.connector.selector", "uniform", "--model.arms", "[learned]")
    assert call(place, "test", "stage2", run, *more) == 0
    kept = {p.kept for p in read_jsonl(run / "predictions.jsonl", Prediction)}
    assert kept == {(3, 10, 16)}


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(
    place: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = place / "runs" / "again"
    more = ("--model.init_from", str(trained / "stage1" / "projectors.safetensors"), "--trainer.max_steps", "9")
    assert call(place, "fit", "stage2", place / "runs" / "whole", *more) == 0
    stop = ("--trainer.callbacks+=tests.test_experiment.StopOnce", f"--trainer.callbacks.mark={place / 'stopped'}")
    assert call(place, "fit", "stage2", run, *more, *stop) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert not (run / "model").exists()
    assert call(place, "fit", "stage2", run, *more, *stop) == 0
    card = json.loads((run / "fit.json").read_text())
    assert card["steps"] == 9
    ends = [load_file(place / "runs" / name / "model" / "model.safetensors") for name in ("whole", "again")]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


from lightning import Callback, LightningModule, Trainer  # noqa: E402


class StopOnce(Callback):
    """Press Ctrl-C after the fifth step, the first time."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if trainer.global_step == 5 and not self.mark.exists():
            self.mark.touch()
            signal.raise_signal(signal.SIGINT)


def test_the_sketch_cache_changes_no_bit(place: Path, trained: Path) -> None:
    more = ("--model.init_from", str(trained / "stage1" / "projectors.safetensors"), "--trainer.max_steps", "3")
    assert call(place, "fit", "stage2", place / "runs" / "cached", *more) == 0
    without = ("--data.init_args.sketch_cache", "null", "--trainer.limit_val_batches", "0")
    assert call(place, "fit", "stage2", place / "runs" / "encoded", *more, *without) == 0
    ends = [load_file(place / "runs" / name / "model" / "model.safetensors") for name in ("cached", "encoded")]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_a_run_of_other_settings_moves_the_earlier_one_aside(place: Path, trained: Path) -> None:
    run = place / "runs" / "moved"
    more = ("--model.init_from", "null", "--trainer.max_steps", "2")
    assert call(place, "fit", "stage2", run, *more) == 0
    assert call(place, "fit", "stage2", run, *more, "--model.lr", "1e-4") == 0
    assert (run.with_name("moved.1") / "fit.json").exists()
    assert (run.with_name("moved.1") / "config.yaml").read_text() != (run / "config.yaml").read_text()


def test_stage1_refuses_a_language_model_that_cannot_read(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(place, "fit", "stage1", tmp_path / "run", "--data.init_args.check", "true") == 1
    assert "towers.json" in capsys.readouterr().err
    record = place / "towers" / "towers.json"
    record.write_text(json.dumps({"vision": {}, "language": {"quality": {"detail": 0.5}}}))
    assert call(place, "fit", "stage1", tmp_path / "run", "--data.init_args.check", "true") == 1
    assert "detail is 0.50" in capsys.readouterr().err
    record.unlink()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--model.lrr", "1"), "lrr"),
        (("--model.lr", "fast"), "model.lr"),
        (("--model.init_from", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--model.encoders", "nowhere"), "nowhere"),
        (("--model.connector.selector", "unifrm"), "unifrm"),
        (("--model.connector.keep", "2"), "keep"),
        (("--model.arms", "[blond]"), "blond"),
        (("--data.init_args.sketch_cache", "/proc/none"), "/proc/none"),
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_bad_input_costs_one_sentence_and_nothing_else(
    place: Path, trained: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    run = place / "runs" / "bad"
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text("an earlier run")
    before = sorted(path.name for path in run.parent.iterdir())
    assert call(place, "fit", "stage2", run, *more) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("dynfocus: ")
    assert said in message
    assert "Needed: " in message
    assert sorted(path.name for path in run.parent.iterdir() if path.name != "bad.yaml") == [
        name for name in before if name != "bad.yaml"
    ]
    assert (run / "config.yaml").read_text() == "an earlier run"


def test_testing_an_untrained_run_says_what_is_missing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(place, "test", "stage2", tmp_path / "run") == 1
    assert str(tmp_path / "run" / "model") in capsys.readouterr().err


def test_asking_the_trained_model(place: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(trained / "stage2" / "model")
    video = str(place / "data" / "videos" / "test_000000.mp4")
    assert main(["ask", video, "what color is the star", "--model", model]) == 0
    shown = capsys.readouterr().out
    assert "visual tokens: 79" in shown
    assert " of 20" in shown
    assert main(["ask", str(place / "nowhere.mp4"), "what", "--model", model]) == 1
    assert main(["ask", video, "what", "--model", str(place)]) == 1


def test_validate_and_predict(place: Path, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "stage2"
    run.mkdir()
    (run / "model").symlink_to(trained / "stage2" / "model")
    assert call(place, "predict", "stage2", run) == 0
    assert len(list(read_jsonl(run / "predictions.jsonl", Prediction))) == 2 * 8
    assert call(place, "validate", "stage2", run) == 0


def test_ctrl_c_in_a_process_of_its_own(place: Path, trained: Path, tmp_path: Path) -> None:
    """A real process, a real signal; the next call goes on from the last checkpoint."""
    run = tmp_path / "stage2"
    projectors = str(trained / "stage1" / "projectors.safetensors")
    args = arguments(place, "fit", "stage2", run, "--model.init_from", projectors)
    command = [sys.executable, "-m", "dynfocus", *args]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "going on with the unfinished run" in again.stderr + again.stdout
    assert (run / "model" / "config.json").exists()


def test_a_disk_without_room_costs_one_sentence_and_leaves_nothing(place: Path, trained: Path, tmp_path: Path) -> None:
    """A real limit of the system on the size of files, which a checkpoint exceeds and the log does not."""
    run = tmp_path / "stage2"
    args = arguments(
        place, "fit", "stage2", run, "--model.init_from", str(trained / "stage1" / "projectors.safetensors")
    )
    limit = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    start = limit + "runpy.run_module('dynfocus', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", start, *args]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "last.ckpt, which could not be written" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not run.exists()
