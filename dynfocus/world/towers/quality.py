"""Read how good the trained towers are, and refuse to build on bad ones."""

import json
from pathlib import Path
from typing import Any

from dynfocus.errors import CheckpointError

RECORDS = "towers.json"
CONTENT = 2  # another number whenever the same settings give other towers
LEAST_DETAIL = 0.9


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


def check_towers(out: Path) -> None:
    """Refuse towers to build on that an earlier version made, or whose language model cannot read symbolic scenes.

    Raises:
        CheckpointError: if their features are not read as today, the accuracy on detail over symbolic scenes is under
            0.9, or no towers are there.
    """
    record = read_quality(out)
    if any(tower.get("content") != CONTENT for tower in record.values()):
        raise CheckpointError(
            f"towers in {out} that an earlier version of this project made",
            "towers that were trained as this version reads them",
            f"Delete {out}, make them again (`make towers`), and train again (`make stage1 AGAIN=1`).",
        )
    detail = record["language"]["quality"]["detail"]
    if not detail >= LEAST_DETAIL:
        raise CheckpointError(
            f"a language model in {out} whose accuracy on detail is {detail:.2f} over symbolic scenes",
            f"at least {LEAST_DETAIL}: what is built on it would look broken for no reason of its own",
            "Train the towers with the default settings or for more steps.",
        )
