"""Table 6, Figure 3 and the other switches of the method: each overlay through the real command line, both stages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_world import CONFIGS, arguments, call

from dynfocus.budget import budget
from dynfocus.cli import main
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction
from dynfocus.settings import ConnectorSettings

FOLDER = CONFIGS / "ablations"
OVERLAYS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
FRAMES = 20  # of every video of the world
# The other four cells of Table 6 have an overlay each.
TWO_SWITCHES = [(0, 0), (0, 2), (0, 256), (2, 40)]
BRIEF = (
    *("--trainer.max_steps", "2", "--trainer.log_every_n_steps", "1", "--trainer.limit_val_batches", "0"),
    *("--trainer.enable_model_summary", "false", "--model.max_new_tokens", "1"),
    *("--trainer.callbacks+", "callbacks.tokens.TokenCounts"),
)


def read_overlay(overlay: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{overlay}.yaml").read_text())["model"]


def overlay_flags(*overlays: str) -> tuple[str, ...]:
    return tuple(part for name in overlays for part in ("--config", str(FOLDER / f"{name}.yaml")))


def fit_and_test(place: Path, run: Path, projectors: Path, *more: str) -> dict[str, Any]:
    """Train stage 2 a little and test it: the model's settings, as the run says them."""
    start = ("--model.init_from", str(projectors / "projectors.safetensors"))
    assert call(place, "fit", "stage2", run, *BRIEF, *start, *more) == 0
    assert call(place, "test", "stage2", run, *BRIEF, *more) == 0
    return yaml.safe_load((run / "config.yaml").read_text())["model"]


