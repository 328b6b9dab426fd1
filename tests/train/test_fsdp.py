"""A sharded run's checkpoints and results: one process reads them, and what cannot be sharded is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from safetensors.torch import load_file
from spawn_ranks import together
from tiny_world import CONFIGS, call
from torch.distributed.device_mesh import init_device_mesh
from training_ranks import NOISY, SECONDS, alike, both, learn, same, several

from callbacks.export import Export
from dynfocus.errors import ConfigError
from dynfocus.models.model import DynFocusModel
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction
from dynfocus.settings import LoraSettings
from dynfocus.train.fsdp import FSDP2Strategy, gather_weights, shard

STEPS = [
    [tiny.example(4 * step + n, count or 1, NOISY, media="v.mp4" if count else None) for n, count in enumerate(counts)]
    for step, counts in enumerate(([9, 3, 0, 7], [6, 0, 8, 12], [4, 4, 2, 9], [5, 1, 20, 3]))
]
DROPPING = LoraSettings(4, 8, 0.5)


class SaveAt(Callback):
    """Save a checkpoint after a step."""

    def __init__(self, path: Path, step: int = 2) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def sharded_model(net: DynFocusModel) -> DynFocusModel:
    """Shard a model over the processes of a new group."""
    dist.init_process_group("gloo", timeout=timedelta(seconds=SECONDS))
    shard(net, init_device_mesh("cpu", (2,)))
    return net


@pytest.mark.parametrize("kind", ["ddp", "sharded"])
@pytest.mark.parametrize("lora", [None, DROPPING])
def test_a_run_goes_on_as_if_it_had_not_stopped(
    towers: Path, tmp_path: Path, kind: str, lora: LoraSettings | None
) -> None:
    """With dropout too: the state of each process's generator is resumed."""
    file = tmp_path / "last.ckpt"
    whole = both(towers, kind, STEPS, lora=lora, callbacks=[SaveAt(file)])
    rest = both(towers, kind, STEPS, lora=lora, resume=file, seed=7)
    expected = replace(whole, losses=whole.losses[2:], norms=whole.norms[2:])
    same(rest, expected)
    if lora is None:
        same(learn(towers, "one", STEPS, resume=file, seed=7), expected)


def test_a_checkpoint_holds_what_is_trained_and_reads_as_weights_only(towers: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"{kind}.ckpt" for kind in ("one", "ddp", "sharded")}
    learn(towers, "one", STEPS, callbacks=[SaveAt(files["one"])])
    for kind in ("ddp", "sharded"):
        both(towers, kind, STEPS, callbacks=[SaveAt(files[kind])])
    one, ddp, sharded = (torch.load(file, weights_only=True) for file in files.values())
    assert {name.split(".")[1] for name in one["state_dict"]} == {"connector", "language_model"}
    assert len(one["generators"]) == 1
    for other in (ddp, sharded):
        assert other["trained"] == one["trained"]
        assert len(other["generators"]) == 2
        alike(other["state_dict"], one["state_dict"])


@pytest.mark.parametrize("what", ["projectors", "model"])
def test_a_sharded_run_exports_what_one_process_exports(towers: Path, tmp_path: Path, what: Any) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    learn(towers, "one", STEPS, folder=one, callbacks=[Export(what)])
    both(towers, "sharded", STEPS, folder=two, callbacks=[Export(what)])
    files = [str(file.relative_to(one)) for file in sorted(one.rglob("*")) if file.is_file()]
    assert files == [str(file.relative_to(two)) for file in sorted(two.rglob("*")) if file.is_file()]
    weights = "projectors.safetensors" if what == "projectors" else "model/model.safetensors"
    alike(load_file(two / weights), load_file(one / weights))
    if what == "model":
        configs = [json.loads((run / "model" / "config.json").read_text()) for run in (one, two)]
        assert configs[0] == configs[1]
        net, batch = DynFocusModel.from_folder(two / "model"), tiny.batch([5, 0])
        assert net.answer(batch)[0].shape[0] == 2


