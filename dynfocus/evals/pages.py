"""Open the templates of pages: every value is escaped, and a missing one is an error."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def open_templates(folder: Path, **options: Any) -> Environment:
    """Open the templates of a folder; ``options`` are further ones of Jinja's Environment."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
