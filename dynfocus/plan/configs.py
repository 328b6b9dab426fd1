"""Read from the configs of a run what a plan depends on, with the parser of `dynfocus fit` itself."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dynfocus.errors import ConfigError
from dynfocus.models.lora import read_lora_settings
from dynfocus.plan.plan import FOLDERS
from dynfocus.settings import ConnectorSettings, LoraSettings, restore_settings
from dynfocus.train.build import Building
from dynfocus.train.fit import UNNAMED, read_settings

SHARDED = "dynfocus.train.fsdp.FSDP2Strategy"
PRECISIONS = {"None": "32", "32": "32", "32-true": "32", "bf16-mixed": "bf16-mixed", "16-mixed": "bf16-mixed"}
UNCOUNTED = {  # what a plan knows no size of, and what it is without
    "train_instruction": "Plan with false; it takes 16 bytes more for each weight of the instruction encoder.",
    "shard_towers": "Plan with false, which needs more memory.",
}


def read_options(paths: Sequence[Path], instead: Collection[str] = ()) -> dict[str, Any]:
    """What ``dynfocus fit`` with these configs does, by the names of `make_plan`'s options; absent is what is open.

    Beside these ``settings``, ``slots``, ``precision``, ``rank`` and ``accumulate``, and ``notes``: sentences on what
    the configs leave open or a plan does not count.

    Args:
        paths: the configs, the last one on top.
        instead: what options say in their place, of which there are no notes.

    Raises:
        CheckpointError: if adapters to start from cannot be read.
        ConfigError: if a config cannot be read or contradicts itself, or a plan cannot count what it asks for.
    """
    read = read_settings(paths)
    model, data, trainer, notes = read["model"], read["data"].get("init_args", {}), read["trainer"], []
    for name, advice in UNCOUNTED.items():
        if model[name]:
            raise ConfigError(f"model.{name} = true", "what a plan can count", advice)
    options: dict[str, Any] = {
        "settings": restore_settings(ConnectorSettings, model["connector"]),
        "frames": model["frame_rule"]["frames"],
        "slots": model["slots"],
        "checkpointing": model["activation_checkpointing"],
        "optimizer": model["optimizer"],
        "new": model["max_new_tokens"],
        "rows": data.get("batch_size"),
        "global_batch": data.get("global_batch"),
        "accumulate": trainer["accumulate_grad_batches"] or 1,
        "precision": _precision(trainer["precision"]),
        "strategy": _strategy(trainer["strategy"]),
        **_read_training(model),
    }
    for name in FOLDERS:
        folder = model[name]
        if folder is None or str(folder) == UNNAMED:
            continue
        if Path(folder).exists():
            options[name] = Path(folder)
        elif name not in instead:
            notes.append(f"model.{name} = {folder} is not there: the paper's sizes are taken.")
    devices = _devices(trainer["devices"])
    if devices is None and "gpus" not in instead:
        notes.append("trainer.devices is left to the machine: 1 GPU a machine is taken; --gpus says another number.")
    options["gpus"] = (1 if devices is None else devices) * trainer["num_nodes"]
    if options["settings"].instruction_mode == "frame":
        notes.append("instruction_mode = frame: the instruction encoder is counted as if it read the question alone.")
    if data.get("sketch_cache") or data.get("sketch_shards"):
        notes.append("sketches are kept: the vision encoder runs once a video, but is counted in each row's FLOPs.")
    if model["attention"] == "eager":
        notes.append("attention = eager: its weights of size tokens x tokens are not counted.")
    if trainer["precision"] == "16-mixed" and options["optimizer"] == "adamw":
        notes.append("precision = 16-mixed: AdamW takes 4 bytes more a trained weight as it updates, not counted.")
    return {name: value for name, value in options.items() if value is not None} | {"notes": tuple(notes)}


def _read_training(model: dict[str, Any]) -> dict[str, Any]:
    """``train`` and the adapters' ``rank``; contradictions are refused as `dynfocus fit` refuses them."""
    lora = None if model["lora"] is None else restore_settings(LoraSettings, model["lora"])
    settings = restore_settings(ConnectorSettings, model["connector"])
    building = Building(Path(), Path(), settings, model["stage"], quantize=model["quantize"], lora=lora)
    if "language_model" not in building.trains:
        if building.quantize:
            raise ConfigError("model.quantize in stage1", "weights that a plan can count", "Plan with null.")
        return {"train": "stage1"}
    start = model["init_from"]
    adapters = lora or (None if start is None else read_lora_settings(Path(start)))
    if adapters is None:
        return {"train": "stage2"}
    return {"train": "qlora" if building.quantize else "lora", "rank": adapters.rank}


def _precision(given: Any) -> str:
    if str(given) not in PRECISIONS:
        needed = f"one of {', '.join(list(PRECISIONS)[1:])}"
        raise ConfigError(f"trainer.precision = {given}", needed, "Plan with one of them.")
    return PRECISIONS[str(given)]


def _strategy(given: Any) -> str:
    name = given if isinstance(given, str) else str(given.get("class_path"))
    if name == SHARDED:
        return "fsdp"
    if name in ("auto", "ddp") or name.startswith("ddp_") or name.endswith((".DDPStrategy", ".SingleDeviceStrategy")):
        return "ddp"
    raise ConfigError(
        f"trainer.strategy = {name}", f"auto, ddp or {SHARDED}", "Set it; lightning_configs/fsdp.yaml shards the model."
    )


def _devices(given: Any) -> int | None:
    """Processes on one machine; None where the machine decides."""
    if str(given) in ("auto", "-1"):
        return None
    if isinstance(given, str) and "," in given:
        given = [part for part in given.split(",") if part.strip()]
    if not isinstance(given, list) and not str(given).isdecimal():
        raise ConfigError(f"trainer.devices = {given}", "a number of devices, a list of them, or auto", "Correct it.")
    return len(given) if isinstance(given, list) else int(given)
