"""Two real processes look at the same probes: the run is bit for bit the one without, and one of them writes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import training_ranks
from lightning import Callback, LightningModule, Trainer
from test_memory_check import STEPS, bits
from training_ranks import NOISY, StepData, TrainingResult, learn, several

from callbacks.answers import Answers
from callbacks.probes import Probes, read_looks
from datamodules.probe_videos import ProbeVideos
from dynfocus.models.collate import Example

VAL_ROWS = [tiny.example(n, 4 + n, NOISY, segments=((n,),)) for n in range(3)]


class ProbedData(StepData):
    """Data whose first rows are probes; only the first process may read them."""

    def probes(self, split: str, videos: int) -> ProbeVideos | None:
        assert self.trainer is not None
        assert self.trainer.is_global_zero
        examples = (self.val_rows if split == "val" else self.steps[0])[:videos]
        seconds = tuple(tuple(map(float, range(one.length))) for one in examples)
        rows = tuple(one.row for one in examples)
        return ProbeVideos(rows, seconds, tiny.processor(self.settings)(list(examples)), (None,) * len(examples))


class Early(Callback):
    """Lets a run be validated before its last step, so that what is learned after a look is compared too."""

    def setup(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        trainer.val_check_interval = 2


def run(
    towers: Path, name: str, val_rows: Sequence[Example], watchers: Sequence[Callback], **options: Any
) -> TrainingResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_ranks, "StepData", ProbedData)
        return learn(towers, name, STEPS, val_rows=val_rows, callbacks=[Early(), *watchers], **options)


@pytest.mark.parametrize("name", ["one", "ddp", "sharded"])
@pytest.mark.parametrize("val_rows", [VAL_ROWS, ()], ids=["validated", "trained alone"])
def test_the_run_is_bit_for_bit_the_run_without(
    towers: Path, tmp_path: Path, name: str, val_rows: Sequence[Example]
) -> None:
    def plain(rank: int) -> TrainingResult:
        return run(towers, name, val_rows, [], folder=tmp_path / "plain")

    def with_observers(rank: int) -> TrainingResult:
        return run(towers, name, val_rows, [Probes(2), Answers()], folder=tmp_path / "watched")

    results, expected = ([work(0)] if name == "one" else several(work) for work in (with_observers, plain))
    for one, other in zip(results, expected, strict=True):
        bits(one, other)
    looks = read_looks(tmp_path / "watched" / "selections.jsonl")
    phases = [("val", 0), ("val", 2)] if val_rows else [("train", 0), ("train", 3)]
    assert [(look.phase, look.step, look.row) for look in looks] == [(*at, row) for at in phases for row in (0, 1)]


@pytest.mark.parametrize("name", ["ddp", "sharded"])
def test_processes_see_what_one_sees(towers: Path, tmp_path: Path, name: str) -> None:
    folders = [tmp_path / one for one in ("one", name)]
    work = partial(run, towers, val_rows=VAL_ROWS)
    work("one", watchers=[Probes()], folder=folders[0])
    several(lambda rank: work(name, watchers=[Probes()], folder=folders[1]))
    one, two = (read_looks(folder / "selections.jsonl") for folder in folders)
    assert [look.selection.kept for look in two] == [look.selection.kept for look in one]
    for look, expected in zip(two, one, strict=True):
        assert look.selection.scores == pytest.approx(expected.selection.scores, abs=1e-3)
        assert look.answer == expected.answer


class Modes(Callback):
    """Which parts of a module train while it is looked at, and before and after that."""

    def __init__(self) -> None:
        self.looking: list[bool] = []
        self.training: list[list[bool]] = []
        self.hook: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.hook is None:
            self.hook = pl_module.model.connector.register_forward_pre_hook(lambda *_: self.note(pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.training.append([part.training for part in pl_module.modules()])

    def note(self, module: LightningModule) -> None:
        if not torch.is_grad_enabled():
            self.looking.append(any(part.training for part in module.modules()))


def test_training_videos_are_looked_at_in_evaluation(towers: Path, tmp_path: Path) -> None:
    modes = Modes()
    run(towers, "one", (), [modes, Probes(2), modes], folder=tmp_path)
    assert modes.looking == [False] * 2
    before, after = modes.training
    assert before == after
    assert any(before)
