"""What a GPU must do as the CPU does it in fp32; each check also runs on the CPU, so that it is known to work."""

import os
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import bitsandbytes
import pytest
import tiny
import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from tiny_steps import measure_allocated, shapes
from torch import Tensor, nn
from training_ranks import NOISY, StepData, TrainingResult, Watch

from dynfocus.models.collate import Example
from dynfocus.models.model import DynFocusModel
from dynfocus.plan import Training
from dynfocus.settings import LoraSettings
from dynfocus.train.build import Building
from dynfocus.train.fit import EXPECTED
from dynfocus.train.fsdp import FSDP2Strategy, gather_weights
from dynfocus.train.module import DynFocusModule
from dynfocus.types import Batch
from perf.peak_memory import extra_peak
from perf.random_step import RandomStep

CPU = torch.device("cpu")
LORA = LoraSettings(rank=4, alpha=8, dropout=0.0)
FULL, MIXED = "32-true", "bf16-mixed"


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions of fp32 numbers in fp32: left to itself cuDNN embeds patches in TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.towers(tmp_path_factory.mktemp("towers"))[0].parent


@pytest.fixture
def alone() -> Iterator[None]:
    """No group of processes is left behind, nor its port in the environment of what later tests start."""
    with patch.dict(os.environ):
        yield
    if dist.is_initialized():
        dist.destroy_process_group()


def build(towers: Path, device: torch.device, precision: str = FULL, **options: Any) -> DynFocusModel:
    torch.manual_seed(0)  # the connector's weights, and the noise, which is keyed by it
    settings = options.pop("settings", tiny.SETTINGS)
    building = Building(towers / "encoders", towers / "language", settings, **{"stage": "stage2", **options})
    return building.build(precision, device).to(device)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == MIXED)


def far(actual: Tensor, expected: Tensor) -> float:
    """The distance of two tensors, as a share of the second's length."""
    actual, expected = actual.detach().cpu().double(), expected.detach().cpu().double()
    return float((actual - expected).norm() / expected.norm())


def steps(model: DynFocusModel, device: torch.device, precision: str) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of three steps, and the gradients of the first."""
    model.connector.train()
    batch, losses, gradients = tiny.batch([9, 0, 4], answers=True).to(device), [], {}
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=5e-3)
    for n in range(3):
        with autocast(device, precision):
            loss = model(batch, step=n)[0]
        loss.backward()
        losses.append(float(loss.detach()))
        if not n:
            named = model.named_parameters()
            gradients = {name: weight.grad.cpu() for name, weight in named if weight.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
    return losses, gradients


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_steps_of_mixed_precision_are_near_full_precision(towers: Path, device: torch.device, stage: Any) -> None:
    expected, slopes = steps(build(towers, CPU, stage=stage), CPU, FULL)
    losses, mixed = steps(build(towers, device, MIXED, stage=stage), device, MIXED)
    assert losses[0] == pytest.approx(expected[0], rel=0.01)
    assert losses == pytest.approx(expected, rel=0.06)
    assert expected[2] < 0.9 * expected[0]
    assert mixed.keys() == slopes.keys()
    both = [torch.cat([part[name].flatten().float() for name in slopes]) for part in (mixed, slopes)]
    assert far(*both) < 0.1


def videos(device: torch.device) -> Batch:
    """Short and long ones, and a still scene: its frames are copies that tie in everything."""
    examples = [tiny.example(n, count) for n, count in enumerate([3, 6, 25, 60, 200, 40])]
    still = examples[-1].sketch
    assert still is not None
    still.pooled[:, 10:30], still.grains[:, 10:30] = still.pooled[:, 10:11], still.grains[:, 10:11]
    return tiny.processor()(examples).to(device)


@pytest.mark.parametrize("precision", [FULL, MIXED])
def test_the_same_frames_are_kept(towers: Path, device: torch.device, precision: str) -> None:
    with torch.no_grad():
        expected = build(towers, CPU).connect(videos(CPU)).focus
        with autocast(device, precision):
            focus = build(towers, device).connect(videos(device)).focus
    assert expected is not None
    assert focus is not None
    assert torch.equal(focus.mask.cpu(), expected.mask)
    assert torch.equal(focus.frames.cpu()[expected.mask], expected.frames[expected.mask])
    assert focus.events is not None
    assert expected.events is not None
    assert torch.equal(focus.events.frames.cpu(), expected.events.frames)


def test_sketches_are_near(towers: Path, device: torch.device) -> None:
    frames = tiny.frames(20)
    expected = build(towers, CPU).sketch(frames)
    sketch = build(towers, device).sketch(frames.to(device))
    assert sketch.pooled.device.type == device.type
    for name in ("pooled", "grains"):
        torch.testing.assert_close(getattr(sketch, name).cpu(), getattr(expected, name), atol=4e-3, rtol=4e-3)


def test_answers_are_the_same(towers: Path, device: torch.device) -> None:
    expected, _ = build(towers, CPU).answer(tiny.batch([7, 0, 3]), max_new_tokens=8)
    ids, _ = build(towers, device).answer(tiny.batch([7, 0, 3]).to(device), max_new_tokens=8)
    assert torch.equal(ids.cpu(), expected)
    assert expected.unique().numel() > 2
    mixed, _ = build(towers, device, MIXED).answer(tiny.batch([7, 0, 3]).to(device), max_new_tokens=8)
    assert len(mixed) == 3


class Second(Callback):
    """A checkpoint after the second step."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "second.ckpt")


