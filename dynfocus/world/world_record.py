"""Record what a written world follows from, and compare two such records."""

import json
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np

from dynfocus.world import build_rows, looks, pixels, questions, things, videos
from dynfocus.world.recipes import EASY, WorldSettings

CONTENT = 3  # another number whenever the same settings give other rows or pixels
SETTINGS = "world.json"
# A world of before its settings were recorded has these constants in their place, and lacks those that came later.
OLD_NAMES = {name: f"videos.{name.upper()}" for name in ("frames", "scenes", "shortest_scene", "returns", "events")}
OLD_NAMES |= {name: f"videos.{name.upper()}" for name in ("things", "glitches")}
LATER = ("THING_TYPES",)
WHERE_WORDS_REPEAT = "REPEATED_TYPES"  # the constant that no other world follows from


@dataclass(frozen=True)
class World:
    """The settings that a written world follows from.

    Attributes:
        seed: worlds of different seeds share no video.
        videos, val, test: videos in each split.
        images: still images, all for training.
        stage1, stage2: rows of captions and of conversations; one epoch over them is one stage.
        content: the version of the rules that turn settings into rows and pixels.
        settings: what its videos are like.
    """

    seed: int
    videos: int
    val: int
    test: int
    images: int
    stage1: int
    stage2: int
    content: int = CONTENT
    settings: WorldSettings = EASY


def make_record(world: World, encoder: dict[str, str]) -> dict[str, Any]:
    """Make what `world.json` holds: the settings, and every constant that rows, pixels and files follow from."""
    return asdict(world) | {"constants": {"dataset.ENCODER": encoder} | list_constants(world.settings)}


def list_constants(settings: WorldSettings) -> dict[str, Any]:
    """List every constant that rows and pixels follow from, by its module and name, as JSON gives it back.

    Of functions, such as those that draw shapes, the names are listed; `CONTENT` counts the versions of what they do.
    """
    modules = [videos, questions, build_rows, pixels]
    modules += [things] if settings.words_repeat else []
    modules += [looks] if settings.look == "foreign" else []
    constants = {name: value for module in modules for name, value in _constants_of(module).items()}
    constants = constants if settings.words_repeat else _drop_repeated(constants)
    return json.loads(json.dumps(constants, default=_plain))


def _constants_of(module: ModuleType) -> dict[str, Any]:
    own = module.__name__.rpartition(".")[2]
    values = {name: value for name, value in vars(module).items() if name.isupper()}
    return {f"{own}.{name}": value for name, value in values.items() if not isinstance(value, WorldSettings)}


def _drop_repeated(constants: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in constants.items() if not name.endswith(WHERE_WORDS_REPEAT)}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def compare_records(stored: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compare two records: every name that differs, with its value in each."""
    one, other = _flatten(upgrade_record(stored)), _flatten(wanted)
    return {name: (one.get(name), other.get(name)) for name in other | one if one.get(name) != other.get(name)}


def upgrade_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a world as today's version would write it, where an earlier one wrote the same world."""
    if "constants" not in record:
        return record
    if "settings" in record:
        is_plain = not record["settings"].get("words_repeat")
        return record | {"constants": _drop_repeated(record["constants"])} if is_plain else record
    old = record["constants"]
    settings = asdict(EASY) | {name: old[key] for name, key in OLD_NAMES.items() if key in old}
    later = {name: value for name, value in list_constants(EASY).items() if name.split(".")[1] in LATER}
    constants = later | {name: value for name, value in old.items() if name not in OLD_NAMES.values()}
    return record | {"settings": settings, "constants": constants}


def _flatten(record: dict[str, Any]) -> dict[str, Any]:
    parts = [record.get("settings", {}), record.get("constants", {})]
    plain = {name: value for name, value in record.items() if name not in ("settings", "constants")}
    return plain | parts[0] | parts[1]
