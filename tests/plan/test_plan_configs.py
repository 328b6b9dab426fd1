"""`dynfocus plan --config`: what it reads is what `dynfocus fit` with the same configs would do."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import tiny
import yaml

from dynfocus.cli import main
from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.models.lora import add_adapters
from dynfocus.plan import Training, list_tokens, make_plan
from dynfocus.plan.configs import read_options
from dynfocus.plan.sizes import Sizes, read_sizes
from dynfocus.settings import LoraSettings

ROOT = Path(__file__).parents[2]
STACKS = [
    *(("stage1",), ("stage2", "fsdp"), ("stage2", "qlora"), ("stage2", "posttune")),
    *(("stage1", "world", "smol"), ("stage2", "lora", "world", "ablations/kept_256")),
]
UNCOUNTED = """
model: {attention: eager, connector: {instruction_mode: frame}}
trainer: {precision: 16-mixed}
data: {init_args: {sketch_cache: somewhere}}
"""


def recipes(*names: str) -> list[Path]:
    return [ROOT / "lightning_configs" / f"{name}.yaml" for name in names]


@pytest.fixture
def overlay(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a config of one's own."""

    def write(text: str) -> Path:
        path = tmp_path / f"overlay{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_the_released_codes_tokens_are_planned(stage: str, overlay: Callable[[str], Path]) -> None:
    paths = recipes(stage, "released")
    assert list_tokens(make_plan(paths, frames=16))["visual_tokens"] == 320
    with pytest.raises(ConfigError, match="fit"):
        make_plan([*paths, overlay("model: {frame_rule: {fit: stretch}}")], frames=16)


