"""Show a progress bar that says how far the run is, how long it will take, and the loss."""

import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class Bar(Tqdm):
    """A bar that is shown when it is known how much there is to do; Lightning makes its bars before that."""

    def display(self, *args: Any, **options: Any) -> None:
        if self.total:
            super().display(*args, **options)


class Progress(TQDMProgressBar):
    """Lightning's bars without the run's version number, which is always the same here, and without empty ones."""

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}

    def init_train_tqdm(self) -> Bar:
        return self._bar(self.train_description)

    def init_validation_tqdm(self) -> Bar:
        below = self.trainer.state.fn == "fit"
        return self._bar(self.validation_description, leave=not below, position=int(below))

    def init_test_tqdm(self) -> Bar:
        return self._bar(self.test_description)

    def init_predict_tqdm(self) -> Bar:
        return self._bar(self.predict_description)

    def _bar(self, description: str, leave: bool = True, position: int = 0) -> Bar:
        return Bar(
            desc=description,
            position=2 * self.process_position + position,
            disable=self.is_disabled,
            leave=leave,
            dynamic_ncols=True,
            file=sys.stdout,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )
