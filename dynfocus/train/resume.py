"""Checkpoints of what is trained, from which a run goes on as if it had never stopped."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule

from dynfocus.errors import CheckpointError


class Resumable(LightningModule):
    """A module whose checkpoints hold trained weights and the state of every process's random generators.

    What is frozen is read from its own files again. Hyper-parameters are plain dicts, so that a checkpoint loads with
    ``weights_only=True``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.strict_loading = False  # of frozen weights; `on_load_checkpoint` asks for all others
        self.generators: list[dict[str, Any]] | None = None

    def trained(self) -> set[str]:
        """The names of all weights that are trained."""
        return {name for name, weight in self.named_parameters() if weight.requires_grad}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = self.trained()
        checkpoint["state_dict"] = {n: tensor for n, tensor in checkpoint["state_dict"].items() if n in trained}
        checkpoint["trained"] = sorted(trained)
        checkpoint["generators"] = _of_all_processes(_generators())
        checkpoint["accumulated"] = self.trainer.accumulate_grad_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises CheckpointError if the checkpoint is of a run that trained other parts."""
        if other := sorted(set(checkpoint.get("trained", ())) ^ self.trained()):
            raise CheckpointError(
                f"a checkpoint of a run that did not train the same ({other[0]})",
                "a checkpoint of the same stage and settings",
                "Go on with that run's own config, or hand a model over with model.init_from.",
            )
        self.generators = checkpoint["generators"]
        if self._trainer is not None:
            _count_anew(checkpoint, self.trainer.accumulate_grad_batches)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Not before: the loaders draw from the generators when they begin.
        if self.generators is not None:
            own = self.generators[self.trainer.global_rank % len(self.generators)]
            torch.set_rng_state(own["cpu"])
            if own["cuda"] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(own["cuda"])
            self.generators = None


def _count_anew(checkpoint: dict[str, Any], accumulated: int) -> None:
    """Say how many batches were read in batches of this run, which may add up more or fewer of them in a step."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        ready = counts["ready"] * accumulated // checkpoint["accumulated"]
        counts |= {name: max(0, ready - (counts["ready"] - count)) for name, count in counts.items()}


def to_plain(value: Any) -> Any:
    """Settings as dicts, lists, numbers and strings, which any reader of a checkpoint knows."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: to_plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {name: to_plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _generators() -> dict[str, Any]:
    """Not python's and numpy's: nothing that is trained draws from them."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


def _of_all_processes(state: dict[str, Any]) -> list[dict[str, Any]]:
    if not (dist.is_available() and dist.is_initialized()):
        return [state]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states
