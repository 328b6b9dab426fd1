"""Read from config.json what tokens, the context and the KV cache depend on, without torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dynfocus.errors import CheckpointError

VISION = ("image_size", "patch_size")
LANGUAGE = ("num_hidden_layers", "max_position_embeddings", "hidden_size", "num_attention_heads", "num_key_value_heads")


@dataclass(frozen=True)
class Sizes:
    """What is known of the towers before they are built; the defaults are ViT-G/14 at 224 pixels and Vicuna-7B v1.5.

    Attributes:
        patches: N, patch tokens a frame.
        context: the most tokens that the language model reads.
        layers: of the language model.
        kv_width: numbers that one layer caches as keys for one token, and again as values.
        sliding: layers that attend to the last ``window`` tokens alone.
        window: of these layers.
    """

    patches: int = 256
    context: int = 4096
    layers: int = 32
    kv_width: int = 4096
    sliding: int = 0
    window: int = 0

    def kv_bytes(self, tokens: int, number: int = 2) -> int:
        """Bytes of the keys and values of ``tokens`` tokens of one row, exact: 2 x layers x width x tokens x bytes.

        Layers that slide keep the last ``window`` - 1 tokens.
        """
        cached = (self.layers - self.sliding) * tokens + self.sliding * min(tokens, self.window - 1)
        return 2 * self.kv_width * number * cached


def read_sizes(encoders: Path | None = None, language_model: Path | None = None, vision: Path | None = None) -> Sizes:
    """Sizes from the ``config.json`` of folders of transformers; the paper's where no folder is given.

    Raises:
        CheckpointError: if there is no readable config.json, or it holds sizes that cannot be.
    """
    sizes: dict[str, int] = {}
    folder = vision or (None if encoders is None or of_lavis(encoders) else encoders)
    if folder is not None:
        image, patch = (_check(folder, read_config(folder, VISION, "vision_config"), name) for name in VISION)
        sizes["patches"] = (image // patch) ** 2
    if language_model is not None:
        sizes |= language_sizes(read_config(language_model, LANGUAGE), language_model)
    return Sizes(**sizes)


def language_sizes(config: Any, folder: Path = Path()) -> dict[str, int]:
    """What `Sizes` says of a language model, from its config; errors name the folder that it is from."""
    layers, context, width, heads = (_check(folder, config, name) for name in LANGUAGE[:4])
    keys = _check(folder, config, "num_key_value_heads", heads)
    head = _check(folder, config, "head_dim", max(1, width // heads))
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    sliding = 0 if window is None else kinds.count("sliding_attention")
    return {"context": context, "layers": layers, "kv_width": keys * head, "sliding": sliding, "window": window or 0}


def read_config(folder: Path, names: tuple[str, ...] | None = None, part: str = "") -> Any:
    """The config of a folder, or its ``part``; what it leaves out of ``names`` is its family's default.

    transformers, which knows these defaults and takes seconds to import, is asked where one is left out, or for all.

    Raises:
        CheckpointError: if it cannot be read, or transformers does not know the family.
    """
    path = Path(folder) / "config.json"
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
        values = values.get(part, values)
        slides = values.get("use_sliding_window") and "layer_types" not in values  # Qwen2's older files
        if names and all(name in values for name in names) and not slides:
            return SimpleNamespace(**values)
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}, which cannot be read ({reason})",
            "a config.json of a model that transformers knows",
            "Check the folder, or leave it out to plan with the paper's towers.",
        ) from error
    return getattr(config, part, config) if part else config


def of_lavis(folder: Path) -> bool:
    """Whether a folder holds files of LAVIS, which say no sizes: they are taken for the paper's."""
    return not (folder / "config.json").exists() and any(folder.glob("*.pth"))


def _check(folder: Path, config: Any, name: str, default: int | None = None) -> int:
    value = getattr(config, name, None)
    value = default if value is None else value
    if not isinstance(value, int) or value < 1:
        problem = f"{name} = {value!r} in {folder / 'config.json'}"
        raise CheckpointError(problem, "a whole number of at least 1", "Check the folder.")
    return value
