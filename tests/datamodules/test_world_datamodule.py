"""The world's data module: a recipe and overrides, and data or towers of another world are refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from datamodules.world import WorldDataModule
from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.settings import ConnectorSettings, restore_settings
from dynfocus.world.dataset import write_world
from dynfocus.world.recipes import EASY, RECIPES, STANDARD, WorldSettings, make_settings
from dynfocus.world.towers.quality import check_towers
from dynfocus.world.towers.tower_settings import TowerSettings, choose_tower_settings

ROOT = Path(__file__).parents[2]
SIZES = {"videos": 2, "val": 1, "test": 1}
OVERLAYS = sorted((ROOT / "lightning_configs/worlds").glob("*.yaml"))


def make_module(root: Path, **more: Any) -> WorldDataModule:
    folders = {"encoders": root / "towers/instructblip", "language_model": root / "towers/llm"}
    return WorldDataModule(root / "data", **folders, **SIZES, **{"check": False} | more)


def test_a_recipe_is_written_where_no_world_lies_and_another_is_refused(tmp_path: Path) -> None:
    small = {"frames": 16, "scenes": 6}
    make_module(tmp_path, recipe="standard", settings=small).prepare_data()
    record = json.loads((tmp_path / "data/world.json").read_text())
    assert WorldSettings(**record["settings"]) == make_settings("standard", **small)
    make_module(tmp_path, recipe="standard", settings=small).prepare_data()
    for other in ({"recipe": "standard"}, {}, {"recipe": "standard", "settings": {**small, "decoys": 1}}):
        with pytest.raises(ConfigError, match=r"holds a world with .*Delete that folder.*data\.init_args"):
            make_module(tmp_path, **other).prepare_data()
    with pytest.raises(ConfigError, match="the settings decoy"):
        make_module(tmp_path, settings={"decoy": 1})


def test_the_validation_split_can_be_tested(tmp_path: Path) -> None:
    assert make_module(tmp_path).files["test"] == "test.json"
    assert make_module(tmp_path, tested="val").files["test"] == "val.json"


def test_the_prior_knows_the_training_questions_about_videos(tmp_path: Path) -> None:
    module = make_module(tmp_path)
    module.prepare_data()
    rows = [row for row in json.loads((tmp_path / "data/stage2.json").read_text()) if "video" in row]
    known = module.training_questions()
    assert len(known) == sum(len(row["questions"]) for row in rows) > 0
    assert (known[0].text, known[0].answer) == tuple(rows[0]["questions"][0][name] for name in ("text", "answer"))


def write_towers(out: Path, world: WorldSettings | None) -> None:
    quality = {"content": 2, "quality": {"detail": 1.0}}
    record = {
        "vision": quality | ({} if world is None else {"world": {"settings": asdict(world)}}),
        "language": quality,
    }
    out.mkdir(exist_ok=True)
    (out / "towers.json").write_text(json.dumps(record))


def test_towers_of_other_questions_are_refused(tmp_path: Path) -> None:
    write_towers(tmp_path, STANDARD)
    for fits in ("standard", "foreign", "long-600"):
        check_towers(tmp_path, RECIPES[fits])
    with pytest.raises(CheckpointError, match=r"words_repeat=True, thing_size=12.*words_repeat=False, thing_size=14"):
        check_towers(tmp_path, EASY)
    write_towers(tmp_path, None)  # of before worlds had settings
    check_towers(tmp_path, replace(EASY, glitches=3))
    with pytest.raises(CheckpointError, match="dynfocus towers"):
        check_towers(tmp_path, STANDARD)


def test_a_run_of_other_questions_is_refused(tmp_path: Path) -> None:
    init_args = {"recipe": "standard", "settings": {"glitches": 3}}
    config = {"data": {"class_path": "datamodules.world.WorldDataModule", "init_args": init_args}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    small = {"frames": 16, "scenes": 6}
    for recipe, check, fits in (("easy", True, False), ("easy", False, True), ("standard", True, True)):
        folder = tmp_path / recipe
        module = make_module(folder, recipe=recipe, settings=small if recipe == "standard" else {}, check=check)
        module.write()
        module.trainer = SimpleNamespace(default_root_dir=tmp_path, global_rank=0, world_size=1)  # type: ignore[assignment]
        if fits:
            module.setup("test")
            assert len(module.data["test"]) == (9 if recipe == "standard" else 8)
        else:
            with pytest.raises(CheckpointError, match=r"a run in .* words_repeat=True, thing_size=12"):
                module.setup("test")


def test_the_easy_world_has_the_towers_of_always_and_others_mixed_layouts() -> None:
    assert choose_tower_settings(EASY) == TowerSettings()
    assert TowerSettings().language.layouts == "dynfocus"
    assert choose_tower_settings(STANDARD).language.layouts == "mixed"


def test_every_recipe_has_an_overlay_of_its_own() -> None:
    assert {path.stem for path in OVERLAYS} == set(RECIPES) - {"easy"}


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_an_overlay_names_its_world_and_towers_that_fit_it(path: Path) -> None:
    world: Any = OmegaConf.load(ROOT / "lightning_configs/world.yaml")
    config: Any = OmegaConf.merge(world, OmegaConf.load(path))
    init_args, folder = config.data.init_args, f"cache/world-{path.stem}"
    assert init_args.recipe == path.stem
    assert (init_args.root, init_args.sketch_cache) == (f"{folder}/data", f"{folder}/sketches")
    assert config.model.encoders == "cache/world-standard/towers/instructblip"
    assert config.model.language_model == "cache/world-standard/towers/llm"
    settings = restore_settings(ConnectorSettings, OmegaConf.to_container(config.model.connector))  # type: ignore[arg-type]
    kept = settings.keep * settings.events
    assert kept == int(kept)
    assert kept < RECIPES[path.stem].events + RECIPES[path.stem].decoys
    counts = {name: init_args[name] for name in ("videos", "val", "test") if name in init_args}
    written = " ".join(f"--{name} {count}" for name, count in counts.items())
    assert written in (ROOT / "Makefile").read_text(), "make world writes as many videos"


def test_types_of_questions_that_a_world_does_not_ask_may_differ(tmp_path: Path) -> None:
    """A world whose words do not repeat asks none of the types that only the others ask."""
    root = write_world(tmp_path / "w", **SIZES, workers=0, progress=False)
    record = json.loads((root / "world.json").read_text())
    assert not [name for name in record["constants"] if name.endswith("REPEATED_TYPES")]
    record["constants"]["questions.REPEATED_TYPES"] = ["color", "initial"]
    (root / "world.json").write_text(json.dumps(record))
    assert write_world(root, **SIZES, workers=0) == root
    record["constants"]["questions.THING_TYPES"] = ["color"]
    (root / "world.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="THING_TYPES"):
        write_world(root, **SIZES, workers=0)


def test_a_world_of_before_its_settings_is_that_of_today(tmp_path: Path) -> None:
    """Its record named the scenes' numbers as constants, and lacked the names of types."""
    root = write_world(tmp_path / "w", **SIZES, workers=0, progress=False)
    record = json.loads((root / "world.json").read_text())
    settings, constants = record.pop("settings"), record["constants"]
    for name in ("frames", "scenes", "shortest_scene", "returns", "events", "things", "glitches"):
        constants[f"videos.{name.upper()}"] = settings[name]
    for name in [name for name in constants if name.endswith("_TYPES")]:
        del constants[name]
    (root / "world.json").write_text(json.dumps(record))
    assert write_world(root, **SIZES, workers=0) == root
    constants["videos.GLITCHES"] = 3
    (root / "world.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="holds a world with glitches=3"):
        write_world(root, **SIZES, workers=0)