def test_every_process_holds_half_of_what_is_sharded() -> None:
    """Frozen encoders are whole in every process, unless they are sharded too."""

    def count_local(towers: bool) -> tuple[int, int]:
        net = tiny.model()
        net.connector.requires_grad_(True)
        dist.init_process_group("gloo", timeout=timedelta(seconds=SECONDS))
        shard(net, init_device_mesh("cpu", (2,)), towers=towers)
        local = {name: getattr(w, "to_local", lambda w=w: w)().numel() for name, w in net.named_parameters()}
        frozen = sum(count for name, count in local.items() if name.startswith(("vision", "instruction")))
        return frozen, sum(local.values()) - frozen

    counts = {name: w.numel() for name, w in tiny.model().named_parameters()}
    frozen = sum(count for name, count in counts.items() if name.startswith(("vision", "instruction")))
    learned = sum(counts.values()) - frozen
    for towers, factor in ((False, 2), (True, 1)):
        counts_of_both = several(lambda rank, towers=towers: count_local(towers))
        assert sum(first for first, _ in counts_of_both) == factor * frozen
        assert sum(second for _, second in counts_of_both) == learned
        assert all(second < 0.6 * learned for _, second in counts_of_both)


def test_answers_of_other_lengths_end_on_both_sides() -> None:
    counts = [[9, 0, 4], [3]]

    def ask(net: DynFocusModel, rank: int) -> list[list[int]]:
        new = (2, 9)[rank]
        return net.answer(tiny.batch(counts[rank]), max_new_tokens=new, min_new_tokens=new)[0].tolist()

    answers = several(lambda rank: ask(sharded_model(tiny.model()), rank))
    assert answers == [ask(tiny.model(), rank) for rank in range(2)]
    assert [len(rows[0]) for rows in answers] == [2, 9]


def test_a_sharded_test_writes_what_one_process_writes(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        run.mkdir()
        (run / "model").symlink_to(trained_runs / "stage2" / "model")
    flags = ("--config", str(CONFIGS / "fsdp.yaml"), "--trainer.precision", "32-true", "--trainer.devices", "2")
    assert call(place, "test", "stage2", runs[0]) == 0
    together(lambda rank: _zero(call(place, "test", "stage2", runs[1], *flags)))
    one, two = (list(read_jsonl(run / "predictions.jsonl", Prediction)) for run in runs)
    assert one == two
    ours, theirs = (json.loads((run / "metrics.json").read_text()) | {"seconds": 0, "made_by": None} for run in runs)
    assert ours == theirs


def _zero(code: int) -> None:
    assert code == 0


def read_refusal(work: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as error:
        work()
    return str(error.value)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"quantize": "nf4", "lora": DROPPING}, "quantize = nf4"),
        ({"optimizer": "adamw8bit"}, "optimizer = adamw8bit"),
    ],
)
def test_what_cannot_be_split_is_refused(towers: Path, options: dict[str, Any], cause: str) -> None:
    messages = several(lambda rank: read_refusal(lambda: learn(towers, "sharded", STEPS, **options)))
    assert all(cause in message and "ddp" in message for message in messages)


def test_processes_that_would_learn_apart_are_refused(towers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's own strategy with its default sizes shards nothing on one node, and synchronises nothing."""
    monkeypatch.setattr(
        "training_ranks.strategy", lambda name: ModelParallelStrategy(timeout=timedelta(seconds=SECONDS))
    )
    messages = several(lambda rank: read_refusal(lambda: learn(towers, "sharded", STEPS)))
    assert all("1 of 2 processes" in message and "FSDP2Strategy" in message for message in messages)


def test_a_quantised_model_learns_in_two_processes(towers: Path) -> None:
    options: dict[str, Any] = {"quantize": "nf4", "lora": LoraSettings(4, 8, 0.0)}
    same(both(towers, "ddp", STEPS, **options), learn(towers, "one", STEPS, **options))


def test_the_strategy_counts_all_processes_of_all_nodes() -> None:
    strategy = FSDP2Strategy()
    assert strategy._save_distributed_checkpoint is False
    assert gather_weights(tiny.model()).keys() == tiny.model().state_dict().keys()
