"""Tensors of checkpoint folders, one at a time, and modules that take every one of them or none."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dynfocus.errors import CheckpointError
from dynfocus.models.towers.files import check_files
from dynfocus.records.first_bytes import name_kind_of

OLD_BUFFER = "position_ids"  # counts upwards; older versions of transformers wrote it among the weights
INDEX = "model.safetensors.index.json"
MAX_REASON = 300  # characters; transformers lists all of its models
Named = Iterator[tuple[str, Tensor]]


def read_json(file: Path) -> dict[str, Any]:
    """Raises CheckpointError if the file is absent or holds something else."""
    check_files(Path(file).parent)
    try:
        result = json.loads(require_existing(file).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise unfit(Path(file).parent, f"{Path(file).name} does not read: {explain(file, error)}") from error
    if not isinstance(result, dict):
        raise unfit(Path(file).parent, f"{Path(file).name} holds no settings")
    return result


def read_settings(kind: Any, folder: Path) -> Any:
    """The folder's config.json as one of transformers' configurations; raises CheckpointError if it is none."""
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers' checks of single values have errors of their own
        raise unfit(Path(folder), f"config.json: {' '.join(str(error).split())[:MAX_REASON]}") from error


def weight_files(folder: Path, prefix: str = "") -> list[Path]:
    """The safetensors files with names that start with ``prefix``, as the index says; all files, where there is none.

    Raises:
        CheckpointError: if there is none, or the index names a file that is absent.
    """
    folder = require_existing(folder)
    check_files(folder)
    if (folder / INDEX).exists():
        names = {file for name, file in _index(folder).items() if name.startswith(prefix)}
        return [require_existing(folder / name) for name in sorted(names)]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise unfit(folder, "no file *.safetensors is there")
    return files


def tensor_names(folder: Path) -> list[str]:
    """The names of all tensors, from the index where there is one; raises CheckpointError."""
    return list(_index(folder)) if (folder / INDEX).exists() else list(part_names(folder, ""))


def part_names(folder: Path, prefix: str) -> dict[str, tuple[Path, str]]:
    """Where the tensors lie whose names start with ``prefix``: name without it -> file, and name in the file."""
    result: dict[str, tuple[Path, str]] = {}
    for file in weight_files(folder, prefix):
        with _open_file(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                if name.startswith(prefix) and name.rpartition(".")[2] != OLD_BUFFER:
                    result[name.removeprefix(prefix)] = file, name
    if (Path(folder) / INDEX).exists():
        listed = {name for name in _index(Path(folder)) if name.startswith(prefix)}
        lost = {name for name in listed if name.rpartition(".")[2] != OLD_BUFFER} - {
            name for _, name in result.values()
        }
        if lost:
            raise unfit(Path(folder), f"{min(lost)} is not in the file that {INDEX} names for it")
    return result


def read_part(folder: Path, prefix: str) -> Named:
    """The tensors whose names start with ``prefix``, without it, sorted by name; each is read when its turn comes.

    Raises:
        CheckpointError: if a file is absent or does not read.
    """
    places = part_names(folder, prefix)
    for name in sorted(places):
        file, full = places[name]
        with _open_file(file) as tensors:
            yield name, tensors.get_tensor(full)


def fill(module: nn.Module, tensors: Iterable[tuple[str, Tensor]], folder: Path, dtype: torch.dtype) -> None:
    """Give a module, built on the meta device or not, just these tensors in ``dtype``: no weight is held twice.

    Raises:
        CheckpointError: if a tensor is absent, surplus or of another shape: never random weights without a word.
    """
    state: dict[str, Tensor] = {}
    try:
        for name, tensor in tensors:
            if not tensor.is_floating_point():
                raise RuntimeError(f"{name} holds {tensor.dtype}, no real numbers")
            state[name] = tensor.to(dtype, copy=True)
        module.load_state_dict(state, strict=True, assign=True)
        _count_positions(module)
    except RuntimeError as error:
        raise CheckpointError(
            f"{len(state)} tensors in {folder} that do not fit ({str(error).splitlines()[-1].strip()})",
            f"every tensor of {type(module).__name__}",
            "Check that the folder is a whole checkpoint of this architecture.",
        ) from error


def _count_positions(module: nn.Module) -> None:
    for name, buffer in module.named_buffers():
        if buffer.is_meta and name.rpartition(".")[2] == OLD_BUFFER:
            owner = module.get_submodule(name.rpartition(".")[0])
            owner.register_buffer(OLD_BUFFER, torch.arange(buffer.shape[-1])[None], persistent=False)
    left = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    if left:
        raise RuntimeError(f"{left[0]} has no value")


def _index(folder: Path) -> dict[str, str]:
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict):
        raise unfit(folder, f"{INDEX} has no weight_map")
    return index


def _open_file(file: Path) -> Any:
    try:
        return safe_open(file, "pt")
    except (SafetensorError, OSError) as error:
        raise unfit(file.parent, f"{file.name} does not open: {explain(file, error)}") from error


def unfit(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"a checkpoint in {folder} that does not fit ({what})",
        "every weight, in the shapes that its config.json says",
        "Check that the folder is a whole checkpoint of this architecture.",
    )


def reason(error: Exception) -> str:
    """What an error of another library says, in a line."""
    return next(filter(str.strip, str(error).splitlines()), type(error).__name__)[:MAX_REASON]


def explain(file: Path, error: Exception) -> str:
    """Why a file does not read: who may read it, or what it is instead, before what another library says of it."""
    if not os.access(file, os.R_OK):
        status = file.stat()
        return f"only user {status.st_uid} may read it (mode {status.st_mode & 0o777:o}); `chmod a+r` lets others"
    kind = name_kind_of(Path(file))
    return reason(error) if kind is None else f"it is {kind}"


def require_existing(path: Path) -> Path:
    """The path itself, if something is there; raises CheckpointError."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(
            f"the path {path}, where nothing is",
            "a checkpoint on disk",
            "Check the path; the embedded world's towers are made by `make towers`.",
        )
    return path