def learn(
    towers: Path, device: torch.device, strategy: Any, folder: Path, precision: Any = "32-true", **options: Any
) -> TrainingResult:
    """Three steps, as `processes.learn` takes them, on one device of any kind; leaves ``folder``/second.ckpt."""
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("ignore", module="torch.distributed")  # NCCL's remarks on its own defaults
    torch.manual_seed(0)
    watch = Watch()
    places = towers / "encoders", towers / "language"
    module = DynFocusModule(*places, NOISY, lr=1e-2, warmup=0.0, max_new_tokens=3)
    trainer = Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        strategy=strategy,
        precision=precision,
        max_steps=3,
        max_epochs=-1,
        gradient_clip_val=0.5,
        callbacks=[watch, Second()],
        logger=False,
        default_root_dir=folder,
        use_distributed_sampler=False,
        limit_val_batches=0,
        **dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
    )
    rows = [Example(tiny.row(n), frames=tiny.frames(6 + n, n)) for n in range(2)]
    trainer.fit(module, StepData([rows] * 3, NOISY, 1, []), weights_only=True, **options)
    assert module.model is not None
    state = gather_weights(module.model) if isinstance(strategy, FSDP2Strategy) else module.model.state_dict()
    weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    return TrainingResult(watch.losses, watch.norms, weights)


def alike(actual: TrainingResult, expected: TrainingResult, share: float) -> None:
    assert actual.losses == pytest.approx(expected.losses, rel=share)
    assert actual.weights.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        assert not weight.any() or far(actual.weights[name], weight) < share, name


@pytest.mark.usefixtures("alone")
def test_a_model_sharded_on_one_device_learns_the_same(towers: Path, device: torch.device, tmp_path: Path) -> None:
    plain = learn(towers, device, "auto", tmp_path / "plain")
    sharded = learn(towers, device, FSDP2Strategy(minutes=0.5), tmp_path / "sharded")
    alike(sharded, plain, 1e-3)
    assert plain.losses[-1] < plain.losses[0]


def test_a_clipped_run_in_mixed_precision_learns_nearly_the_same(
    towers: Path, device: torch.device, tmp_path: Path
) -> None:
    """On a GPU the optimizer is fused there, which Lightning clips only if it is told that it may."""
    full = learn(towers, CPU, "auto", tmp_path / "full")
    assert learn(towers, device, "auto", tmp_path / "mixed", MIXED).losses == pytest.approx(full.losses, rel=0.15)


def test_a_run_goes_on_elsewhere(towers: Path, device: torch.device, tmp_path: Path) -> None:
    whole = learn(towers, CPU, "auto", tmp_path / "whole")
    learn(towers, device, "auto", tmp_path / "there")
    rest = learn(towers, CPU, "auto", tmp_path / "here", ckpt_path=tmp_path / "there" / "second.ckpt")
    assert len(rest.losses) == 1
    alike(rest, TrainingResult(whole.losses[-1:], whole.norms[-1:], whole.weights), 1e-2)


