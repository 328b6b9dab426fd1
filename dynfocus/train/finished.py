"""Tell without torch whether a run is finished, by the record that `dynfocus fit` and `test` leave beside it."""

import json
import os
import re
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any

from dynfocus.evals.results_table import format_results, read_metrics
from dynfocus.records.atomic import write_text
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction
from dynfocus.settings import read_config

RECORD = "finished.json"
RESULTS = {"fit": ("fit.json", "projectors.safetensors", "model"), "test": ("metrics.json", "predictions.jsonl")}
PROGRAM, USUAL = ".venv/bin/dynfocus", Path("runs/world/stage2")  # of `make stage2`
LARGE = 64 * 2**20  # bytes of a file that is known by its size and time: to read all weights of 7B takes a minute
YAML = (".yaml", ".yml", ".json")
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # in the order in which Lightning reads them
OPTIONS = {
    "again": "do it anew although it is finished with these settings; the finished run is moved aside",
    "keep": "where the folder holds a finished run, take the settings of that run instead of these",
    "heading": "a line to print before the work begins",
}


@dataclass(frozen=True)
class Request:
    """A call of ``dynfocus fit``, ``test``, ``validate`` or ``predict``.

    Attributes:
        verb: which of them.
        args: its settings as they stand on the command line.
        again: whether finished work is repeated.
        keep: whether finished work of other settings is kept.
        heading: what to print before the work begins.
    """

    verb: str
    args: tuple[str, ...]
    again: bool = False
    keep: bool = False
    heading: str | None = None

    @property
    def command(self) -> list[str]:
        """The arguments that LightningCLI reads."""
        return [self.verb, *self.args]


@dataclass(frozen=True)
class Record:
    """What a finished ``fit`` or ``test`` was made from, and what it left.

    Attributes:
        args: settings on the command line.
        settings: the digest of all settings, resolved.
        environment: variables that the configs refer to.
        configs: the digest of each config.
        files: the digest of each file or folder that it read: weights and annotations.
        results: names of files and folders in the run's folder.
    """

    args: tuple[str, ...]
    settings: str
    environment: dict[str, str | None]
    configs: dict[str, str | None]
    files: dict[str, str | None]
    results: tuple[str, ...] = ()


def read_request(command: list[str]) -> Request:
    """Separate `OPTIONS` from the settings; with ``--keep`` the settings are those of the finished run."""
    options = ArgumentParser(add_help=False, allow_abbrev=False)
    for name in OPTIONS:
        options.add_argument(f"--{name}", action="store" if name == "heading" else "store_true")
    own, args = options.parse_known_args(command[1:])
    if own.keep and (folder := find_run_folder(args)) and (record := read_record(folder, "fit")):
        args = list(record.args) if find_run_folder(record.args) == folder else args
    return Request(command[0], tuple(args), **vars(own))


def find_finished_run(request: Request) -> Path | None:
    """The folder of the run, if it is finished with the same arguments, configs, environment and files; else None."""
    folder = None if request.again or request.verb not in RESULTS else find_run_folder(request.args)
    record = None if folder is None else read_record(folder, request.verb)
    if folder is None or record is None or record.args != request.args:
        return None
    same = record.environment == read_environment(record.configs) and record.configs == digest_files(record.configs)
    return folder if same and is_complete(folder, record) else None


def is_complete(folder: Path, record: Record) -> bool:
    """Whether all that a finished run left is still there, and all that it read is as it was."""
    return all((folder / name).exists() for name in record.results) and record.files == digest_files(record.files)


def read_record(folder: Path, verb: str) -> Record | None:
    """The record of a verb in the run's folder; None where there is none that can be read."""
    try:
        result = json.loads((folder / RECORD).read_text())[verb]
        return Record(**result | {name: tuple(result[name]) for name in ("args", "results")})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_record(folder: Path, verb: str, record: Record) -> None:
    """Add the record of a verb that has ended to those of the run."""
    there = {name: read_record(folder, name) for name in RESULTS}
    results = tuple(name for name in RESULTS[verb] if (folder / name).exists())
    there[verb] = Record(**asdict(record) | {"results": results})
    records = {name: asdict(one) for name, one in there.items() if one is not None}
    write_text(folder / RECORD, json.dumps(records, indent=2) + "\n")


