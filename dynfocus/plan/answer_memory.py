"""GPU memory of an answer: the weights, the cache of keys and values, and what is at work (no torch)."""

from dynfocus.budget import budget
from dynfocus.plan import activations
from dynfocus.plan.memory import CONNECT, CONTEXT, ENCODE, GENERATE, PREFILL, Held, Memory, Moment, adapters, base_bytes
from dynfocus.plan.towers import TOWERS, LanguageSizes, Towers, parameters
from dynfocus.plan.training import Training, prompt_tokens
from dynfocus.settings import ConnectorSettings

ANSWERING: tuple[Moment, ...] = (ENCODE, CONNECT, PREFILL, GENERATE)
SPOKEN: tuple[Moment, ...] = (PREFILL, GENERATE)


def kv_bytes(sizes: LanguageSizes, tokens: int, number: int = 2) -> int:
    """Bytes of the keys and values of ``tokens`` tokens of one row, exact: 2 x layers x kv width x tokens x bytes.

    The kv width is ``num_key_value_heads`` x ``head_dim``. Layers that slide keep the last ``sliding_window`` - 1.
    """
    window = tokens if sizes.sliding_window is None else min(tokens, sizes.sliding_window - 1)
    whole = sizes.num_hidden_layers - sizes.sliding
    return 2 * sizes.keys * number * (whole * tokens + sizes.sliding * window)


def answering_memory(
    frames: int,
    settings: ConnectorSettings,
    training: Training,
    new: int,
    towers: Towers = TOWERS,
    overhead: int = CONTEXT,
) -> Memory:
    """Bytes on one GPU that answers ``training.rows`` questions at once, each with ``new`` tokens, greedily.

    The model is held as a run leaves it: frozen towers in the precision of products, what was trained (connector,
    adapters, a language model in stage 2) in fp32, QLoRA's base in NF4. Exact are its weights, and the cache of keys
    and values when the last new token is chosen, which itself is never put there. The rest are estimates, each with its
    formula where it is computed. Left out are fragments of the allocator.

    Raises:
        VideoError: if ``frames`` is below 1.
    """
    sizes, number, frozen, rows = towers.language, training.language, training.frozen, training.rows
    prompt = prompt_tokens(frames, settings, training) - training.answer
    adapted = adapters(sizes.weights, training.rank) if training.train in ("lora", "qlora") else ()
    slots, width, head = rows * training.slots, sizes.hidden_size, sizes.queries // sizes.num_attention_heads
    connect = activations.connector_kept(frames, settings, towers, training.numbers)
    found = [
        Held("weights: vision encoder", frozen * parameters(towers.vision.weights), ANSWERING),
        Held("weights: instruction encoder", frozen * parameters(towers.instruction.weights), ANSWERING),
        Held("weights: language model", base_bytes(training, towers), ANSWERING),
        Held("weights: connector", 4 * parameters(towers.connector(settings)), ANSWERING),
        Held("weights: adapters", 4 * parameters(adapted), ANSWERING),
        Held("KV cache", rows * kv_bytes(sizes, prompt + new - 1, number), SPOKEN),
        Held("encoding: frames at work", activations.encoding(frames, towers.vision, frozen), (ENCODE,)),
        Held("connector at work", slots * connect, (CONNECT,)),
        Held("visual tokens in fp32", 4 * slots * budget(frames, settings).visual_tokens * width, SPOKEN),
        Held("prompt's embeddings and angles", 2 * rows * prompt * (width + head) * number, SPOKEN),
        Held("one layer at work", rows * prompt * activations.layer_works(sizes, number), (PREFILL,)),
        Held("logits", rows * sizes.vocab_size * (number + 4), SPOKEN),
        Held("overhead: CUDA context and libraries", overhead, ANSWERING),
    ]
    return Memory(tuple(row for row in found if row.size), ANSWERING)