def test_a_model_saved_there_answers_here(towers: Path, device: torch.device, tmp_path: Path) -> None:
    for kind, options in {"whole": {}, "adapters": {"lora": LORA}, "packed": {"lora": LORA, "quantize": "nf4"}}.items():
        model = build(towers, device, MIXED, **options)
        model.save(tmp_path / kind)
        again = DynFocusModel.from_folder(tmp_path / kind)
        assert {weight.device.type for weight in again.parameters()} == {"cpu"}
        for (name, ours), (_, theirs) in zip(model.named_parameters(), again.named_parameters(), strict=True):
            if kind != "packed" or not name.startswith("language_model."):
                assert torch.equal(ours.cpu().float(), theirs.float()), name
        ids, _ = again.answer(tiny.batch([5]), max_new_tokens=2)
        assert ids.shape == (1, 2)


def test_the_gradient_that_passes_through_four_bits_is_that_of_the_unpacked_weights(
    towers: Path, device: torch.device
) -> None:
    packed = build(towers, device, MIXED, lora=LORA, quantize="nf4")
    unpacked = deepcopy(packed)
    linears = [name for name, part in unpacked.named_modules() if isinstance(part, bitsandbytes.nn.Linear4bit)]
    assert len(linears) == 2 * 7
    for name in linears:
        part = unpacked.get_submodule(name)
        assert part.weight.device.type == device.type
        values = bitsandbytes.functional.dequantize_4bit(part.weight.data, part.weight.quant_state)
        plain = nn.Linear(part.in_features, part.out_features, bias=False, device=device, dtype=values.dtype)
        plain.weight = nn.Parameter(values.clone(), requires_grad=False)
        parent, _, last = name.rpartition(".")
        setattr(unpacked.get_submodule(parent), last, plain)
    (losses, slopes), (expected, true) = (steps(model, device, MIXED) for model in (packed, unpacked))
    assert losses[0] == pytest.approx(expected[0], rel=0.02)
    assert {"connector.cones.fine.0.weight", "connector.rods.f_k.weight"} < slopes.keys() == true.keys()
    for name, slope in true.items():
        if slope.norm() > 0:
            assert far(slopes[name], slope) < 0.02, name


def test_eight_bit_steps_are_near_those_of_adamw(device: torch.device) -> None:
    def learn_in_steps(kind: Any) -> tuple[Tensor, Any]:
        torch.manual_seed(0)
        net, x, y = nn.Linear(128, 64), torch.randn(256, 128), torch.randn(256, 64)
        net, x, y = net.to(device), x.to(device), y.to(device)
        before = net.weight.detach().clone()
        optimizer = kind(net.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0)
        for _ in range(10):
            nn.functional.mse_loss(net(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        return net.weight.detach() - before, optimizer.state[net.weight]

    (change, state), (expected, _) = learn_in_steps(bitsandbytes.optim.AdamW8bit), learn_in_steps(torch.optim.AdamW)
    assert state["state1"].dtype == torch.uint8
    assert state["state1"].device.type == device.type
    assert far(change, expected) < 0.1


def test_checkpointed_activations_give_the_same_gradients_in_less_memory(device: torch.device) -> None:
    slopes, worst = [], []
    for checkpointing in (False, True):
        how = Training("stage1", text=200, answer=4, accumulate=1, precision="32", checkpointing=checkpointing)
        step = RandomStep(20, tiny.SETTINGS, how, shapes(layers=8), device)

        def work(step: RandomStep = step) -> None:
            step.model.zero_grad()
            step.loss().backward()

        work()
        peak = measure_allocated(work) if device.type == "cpu" else extra_peak(work, "cuda")
        assert peak is not None
        worst.append(peak)
        slopes.append([weight.grad.cpu() for weight in step.weights if weight.grad is not None])
    for kept, again in zip(*slopes, strict=True):
        torch.testing.assert_close(again, kept, atol=1e-5, rtol=1e-4)
    assert worst[1] < 0.5 * worst[0]