@pytest.mark.parametrize("stack", STACKS, ids="-".join)
def test_configs_say_what_the_command_line_reads_in_them(
    stack: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    flags = [part for path in recipes(*stack) for part in ("--config", str(path))]
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *flags, "--trainer.default_root_dir", "nowhere", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    model, data, trainer = config["model"], config["data"]["init_args"], config["trainer"]
    options = read_options(recipes(*stack))
    assert asdict(options["settings"]) == {
        name: tuple(value) if isinstance(value, list) else value for name, value in model["connector"].items()
    }
    assert options["checkpointing"] == model["activation_checkpointing"]
    assert (options["slots"], options["optimizer"]) == (model["slots"], model["optimizer"])
    assert (options["rows"], options["new"]) == (data["batch_size"], model["max_new_tokens"])
    assert options.get("global_batch") == data["global_batch"]
    assert options.get("frames") == model["frame_rule"]["frames"]
    assert options["accumulate"] == (trainer["accumulate_grad_batches"] or 1)
    assert options["precision"] == {"32-true": "32"}.get(trainer["precision"], trainer["precision"])
    assert (options["strategy"] == "fsdp") == ("FSDP2Strategy" in str(trainer["strategy"]))
    tuned = "qlora" if model["quantize"] else "lora" if model["lora"] else "stage2"
    assert options["train"] == ("stage1" if model["stage"] == "stage1" else tuned)
    assert options.get("rank") == (model["lora"] or {}).get("rank")


def test_what_configs_leave_out_is_what_fit_takes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("trainer: {}")
    required = ["--model.encoders", "a", "--model.language_model", "b", "--data", "datamodules.world.WorldDataModule"]
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *required, "--data.init_args.root", "c", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    options = read_options([tmp_path / "empty.yaml"])
    assert options["rows"] == config["data"]["init_args"]["batch_size"]
    assert options["checkpointing"] == config["model"]["activation_checkpointing"]
    assert (options["slots"], options["new"]) == (config["model"]["slots"], config["model"]["max_new_tokens"])
    assert options["precision"] == "32"  # Lightning's own, where a trainer says nothing
    assert config["trainer"]["precision"] is None


def test_sizes_come_from_the_folders_that_are_there(overlay: Callable[[str], Path], tmp_path: Path) -> None:
    encoders, language = tiny.towers(tmp_path / "towers")
    place = overlay(
        f"model: {{encoders: {encoders}, language_model: {language}, connector: {{patches: 36, pooled: 4}}}}"
    )
    plan = make_plan([*recipes("stage2"), place], frames=9)
    assert plan.sizes == read_sizes(encoders, language) != Sizes()
    assert plan.folders == (encoders, language, None)
    gone = overlay("model: {language_model: nowhere}")
    other = make_plan([*recipes("stage2"), gone], frames=9, language_model=language)
    assert other.sizes.context == plan.sizes.context
    assert not any("nowhere" in note for note in other.notes), "the option is taken, not the paper's sizes"
    absent = make_plan([*recipes("stage2"), gone], frames=9)
    assert absent.sizes == Sizes()
    assert "model.language_model = nowhere is not there: the paper's sizes are taken." in absent.notes
    small = overlay("model: {encoders: none, connector: {patches: 36, pooled: 4}}")
    with pytest.raises(ConfigError, match=r"patches = 36 with .* of 256 \(model\.encoders = none is not .*\)\. Needed"):
        make_plan([*recipes("stage2"), small], frames=9)
    with pytest.raises(CheckpointError, match=r"config\.json, which cannot be read"):
        make_plan([*recipes("stage2"), overlay(f"model: {{language_model: {tmp_path}}}")], frames=9)


def test_references_are_resolved_and_the_last_config_wins(overlay: Callable[[str], Path], tmp_path: Path) -> None:
    first = overlay("model: {max_new_tokens: 9, frame_rule: {frames: '${model.max_new_tokens}'}}")
    assert make_plan([first]).frames == 9
    assert make_plan([first, overlay("model: {max_new_tokens: 12}")]).frames == 12
    assert make_plan([first], frames=5).frames == 5
    with pytest.raises(ConfigError, match=r"no\.where"):
        make_plan([overlay("model: {max_new_tokens: '${no.where}'}")], frames=5)


def test_a_reference_to_the_environment_is_read_as_fit_reads_it(
    overlay: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for name, value in {"ROWS": "4", "KEEP": "0.5", "TWICE": "false"}.items():
        monkeypatch.setenv(name, value)
    text = """
    model: {activation_checkpointing: '${oc.env:TWICE}', connector: {keep: '${oc.env:KEEP}', events: '${oc.env:L,9}'}}
    data: {init_args: {batch_size: '${oc.env:ROWS}'}}
    trainer: {num_nodes: '${oc.env:NODES,2}', devices: '${oc.env:DEVICES,4}'}
    """
    stack = [*recipes("stage2"), overlay(text)]
    flags = [part for path in stack for part in ("--config", str(path))]
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *flags, "--model.encoders", "a", "--model.language_model", "b", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    options = read_options(stack)
    settings = options["settings"].events, options["settings"].keep
    assert settings == (config["model"]["connector"]["events"], config["model"]["connector"]["keep"]) == (9, 0.5)
    assert options["checkpointing"] is config["model"]["activation_checkpointing"] is False
    assert options["rows"] == config["data"]["init_args"]["batch_size"] == 4
    assert options["gpus"] == config["trainer"]["num_nodes"] * int(config["trainer"]["devices"]) == 8


def test_options_win_over_configs(overlay: Callable[[str], Path]) -> None:
    stack = [*recipes("stage2", "lora"), overlay("model: {lora: {rank: 8}, frame_rule: {frames: 60}}")]
    plan = make_plan(stack)
    want = Training("lora", rows=8, rank=8, accumulate=16)
    assert (plan.frames, plan.training, plan.global_batch) == (60, want, 128)
    other = make_plan(stack, frames=7, events=3, keep=0.5, train="stage1", gpus=4, rows=2, checkpointing=False)
    assert (other.frames, other.settings.events, other.settings.keep) == (7, 3, 0.5)
    assert other.training == Training("stage1", gpus=4, rows=2, rank=8, accumulate=16, checkpointing=False)


@pytest.mark.parametrize(
    ("trainer", "gpus"),
    [
        ("{devices: 4}", 4),
        ("{devices: '4', num_nodes: 2}", 8),
        ("{devices: [0, 2, 5]}", 3),
        ("{devices: '0,2'}", 2),
        ("{devices: auto}", 1),
        ("{devices: -1, num_nodes: 2}", 2),
        ("{}", 1),
    ],
)
def test_gpus_are_devices_times_machines(trainer: str, gpus: int, overlay: Callable[[str], Path]) -> None:
    plan = make_plan([overlay(f"trainer: {trainer}")], frames=4)
    assert plan.training.gpus == gpus
    assert any("left to the machine" in note for note in plan.notes) == (
        trainer in ("{}",) or "auto" in trainer or "-1" in trainer
    )


def test_a_class_of_data_may_be_named_alone(overlay: Callable[[str], Path]) -> None:
    assert make_plan([overlay("data: datamodules.world.WorldDataModule")], frames=4).training.rows == 32


def test_nothing_is_said_of_devices_where_an_option_says_them(overlay: Callable[[str], Path]) -> None:
    assert not make_plan([overlay("trainer: {}")], frames=4, gpus=1).notes


@pytest.mark.parametrize("slots", ["first", "every"])
def test_slots_say_how_often_turns_show_the_video(slots: str, overlay: Callable[[str], Path]) -> None:
    assert make_plan([overlay(f"model: {{slots: {slots}}}")], frames=4, turns=3).training.slots == {"first": 1}.get(
        slots, 3
    )


def test_a_run_that_starts_from_adapters_trains_adapters(overlay: Callable[[str], Path], tmp_path: Path) -> None:
    add_adapters(tiny.model().language_model, LoraSettings(rank=5)).save_pretrained(tmp_path / "model" / "adapter")
    start = overlay(f"model: {{init_from: {tmp_path / 'model'}}}")
    plan = make_plan([*recipes("stage2", "posttune"), start], frames=4)
    assert (plan.training.train, plan.training.rank) == ("lora", 5)
    (tmp_path / "model" / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="names no rank r"):
        make_plan([*recipes("stage2", "posttune"), start], frames=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *[("x: [", "parsing config"), ("- a\n- b", "Unexpected config"), ("model: 3", "model")],
        *[("modle: {a: 1}", "modle"), ("model: {conector: {a: 1}}", r"model\.conector")],
        *[("model: ${no.where}", r"model.*no\.where"), ("data: {init_args: '${no.where}'}", r"init_args.*no\.where")],
        ("model: {connector: {evnts: 3}}", "evnts"),
        ("model: {connector: {events: many}}", "events.*int.*many"),
        ("model: {connector: {events: null}}", "events.*int.*None"),
        ("model: {connector: {events: true}}", "events.*int.*True"),
        ("model: {connector: {events: 0}}", "events = 0.*at least 1"),
        ("model: {connector: {kept_tokens: 3}}", "kept_tokens.*0, 2, 38, 40, 256.*3"),
        ("model: {connector: {spatial_prototypes: [a]}}", "spatial_prototypes.*a"),
        ("model: {stage: stage3}", "stage.*'stage1', 'stage2', 'posttune'.*stage3"),
        ("model: {lora: {rank: 0}}", r"lora\.rank = 0"),
        ("model: {stage: stage1, lora: {rank: 4}}", "lora in stage1"),
        ("model: {stage: stage1, quantize: nf4}", "quantize in stage1"),
        *[("model: {quantize: nf4}", "quantize = nf4 in stage2"), ("model: {quantize: int8}", "nf4.*int8")],
        *[
            ("model: {train_instruction: true}", "train_instruction = true"),
            ("model: {shard_towers: true}", "shard_towers"),
        ],
        *[
            ("trainer: {precision: 64}", "precision = 64"),
            ("trainer: {strategy: fsdp}", r"strategy = fsdp.*FSDP2Strategy"),
        ],
        *[("trainer: 5", "trainer = 5.*settings"), ("trainer: 0", "trainer = 0.*settings"), ("data: 5", "data.*5")],
        *[("data: {init_args: 5}", "init_args.*5"), ("data: {init_args: {batch_size: few}}", "batch_size.*few")],
        *[("trainer: {devices: 0}", "gpus = 0"), ("trainer: {devices: []}", "gpus = 0")],
        *[("trainer: {devices: many}", "devices = many"), ("data: {init_args: {batch_size: 0}}", "rows = 0")],
    ],
)
def test_configs_that_cannot_be_are_refused_in_three_parts(
    text: str, message: str, overlay: Callable[[str], Path]
) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}") as caught:
        make_plan([overlay(text)], frames=4)
    assert all(part.strip() for part in (caught.value.given, caught.value.needed, caught.value.do))


def test_what_is_no_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError):
        make_plan([tmp_path])
    assert main(["plan", "--config", str(tmp_path / "nothing.yaml")]) == 1
    assert "nothing.yaml" in capsys.readouterr().err


def test_what_is_not_counted_is_said(overlay: Callable[[str], Path]) -> None:
    notes = make_plan([overlay(UNCOUNTED)], frames=4).notes
    for name in ("attention = eager", "instruction_mode = frame", "sketches are kept", "precision = 16-mixed"):
        assert any(note.startswith(name) for note in notes), name


def test_the_command_reads_several_configs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = ["plan", "--config", "lightning_configs/stage2.yaml", "--config", "lightning_configs/fsdp.yaml"]
    assert main([*command, "--frames", "32", "--gpus", "8", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["training"] == asdict(Training("stage2", 8, "fsdp", rows=8))
    assert main([*command, "--frames", "32", "--gpus", "8"]) == 0
    size = plan["memory"]["total"] / 2**30
    assert f"stage2 fsdp on 8 GPUs: {size:.1f} GiB on each; fits a card of 48 GB" in capsys.readouterr().out
    assert size == pytest.approx(25.1, rel=0.1)
