"""Write beside answers what they are made with, and refuse to add answers that are made otherwise."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynfocus.errors import ConfigError
from dynfocus.records.atomic import write_text

CARD = "card.json"
DIGESTS = ("model", "prompts")  # parts of the card that say nothing to a reader


def check_card(file: Path, card: dict[str, Any], answers: Path | None = None) -> None:
    """Write what answers are made with; raises ConfigError where others were made with something else.

    Args:
        file: where it is written.
        card: what they are made with, as JSON holds it.
        answers: the file or folder of the answers; by default the folder that ``file`` lies in.
    """
    answers = answers or file.parent
    if file.exists() and (changes := list_changes(json.loads(file.read_text()), card)):
        raise ConfigError(
            f"{answers}, whose answers were made with {' and '.join(changes)}",
            "the settings that its answers began with",
            f"Give another --out, or delete {answers}.",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(card, indent=2) + "\n")


def list_changes(before: Mapping[str, Any], card: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List in words what a card says otherwise than an earlier one."""
    changes = []
    for name, value in card.items():
        old = before.get(name)
        if isinstance(value, dict):
            changes += list_changes(old or {}, value, f"{name}.")
        elif old != value:
            unlike = (
                f"another {name}" if name in DIGESTS else f"{prefix}{name} {json.dumps(old)}, not {json.dumps(value)}"
            )
            changes.append(unlike)
    return changes
