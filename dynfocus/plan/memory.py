"""Estimate the GPU memory of a training step and of an answer: what is held, how many bytes, and at which moment."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from dynfocus.models.lora import without_adapters
from dynfocus.models.model import DynFocusModel
from dynfocus.plan.dry_run import Moment, watch_answer, watch_encoding, watch_step
from dynfocus.plan.sizes import Sizes, language_sizes
from dynfocus.plan.towers import Towers, build_model, decoder_layers
from dynfocus.plan.training import Training, count_prompt_tokens
from dynfocus.settings import ConnectorSettings

STEP: tuple[Moment, ...] = ("encode", "forward", "recompute", "backward", "update")
ANSWER: tuple[Moment, ...] = ("encode", "connect", "prefill", "generate")
CONTEXT = 3 << 28  # 0.75 GiB: CUDA's context and the workspaces of its libraries, 0.5 to 1 on today's cards
SMALL, BLOCK = 4096, 256  # 8-bit AdamW: smaller tensors keep fp32 states; numbers that share a scale
NF4_BLOCK, NF4_SCALES, NF4_TABLES = 64, 256, (16 + 256 + 1) * 4


@dataclass(frozen=True)
class Memory:
    """What one GPU holds.

    Attributes:
        rows: by name its bytes, and the moments at which it is there.
        moments: all there are, of a training step or of an answer.
    """

    rows: dict[str, tuple[int, tuple[Moment, ...]]]
    moments: tuple[Moment, ...]

    def at(self, moment: Moment) -> int:
        """Bytes at one moment."""
        return sum(size for size, moments in self.rows.values() if moment in moments)

    @property
    def worst(self) -> Moment:
        """The moment that needs most."""
        return max(self.moments, key=self.at)

    @property
    def total(self) -> int:
        """Bytes at that moment."""
        return self.at(self.worst)


def estimate_step(
    frames: int, settings: ConnectorSettings, training: Training, towers: Towers, overhead: int = CONTEXT
) -> Memory:
    """Bytes on one GPU of a training step on videos of T ``frames``, from the second step on: AdamW has its states.

    Exact are weights, gradients and optimizer states, of the model as the stages build it; the linear layers of QLoRA's
    base are counted in NF4. Sharding divides the language model's and the connector's by the number of GPUs; frozen
    encoders stand whole on each. Activations are what torch's CPU kernels hold in this step. Left out: fragments of the
    allocator, batches on their way, the vision encoder's weights twice (a tower of its own for a cache).
    """
    model = weigh(settings, training, towers)
    shards = training.gpus if training.strategy == "fsdp" else 1
    base, adapters = language_weights(model)
    parts: dict[str, list[Tensor]] = {
        "connector": [*model.connector.parameters()],
        "adapters": adapters,
        "language model": base,
    }
    learned = {name: weights for name, weights in parts.items() if weights and weights[0].requires_grad}
    every = [weight for weights in learned.values() for weight in weights]
    states = sum(state_bytes(weight.numel(), training.optimizer) for weight in every)
    sizes = {f"weights: {name}, trained": count_bytes(weights) for name, weights in learned.items()}
    if "language model" not in learned:
        sizes["weights: language model, frozen"] = base_bytes(model, training)
    sizes |= {"gradients": count_bytes(every), "optimizer states": states}
    rows = {
        "weights: vision encoder": (count_bytes(model.vision.parameters()), STEP),
        "weights: instruction encoder": (count_bytes(model.instruction.parameters()), STEP),
        **{name: (-(-size // shards), STEP) for name, size in sizes.items()},
        "a 4-bit matrix unpacked": (_count_unpacked_bytes(model, training), STEP[1:4]),
        "overhead: CUDA context and libraries": (overhead, STEP),
    }
    if training.accumulate == 1:  # else those of the first batch stand beside the activations of the next
        rows["gradients"] = (rows["gradients"][0], STEP[3:])
    if training.gpus > 1 and shards == 1:
        rows["gradient buckets of DDP"] = rows["gradients"]  # which hold them a second time
    if training.strategy == "fsdp":
        rows |= _list_gathered(model, training)
    alike = _alike(training)
    work = {"encode": watch_encoding(frames, settings, alike, towers), **watch_step(frames, settings, alike, towers)}
    rows |= {f"{moment}: {part}": (size, (moment,)) for moment, sizes in work.items() for part, size in sizes.items()}
    return Memory({name: row for name, row in rows.items() if row[0]}, STEP)


def estimate_answer(
    frames: int, settings: ConnectorSettings, training: Training, new: int, towers: Towers, overhead: int = CONTEXT
) -> Memory:
    """Bytes on one GPU that answers ``training.rows`` questions at once, each with ``new`` tokens, greedily.

    The model is held as a run leaves it: frozen towers in the precision of products, what was trained (connector,
    adapters, a language model in stage 2) in fp32, QLoRA's base in NF4. Exact are its weights, and the cache of keys
    and values when the last new token is chosen, which itself is never put there.
    """
    asked = replace(training, answer=0)
    model, tokens = weigh(settings, training, towers), count_prompt_tokens(frames, settings, asked) + new - 1
    cached = training.rows * Sizes(**language_sizes(towers.language)).kv_bytes(tokens, training.language_bytes)
    alike = _alike(asked)
    work = {"encode": watch_encoding(frames, settings, alike, towers), **watch_answer(frames, settings, alike, towers)}
    rows = {
        "weights: vision encoder": (count_bytes(model.vision.parameters()), ANSWER),
        "weights: instruction encoder": (count_bytes(model.instruction.parameters()), ANSWER),
        "weights: language model": (base_bytes(model, training), ANSWER),
        "weights: connector": (count_bytes(model.connector.parameters()), ANSWER),
        "weights: adapters": (count_bytes(language_weights(model)[1]), ANSWER),
        "KV cache": (cached, ANSWER[2:]),
        **{f"{moment}: at work": (sizes.total(), (moment,)) for moment, sizes in work.items()},
        "overhead: CUDA context and libraries": (overhead, ANSWER),
    }
    return Memory({name: row for name, row in rows.items() if row[0]}, ANSWER)


def weigh(settings: ConnectorSettings, training: Training, towers: Towers) -> DynFocusModel:
    """The whole model on the meta device, where its weights take no memory."""
    return _weigh(settings, replace(_alike(training), rows=1, text=0, answer=0, slots=1, strategy="ddp"), towers)


@cache
def _weigh(settings: ConnectorSettings, training: Training, towers: Towers) -> DynFocusModel:
    with torch.device("meta"):
        return build_model(settings, training, towers)


def _alike(training: Training) -> Training:
    """Without what changes neither weights nor activations, so that each is counted once."""
    train = "lora" if training.train == "qlora" else training.train
    strategy = training.strategy if train == "stage2" else "ddp"
    return replace(training, train=train, strategy=strategy, gpus=1, accumulate=1, optimizer="adamw")


def language_weights(model: DynFocusModel) -> tuple[list[Tensor], list[Tensor]]:
    """The language model's own weights, and those of adapters."""
    named = dict(model.language_model.named_parameters())
    adapters = [weight for name, weight in named.items() if "lora_" in name]
    return [weight for name, weight in named.items() if "lora_" not in name], adapters


