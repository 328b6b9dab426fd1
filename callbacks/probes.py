"""Look at the same few videos all through training: which frames are kept, and why, as pictures and numbers."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image

from callbacks.observer import rng_devices, say_what_is_not_logged
from dynfocus.errors import ConfigError, DataError, VideoError
from dynfocus.inspection.content import Inspection
from dynfocus.inspection.storyboard import draw_storyboard
from dynfocus.method.selection import make_selection
from dynfocus.records.atomic import write_text
from dynfocus.records.selections import Selection

SELECTIONS = "selections.jsonl"
LONGEST = 40  # letters of a video's name in TensorBoard


@dataclass(frozen=True)
class Look:
    """What the model kept of one probe at one time, and answered: a line of ``selections.jsonl``.

    Attributes:
        phase: ``val`` or ``test``, or ``train`` where nothing is validated.
        step, epoch: of the training; 0 in a validation or test by itself, which knows neither.
        row: number of the probe's row in its split.
        id, media: the row's own name, and the video or image that it shows.
        question, answer, truth: the texts.
        selection: which frames were kept, and why.
        arm, cut: how, and whether the answer was cut off, as in `dynfocus.records.predictions.Prediction`.
    """

    phase: str
    step: int
    epoch: int
    row: int
    id: str
    media: str
    question: str
    answer: str
    truth: str
    selection: Selection
    arm: str = "learned"
    cut: bool = False


class Probes(Callback):
    """At steps 0, 10, 30, 100, 300 ... of training, and at every validation and test, look at a fixed set of videos.

    Each gives a line in ``selections.jsonl`` and its part of the histograms ``dpe/PHASE/scores`` (s of Eq. 4) and
    ``dpe/PHASE/rho_delta`` (rho * delta of Eq. 1-2); the first ones give a picture ``probes/PHASE/NAME`` in TensorBoard
    too, which takes about half a second to draw. The share of kept frames that the look before did not keep is
    ``dpe/PHASE/churn``. The videos are those of validation; where nothing is validated, training videos, which are
    looked at after every epoch too.

    The data module is asked for them by ``probes(split, videos)``, in the first process alone. Every process looks, as
    a sharded model needs it; the first one writes.

    Args:
        videos: how many.
        pictures: how many of them are drawn; every one costs about half a second at each look.
        dirpath: folder of ``selections.jsonl``; the run's own if not given.

    Raises:
        ConfigError: if no video is asked for, or fewer pictures than none.
        DataError: in a run, if ``selections.jsonl`` is damaged.
    """

    def __init__(self, videos: int = 4, dirpath: Path | None = None, pictures: int = 2) -> None:
        if videos < 1:
            raise ConfigError(f"videos = {videos}", "at least 1", "Raise it, or leave callbacks.probes.Probes out.")
        if pictures < 0:
            raise ConfigError(f"pictures = {pictures}", "at least 0", "Raise it.")
        self.videos, self.dirpath, self.pictures = videos, dirpath, pictures
        self.probes: dict[str, Any] = {}  # of each phase
        self.looks: dict[tuple[str, int, str], list[Look]] = {}  # of each phase, step and arm, those written
        self.latest: tuple[str, int] | None = None  # phase and step of the last look
        self.last_step = 0  # the optimizer step of the batch before
        self.seconds = 0.0  # spent on looks between batches

    def file(self, trainer: Trainer) -> Path:
        return Path(self.dirpath or trainer.default_root_dir) / SELECTIONS

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.probes, self.looks, self.latest = {}, {}, None
        if trainer.is_global_zero:
            for look in read_looks(self.file(trainer)):
                self.looks.setdefault((look.phase, look.step, look.arm), []).append(look)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        say_what_is_not_logged(trainer, "pictures and histograms of probes", f"their numbers into {self.file(trainer)}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.last_step = trainer.global_step
        if not trainer.global_step:
            self.look_in_training(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step != self.last_step and re.fullmatch("[13]0+", str(step)):
            start = time.perf_counter()
            self.look_in_training(trainer, pl_module)
            self.seconds += time.perf_counter() - start
        self.last_step = step

    def look_in_training(self, trainer: Trainer, module: LightningModule) -> None:
        """Look between two steps, at the videos of validation where there is one."""
        self.look(trainer, module, "val" if sum(trainer.num_val_batches) else "train")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not sum(trainer.num_val_batches):
            self.look(trainer, pl_module, "train")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.look(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.look(trainer, pl_module, "test")

    def look(self, trainer: Trainer, module: Any, phase: str) -> None:
        """Look at the probes of a phase, once a step; every process has to."""
        if self.latest == (phase, trainer.global_step):
            return
        self.latest = phase, trainer.global_step
        if phase not in self.probes:
            with torch.random.fork_rng(rng_devices(module)):
                self.probes[phase] = fetch_probes(trainer, phase, self.videos)
        if self.probes[phase] is None:
            return
        rows, seconds, batch, frames = self.probes[phase]
        batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        with evaluate_unchanged(module), trainer.precision_plugin.val_step_context():
            answers, cut, video = module.answer(batch)
        if not trainer.is_global_zero:
            return
        looks, arm = [], module.own_arm
        for slot, (row, times, answer) in enumerate(zip(rows, seconds, answers, strict=True)):
            question = row.questions[-1] if row.questions else None
            choice = make_selection(video, slot, times, module.model.settings, question.segments if question else ())
            texts = row.turns[-1].question, answer, question.answer if question else row.turns[-1].answer or ""
            place = phase, trainer.global_step, trainer.current_epoch, row.index, row.id, str(row.media)
            looks.append(Look(*place, *texts, choice, arm, cut[slot]))
        self.write(trainer, looks)
        self.show(trainer, looks, frames)

    def write(self, trainer: Trainer, looks: list[Look]) -> None:
        """Put them into the file, in the place of an earlier look at the same step, with the same selector."""
        self.looks[looks[0].phase, looks[0].step, looks[0].arm] = looks
        lines = [json.dumps(asdict(look)) + "\n" for some in self.looks.values() for look in some]
        write_text(self.file(trainer), "".join(lines))

    def show(self, trainer: Trainer, looks: list[Look], frames: Sequence[Any]) -> None:
        """Put them into the logger: pictures and histograms into TensorBoard, churn into any."""
        phase, step, arm = looks[0].phase, looks[0].step, looks[0].arm
        before = [at for name, at, which in self.looks if (name, which) == (phase, arm) and at < step]
        changed = compute_churn(looks, self.looks[phase, max(before), arm]) if before else None
        for logger in trainer.loggers:
            if changed is not None:
                logger.log_metrics({f"dpe/{phase}/churn": changed}, step)
            if not isinstance(logger, TensorBoardLogger):
                continue
            for number, (look, pixels) in enumerate(list(zip(looks, frames, strict=True))[: self.pictures], 1):
                tag = f"probes/{phase}/{number}-{make_tag(look)}"
                logger.experiment.add_image(tag, np.asarray(draw_look(look, pixels)), step, dataformats="HWC")
            for tag, values in (
                ("scores", [value for look in looks for value in look.selection.scores]),
                ("rho_delta", [value for look in looks for value in look.selection.peaks]),
            ):
                finite = np.array(values)[np.isfinite(values)]
                if len(finite):  # TensorBoard raises on none
                    logger.experiment.add_histogram(f"dpe/{phase}/{tag}", finite, step)


def fetch_probes(trainer: Trainer, phase: str, videos: int) -> tuple[Any, ...] | None:
    """The probes of a phase, the same in every process: rows, seconds, batch, and, in the first one, thumbnails."""
    probes, shared, frames = None, None, ()
    if trainer.is_global_zero:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if hasattr(data, "probes"):
            probes = data.probes(phase, videos)
            why = f"none of the first rows of {phase} shows a video or image that can be read"
        else:
            why = f"the data module {type(data).__name__} has no method probes"
        if probes is None:
            rank_zero_info(f"no probes: {why}, so there is no selection to look at")
        else:
            shared, frames = (probes.rows, probes.seconds, probes.batch), probes.frames
            if any(pixels is None for pixels in frames):
                rank_zero_info("pictures of probes whose files are not at hand, as with sketches alone, show no frames")
    shared = trainer.strategy.broadcast(shared)
    return None if shared is None else (*shared, frames)


@contextmanager
def evaluate_unchanged(module: LightningModule) -> Iterator[None]:
    """For the time of a block the module evaluates; afterwards its modes and the generators are as before."""
    modes = [(part, part.training) for part in module.modules()]
    with torch.random.fork_rng(rng_devices(module)), torch.no_grad():
        module.eval()
        try:
            yield
        finally:
            for part, mode in modes:
                part.training = mode


def compute_churn(looks: Sequence[Look], before: Sequence[Look]) -> float | None:
    """The share of kept frames that the look before did not keep; None where no frame is kept."""
    earlier = {look.row: set(look.selection.kept) for look in before}
    both = [(set(look.selection.kept), earlier[look.row]) for look in looks if look.row in earlier]
    kept = sum(len(now) for now, _ in both)
    return sum(len(now - then) for now, then in both) / kept if kept else None


def draw_look(look: Look, frames: Any) -> Image.Image:
    """A picture of it, without a filmstrip where the frames cannot be read, or no more."""
    answer = f"{look.answer or '(nothing)'}{' (cut off)' if look.cut else ''}"
    bare = Inspection(look.selection, (), make_title(look), look.question, answer, look.truth)
    if frames is None:
        return draw_storyboard(bare)
    try:
        return draw_storyboard(replace(bare, frames=frames))
    except VideoError:
        return draw_storyboard(bare)


def make_title(look: Look) -> str:
    """The video and the look's time, but for that of a validation or test by itself, which knows none."""
    at = f"{look.phase}, step {look.step}" if look.step or look.phase == "train" else look.phase
    return f"{look.media} ({at})"


def make_tag(look: Look) -> str:
    """The video's name, in letters that TensorBoard takes for a name."""
    return re.sub(r"[^-\w.]", "_", Path(look.media).stem)[:LONGEST]


def read_looks(path: Path) -> list[Look]:
    """The looks in a file, none where there is no file; raises DataError if it is damaged."""
    if not path.exists():
        return []
    looks = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            fields = json.loads(line)
            looks.append(Look(**{**fields, "selection": Selection(**make_tuples(fields["selection"]))}))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}, which is damaged ({error})", "selections as they were written", "Delete it."
            ) from error
    return looks


def make_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """Lists as tuples, as records hold them."""
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return frozen | {"relevant": tuple(map(tuple, fields["relevant"]))}
