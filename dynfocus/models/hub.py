"""Make a trained model's folder one that transformers' auto classes and the Hugging Face Hub take."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.records.atomic import write_text

MODULE = "modeling_dynfocus"
CLASSES = {
    "AutoConfig": "DynFocusConfig",
    "AutoModel": "DynFocusModel",
    "AutoModelForImageTextToText": "DynFocusModel",
    "AutoModelForMultimodalLM": "DynFocusModel",
    "AutoProcessor": "DynFocusProcessor",
}
AUTO_MAP = {auto: f"{MODULE}.{name}" for auto, name in CLASSES.items()}
CARD = "README.md"  # the model's card, under the name that the Hub shows
SOURCE = '''"""Name the classes of this model, whose code is the Python package dynfocus.

transformers reads this file where the package was not imported before, after trust_remote_code=True.
"""

from dynfocus.models.config import DynFocusConfig
from dynfocus.models.model import DynFocusModel
from dynfocus.models.processor import DynFocusProcessor

__all__ = ["DynFocusConfig", "DynFocusModel", "DynFocusProcessor"]
'''
# What transformers, its pipelines and its servers pass to any processor; the first ones say where a Hub's files are.
PLACE = {"cache_dir", "force_download", "local_files_only", "revision", "token"}
OPTIONS = PLACE | {
    *("_commit_hash", "_from_auto", "_from_pipeline", "code_revision", "mirror", "proxies", "repo_type"),
    *("resume_download", "subfolder", "trust_remote_code", "use_auth_token", "use_fast", "user_agent"),
    # of the model alone, which a pipeline passes to the processor too
    *("attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "max_memory", "offload_folder"),
    *("quantization_config", "torch_dtype"),
}
SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.py"]  # all that a processor reads; the weights are not


def write_remote_code(folder: Path | str) -> None:
    """Write the file that ``auto_map`` of the folder's configs names."""
    write_text(Path(folder) / f"{MODULE}.py", SOURCE)


def push_card(folder: Path | str, name: str, **options: Any) -> None:
    """Upload the card of a trained model's folder to a repository of the Hub, unless either has none or one already.

    Args:
        folder: the trained model's.
        name: of the repository, which is made where there is none.
        options: ``private``, ``token`` and ``revision``, as `push_to_hub` takes them.
    """
    from huggingface_hub import HfApi

    card, private = Path(folder) / CARD, options.pop("private", None)
    if not card.is_file():
        return
    api = HfApi()
    name = api.create_repo(name, private=private, token=options.get("token"), exist_ok=True).repo_id
    if not api.file_exists(name, CARD, **options):
        api.upload_file(path_or_fileobj=card, path_in_repo=CARD, repo_id=name, commit_message="Add the card", **options)


def find_folder(name: Path | str, options: Mapping[str, Any]) -> Path:
    """The folder of a trained model: its place on disk, or the copy of a Hub's repository in transformers' cache.

    Args:
        name: a folder; or, as text alone, the name of a repository such as ``owner/name``.
        options: of transformers: ``subfolder``, ``revision``, ``cache_dir``, ``local_files_only`` and others.

    Raises:
        CheckpointError: if there is neither.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    subfolder = options.get("subfolder") or ""
    if isinstance(name, Path) or Path(name).exists() or name.count("/") > 1:
        return Path(name) / subfolder
    place = {key: value for key, value in options.items() if key in PLACE and value is not None}
    try:
        found = snapshot_download(str(name), allow_patterns=SMALL_FILES, **place)
    except (OSError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise CheckpointError(
            f"no folder {name}, and no repository of that name that can be read ({type(error).__name__}: {reason})",
            "a trained model's folder or repository",
            "Correct the name, or fetch the repository first: hf download NAME.",
        ) from error
    return Path(found) / subfolder


def check_options(options: Mapping[str, Any], known: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse options that would ask for something else than is done.

    Args:
        options: as they were given.
        known: for each option that may be given the values that change nothing.

    Raises:
        ConfigError: if an option is unknown, or has another value.
    """
    for name, value in options.items():
        if name not in known:
            raise ConfigError(
                f"the option {name}", f"one of {', '.join(sorted(known))}", "Correct it, or leave it out."
            )
        if not any(value is one or (type(value) is type(one) and value == one) for one in known[name]):
            named = " or ".join(map(repr, known[name]))
            raise ConfigError(f"the option {name} = {value!r}", f"{named}, which is what is done", "Leave it out.")
