"""Which runs the ablations plan, and in which order they may begin."""

import json
from pathlib import Path

import pytest

from dynfocus.budget import budget
from dynfocus.cli import main
from dynfocus.errors import UsageError
from dynfocus.lab.ablations.planning import Run, Settings, Times, choose_studies, estimate_left, plan_runs
from dynfocus.lab.ablations.studies import list_studies
from dynfocus.settings import ConnectorSettings


def plan(tmp_path: Path, **changes: object) -> dict[str, Run]:
    settings = Settings(tmp_path, **changes)
    return {run.name: run for run in plan_runs(settings, choose_studies(settings))}


@pytest.mark.parametrize("recipe", ["easy", "standard", "foreign"])
def test_each_variant_is_trained_once_a_seed_from_the_stage_1_of_that_seed(tmp_path: Path, recipe: str) -> None:
    runs = plan(tmp_path, recipe=recipe)
    starts = {name for name in runs if "/stage1/" in name}
    # Six rows of table 6, and four more in each part of figure 3: the centre is table 6's (2, 40).
    assert (len(starts), len(runs)) == (3, 3 + 3 * (6 + 4 + 4))
    for name, run in runs.items():
        if name not in starts:
            seed = name.rpartition("-")[2]
            assert run.needs == (f"runs/stage1/seed-{seed}",)
            fit, test = run.commands
            assert (fit[0], test[0], fit[1:]) == ("fit", "test", test[1:])
            assert fit[fit.index("--model.init_from") + 1] == str(tmp_path / run.needs[0] / "projectors.safetensors")
            assert fit[fit.index("--seed_everything") + 1] == seed


def test_a_run_waits_only_for_runs_that_begin_before_it(tmp_path: Path) -> None:
    before: set[str] = set()
    for run in plan(tmp_path, full=True).values():
        assert {*run.needs, *run.follows} <= before
        before.add(run.name)


def test_all_studies_share_what_they_can(tmp_path: Path) -> None:
    runs = plan(tmp_path, full=True, seeds=(0,))
    names = [name.split("/")[1] for name in runs]
    assert sorted(name for name in names if name.startswith("stage1")) == ["stage1", "stage1_average_pooling"]
    assert len(names) == len({*names})
    assert len({run.commands for run in runs.values()}) == len(runs)


def test_steps_reach_stage_2_alone(tmp_path: Path) -> None:
    for name, run in plan(tmp_path, only=("table6",), steps=104).items():
        assert ("--trainer.max_steps" in run.commands[0]) == ("/stage1/" not in name)


@pytest.mark.parametrize(("recipe", "frames"), [("easy", 20), ("standard", 24)])
def test_figure_3_sweeps_what_it_says(recipe: str, frames: int) -> None:
    for name in ("figure3a", "figure3b"):
        for row in list_studies(recipe)[name].rows:
            default = {"easy": ("8", "0.375"), "standard": ("16", "0.1875")}[recipe]
            options = dict(zip(row.variant.options[::2], row.variant.options[1::2], strict=True))
            events, keep = (
                options.get(f"--model.connector.{key}", usual)
                for key, usual in zip(("events", "keep"), default, strict=True)
            )
            settings = ConnectorSettings(events=int(events), keep=float(keep))
            assert row.place == (int(events) if name == "figure3a" else float(keep))
            if name == "figure3b":
                assert f"(K = {budget(frames, settings).kept})" in row.label


def test_figure_3_at_one_budget_keeps_as_many_frames_whatever_l() -> None:
    rows = list_studies("long")["figure3_budget"].rows
    sizes = []
    for row in rows:
        options = dict(zip(row.variant.options[::2], row.variant.options[1::2], strict=True))
        events = int(options.get("--model.connector.events", "32"))
        settings = ConnectorSettings(events=events, keep=float(options.get("--model.connector.keep", "0.125")))
        assert budget(64, settings).kept == 4
        sizes.append(events)
    assert sizes == [row.place for row in rows] == [4, 8, 16, 32, 40, 64]


def test_the_first_run_of_a_kind_says_how_long_the_others_take(tmp_path: Path) -> None:
    runs = [Run(f"runs/{n}", kind, (), 50.0) for n, kind in enumerate("aab")]
    times = Times(tmp_path / "times.json")
    assert estimate_left(runs, times, 2) == 75
    times.add(runs[0], 10.0)
    assert estimate_left(runs[1:], Times(tmp_path / "times.json"), 1) == 60
    assert json.loads((tmp_path / "times.json").read_text()) == {"runs/0": ["a", 10.0]}


def test_a_mistyped_study_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--only tabel6.*figure3a.*table6"):
        choose_studies(Settings(tmp_path, only=("tabel6",)))


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ablations", "--out", str(tmp_path / "out"), "--seeds", "0,1", "--workers", "2", "--dry-run"]
    assert main([*words, "--only", "table6,selectors"]) == 0
    assert "14 runs, 0 finished" in capsys.readouterr().out
    assert main(words) == 0
    assert "30 runs, 0 finished" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main([*words, "--seeds", "a"]) == 2
    assert main([*words, "--steps", "0"]) == 2


def test_the_main_studies_are_the_papers(tmp_path: Path) -> None:
    assert [study.name for study in choose_studies(Settings(tmp_path))] == [
        *("table6", "figure3a", "figure3b", "selectors")
    ]
    assert [study.name for study in choose_studies(Settings(tmp_path, recipe="long"))] == [
        *("figure3_budget", "selectors")
    ]
    labels = [row.label for row in list_studies("easy")["table6"].rows]
    assert labels == ["(2, 256)", "(2, 40)", "(0, 256)", "(0, 40)", "(2, 2)", "(2, 0)"]
