"""Build the model that a run trains from the configs of its towers, on whatever device torch is set to."""

from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import torch
from torch import nn
from transformers import InstructBlipQFormerConfig, InstructBlipVisionConfig, LlamaConfig
from transformers.initialization import no_init_weights

from dynfocus.models.config import DynFocusConfig
from dynfocus.models.lora import without_adapters
from dynfocus.models.model import DynFocusModel
from dynfocus.models.towers.vision import unused_blocks
from dynfocus.plan.sizes import of_lavis, read_config
from dynfocus.plan.training import Training
from dynfocus.settings import ConnectorSettings, LoraSettings, StageName
from dynfocus.train.build import Building, checkpoint_activations


@dataclass(frozen=True, eq=False)
class Towers:
    """Configs of the three towers; the defaults are the paper's: ViT-G/14, InstructBLIP's Q-Former, Vicuna-7B."""

    vision: Any = field(default_factory=InstructBlipVisionConfig)
    instruction: Any = field(default_factory=lambda: InstructBlipQFormerConfig(vocab_size=30523))
    language: Any = field(default_factory=lambda: LlamaConfig(max_position_embeddings=4096))

    def cut(self, layers: int) -> "Towers":
        """The same with so many layers; of the vision encoder as many that run."""
        vision = _shorten_config(self.vision, layers + unused_blocks(self.vision))
        return Towers(vision, _shorten_config(self.instruction, layers), _shorten_config(self.language, layers))


@cache
def read_towers(encoders: Path | None = None, language_model: Path | None = None, vision: Path | None = None) -> Towers:
    """Configs from folders of transformers; the paper's towers where no folder is given.

    Args:
        encoders: an InstructBLIP, CLIP or SigLIP folder; without a Q-Former of its own InstructBLIP's is counted. Files
            of LAVIS are taken for the paper's.
        language_model: a causal language model's folder.
        vision: folder of another vision encoder than that in ``encoders``.

    Raises:
        CheckpointError: if a folder has no config.json of a family that transformers knows.
    """
    configs: dict[str, Any] = {}
    for folder in (encoders, vision):
        if folder is not None and not of_lavis(folder):
            config = read_config(folder)
            configs["vision"] = getattr(config, "vision_config", config)
            if folder == encoders and hasattr(config, "qformer_config"):
                configs["instruction"] = config.qformer_config
    if language_model is not None:
        configs["language"] = read_config(language_model)
    return Towers(**configs)


def build_model(settings: ConnectorSettings, training: Training, towers: Towers) -> DynFocusModel:
    """The model of a run, its weights frozen and held as the stages do, but not initialised.

    QLoRA's is LoRA's, as a tensor without numbers cannot be packed into 4 bits.
    """
    config = DynFocusConfig(
        vision_config=towers.vision.to_dict(),
        qformer_config=towers.instruction.to_dict(),
        text_config=towers.language.to_dict(),
        connector=asdict(settings),
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    stage: StageName = "stage1" if training.train == "stage1" else "stage2"
    adapted = training.train in ("lora", "qlora")
    building = Building(Path(), Path(), settings, stage, lora=LoraSettings(training.rank) if adapted else None)
    with no_init_weights(), catch_warnings():
        filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # peft's call of transformers
        model = DynFocusModel(config)
        model.language_model.tie_weights()  # which transformers leaves out where it does not initialise
        if training.precision != "32":
            for part in (model.vision, model.instruction, *([model.language_model] * (training.train != "stage2"))):
                part.to(torch.bfloat16)
        building.freeze(model)
    if training.checkpointing:
        checkpoint_activations(model)
    for name, part in model.named_children():
        part.train(name in building.trains)
    for layer in decoder_layers(model):
        layer.training = layer.training or training.checkpointing  # as `DynFocusModule.on_train_start`
    return model


def decoder_layers(model: DynFocusModel) -> nn.ModuleList:
    """The layers of the language model, with adapters or without."""
    return without_adapters(model.language_model).get_decoder().layers


def _shorten_config(config: Any, layers: int) -> Any:
    short = deepcopy(config)
    short.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        short.layer_types = (config.layer_types * layers)[:layers]
    return short
