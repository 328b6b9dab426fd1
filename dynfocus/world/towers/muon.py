"""Optimize with Muon: momentum whose every update is made an (almost) orthogonal matrix, in single precision.

`torch.optim.Muon` does the same in bfloat16, one matrix at a time: on a CPU without bfloat16 units its step took 226 ms
for the language tower's 28 matrices and this one 20 ms (one thread of 2 shared cores, both in one run), and a training
step as a whole takes about 130 ms.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

# odd quintic with a steep rise at zero: singular values of (0, 1] land near 1 within five rounds
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Compute roughly the nearest semi-orthogonal matrices of a batch [B,m,n], by Newton-Schulz iteration."""
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised; an update has a root mean square of 0.2 * ``lr``, as AdamW's has about."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            shapes = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for shape, params in shapes.items():
                for p in params:
                    if "momentum" not in self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                    self.state[p]["momentum"].lerp_(p.grad, 1 - group["momentum"])
                ahead = [p.grad.lerp(self.state[p]["momentum"], group["momentum"]) for p in params]
                updates = orthogonalize(torch.stack(ahead))
                for p, update in zip(params, updates, strict=True):
                    p.add_(update, alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)
        return loss


Stepper = tuple[Optimizer, LRScheduler]


def optimizers(model: nn.Module, rate: float, matrix_rate: float, steps: int) -> list[Stepper]:
    """Muon for the matrices inside the transformer blocks and AdamW for all else, each with its one-cycle schedule."""
    matrices = {name: p for name, p in model.named_parameters() if p.ndim == 2 and ".layer" in name}
    rest = [p for name, p in model.named_parameters() if name not in matrices]
    adam = torch.optim.AdamW(rest, rate, betas=(0.9, 0.98), weight_decay=0.0)
    muon = Muon(list(matrices.values()), matrix_rate)
    cycle = partial(OneCycleLR, total_steps=steps, pct_start=0.1, cycle_momentum=False, final_div_factor=100)
    return [(muon, cycle(muon, matrix_rate)), (adam, cycle(adam, rate))]


def step_all(steppers: list[Stepper]) -> None:
    """One step of every optimizer and of its schedule; gradients are gone after it."""
    for optimizer, schedule in steppers:
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
