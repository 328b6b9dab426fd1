"""Many processes: the model's layers sharded between them (FSDP2), on GPUs and, for tests, on CPUs."""

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy, Strategy
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from dynfocus.errors import ConfigError
from dynfocus.models.lora import without_adapters
from dynfocus.models.model import DynFocusModel


class FSDP2Strategy(ModelParallelStrategy):
    """Lightning's model parallel strategy with all processes in one data-parallel group.

    Left to itself it takes the devices of a node as one tensor-parallel group, in which nothing is synchronised.

    Args:
        minutes: how long processes wait for each other before the run fails.
    """

    def __init__(self, minutes: float = 30.0) -> None:
        super().__init__(save_distributed_checkpoint=False, timeout=timedelta(minutes=minutes))

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """What is trained, gathered in the first process; the frozen rest is never moved."""
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        return get_model_state_dict(self.model, options=options)


def shard(model: DynFocusModel, mesh: DeviceMesh, half: torch.dtype | None = None, towers: bool = False) -> None:
    """Shard the language model's layers, the connector, and all that is left, over the processes of ``mesh``.

    Args:
        model: the whole model, the same in every process.
        mesh: one dimension of processes.
        half: the precision that the language model's layers are gathered and computed in, where it is not their own;
            gradients are summed in fp32.
        towers: shard the frozen encoders too. By default every process holds them whole: how often an encoder is
            called hangs on a process's own videos, and a sharded one must be called equally often by all.
    """
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32) if half else MixedPrecisionPolicy()
    for layer in language_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model.connector, mesh=mesh)
    whole: set[torch.nn.Parameter] = set()
    if towers:
        # A trained one is left to the root, which is gathered once however often the frames call it.
        learns = any(weight.requires_grad for weight in model.instruction.parameters())
        frozen = () if learns else tuple(model.instruction.encoder.encoder.layer)
        for layer in (*model.vision.blocks, *frozen):
            fully_shard(layer, mesh=mesh)
        model.most_calls = most_of_all
    else:
        encoders = (*model.vision.parameters(), *model.instruction.parameters())
        whole = {weight for weight in encoders if not weight.requires_grad}
    fully_shard(model, mesh=mesh, ignored_params=whole)
    register_fsdp_forward_method(model, "answer")
    model.synced = mesh.size() > 1


def check_strategy(strategy: Strategy, quantize: str | None, optimizer: str, towers: bool) -> None:
    """Raises ConfigError for what would train each process apart, or not at all, or would be swallowed."""
    if isinstance(strategy, ModelParallelStrategy):
        group, processes = strategy.device_mesh["data_parallel"].size(), strategy.world_size
        if group != processes:
            raise ConfigError(
                f"a strategy with {group} of {processes} processes in its data-parallel group",
                "all of them, or they would not hear of each other's gradients",
                "Set trainer.strategy.class_path to dynfocus.train.fsdp.FSDP2Strategy.",
            )
        if quantize or optimizer == "adamw8bit":
            setting = f"quantize = {quantize}" if quantize else f"optimizer = {optimizer}"
            raise ConfigError(
                f"{setting} in a sharded model",
                "weights and states that can be split between processes",
                "Use the strategy ddp, which holds them whole in every process, or set it back.",
            )
        return
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise ConfigError(
            f"the strategy {type(strategy).__name__}",
            "one device, ddp, or dynfocus.train.fsdp.FSDP2Strategy",
            "Set trainer.strategy; lightning_configs/fsdp.yaml shards the model.",
        )
    if towers:
        raise ConfigError(
            "shard_towers where nothing is sharded",
            "the strategy dynfocus.train.fsdp.FSDP2Strategy",
            "Add lightning_configs/fsdp.yaml, or set model.shard_towers to false.",
        )


def language_layers(model: DynFocusModel) -> list[torch.nn.Module]:
    """The decoder layers of the language model, whatever its family and with adapters or without."""
    return list(without_adapters(model.language_model).get_decoder().layers)


def most_of_all(own: int) -> int:
    """The largest of all processes' numbers."""
    most = torch.tensor(own, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return int(most)


def gather_weights(model: torch.nn.Module) -> dict[str, Any]:
    """All weights of a model, whole and on the CPU, in the first process; every process must call it."""
    return dict(get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)))
