"""Check a checkpoint's folder before anything of it is built: what its files are, and what sizes they ask for.

Folders come from others. A pipe never ends, a link leads to files that nobody gave, and one number in config.json can
ask for more memory than there is. The bounds lie far above every published model.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from dynfocus.errors import CheckpointError
from dynfocus.records.first_bytes import name_kind_of

FILES = 10_000  # in a folder
TEXT_BYTES = 256 * 2**20  # of a JSON or text file; published tokenizers have 35 MB at most
CONFIG_BYTES = 16 * 2**20  # of any config
NUMBER = 2**24  # any size in config.json; contexts of 10 million tokens are published
LAYERS = 1000  # and as deep or as many: blocks, heads, experts
SETTING = 100_000  # a number of the connector's
ENTRIES = 20_000  # of a list in config.json, or of tokens beside a vocabulary; 6 500 are published
DEPTH = 50  # of brackets inside brackets
COUNTS = ("layer", "block", "depth", "head", "expert", "groups")
FREE = ("theta", "rope", "seed", "_id", "length")  # no sizes, or ones that build nothing
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
TOKENS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def check_files(folder: Path) -> None:
    """Check what a folder of weights holds, and the folders in it; nothing is checked where there is no folder.

    Raises:
        CheckpointError: if a file is no regular one, may not be read, leads out of the folder, or is larger than any of
            its kind; if an index names files elsewhere; if a config or a tokenizer asks for more than `LAYERS` layers,
            or more of something else than its bound.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return
    inside = folder.resolve()
    # A folder of Hugging Face's cache is made of links to its neighbour's files.
    blobs = inside.parent.parent / "blobs" if inside.parent.name == "snapshots" else None
    for file in _list(folder):
        place = file.resolve()
        if not place.is_relative_to(inside) and not (blobs is not None and place.is_relative_to(blobs)):
            raise _refuse(file, f"leads out of its folder, to {place}", "a file of the folder itself")
        status = file.stat() if file.exists() else file.lstat()
        if S_ISDIR(status.st_mode):
            continue
        if not S_ISREG(status.st_mode):
            raise _refuse(file, "is no regular file", "files, and no links to nothing, pipes or devices")
        if not os.access(file, os.R_OK):
            owner = f"only user {status.st_uid} may read (mode {status.st_mode & 0o777:o})"
            raise CheckpointError(
                f"{file}, which {owner}", "files that you may read", f"Let its owner run `chmod a+r {file}`."
            )
        limit = CONFIG_BYTES if file.name in ("config.json", *TOKENS) else TEXT_BYTES
        if file.suffix in (".json", ".txt", ".jinja") and status.st_size > limit:
            raise _refuse(file, f"has {status.st_size} bytes", f"at most {limit}")
    for name in INDICES:
        _check_index(folder / name)
    if (folder / "config.json").is_file():
        _check_numbers(folder / "config.json", _read(folder / "config.json"))
    for place in (folder, folder / "qformer_tokenizer"):
        for name in (*TOKENS, "tokenizer.json"):
            if (place / name).is_file():
                _check_tokens(place / name, _read(place / name))


def _list(folder: Path) -> Iterator[Path]:
    count = 0
    for place in (folder, folder / "qformer_tokenizer", folder / "adapter"):
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name) if place.is_dir() else ():
            if (count := count + 1) > FILES:
                raise _refuse(folder, f"holds more than {FILES} files", "the folder of one checkpoint")
            if not entry.name.startswith("."):
                yield Path(entry.path)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        kind = name_kind_of(file)
        cause = " ".join(str(error).split())[:200] if kind is None else f"it is {kind}"
        raise _refuse(file, f"does not read ({cause})", "JSON") from error


def _check_index(file: Path) -> None:
    if not file.exists():
        return
    index = _read(file)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise _refuse(file, "has no weight_map", "the file of each weight, by its name")
    for name in {str(place) for place in places.values()}:
        if Path(name).name != name or not name.endswith((".safetensors", ".bin")):
            raise _refuse(file, f"names {name!r} for weights", "names of files beside it")


def _check_numbers(file: Path, value: Any, key: str = "", depth: int = 0, limit: int = NUMBER) -> None:
    if depth > DEPTH:
        raise _refuse(file, f"holds more than {DEPTH} brackets inside brackets", "a config as transformers writes it")
    if isinstance(value, dict | list) and len(value) > ENTRIES:
        raise _refuse(file, f"has {len(value)} entries under {key or 'its top'}", f"at most {ENTRIES}")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_numbers(file, inner, name, depth + 1, SETTING if name == "connector" else limit)
    elif isinstance(value, list):
        for inner in value:
            _check_numbers(file, inner, key, depth + 1, limit)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        is_count = any(word in key for word in COUNTS) and not key.endswith(("_size", "_dim"))
        most = LAYERS if is_count else limit
        if abs(value) > most and not any(word in key for word in FREE):
            raise _refuse(file, f"says {key} = {value}", f"at most {most}")


def _check_tokens(file: Path, value: Any) -> None:
    if not isinstance(value, dict):
        raise _refuse(file, "holds no settings", "a JSON object")
    own = {"": value} if file.name == "added_tokens.json" else value
    for name, part in own.items():
        if name != "model" and isinstance(part, dict | list) and len(part) > ENTRIES:
            raise _refuse(file, f"has {len(part)} entries under {name or 'its top'}", f"at most {ENTRIES}")


def _refuse(file: Path, what: str, needed: str) -> CheckpointError:
    return CheckpointError(f"{file}, which {what}", needed, "Check the folder, or get the checkpoint again.")
