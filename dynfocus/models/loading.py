"""Load and save DynFocus models: from towers, from and to a trained model's folder, and the projectors of stage 1."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from dynfocus.errors import CheckpointError, DynFocusError
from dynfocus.method.connector import build_connector
from dynfocus.method.selectors import refuse_foreign_selector
from dynfocus.models.config import DynFocusConfig
from dynfocus.models.hub import push_card, write_remote_code
from dynfocus.models.lora import ADAPTER, has_adapters, load_adapters, merge_adapters
from dynfocus.models.towers import (
    InstructionTower,
    VisionTower,
    check_attention,
    check_files,
    explain,
    load_instruction,
    load_language_model,
    load_tokenizer,
    open_vision,
    require_existing,
)
from dynfocus.models.towers.vision import unused_blocks
from dynfocus.models.towers.weights import reason
from dynfocus.records.atomic import atomic_write
from dynfocus.settings import ConnectorSettings

CONNECTOR = "connector.safetensors"
PLACES = ("cache_dir", "local_files_only", "revision", "subfolder", "token")  # of transformers: where a folder is
ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")
PROJECTORS = ("connector.cones.fine.", "connector.rods.coarse.", "connector.fine.")


class Folders(PreTrainedModel):
    """The part of `DynFocusModel` that reads and writes folders.

    A folder holds either all weights, as transformers writes them, or adapters of the language model beside the
    connector, and in its config where the towers lie.
    """

    config_class = DynFocusConfig
    # The connector stays in fp32 whatever the rest is read in; the encoders are then cast as the config says.
    _keep_in_fp32_modules_strict = {"connector", "vision", "instruction"}  # noqa: RUF012 (transformers' own type)
    config: DynFocusConfig
    vision: VisionTower
    instruction: InstructionTower
    connector: nn.Module
    language_model: Any
    towers: dict[str, str | None] | None = None
    trains_instruction = False  # whether the instruction encoder has been trained beside adapters

    def fresh_connector(self) -> nn.Module:
        """A connector with initial weights, for the towers' widths."""
        config = self.config
        widths = self.vision.width, config.qformer_config.hidden_size, config.text_config.hidden_size
        return build_connector(config.settings, *widths)

    @property
    def dtype(self) -> torch.dtype:
        """The language model's; the encoders and the connector may have another."""
        return self.language_model.get_input_embeddings().weight.dtype

    @classmethod
    def from_towers(
        cls,
        encoders: Path,
        language_model: Path,
        settings: ConnectorSettings,
        vision: Path | None = None,
        encoder_dtype: torch.dtype = torch.float32,
        **language: Any,
    ) -> Any:
        """Build the model on pretrained towers; the connector gets initial weights.

        Args:
            encoders: folder of the vision encoder and the Q-Former: an InstructBLIP checkpoint, or LAVIS files.
            language_model: a folder of any causal language model.
            settings: the connector's.
            vision: folder of another vision encoder, such as CLIP's or SigLIP's.
            encoder_dtype: the precision that both encoders compute in.
            language: precision, attention and quantisation of the language model, see `load_language_model`.

        Raises:
            CheckpointError: if a folder is absent or its weights do not fit.
        """
        encoder = open_vision(vision or encoders)
        instruction = load_instruction(encoders, settings.instruction_mode, encoder_dtype)
        decoder = load_language_model(language_model, **language)
        text_config = decoder.config.to_dict()
        text_config.pop("quantization_config", None)
        config = DynFocusConfig(
            vision_config=encoder.config.to_dict(),
            qformer_config=instruction.encoder.config.to_dict(),
            text_config=text_config,
            image_mean=list(encoder.image_mean),
            image_std=list(encoder.image_std),
            connector=asdict(settings),
            image_token_id=load_tokenizer(language_model).convert_tokens_to_ids("<image>"),
            queries=instruction.queries,
            vision_dtype=_name(encoder_dtype),
            instruction_dtype=_name(encoder_dtype),
        )
        with torch.device("meta"):  # takes no memory: all parts are replaced
            model = cls(config, nn.Identity())
        model.vision, model.instruction = encoder.tower(encoder_dtype), instruction
        model.connector = model.fresh_connector()
        model.language_model = decoder
        model.generation_config = decoder.generation_config = _keep_ends(decoder.generation_config)
        folders = {"encoders": encoders, "language_model": language_model, "vision": vision}
        places = {name: None if folder is None else str(Path(folder).resolve()) for name, folder in folders.items()}
        model.towers = places | {"quantize": language.get("quantize"), "dtype": _name(model.dtype)}
        return model.eval()

    @classmethod
    def from_folder(
        cls, folder: Path, settings: ConnectorSettings | None = None, trust_selector: bool = False, **language: Any
    ) -> Any:
        """A trained model from its folder, with its own connector settings or with others of the same sizes.

        Args:
            folder: the trained model's.
            settings: the connector's, instead of those that the folder names.
            trust_selector: whether a selector that the folder names by a dotted path may be imported.
            language: the options of `load_language_model`.

        Raises:
            CheckpointError: if the folder lacks weights that the settings ask for.
            ConfigError: if the folder names a selector that is neither ours nor installed, and is not trusted.
        """
        folder = require_existing(Path(folder))
        check_attention(language.get("attention", "sdpa"))
        config = read_trained_config(folder)
        try:
            return cls._from_folder(folder, config, settings, trust_selector, language)
        except (DynFocusError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # what others have written into a folder ends in any
            raise _misfit(folder, reason(error)) from error

    @classmethod
    def _from_folder(
        cls,
        folder: Path,
        config: DynFocusConfig,
        settings: ConnectorSettings | None,
        trust_selector: bool,
        language: dict[str, Any],
    ) -> Any:
        if settings is not None:
            config.connector = asdict(settings)
        elif not trust_selector:
            refuse_foreign_selector(config.settings.selector, folder)
        if config.towers is not None:
            return cls._from_adapters(folder, config, language)
        if language.get("quantize"):
            raise CheckpointError(
                f"the whole model in {folder}, to be quantised to 4 bits",
                "a language model's own folder to quantize",
                "Start from stage 1's projectors and the language model, or set quantize to null.",
            )
        options: dict[str, Any] = {
            "dtype": language.get("dtype"),
            "attn_implementation": {"text_config": language.get("attention", "sdpa")},
            "trust_selector": True,
        }
        loaded: Any = cls.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True, **options
        )
        model, loading = loaded
        if loading["missing_keys"]:
            raise _misfit(folder, f"{sorted(loading['missing_keys'])[0]} is absent")
        for name, usual in GenerationConfig().to_dict().items():  # see `_keep_ends`; what only notes something stays
            changes_answers = name == "do_sample" or not isinstance(getattr(model.generation_config, name), bool)
            if changes_answers and name not in (*ENDS, "transformers_version"):
                setattr(model.generation_config, name, usual)
        return model

    @classmethod
    def from_pretrained(cls, *args: Any, trust_selector: bool = False, **kwargs: Any) -> Any:
        """As transformers', with the encoders in the precision that they were used with in training.

        Raises:
            CheckpointError: if the folder holds adapters, of which transformers knows nothing.
            ConfigError: if it names a selector that is neither ours nor installed, without ``trust_selector``.
        """
        folder = args[0] if args else kwargs.get("pretrained_model_name_or_path", "")
        if (Path(folder) / ADAPTER).is_dir():
            raise CheckpointError(
                f"{folder}, which holds adapters and no language model",
                "one model of plain weights",
                "Make it: dynfocus export MODEL OUT --merge.",
            )
        if not trust_selector:
            places = {name: value for name, value in kwargs.items() if name in PLACES}
            settings = kwargs.get("config") or DynFocusConfig.from_dict(
                DynFocusConfig.get_config_dict(folder, **places)[0]
            )
            refuse_foreign_selector(settings.settings.selector, Path(folder))
        loaded: Any = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.vision.to(_dtype(model.config.vision_dtype))
        model.instruction.to(_dtype(model.config.instruction_dtype))
        for encoder in (model.vision, model.instruction):
            encoder.requires_grad_(False)  # transformers has put new weights in the place of the frozen ones
        return loaded

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:  # type: ignore[override]
        """Upload the model as transformers does, and before it the card of the folder that the model was read from.

        transformers keeps a card that is there, and writes one that says nothing of this model where there is none.
        """
        place = {name: options[name] for name in ("private", "token", "revision") if name in options}
        if self.name_or_path:  # a model that was made in memory has no folder
            push_card(self.name_or_path, repo_id, **place)
        transformers: Any = super()
        return transformers.push_to_hub(repo_id, **options)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As transformers', with the file that names the folder's classes where dynfocus was not imported."""
        super().save_pretrained(save_directory, *args, **kwargs)
        write_remote_code(save_directory)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Nothing: transformers would copy a file of this package into the folder, where it is of no use alone."""

    @classmethod
    def _from_adapters(cls, folder: Path, config: DynFocusConfig, language: dict[str, Any]) -> Any:
        places = dict(config.towers or {})
        options = {"quantize": places.pop("quantize"), "dtype": _dtype(places.pop("dtype"))} | language
        towers: dict[str, Any] = {name: None if place is None else Path(place) for name, place in places.items()}
        vision_dtype = _dtype(config.vision_dtype)
        model = cls.from_towers(**towers, settings=config.settings, encoder_dtype=vision_dtype, **options)
        model.instruction.to(_dtype(config.instruction_dtype))
        try:
            state = load_file(require_existing(folder / CONNECTOR))
            absent = [f"connector.{name}" for name in model.connector.state_dict() if f"connector.{name}" not in state]
            surplus = model.load_state_dict(state, strict=False).unexpected_keys
            model.trains_instruction = any(name.startswith("instruction.") for name in state)
        except (RuntimeError, SafetensorError) as error:
            raise _misfit(folder, str(error).splitlines()[-1]) from error
        if absent or surplus:
            raise _misfit(folder, f"{absent[0]} is absent" if absent else f"{surplus[0]} is surplus")
        model.language_model = load_adapters(model.language_model, folder)
        return model

    def save(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write a folder that `from_folder` reads; ``state``: all weights, where this process has only some."""
        state = dict(self.state_dict() if state is None else state)
        self.config.vision_dtype = _name(next(self.vision.parameters()).dtype)
        self.config.instruction_dtype = _name(next(self.instruction.parameters()).dtype)
        if not has_adapters(self.language_model):
            self.config.towers = None
            self.save_pretrained(folder, state_dict=state)
            return
        self.config.towers = self.towers
        self.config.save_pretrained(folder)
        write_remote_code(folder)
        self.trains_instruction |= any(weight.requires_grad for weight in self.instruction.parameters())
        parts = ("connector.", "instruction.") if self.trains_instruction else ("connector.",)
        trained = {name: tensor.contiguous() for name, tensor in state.items() if name.startswith(parts)}
        save_file(trained, folder / CONNECTOR, {"format": "pt"})
        own = {
            name.removeprefix("language_model."): t for name, t in state.items() if name.startswith("language_model.")
        }
        self.language_model.save_pretrained(folder / ADAPTER, state_dict=own)
        (folder / ADAPTER / "README.md").unlink(missing_ok=True)  # peft's empty model card

    def merge(self) -> None:
        """Merge the adapters into the language model's weights: the same answers from a model of transformers alone."""
        if has_adapters(self.language_model):
            self.language_model = merge_adapters(self.language_model)

    def projectors(self, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """F_fine and F_coarse: what stage 1 hands to stage 2."""
        state = self.state_dict() if state is None else state
        return {name: tensor.contiguous() for name, tensor in state.items() if name.startswith(PROJECTORS)}

    def save_projectors(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write them to ``projectors.safetensors``, and to ``projectors.json`` the sizes that they fit."""
        tensors = self.projectors(state)
        with atomic_write(folder / "projectors.safetensors") as file:
            save_file(tensors, file, {"format": "pt"})
        card = {
            "holds": "F_fine and F_coarse of stage 1",
            "width": self.vision.width,
            "out": self.config.text_config.hidden_size,
            "connector": self.config.connector,
            "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
        }
        with atomic_write(folder / "projectors.json") as file:
            file.write_text(json.dumps(card, indent=2) + "\n")

    def load_projectors(self, path: Path) -> None:
        """Start F_fine and F_coarse from a file of stage 1; raises CheckpointError if it does not hold just those."""
        if not path.exists():
            raise CheckpointError(
                f"no {path}",
                "the projectors that stage 1 leaves",
                "Run `make stage1`, or name others in model.init_from.",
            )
        try:
            state, own = load_file(path), self.projectors()
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path}, which does not open ({explain(path, error)})", "projectors of stage 1", "Run it again."
            ) from error
        wrong = sorted(state.keys() ^ own.keys()) or [n for n, t in state.items() if t.shape != own[n].shape]
        if wrong:
            raise CheckpointError(
                f"projectors in {path} whose {wrong[0]} is absent, surplus or of another shape",
                "the projectors of the same towers and connector",
                "Run stage 1 with these towers and sizes first.",
            )
        self.load_state_dict(state, strict=False)


def read_trained_config(folder: Path) -> DynFocusConfig:
    """The config of a trained model's folder; raises CheckpointError if there is none, or of other features."""
    check_files(folder)
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        kind = None
    if kind != DynFocusConfig.model_type:
        inside = folder / "model"
        step = f"Name {inside}." if (inside / "config.json").is_file() else "Run `make stage2` first."
        raise CheckpointError(f"no trained model in {folder}", "one, as stage 2 leaves it", step)
    try:
        config = DynFocusConfig.from_pretrained(folder, local_files_only=True)
        used = config.vision_config.num_hidden_layers - unused_blocks(config.vision_config)
        # Before the entry was written, one block fewer of InstructBLIP's encoders made features; others' are the same.
        before = config.vision_config.num_hidden_layers - 1
    except Exception as error:  # transformers' checks of single values have errors of their own
        raise _misfit(folder, f"config.json: {reason(error)}") from error
    if (config.vision_blocks or before) != used:
        raise CheckpointError(
            f"a model in {folder} that was trained on the output of {config.vision_blocks or before} blocks",
            f"one trained on {used}, which this version computes",
            "Train it again: stage 1, then stage 2.",
        )
    return config


def _keep_ends(settings: GenerationConfig) -> GenerationConfig:
    """Only these of a folder's generation settings: the others must not change the answers, or take all memory."""
    return GenerationConfig(**{name: getattr(settings, name) for name in ENDS})


def _dtype(name: Any) -> torch.dtype:
    if name not in ("float32", "float16", "bfloat16", "float64"):
        raise ValueError(f"{name!r} is no precision")
    return getattr(torch, name)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _misfit(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"the model in {folder}, which does not fit the settings ({what})",
        "weights of the same towers and connector",
        "Use the settings the model was trained with: its run's config.yaml holds them.",
    )