def resolve_settings(place: Path, run: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    """The model's settings as the command line resolves them, without a run."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(arguments(place, "fit", "stage2", run, *more, "--print_config"))
    return yaml.safe_load(capsys.readouterr().out)["model"]


def connector(model: dict[str, Any]) -> ConnectorSettings:
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in model["connector"].items()}
    return ConnectorSettings(**settings)


def flags(switches: dict[str, Any]) -> list[str]:
    return [part for name, value in switches.items() for part in (f"--model.connector.{name}", str(value))]


def check_costs(run: Path, settings: ConnectorSettings) -> None:
    video, image = (budget(frames, settings).visual_tokens for frames in (FRAMES, 1))
    logged = EventAccumulator(str(run / "tensorboard")).Reload()
    batches = {scalar.value for scalar in logged.Scalars("tokens/train/visual")}
    assert batches
    counts = [(videos, images) for videos in range(1, 5) for images in range(5 - videos)]
    means = [(videos * video + images * image) / (videos + images) for videos, images in counts]
    assert batches <= {float(np.float32(mean)) for mean in means}
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["n"] == 2 * 8
    for arm, scores in metrics["arms"].items():
        assert scores["visual_tokens"] == (0 if arm == "blind" else video), arm
    for prediction in read_jsonl(run / "predictions.jsonl", Prediction):
        if prediction.arm != "blind" and settings.encoder == "dynfocus":
            assert len(prediction.kept) == budget(FRAMES, settings).kept


def test_every_switch_has_an_overlay() -> None:
    switches = {name for overlay in OVERLAYS for name in read_overlay(overlay)["connector"]}
    assert switches == {
        *("redundant_tokens", "kept_tokens", "events", "keep", "neighbourhood", "spatial_neighbourhood"),
        *(
            "sigma",
            "samples",
            "straight_through",
            "score_reads_question",
            "encoder",
            "instruction_mode",
            "distance_scale",
        ),
        *("cone_rows", "patch_frames", "merge_kept", "selector"),
    }


def test_every_cell_of_table_6_is_run() -> None:
    settings = [
        {"redundant_tokens": 2, "kept_tokens": 40, **read_overlay(overlay)["connector"]} for overlay in OVERLAYS
    ]
    cells = {(one["redundant_tokens"], one["kept_tokens"]) for one in settings} | set(TWO_SWITCHES)
    assert cells == {(redundant, kept) for redundant in (0, 2) for kept in (0, 2, 40, 256)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_short_and_says_what_it_is(overlay: str) -> None:
    lines = (FOLDER / f"{overlay}.yaml").read_text().splitlines()
    assert len(lines) <= 10
    assert lines[0].startswith("# ")
    assert sum(line.startswith("#") for line in lines) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_runs_and_costs_what_was_planned(
    place: Path, trained_runs: Path, tmp_path: Path, overlay: str
) -> None:
    """Stage 1's projectors fit all of them, as no switch but the baseline's changes their names or shapes."""
    projectors = trained_runs / "stage1"
    if overlay == "average_pooling":
        projectors = tmp_path / "stage1"
        assert call(place, "fit", "stage1", projectors, *BRIEF, *overlay_flags(overlay)) == 0
    model = fit_and_test(place, tmp_path / "stage2", projectors, *overlay_flags(overlay))
    switches = read_overlay(overlay)["connector"]
    plain = yaml.safe_load((trained_runs / "stage2" / "config.yaml").read_text())
    assert {name: model["connector"][name] for name in switches} == switches
    assert (
        {**model["connector"], **switches} == {**plain["model"]["connector"], **switches} != plain["model"]["connector"]
    )
    check_costs(tmp_path / "stage2", connector(model))


@pytest.mark.parametrize(("redundant", "kept"), TWO_SWITCHES)
def test_cells_of_table_6_from_the_command_line(
    place: Path, trained_runs: Path, tmp_path: Path, redundant: int, kept: int
) -> None:
    more = flags({"redundant_tokens": redundant, "kept_tokens": kept})
    settings = connector(fit_and_test(place, tmp_path / "run", trained_runs / "stage1", *more))
    assert (settings.redundant_tokens, settings.kept_tokens) == (redundant, kept)
    check_costs(tmp_path / "run", settings)


def test_the_released_codes_numbers_run(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    lines = (CONFIGS / "released.yaml").read_text().splitlines()
    assert any("does not imitate" in line for line in lines if line.startswith("#"))
    model = fit_and_test(place, tmp_path / "run", trained_runs / "stage1", "--config", str(CONFIGS / "released.yaml"))
    settings = connector(model)
    assert (model["frame_rule"]["fit"], settings.kept_tokens, settings.instruction_mode) == ("crop", 38, "frame")
    paper = ConnectorSettings(**yaml.safe_load((CONFIGS / "released.yaml").read_text())["model"]["connector"])
    assert budget(16, paper).visual_tokens == 320
    check_costs(tmp_path / "run", settings)


def test_two_overlays_make_a_cell_of_table_6(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = resolve_settings(place, tmp_path / "run", capsys, *overlay_flags("redundant_0", "kept_2"))["connector"]
    assert (both["redundant_tokens"], both["kept_tokens"]) == (0, 2)


def test_the_command_line_takes_every_other_switch(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    switches = {name: value for overlay in OVERLAYS for name, value in read_overlay(overlay)["connector"].items()}
    more = (*flags(switches), "--model.arms", "[learned, blind]")
    settings = resolve_settings(place, tmp_path / "run", capsys, *more)["connector"]
    assert {name: settings[name] for name in switches} == switches


def test_stage_1_goes_through_where_no_token_is_left_to_train(place: Path, tmp_path: Path) -> None:
    """|U_b=0| = |U_b=1| = 0: the captions are learned from nothing, so the projectors stay as they began."""
    overlays = overlay_flags("redundant_0", "kept_0")
    for steps in ("1", "2"):
        more = (*BRIEF, *overlays, "--trainer.max_steps", steps)
        assert call(place, "fit", "stage1", tmp_path / steps, *more) == 0
    first, second = (load_file(tmp_path / steps / "projectors.safetensors") for steps in ("1", "2"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_patches_of_the_representatives_alone_serve_the_papers_selector(
    place: Path, trained_runs: Path, tmp_path: Path
) -> None:
    more = ("--model.connector.patch_frames", "representatives", "--model.arms", "[learned, blind]")
    model = fit_and_test(place, tmp_path / "run", trained_runs / "stage1", *overlay_flags("kept_256"), *more)
    check_costs(tmp_path / "run", connector(model))