def count_bytes(weights: Iterable[Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(weight.nbytes for weight in weights)


def packed_weights(model: DynFocusModel) -> list[Tensor]:
    """The matrices that QLoRA packs: those of all linear layers but the head."""
    modules = without_adapters(model.language_model).get_decoder().named_modules()
    return [part.weight for name, part in modules if isinstance(part, nn.Linear) and "lora_" not in name]


def base_bytes(model: DynFocusModel, training: Training) -> int:
    """Bytes of a language model without its adapters; under QLoRA its layers' matrices are in NF4."""
    packed = packed_weights(model) if training.train == "qlora" else []
    saved = sum(weight.nbytes - nf4_bytes(weight.numel()) for weight in packed)
    return count_bytes(language_weights(model)[0]) - saved


def nf4_bytes(count: int) -> int:
    """Bytes of one matrix of ``count`` numbers in NF4 with double quantisation: 0.516 a number.

    Half a byte a number, a byte for each block of 64, 4 bytes for each 256 of these, and tables.
    """
    blocks = -(-count // NF4_BLOCK)
    return -(-count // 2) + blocks + 4 * -(-blocks // NF4_SCALES) + NF4_TABLES


def state_bytes(count: int, optimizer: str) -> int:
    """Bytes of AdamW's two states for a tensor: fp32, or a byte each with a scale for each block of 256."""
    return 8 * count if optimizer == "adamw" or count < SMALL else 2 * (count + 4 * -(-count // BLOCK))


def _count_unpacked_bytes(model: DynFocusModel, training: Training) -> int:
    """Bytes of the largest matrix that is unpacked from 4 bits to be computed with."""
    return max(weight.nbytes for weight in packed_weights(model)) if training.train == "qlora" else 0


def _list_gathered(model: DynFocusModel, training: Training) -> dict[str, tuple[int, tuple[Moment, ...]]]:
    """What FSDP2 holds whole for a time.

    Two layers in the precision of products, the one at work and the next, and what is in no layer, as it is held.
    Backward also the gradients of one layer, in that precision and in the fp32 they are summed in, and of what is in no
    layer, twice.
    """
    number, layers = 4 if training.precision == "32" else 2, decoder_layers(model)
    layer, inside = [*layers[0].parameters()], {*layers.parameters()}
    outside = [*model.connector.parameters(), *(w for w in model.language_model.parameters() if w not in inside)]
    gradients = (number + 4) * sum(weight.numel() for weight in layer if weight.requires_grad)
    gradients += 8 * sum(weight.numel() for weight in outside if weight.requires_grad)
    whole = 2 * number * sum(weight.numel() for weight in layer) + count_bytes(outside)
    return {
        "gathered: two layers and the ends": (whole, STEP[1:4]),
        "gathered: gradients before they are shared": (gradients, STEP[2:4]),
    }
