"""Take a training step with random weights and random rows, built on the device and run as the stages run it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, InstructBlipQFormerConfig, InstructBlipVisionConfig, LlamaConfig

from dynfocus.budget import budget
from dynfocus.models.config import DynFocusConfig
from dynfocus.models.model import DynFocusModel
from dynfocus.plan import Training
from dynfocus.plan.connector_flops import Sizes
from dynfocus.plan.towers import Towers
from dynfocus.settings import ConnectorSettings, LoraSettings
from dynfocus.train.build import Building, checkpoint_activations
from dynfocus.train.fsdp import language_layers
from dynfocus.types import Batch

SPREAD = 0.02  # the spread of random weights; at 1e-10, InstructBLIP's own, every patch would look alike
NOWHERE = Path("nowhere")


@dataclass
class Shapes:
    """Sizes of the three towers, as transformers holds them; the defaults are ViT-G, the Q-Former and Vicuna-7B."""

    vision: InstructBlipVisionConfig = field(default_factory=lambda: InstructBlipVisionConfig(initializer_range=SPREAD))
    instruction: InstructBlipQFormerConfig = field(default_factory=lambda: InstructBlipQFormerConfig(vocab_size=30523))
    language: LlamaConfig = field(default_factory=lambda: LlamaConfig(max_position_embeddings=4096))

    @property
    def towers(self) -> Towers:
        """The same for `plan`."""
        return Towers(self.vision, self.instruction, self.language)


class RandomStep:
    """A model, its optimizer and one batch.

    Args:
        frames: T of every video.
        settings: the connector's.
        training: which weights learn, and the sizes of a batch.
        shapes: of the towers.
        device: where all of it is.
        attention: the language model's.
        question: R, the instruction's tokens.
    """

    def __init__(
        self,
        frames: int,
        settings: ConnectorSettings,
        training: Training,
        shapes: Shapes,
        device: torch.device,
        attention: str = "sdpa",
        question: int = Sizes.question,
    ) -> None:
        self.training, self.device, self.count = training, device, 0
        self.half = torch.bfloat16 if training.precision == "bf16-mixed" else None
        with fixed_seed(device), torch.device(device):
            self.model = random_model(settings, training, shapes, self.half or torch.float32, attention)
            self.batch = random_batch(frames, settings, training, shapes, question)
        building = Building(
            *(NOWHERE, NOWHERE, settings, "stage1" if training.train == "stage1" else "stage2"),
            quantize="nf4" if training.train == "qlora" else None,
            lora=LoraSettings(training.rank) if training.train in ("lora", "qlora") else None,
        )
        with fixed_seed(device):
            building.freeze(self.model)
        if training.checkpointing:
            checkpoint_activations(self.model)
        for name, part in self.model.named_children():
            part.train(name in building.trains)
        for layer in language_layers(self.model):
            layer.training = layer.training or training.checkpointing  # as `DynFocusModule.on_train_start`
        self.weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=2e-5)

    def loss(self) -> Tensor:
        """Forward."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half is not None):
            return self.model(self.batch, step=self.count)[0]

    def step(self) -> None:
        """Forward, backward and update."""
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.count += 1


@contextmanager
def fixed_seed(device: torch.device) -> Iterator[None]:
    """Seed random numbers within the block; the caller's own continue afterwards as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def random_model(
    settings: ConnectorSettings, training: Training, shapes: Shapes, frozen_dtype: torch.dtype, attention: str
) -> DynFocusModel:
    """Frozen parts in ``frozen_dtype``, packed into 4 bits where ``training`` says so; trained ones in fp32."""
    config = DynFocusConfig(
        vision_config=shapes.vision.to_dict(),
        qformer_config=shapes.instruction.to_dict(),
        text_config=shapes.language.to_dict(),
        connector=asdict(settings),
        image_mean=[0.5] * 3,
        image_std=[0.25] * 3,
        image_token_id=shapes.language.vocab_size,  # a word of its own, as the tokenizers add it
    )
    dtype = torch.float32 if training.train == "stage2" else frozen_dtype
    language: Any = AutoModelForCausalLM.from_config(shapes.language, dtype=dtype, attn_implementation=attention)
    if training.train == "qlora":
        pack(language, frozen_dtype)
    model = DynFocusModel(config, nn.Identity())  # its own initialisation would overwrite packed weights
    model.language_model = language
    model.vision.to(frozen_dtype)
    model.instruction.to(frozen_dtype)
    return model


def pack(language_model: Any, compute: torch.dtype) -> None:
    """NF4 with double quantisation in place of every linear layer but the head, one after another."""
    from bitsandbytes.nn import Linear4bit, Params4bit  # slow to import

    decoder: nn.Module = language_model.get_decoder()
    for name, part in list(decoder.named_modules()):
        if isinstance(part, nn.Linear):
            packed = Linear4bit(part.in_features, part.out_features, part.bias is not None, compute, device="meta")
            weight: Any = Params4bit(part.weight.data, quant_type="nf4", compress_statistics=True, module=packed)
            packed.weight, packed.bias = weight.to(part.weight.device), part.bias
            parent, _, last = name.rpartition(".")
            setattr(decoder.get_submodule(parent), last, packed)
    language_model.is_loaded_in_4bit = True  # peft asks


def random_batch(frames: int, settings: ConnectorSettings, training: Training, shapes: Shapes, question: int) -> Batch:
    """Rows of random words about a video each: half of the text, the visual tokens, the other half, the answer."""
    rows, visual, words = training.rows, budget(frames, settings).visual_tokens, shapes.language.vocab_size
    before = training.text // 2
    ids = torch.randint(words, (rows, visual + training.text + training.answer))
    labels = torch.full_like(ids, nn.CrossEntropyLoss().ignore_index)
    labels[:, visual + training.text :] = ids[:, visual + training.text :]
    ids[:, before : before + visual] = words
    size: Any = shapes.vision.image_size
    index = torch.arange(rows)
    return Batch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=labels,
        question_ids=torch.randint(shapes.instruction.vocab_size, (rows, question)),
        question_mask=torch.ones(rows, question, dtype=torch.bool),
        slot_video=index,
        slot_row=index,
        video_rows=index,
        frames=tuple(torch.randint(256, (frames, size, size, 3), dtype=torch.uint8) for _ in range(rows)),
    )
