"""How a run trains, as far as memory depends on it (no torch)."""

from dataclasses import dataclass
from typing import Literal

from dynfocus.budget import budget
from dynfocus.errors import ConfigError
from dynfocus.settings import ConnectorSettings, LoraSettings

Train = Literal["stage1", "stage2", "lora", "qlora"]
Strategy = Literal["ddp", "fsdp"]
Optimizer = Literal["adamw", "adamw8bit"]


@dataclass(frozen=True)
class Training:
    """How a run trains; the defaults are the suite's.

    Attributes:
        train: ``stage1`` (the connector), ``stage2`` (connector and language model), ``lora``, ``qlora``.
        gpus: processes that share the work.
        strategy: ``ddp`` holds everything in each, ``fsdp`` shards language model and connector.
        rows: annotation rows a process reads at once, each with one video.
        text: prompt tokens a row that are not visual.
        answer: supervised tokens a row.
        checkpointing: whether only the input of each language-model layer is kept, and the rest computed again.
        optimizer: ``adamw``, or ``adamw8bit``.
        slots: places in a row where its video is shown, each with a question of its own.
        rank: of LoRA's adapters.
        accumulate: batches an optimizer step adds up; from the second on gradients stand beside activations.
        precision: ``bf16-mixed``, or ``32``.
    """

    train: Train = "stage2"
    gpus: int = 1
    strategy: Strategy = "ddp"
    rows: int = 1
    text: int = 64
    answer: int = 32
    checkpointing: bool = True
    optimizer: Optimizer = "adamw"
    slots: int = 1
    rank: int = LoraSettings.rank
    accumulate: int = 2
    precision: Literal["bf16-mixed", "32"] = "bf16-mixed"

    def __post_init__(self) -> None:
        for name in ("gpus", "rows", "slots", "rank", "accumulate"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}", "at least 1", f"Raise {name}.")
        for name in ("text", "answer"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "at least 0", f"Raise {name}.")
        if self.strategy == "fsdp" and (self.train == "qlora" or self.optimizer == "adamw8bit"):
            raise ConfigError(
                f"a sharded model with {'4-bit weights' if self.train == 'qlora' else '8-bit AdamW'}",
                "weights and states that can be split between GPUs",
                "Plan it with the strategy ddp, or plan lora with the optimizer adamw.",
            )

    @property
    def language_bytes(self) -> int:
        """Bytes of a number of the language model: one that is trained whole is held in fp32, and left so."""
        return 4 if self.train == "stage2" or self.precision == "32" else 2


def count_prompt_tokens(frames: int, settings: ConnectorSettings, training: Training) -> int:
    """S, tokens of one row: visual ones, text and answer."""
    return training.slots * budget(frames, settings).visual_tokens + training.text + training.answer
