"""Tell from their records whether the towers are there that some settings lead to (no torch)."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynfocus.errors import ConfigError, DataError
from dynfocus.records.atomic import write_text
from dynfocus.world.recipes import EASY
from dynfocus.world.towers.quality import CONTENT, RECORDS
from dynfocus.world.towers.tower_settings import LanguageSettings, TowerSettings
from dynfocus.world.world_record import SETTINGS, upgrade_record

FOLDERS = {"vision": "instructblip", "language": "llm"}
RECORD = "tower.json"


def list_unfinished(data: Path, out: Path, seed: int, settings: TowerSettings) -> list[str]:
    """The names of the towers that have yet to be trained; raises ConfigError where others lie in their place."""
    wanted = {name: wanted_record(name, data, seed, settings) for name in FOLDERS}
    return [name for name, folder in FOLDERS.items() if not is_finished(out / folder, wanted[name])]


def wanted_record(name: str, data: Path, seed: int, settings: TowerSettings) -> dict[str, Any]:
    """What a tower follows from, as JSON gives it back."""
    wanted = {"content": CONTENT, "seed": seed, "settings": asdict(settings)[name]}
    world = read_world(data)
    wanted["world"] = world if name == "vision" else world["settings"]
    return json.loads(json.dumps(wanted))


def read_world(data: Path) -> dict[str, Any]:
    """Read what a written world follows from; raises DataError if there is none."""
    world = data / SETTINGS
    if not world.is_file():
        raise DataError(f"no world at {data}", "the data set of the embedded world", "Write it first: `make world`.")
    return upgrade_record(json.loads(world.read_text()))


def is_finished(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a folder holds the tower that follows from ``wanted``; raises ConfigError if it holds anything else."""
    if not folder.exists():
        return False
    there = _upgrade_tower(read_record(folder))
    different = [key for key in wanted if there.get(key) != wanted[key]]
    if different:
        raise ConfigError(
            f"{folder}, made with other {', '.join(different)}"
            if there
            else f"{folder}, which is no tower of this world",
            "an absent folder, or one made with these settings",
            "Delete that folder, or write the towers elsewhere.",
        )
    return True


def _upgrade_tower(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a tower of before worlds had settings and layouts were mixed as it would be today."""
    if "settings" in record:
        defaults = asdict(LanguageSettings()) if "pool" in record["settings"] else {}
        record = record | {"settings": defaults | record["settings"]}
        record["world"] = upgrade_record(record.get("world", asdict(EASY)))
    return record


def read_record(folder: Path) -> dict[str, Any]:
    """What a tower was made with and how good it is; empty where no record lies."""
    record = folder / RECORD
    return json.loads(record.read_text()) if record.is_file() else {}


def write_records(out: Path) -> None:
    """Write the records of all towers beside them, in one file."""
    records = {name: read_record(out / folder) for name, folder in FOLDERS.items()}
    write_text(out / RECORDS, json.dumps(records, indent=2) + "\n")
