"""End training at a signal with a checkpoint of the present step, and let TensorBoard's steps rise after a resume."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from dynfocus.errors import Stopped, catch_signals


class StopAtSignal(Callback):
    """After SIGTERM, SIGHUP or SIGUSR1 in any process, end the optimizer step, write the last checkpoint and stop.

    Lightning would write its own checkpoint at once, within a step and in one process before another; it leaves these
    signals alone where they are handled already. All processes stop after the same step.

    Raises:
        Stopped: in a run, after the checkpoint.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal, 0 for none

    def remember(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.number, self.last_step = 0, trainer.global_step
        catch_signals(self.remember)  # Lightning has put its own before that of SIGTERM; it restores what was before

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.last_step:
            return  # the step is not whole yet
        self.last_step = trainer.global_step
        own = torch.tensor(self.number, device=trainer.strategy.root_device)
        number = int(trainer.strategy.reduce(own, reduce_op="max"))
        if not number:
            return
        for one in trainer.checkpoint_callbacks:
            if isinstance(one, ModelCheckpoint) and one.save_last:
                one._save_last_checkpoint(trainer, one._monitor_candidates(trainer))
                rank_zero_info(f"{one.last_model_path} is of step {trainer.global_step}")
        if number == signal.SIGUSR1 and trainer.is_global_zero:
            requeue()
        raise Stopped(number)


class RewindEvents(Callback):
    """After a resume, take out of TensorBoard's files what was written after the checkpoint: it is written again.

    Checkpoints hold the size of each file, as ``events``.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["events"] = {file.name: file.stat().st_size for file, _ in list_events(trainer)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        own, sizes = trainer.ckpt_path, checkpoint.get("events")
        if trainer.state.fn != "fit" or own is None or sizes is None:
            return
        if not Path(own).resolve().is_relative_to(Path(trainer.default_root_dir).resolve()):
            return  # of another run
        for file, is_open in list_events(trainer):
            if file.name not in sizes and not is_open:
                file.unlink()
            elif file.stat().st_size > sizes.get(file.name, file.stat().st_size):
                os.truncate(file, sizes[file.name])


def list_events(trainer: Trainer) -> Iterator[tuple[Path, bool]]:
    """The files of the run's TensorBoardLoggers, whole on the disk, and whether it is this process that writes them."""
    for logger in trainer.loggers if trainer.is_global_zero else ():
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()
            own = Path(logger.experiment._get_file_writer().event_writer._file_name)
            yield from ((file, file.name == own.name) for file in Path(logger.log_dir).glob("events.out.tfevents.*"))


def requeue() -> None:
    """Ask SLURM to start this job again, as Lightning does after the same signal; nothing where there is no SLURM."""
    job = os.environ.get("SLURM_JOB_ID")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if job is not None and shutil.which("scontrol"):
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        answer = f", but for {done.stderr.strip()}" if done.returncode else ""
        rank_zero_info(f"scontrol requeue {job}: {'done' if not answer else f'failed{answer}'}")
