"""What configs of a run say that a plan depends on, merged as the command line merges them (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError, safe_load

from dynfocus.errors import ConfigError
from dynfocus.settings import Settings, restored

TOP = ("model", "data", "trainer", "seed_everything", "ckpt_path", "weights_only", "verbose", "return_predictions")
MODEL = (  # the arguments of `DynFocusModule`
    *("encoders", "language_model", "connector", "frame_rule", "system_prompt", "slots", "stage", "vision"),
    *("attention", "quantize", "lora", "train_instruction", "activation_checkpointing", "shard_towers", "lr"),
    *("language_lr", "init_from", "warmup", "optimizer", "weight_decay", "betas", "arms", "max_new_tokens", "template"),
)


@dataclass(frozen=True)
class Configs:
    """Merged configs; values are read from them one by one, with the references in each resolved.

    Attributes:
        whole: the merged configs.
    """

    whole: DictConfig

    def get(self, name: str, kind: Any, default: Any) -> Any:
        """A value by its dotted name, or ``default`` where none is given.

        Raises:
            ConfigError: if it is of another kind, or refers to what is not there.
        """
        try:
            found = OmegaConf.select(self.whole, name)
            found = OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
        except OmegaConfBaseException as error:
            raise _unresolved(name, error) from error
        return default if found is None else _checked(name, found, kind)

    def settings(self, name: str, kind: type[Settings]) -> Settings | None:
        """A dataclass of settings by its dotted name, None where none is given; raises ConfigError as `get` does."""
        given = self.get(name, dict, None)
        if given is None:
            return None
        hints = get_type_hints(kind)
        _known(given, tuple(hints), f"{name}.")
        return restored(kind, {key: _checked(f"{name}.{key}", value, hints[key]) for key, value in given.items()})


def merged(paths: Sequence[Path]) -> Configs:
    """Configs laid over each other, the last one on top.

    Raises:
        ConfigError: if a file cannot be read, is no mapping, names what is no setting of a run or its model, or says
            one of a run's parts by a reference to what is not there.
    """
    whole: Any = OmegaConf.create({})
    for path in paths:
        try:
            whole = OmegaConf.merge(whole, OmegaConf.load(path))
        except (OSError, TypeError, ValueError, YAMLError, OmegaConfBaseException) as error:
            said = " ".join(str(error).split())
            given = f"the config {path}, which cannot be read ({said})"
            raise ConfigError(given, "a file of YAML settings", "Check the path and the file.") from error
    _known(whole, TOP, "")
    for name in ("model", "trainer", "data", "data.init_args"):
        try:
            part = OmegaConf.select(whole, name)
        except OmegaConfBaseException as error:
            raise _unresolved(name, error) from error
        if part is not None and not (name == "data" and isinstance(part, str)):  # a class may be named alone
            _checked(name, part, Mapping)
    _known(whole.get("model") or {}, MODEL, "model.")
    return Configs(whole)


def _unresolved(name: str, error: OmegaConfBaseException) -> ConfigError:
    said = " ".join(str(error).split())
    return ConfigError(f"{name}: {said}", "references to settings that exist", "Correct it.")


def _known(given: Any, names: Sequence[str], where: str) -> None:
    """Raises ConfigError for a key that is none of ``names``."""
    for key in given:
        if key not in names:
            raise ConfigError(f"{where}{key} in a config", f"one of {', '.join(names)}", "Correct it, or leave it out.")


def _checked(name: str, value: Any, kind: Any) -> Any:
    """The value, if it is of this kind; raises ConfigError if it is not."""
    if isinstance(value, str) and not _fits(value, kind) and _fits(read := _read(value), kind):
        return read
    if not _fits(value, kind):
        needed = "one of " + ", ".join(map(str, get_args(kind))) if get_origin(kind) is Literal else _named(kind)
        raise ConfigError(f"{name} = {value!r} in a config", needed, "Correct it.")
    return value


def _read(word: str) -> Any:
    """What a word says to the command line, which takes "9" for 9: a reference to the environment gives words alone."""
    try:
        return safe_load(word)
    except YAMLError:
        return word


def _fits(value: Any, kind: Any) -> bool:
    """Whether a plain value is of a kind that an annotation names."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is dict:
        return isinstance(value, dict)
    if origin is tuple:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _named(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    return "settings" if kind in (dict, Mapping) else words.get(kind, str(kind))
