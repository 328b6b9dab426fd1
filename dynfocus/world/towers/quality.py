"""Read how good the trained towers are, and refuse to build on bad ones."""

import json
from pathlib import Path
from typing import Any

from dynfocus.errors import CheckpointError
from dynfocus.world.recipes import WorldSettings, read_settings

RECORDS = "towers.json"
CONTENT = 2  # another number whenever the same settings give other towers
LEAST_DETAIL = 0.9
# Settings in which a world may not differ from that of its towers, whose language model learned its questions there.
LEARNED_BY_TOWERS = ("things", "words_repeat", "thing_size")


def read_quality(out: Path) -> dict[str, Any]:
    """Read the record beside the towers: for ``vision`` and ``language`` settings, seed, seconds, losses and quality.

    Raises:
        CheckpointError: if the towers are not there, or not all of them.
    """
    path = Path(out) / RECORDS
    try:
        record = json.loads(path.read_text())
        return {"vision": record["vision"], "language": record["language"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"no whole record of the towers at {path}", "towers trained to the end", "Make them first: `make towers`."
        ) from error


def check_towers(out: Path, world: WorldSettings | None = None) -> None:
    """Refuse towers that an earlier version or another world made, or whose language model reads symbols badly.

    Args:
        out: folder of the towers.
        world: the settings of the world that they are to be used on; towers of a world that has other lengths,
            another look or other numbers of events fit too.

    Raises:
        CheckpointError: if their features are not read as today, they learned another kind of questions, the accuracy
            on detail over symbolic scenes is under 0.9, or no towers are there.
    """
    record = read_quality(out)
    if any(tower.get("content") != CONTENT for tower in record.values()):
        raise CheckpointError(
            f"towers in {out} that an earlier version of this project made",
            "towers that were trained as this version reads them",
            f"Delete {out}, make them again (`make towers`), and train again (`make stage1 AGAIN=1`).",
        )
    if world is not None:
        check_learned(
            f"towers in {out}",
            read_settings(record["vision"].get("world", {})),
            world,
            "Name the towers of this world in model.encoders and model.language_model, or train them: "
            "`dynfocus towers DATA TOWERS`.",
        )
    detail = record["language"]["quality"]["detail"]
    if not detail >= LEAST_DETAIL:
        raise CheckpointError(
            f"a language model in {out} whose accuracy on detail is {detail:.2f} over symbolic scenes",
            f"at least {LEAST_DETAIL}: what is built on it would look broken for no reason of its own",
            "Train the towers with the default settings or for more steps.",
        )


def check_learned(what: str, learned: WorldSettings, world: WorldSettings, advice: str) -> None:
    """Refuse to use what was learned on one world on another one whose questions or things are of another kind.

    Raises:
        CheckpointError: if the two differ in `LEARNED_BY_TOWERS`.
    """
    different = [name for name in LEARNED_BY_TOWERS if getattr(learned, name) != getattr(world, name)]
    if different:
        raise CheckpointError(
            f"{what}, of a world with {', '.join(f'{name}={getattr(learned, name)}' for name in different)}",
            f"a world with {', '.join(f'{name}={getattr(world, name)}' for name in different)}",
            advice,
        )
