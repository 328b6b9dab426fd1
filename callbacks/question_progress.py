"""Show how many of a benchmark's questions are answered, and how long the others will take."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from dynfocus.progress import Progress


class QuestionProgress(Callback):
    """Show the first process's progress as that of all, which share the questions evenly."""

    progress: Progress | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = len(trainer.datamodule.data["test"])  # type: ignore[attr-defined]
        self.progress = Progress(total, "answering", "question", shown=trainer.is_global_zero)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if self.progress is not None:
            self.progress.update(trainer.world_size * sum(record is not None for record in batch.records))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.progress is not None:
            self.progress.close()
            self.progress = None
