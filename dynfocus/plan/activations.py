"""What a training step keeps between forward and backward, from its sizes alone (no torch): estimates."""

from dataclasses import dataclass

from dynfocus.budget import budget
from dynfocus.plan.towers import LanguageSizes, Towers, VisionSizes
from dynfocus.settings import CHUNK, ConnectorSettings

MASK = 1  # bytes of a number in dropout's mask; torch's CPU kernels keep it in fp32


@dataclass(frozen=True)
class Numbers:
    """Bytes of a number in matrix products (``compute``) and in the residual stream (``stream``)."""

    compute: int = 2
    stream: int = 2


def layer_kept(sizes: LanguageSizes, numbers: Numbers, trained: bool, adapted: bool) -> int:
    """Bytes a token that one layer keeps for its backward pass.

    With h, m, q, k the widths of stream, feed-forward, queries and keys, c and s the bytes of a number in products and
    in the stream, and per token:

    * both norms' inputs in fp32, as they are or copied: 8 h;
    * attention: c (2 q + 2 k) and 4 bytes a head (nothing of size tokens x tokens: fused attention is assumed);
    * feed-forward: 3 c m;
    * if trained, both norms' results before and after their weights, 4 s h, and the input of down, c m; where autocast
      copies the inputs of q, k, v, gate and up, 2 s h and 5 c h in place of 4 s h;
    * if adapted, the inputs of all seven adapters behind dropout, and its masks: (c + 1) (5 h + q + m).
    """
    h, m, q, k = sizes.hidden_size, sizes.intermediate_size, sizes.queries, sizes.keys
    c, s = numbers.compute, numbers.stream
    kept = 8 * h + c * (2 * q + 2 * k) + 4 * sizes.num_attention_heads + 3 * c * m
    if trained:
        kept += c * m + 2 * s * h + (5 * c * h if c < s else 2 * s * h)
    if adapted:
        kept += (c + MASK) * (5 * h + q + m)
    return kept


def layer_gradients(sizes: LanguageSizes, numbers: Numbers) -> int:
    """Bytes a token of gradients that live beside these in one layer's backward pass: 2 c m + 2 s h."""
    return 2 * numbers.compute * sizes.intermediate_size + 2 * numbers.stream * sizes.hidden_size


def layer_works(sizes: LanguageSizes, number: int) -> int:
    """Bytes a token at work in one layer where nothing is kept for a backward pass.

    The largest of a norm in fp32, attention and feed-forward, beside the stream: with h, m, q, k as in `layer_kept` and
    b bytes a number, b h + max(8 h + b h, b (h + 3 q + 4 k), b (h + 3 m)).
    """
    h, m, q, k = sizes.hidden_size, sizes.intermediate_size, sizes.queries, sizes.keys
    return number * h + max((8 + number) * h, number * (h + 3 * q + 4 * k), number * (h + 3 * m))


def logits(sizes: LanguageSizes, numbers: Numbers, answer: int) -> int:
    """Bytes of logits at ``answer`` supervised positions, their fp32 copy, and the loss's own log-softmax."""
    copy = 4 if numbers.compute < 4 else 0
    return answer * sizes.vocab_size * (numbers.compute + copy + 4)


def logit_gradients(sizes: LanguageSizes, numbers: Numbers, answer: int) -> int:
    """Bytes of the gradient of those logits, in fp32 and, where products are narrower, once more for the head."""
    copy = numbers.compute if numbers.compute < 4 else 0
    return answer * sizes.vocab_size * (4 + copy)


def connector_kept(frames: int, settings: ConnectorSettings, towers: Towers, numbers: Numbers) -> int:
    """Bytes that sketch and connector keep for one video.

    * the sketch in 16 bit, and in fp32 its grains as rods read them and its pooled patches as events are found in them;
    * L' event prototypes and their grains in fp32, K' mixtures of both, and these side by side;
    * each projector's input in fp32 and as its product reads it, and its three outputs of width D;
    * the woven tokens, once more.
    """
    cost, d, out = budget(frames, settings), towers.vision.hidden_size, towers.language.hidden_size
    rows = settings.pooled + settings.grains
    sketch = frames * rows * d * (2 + 4)
    dynfocus = settings.encoder == "dynfocus"
    events = (cost.prototypes + 2 * cost.kept) * rows * d * 4 if dynfocus else 0
    read = d * (4 + (numbers.compute if numbers.compute < 4 else 0)) + 3 * out * numbers.compute
    given = cost.cones + (2 * frames if dynfocus else 0)
    return sketch + events + given * read + cost.visual_tokens * out * numbers.compute


def prompt_kept(tokens: int, sizes: LanguageSizes, numbers: Numbers) -> int:
    """Bytes of the prompt's embeddings, before and after visual tokens are put in, and of the last norm."""
    return tokens * sizes.hidden_size * (2 * numbers.stream + 4)


def encoding(frames: int, sizes: VisionSizes, frozen: int) -> int:
    """Bytes at work while a chunk of frames is encoded and sketched; nothing of it is kept.

    The larger of a block (input, norm, queries, keys, values, output; and the feed-forward's two) in the frozen tower's
    precision, and of the sketch's fp32 patches, twice, and their N x N distances, three times.
    """
    count, wide = min(frames, CHUNK), 7 * sizes.hidden_size + 2 * sizes.intermediate_size
    block = count * (sizes.patches + 1) * wide * frozen
    sketch = count * sizes.patches * (2 * sizes.hidden_size + 3 * sizes.patches) * 4
    return max(block, sketch)
