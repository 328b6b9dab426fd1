"""GPU memory of a training step: what is held, how many bytes of it, and at which moment (no torch)."""

from dataclasses import dataclass
from typing import Literal

from dynfocus.plan import activations
from dynfocus.plan.towers import TOWERS, Towers, Weight, Weights, parameters
from dynfocus.plan.training import Training, prompt_tokens
from dynfocus.settings import ConnectorSettings

Moment = Literal["encode", "forward", "recompute", "backward", "update", "connect", "prefill", "generate"]
ENCODE: Moment = "encode"
FORWARD: Moment = "forward"
RECOMPUTE: Moment = "recompute"
BACKWARD: Moment = "backward"
UPDATE: Moment = "update"
CONNECT: Moment = "connect"
PREFILL: Moment = "prefill"
GENERATE: Moment = "generate"
ALWAYS: tuple[Moment, ...] = (ENCODE, FORWARD, RECOMPUTE, BACKWARD, UPDATE)

CONTEXT = 3 << 28  # 0.75 GiB: CUDA's context and the workspaces of its libraries, 0.5 to 1 on today's cards
SMALL, BLOCK = 4096, 256  # 8-bit AdamW: smaller tensors keep fp32 states; numbers that share a scale
NF4_BLOCK, NF4_SCALES, NF4_TABLES = 64, 256, (16 + 256 + 1) * 4


@dataclass(frozen=True)
class Held:
    """Something in memory: its name, its bytes on one GPU, and the moments of a step at which it is there."""

    name: str
    size: int
    moments: tuple[Moment, ...] = ALWAYS


@dataclass(frozen=True)
class Memory:
    """What one GPU holds, and the moments there are: those of a training step, or those of an answer."""

    rows: tuple[Held, ...]
    moments: tuple[Moment, ...] = ALWAYS

    def at(self, moment: Moment) -> int:
        """Bytes at one moment."""
        return sum(row.size for row in self.rows if moment in row.moments)

    @property
    def worst(self) -> Moment:
        """The moment that needs most."""
        return max(self.moments, key=self.at)

    @property
    def total(self) -> int:
        """Bytes at that moment."""
        return self.at(self.worst)

    def __getitem__(self, name: str) -> int:
        return next(row.size for row in self.rows if row.name == name)


def memory(
    frames: int, settings: ConnectorSettings, training: Training, towers: Towers = TOWERS, overhead: int = CONTEXT
) -> Memory:
    """Bytes on one GPU, by what holds them, of a training step on videos of T ``frames``.

    It is a step from the second on, when the optimizer has its states.

    Exact are weights, gradients and optimizer states: frozen parts in 16 bit, trained ones in fp32 (4 bytes each for
    weight and gradient, 8 for AdamW's states), the linear layers of QLoRA's base in NF4 with double quantisation (0.516
    bytes a weight). Sharding divides the language model's and the connector's by the number of GPUs; frozen towers
    stand whole on each. The rest are estimates, each with its formula where it is computed. Left out: fragments of the
    allocator, batches on their way, the vision encoder's weights twice (a tower of its own for a cache).

    Raises:
        VideoError: if ``frames`` is below 1.
    """
    learned = trained(settings, training, towers)
    own = "language model" in learned
    every = [weight for part in learned.values() for weight in part]
    count = parameters(every)
    base = 0 if own else base_bytes(training, towers)
    late: tuple[Moment, ...] = ALWAYS if training.accumulate > 1 else (BACKWARD, UPDATE)
    shards = training.shards
    rows = [
        Held("weights: vision encoder", training.frozen * parameters(towers.vision.weights)),
        Held("weights: instruction encoder", training.frozen * parameters(towers.instruction.weights)),
        *([] if own else [Held("weights: language model, frozen", _share(base, shards))]),
        *(Held(f"weights: {name}, trained", _share(4 * parameters(part), shards)) for name, part in learned.items()),
        Held("gradients", _share(4 * count, shards), late),
        Held("optimizer states", _share(sum(state_bytes(one, training.optimizer) for one in every), shards)),
        *_gathered(learned, training, towers),
        *_activations(frames, settings, training, towers, learned),
        Held("overhead: CUDA context and libraries", overhead),
    ]
    return Memory(tuple(row for row in rows if row.size))


def trained(settings: ConnectorSettings, training: Training, towers: Towers) -> dict[str, Weights]:
    """The tensors that a run trains, by part."""
    learned = {"connector": towers.connector(settings)}
    if training.train == "stage2":
        learned["language model"] = towers.language.weights
    if training.train in ("lora", "qlora"):
        learned["adapters"] = adapters(towers.language.weights, training.rank)
    return learned


def adapters(weights: Weights, rank: int) -> Weights:
    """LoRA's two factors for every linear layer, rank x in and out x rank; a head beside the layers gets none."""
    found = [weight for weight in weights if weight.linear]
    return tuple(
        factor
        for weight in found
        for factor in (
            Weight((rank, weight.shape[1]), weight.count, linear=True),
            Weight((weight.shape[0], rank), weight.count, linear=True),
        )
    )


