"""Write what a stage leaves for the next: the projectors after stage 1, the whole model after the others."""

import json
import time
from pathlib import Path
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from dynfocus.records.atomic import write_text

FIT_CARD = "fit.json"
FILES = {"projectors": "projectors.safetensors", "model": "model"}


class Export(Callback):
    """When training has ended, write its result and a small card (seconds over all resumed parts, steps).

    Args:
        what: ``projectors`` (projectors.safetensors, what stage 1 hands over) or ``model`` (a transformers folder);
            if not given, what the stage leaves.
        dirpath: where to; the run's own folder if not given.
    """

    def __init__(self, what: Literal["projectors", "model"] | None = None, dirpath: Path | None = None) -> None:
        self.what, self.dirpath = what, dirpath
        self.before, self.start = 0.0, time.monotonic()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = state_dict["seconds"]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.interrupted:
            return
        folder = Path(self.dirpath or trainer.default_root_dir)
        what = self.what or ("projectors" if pl_module.hparams["stage"] == "stage1" else "model")
        pl_module.export(what, folder)  # type: ignore[operator]
        if not trainer.is_global_zero:
            return
        card = {"seconds": round(self.seconds, 1), "steps": trainer.global_step}
        write_text(folder / FIT_CARD, json.dumps(card) + "\n")
        rank_zero_info(f"trained {trainer.global_step} steps, which left {folder / FILES[what]}")