def digest_files(paths: Iterable[str | Path]) -> dict[str, str | None]:
    """The digest of what each file or folder holds; None where there is none."""
    return {str(path): digest(Path(path)) for path in sorted(map(str, paths))}


def digest(path: Path) -> str | None:
    """The sha256 of a file, or of the digests of all files in a folder; large files by size and time of change."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("[!.]*") if file.is_file())
        return digest_text(json.dumps([(str(file.relative_to(path)), digest(file)) for file in files]))
    if not path.is_file():
        return None
    result = path.stat()
    if result.st_size > LARGE:
        return f"{result.st_size} bytes of {result.st_mtime_ns}"
    return sha256(path.read_bytes()).hexdigest()


def digest_text(text: str) -> str:
    """The sha256 of a text."""
    return sha256(text.encode()).hexdigest()


def read_environment(configs: Iterable[str | Path]) -> dict[str, str | None]:
    """The environment variables that configs refer to, with their values."""
    texts = [Path(path).read_text() for path in configs if Path(path).is_file()]
    names = {name for text in texts for name in re.findall(r"oc\.env:\s*(\w+)", text)}
    return {name: os.environ.get(name) for name in sorted(names)}


def find_config_files(args: Iterable[str]) -> list[str]:
    """The files of settings that the command line names, and those that stand in them for a part of the settings."""
    from yaml import YAMLError, safe_load

    files = [Path(word.rpartition("=")[2]) for word in args if word.endswith(YAML)]
    for file in [file for file in files if file.is_file()]:
        try:
            whole = safe_load(file.read_text())
        except (YAMLError, UnicodeError, OSError):  # reading it as settings says what is wrong with it
            continue
        words = [word for word in whole.values() if isinstance(word, str)] if isinstance(whole, dict) else []
        files += [file.parent / word for word in words if word.endswith(YAML)]
    return list(map(str, files))


def find_run_folder(args: Iterable[str]) -> Path | None:
    """The run's folder, as command line and configs give it; None where only LightningCLI can resolve it."""
    pairs = list(_pairs(args))
    folders = [value for name, value in pairs if name == "trainer.default_root_dir"]
    if folders:
        return Path(folders[-1])
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        whole: Any = OmegaConf.merge({}, *(read_config(Path(value)) for name, value in pairs if name == "config"))
        for name, value in pairs:
            if name == "model.stage":
                OmegaConf.update(whole, name, value)
        folder = OmegaConf.select(whole, "trainer.default_root_dir")
    except (OmegaConfBaseException, YAMLError, OSError, ValueError, AttributeError):
        return None
    return None if folder is None else Path(folder)


def format_results_page(folder: Path) -> str:
    """Lay out a tested run: its table, where its model lies, what to try next; nothing where it left no metrics."""
    if not (folder / "metrics.json").exists():
        return ""
    lines = ["", format_results(read_metrics(folder)), "", f"the model is in {folder / 'model'}; what to try next:"]
    program = PROGRAM if Path(PROGRAM).exists() else "dynfocus"
    model = "" if folder == USUAL else f" --model {quote(str(folder / 'model'))}"
    for first in islice(read_jsonl(folder / "predictions.jsonl", Prediction), 1):
        asked = f"{quote(str(_data_root(folder) / first.video))} {quote(first.question)}"
        lines += [f"  {program} ask {asked}{model}", f"  {program} ask {asked}{model} --report report.html"]
    return "\n".join([*lines, "  make tensorboard", ""])


def _data_root(folder: Path) -> Path:
    config = read_config(folder / "config.yaml") if (folder / "config.yaml").exists() else {}
    return Path(((config.get("data") or {}).get("init_args") or {}).get("root") or ".")


def _pairs(args: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names and values of ``--name value`` and ``--name=value``."""
    words = list(args)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word.removeprefix("--").partition("=")
            yield name, value if equals else following
        elif word == "-c":
            yield "config", following


def is_first_process() -> bool:
    """Whether this is the one of a run's processes that prints."""
    ranks = [os.environ[name] for name in RANKS if name in os.environ]
    return not ranks or ranks[0] == "0"