def base_bytes(training: Training, towers: Towers) -> int:
    """Bytes of a language model; under QLoRA its layers' matrices are in NF4, all else in 16 bit."""
    whole = training.train != "qlora"
    each = training.language
    return sum(
        w.count * (each * w.each if whole or not w.linear else nf4_bytes(w.each)) for w in towers.language.weights
    )


def nf4_bytes(count: int) -> int:
    """Bytes of one matrix of ``count`` numbers in NF4 with double quantisation.

    Half a byte a number, a byte for each block of 64, 4 bytes for each 256 of these, and tables.
    """
    blocks = -(-count // NF4_BLOCK)
    return -(-count // 2) + blocks + 4 * -(-blocks // NF4_SCALES) + NF4_TABLES


def state_bytes(weight: Weight, optimizer: str) -> int:
    """Bytes of AdamW's two states for some tensors: fp32, or a byte each with a scale for each block of 256."""
    if optimizer == "adamw" or weight.each < SMALL:
        return weight.count * 8 * weight.each
    return weight.count * 2 * (weight.each + 4 * -(-weight.each // BLOCK))


def _share(size: int, shards: int) -> int:
    return -(-size // shards)


def _gathered(learned: dict[str, Weights], training: Training, towers: Towers) -> list[Held]:
    """What stands beside the weights for a time: copies for autocast, buckets of DDP, whole layers of FSDP2.

    * autocast: a 16-bit copy of every matrix that is trained, from its first use to the end of the forward pass; in a
      sharded model only of those in no layer;
    * DDP: its buckets hold every gradient a second time;
    * FSDP2: two whole layers in 16 bit, the one at work and the next, and what is in no layer, as it is held. Backward
      also the gradients of one layer, in 16 bit and in the fp32 they are summed in, and of what is in no layer, twice.
    """
    language, own, shared = towers.language, learned.get("language model"), training.strategy == "fsdp"
    every = [weight for part in learned.values() for weight in part]
    matrices = parameters(w for w in (learned["connector"] if shared else every) if w.linear)
    head = language.vocab_size * language.hidden_size if own else 0
    copies = 0 if training.frozen == 4 else 2 * (matrices + head)
    found = [Held("autocast's copies of trained matrices", copies, (FORWARD,))]
    if shared:
        added = adapters(language.layer, training.rank) if "adapters" in learned else ()
        layer = parameters((*language.layer, *added))
        outside = 4 * parameters(learned["connector"]) + (4 if own else training.frozen) * parameters(language.ends)
        taught = 6 * parameters(language.layer if own else added)
        taught += 8 * parameters((*learned["connector"], *(language.ends if own else ())))
        whole = 2 * training.frozen * layer + outside
        found.append(Held("gathered: two layers and the ends", whole, (FORWARD, RECOMPUTE, BACKWARD)))
        found.append(Held("gathered: gradients before they are shared", taught, (RECOMPUTE, BACKWARD)))
    elif training.gpus > 1:
        found.append(Held("gradient buckets of DDP", 4 * parameters(every)))
    return found


def _activations(
    frames: int, settings: ConnectorSettings, training: Training, towers: Towers, learned: dict[str, Weights]
) -> list[Held]:
    """What is computed: kept from forward to backward, and at work at one moment."""
    sizes, numbers, rows = towers.language, training.numbers, training.rows
    tokens = rows * prompt_tokens(frames, settings, training)
    taught, adapted, answer = "language model" in learned, "adapters" in learned, rows * training.answer
    whole = tokens * activations.layer_kept(sizes, numbers, taught, adapted)
    between = tokens * sizes.hidden_size * numbers.stream
    kept, again = (between, whole) if training.checkpointing else (whole, 0)
    unpacked = 0
    if training.train == "qlora":
        unpacked = 2 * max(weight.each for weight in sizes.layer if weight.linear)
    connect = rows * training.slots * activations.connector_kept(frames, settings, towers, numbers)
    return [
        Held("encoding: frames at work", activations.encoding(frames, towers.vision, training.frozen), (ENCODE,)),
        Held("activations: connector", connect + activations.prompt_kept(tokens, sizes, numbers), (FORWARD, RECOMPUTE)),
        Held("activations: language model's layers", sizes.num_hidden_layers * kept, (FORWARD, RECOMPUTE)),
        Held("activations: one layer computed again", again, (RECOMPUTE, BACKWARD)),
        Held("activations: gradients in one layer", tokens * activations.layer_gradients(sizes, numbers), (RECOMPUTE,)),
        Held("logits of answers", activations.logits(sizes, numbers, answer), (FORWARD,)),
        Held("logits of answers: gradients", activations.logit_gradients(sizes, numbers, answer), (FORWARD,)),
        Held("a 4-bit matrix unpacked", unpacked, (FORWARD, RECOMPUTE, BACKWARD)),
    ]
