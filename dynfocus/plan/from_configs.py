"""A run as configs describe it, in the words of a plan (no torch)."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.plan.configs import Configs, merged
from dynfocus.settings import STAGES, ConnectorSettings, FrameRule, LoraSettings, StageName

SHARDED = "dynfocus.train.fsdp.FSDP2Strategy"
PRECISIONS = {"32": "32", "32-true": "32", "bf16-mixed": "bf16-mixed", "16-mixed": "bf16-mixed"}
FOLDERS = ("encoders", "language_model", "vision")
UNCOUNTED = {  # what a plan knows no size of, and what it is without
    "train_instruction": "Plan with false; it takes 16 bytes more for each weight of the instruction encoder.",
    "shard_towers": "Plan with false, which needs more memory.",
}


def described(paths: Sequence[Path], instead: Collection[str] = ()) -> dict[str, Any]:
    """What ``dynfocus fit`` with these configs does, by the names of `dynfocus plan`'s options; absent is what is open.

    Beside these ``settings``, ``precision``, ``rank`` and ``accumulate``, and ``notes``: sentences on what the configs
    leave open or a plan does not count.

    Args:
        paths: the configs, the last one on top.
        instead: what options say in their place, of which there are no notes.

    Raises:
        CheckpointError: if adapters to start from cannot be read.
        ConfigError: if a config cannot be read or contradicts itself, or a plan cannot count what it asks for.
    """
    configs, notes = merged(paths), []
    for name, do in UNCOUNTED.items():
        if configs.get(f"model.{name}", bool, False):
            raise ConfigError(f"model.{name} = true", "what a plan can count", do)
    told: dict[str, Any] = {
        "settings": configs.settings("model.connector", ConnectorSettings) or ConnectorSettings(),
        "frames": (configs.settings("model.frame_rule", FrameRule) or FrameRule()).frames,
        "slots": configs.get("model.slots", Literal["first", "every"], "every"),
        "checkpointing": configs.get("model.activation_checkpointing", bool, False),
        "optimizer": configs.get("model.optimizer", Literal["adamw", "adamw8bit"], "adamw"),
        "new": configs.get("model.max_new_tokens", int, 16),
        "rows": configs.get("data.init_args.batch_size", int, 32),
        "global_batch": configs.get("data.init_args.global_batch", int, None),
        "accumulate": configs.get("trainer.accumulate_grad_batches", int, 1),
        "precision": _precision(configs),
        "strategy": _strategy(configs),
        **_trained(configs),
    }
    for name in FOLDERS:
        folder = configs.get(f"model.{name}", str, None)
        if folder is not None and Path(folder).exists():
            told[name] = Path(folder)
        elif folder is not None and name not in instead:
            notes.append(f"model.{name} = {folder} is not there: the paper's sizes are taken.")
    devices = _devices(configs)
    if devices is None and "gpus" not in instead:
        notes.append("trainer.devices is left to the machine: 1 GPU a machine is taken; --gpus says another number.")
    told["gpus"] = (1 if devices is None else devices) * configs.get("trainer.num_nodes", int, 1)
    if told["settings"].instruction_mode == "frame":
        notes.append("instruction_mode = frame: the instruction encoder is counted as if it read the question alone.")
    if any(configs.get(f"data.init_args.{name}", str, None) for name in ("sketch_cache", "sketch_shards")):
        notes.append("sketches are kept: the vision encoder runs once a video, but is counted in each row's FLOPs.")
    if configs.get("model.attention", str, "sdpa") == "eager":
        notes.append("attention = eager: its weights of size tokens x tokens are not counted.")
    if configs.get("trainer.precision", str | int, None) == "16-mixed" and told["optimizer"] == "adamw":
        notes.append("precision = 16-mixed: AdamW takes 4 bytes more a trained weight as it updates, not counted.")
    return {name: value for name, value in told.items() if value is not None} | {"notes": tuple(notes)}


def _trained(configs: Configs) -> dict[str, Any]:
    """``train`` and the adapters' ``rank``."""
    stage = configs.get("model.stage", StageName, "stage2")
    lora = configs.settings("model.lora", LoraSettings)
    packed = configs.get("model.quantize", Literal["nf4"], None)
    tuned = "language_model" in STAGES[stage].trains
    rank = _held(configs) if tuned and lora is None else None if lora is None else lora.rank
    if rank is not None and tuned:
        return {"train": "qlora" if packed else "lora", "rank": rank}
    if rank is not None or packed:
        raise ConfigError(
            f"model.{'quantize' if packed else 'lora'} in {stage}{'' if rank is not None else ' without lora'}",
            "adapters in a stage that trains the language model, or weights that are not packed",
            "Set lora and quantize to null, or lay lora.yaml or qlora.yaml over stage2.yaml.",
        )
    return {"train": "stage2" if tuned else "stage1"}


def _held(configs: Configs) -> int | None:
    """The rank of the adapters in the trained model that a run starts from; None where it has none, or is not there."""
    try:
        start = configs.get("model.init_from", str, None)
    except ConfigError:  # a run's folder is mostly given on the command line
        return None
    path = None if start is None else Path(start) / "adapter" / "adapter_config.json"
    if path is None or not path.exists():
        return None
    try:
        return int(json.loads(path.read_text())["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}, which cannot be read ({error})", "adapters of peft", "Check it.") from error


def _precision(configs: Configs) -> str:
    given = str(configs.get("trainer.precision", str | int, "32-true"))
    if given not in PRECISIONS:
        needed = f"one of {', '.join(PRECISIONS)}"
        raise ConfigError(f"trainer.precision = {given}", needed, "Plan with one of them.")
    return PRECISIONS[given]


def _strategy(configs: Configs) -> str:
    given = configs.get("trainer.strategy", str | dict, "auto")
    name = given if isinstance(given, str) else str(given.get("class_path"))
    if name == SHARDED:
        return "fsdp"
    if name in ("auto", "ddp") or name.startswith("ddp_") or name.endswith((".DDPStrategy", ".SingleDeviceStrategy")):
        return "ddp"
    raise ConfigError(
        f"trainer.strategy = {name}", f"auto, ddp or {SHARDED}", "Set it; lightning_configs/fsdp.yaml shards the model."
    )


def _devices(configs: Configs) -> int | None:
    """Processes on one machine; None where the machine decides."""
    given = configs.get("trainer.devices", int | str | list, "auto")
    if isinstance(given, str) and given.count(","):
        return len([part for part in given.split(",") if part.strip()])
    if isinstance(given, list):
        return len(given)
    if str(given) in ("auto", "-1"):
        return None
    if not str(given).isdecimal():
        raise ConfigError(f"trainer.devices = {given}", "a number of devices, a list of them, or auto", "Correct it.")
    return int(given)
