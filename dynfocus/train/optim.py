"""Give a run's learning rate at each step, and AdamW in the forms that it may ask for."""

from math import cos, pi
from typing import Any, Literal

import torch

from dynfocus.models.towers import need_bitsandbytes

OptimizerName = Literal["adamw", "adamw8bit"]


def cosine_after_warmup(step: int, warmup: int, steps: int) -> float:
    """What the learning rate is multiplied with: it grows from 0 in ``warmup`` steps, then falls to 0 as half a cosine.

    transformers has the same function, to the bit, but its import takes seconds: it loads peft and bitsandbytes.
    """
    if step < warmup:
        return step / max(1, warmup)
    return max(0.0, 0.5 * (1 + cos(pi * ((step - warmup) / max(1, steps - warmup)))))


class FusedAdamW(torch.optim.AdamW):
    """AdamW that updates in place, in one kernel, on a GPU: it takes no memory of the weights' size."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, fused=True, **options)
        # It could unscale gradients itself, and Lightning then clips none; under bf16 there is nothing to unscale.
        self._step_supports_amp_scaling = False


def optimizer_class(name: OptimizerName, device: torch.device, precision: str) -> Any:
    """The class that ``name`` stands for, on this device and under this precision of Lightning's Trainer.

    Raises:
        ConfigError: if bitsandbytes, which holds the 8-bit one, does not work here.
    """
    if name == "adamw":
        return FusedAdamW if device.type == "cuda" and precision != "16-mixed" else torch.optim.AdamW
    return need_bitsandbytes(f"optimizer = {name}", "model.optimizer to adamw").optim.AdamW8bit
