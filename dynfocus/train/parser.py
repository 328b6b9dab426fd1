"""Parse the settings of fit, and answer a mistake in them with one sentence that names the nearest setting."""

import re
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from dynfocus.errors import ConfigError, suggest


class Parser(LightningArgumentParser):
    """LightningCLI's parser, whose errors are one sentence instead of a page of usage."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Refuse settings, and name the setting that was probably meant."""
        problem, needed = " ".join(message.split()), "settings as `dynfocus fit --help` lists them"
        if missing := re.match(r"Parser key \"(\S+?)\": Not of type Path: .*NoneType", problem):
            page = "docs/data.md" if missing[1].startswith("data") else "docs/weights.md"
            do = f"Set --{missing[1]} or name it in a config; {page} says what belongs there."
            raise ConfigError(f"no {missing[1]}", "a folder: this setting is required", do) from ex
        do = self._suggest(problem) or "Correct the config or the command line."
        if inner := re.search(rf"- ([^-]+)\. Needed: {needed}\. (.+?[.?])", problem):  # of the settings of a class
            problem, do = f"{problem.partition(': ')[0]}: {inner[1]}", inner[2]
        raise ConfigError(problem.rstrip("."), needed, do) from ex

    def _suggest(self, message: str) -> str:
        unknown = re.search(r"unrecognized arguments: (--[^\s=]+)|(?:Group '(.+?)' .*?)?[Oo]ption '(.+?)'", message)
        if unknown is None:
            return ""
        parsers = [self, *getattr(self._subcommands_action, "choices", {}).values()]
        keys = {key for parser in parsers for key in parser._option_string_actions}
        if unknown[1]:
            return suggest(unknown[1], keys)
        return suggest(".".join(filter(None, unknown.groups())), {key.lstrip("-") for key in keys})
