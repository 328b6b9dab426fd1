"""Every tensor of the towers and the connector, from their sizes alone (no torch)."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

from dynfocus.settings import ConnectorSettings


@dataclass(frozen=True)
class Weight:
    """``count`` tensors of one shape; ``linear`` where it is the matrix of a linear layer, of shape (out, in)."""

    shape: tuple[int, ...]
    count: int = 1
    linear: bool = False

    @cached_property
    def each(self) -> int:
        return prod(self.shape)


Weights = tuple[Weight, ...]


def parameters(weights: Iterable[Weight]) -> int:
    """All numbers in these tensors."""
    return sum(weight.count * weight.each for weight in weights)


def linear(width: int, out: int, count: int = 1, bias: bool = True) -> Weights:
    """The tensors of ``count`` linear layers."""
    return (Weight((out, width), count, linear=True), *([Weight((out,), count)] if bias else []))


def norm(width: int, count: int = 1) -> Weights:
    """The tensors of ``count`` LayerNorms."""
    return (Weight((width,), 2 * count),)


@dataclass(frozen=True)
class VisionSizes:
    """A vision transformer under transformers' own names; the defaults are ViT-G/14 at 224 pixels."""

    model_type: str = "instructblip_vision_model"
    hidden_size: int = 1408
    intermediate_size: int = 6144
    num_hidden_layers: int = 39
    patch_size: int = 14
    image_size: int = 224
    qkv_bias: bool = True
    vision_use_head: bool = True

    @property
    def patches(self) -> int:
        """N, patch tokens a frame."""
        return (self.image_size // self.patch_size) ** 2

    @cached_property
    def weights(self) -> Weights:
        width, mlp, layers = self.hidden_size, self.intermediate_size, self.num_hidden_layers
        feed = (*linear(width, mlp, layers), *linear(mlp, width, layers))
        pixels, clip = Weight((width, 3, self.patch_size, self.patch_size)), self.model_type == "clip_vision_model"
        place = Weight((self.patches, width))
        if self.model_type == "instructblip_vision_model":
            qkv = linear(width, 3 * width, layers, bias=self.qkv_bias)
            attention, start = (*qkv, *linear(width, width, layers)), (Weight((width,), 3),)
        else:
            attention = linear(width, width, 4 * layers)
            start = (Weight((width,), 4),) if clip else (Weight((width,)),)
        head: Weights = ()
        if self.model_type == "siglip_vision_model" and self.vision_use_head:
            head = (*linear(width, 3 * width), *linear(width, width), Weight((width,)), *norm(width))
            head += (*linear(width, mlp), *linear(mlp, width))
        return (pixels, place, *start, *attention, *feed, *norm(width, 2 * layers + 1), *head)


@dataclass(frozen=True)
class InstructionSizes:
    """A Q-Former under transformers' own names; the defaults are InstructBLIP's."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    cross_attention_frequency: int = 2
    encoder_hidden_size: int = 1408
    max_position_embeddings: int = 512
    vocab_size: int = 30523

    @cached_property
    def weights(self) -> Weights:
        width, mlp, layers = self.hidden_size, self.intermediate_size, self.num_hidden_layers
        cross = -(-layers // self.cross_attention_frequency)
        words = (Weight((self.vocab_size, width)), Weight((self.max_position_embeddings, width)))
        attention = (*linear(width, width, 4 * layers), *linear(width, width, 2 * cross))
        looks = linear(self.encoder_hidden_size, width, 2 * cross)
        feed = (*linear(width, mlp, 2 * layers), *linear(mlp, width, 2 * layers))
        return (*words, *attention, *looks, *feed, *norm(width, 1 + 3 * layers + cross))


@dataclass(frozen=True)
class LanguageSizes:
    """A causal language model under transformers' own names; the defaults are Vicuna-7B's (v1.5)."""

    model_type: str = "llama"
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    vocab_size: int = 32000
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    max_position_embeddings: int = 4096
    sliding_window: int | None = None
    use_sliding_window: bool = False
    max_window_layers: int = 28

    @property
    def sliding(self) -> int:
        """Layers that attend to the last ``sliding_window`` tokens alone."""
        if self.sliding_window is None:
            return 0
        late = max(0, self.num_hidden_layers - self.max_window_layers) if self.use_sliding_window else 0
        return {"mistral": self.num_hidden_layers, "qwen2": late}.get(self.model_type, 0)

    @property
    def queries(self) -> int:
        """Width of all query heads."""
        return self.num_attention_heads * (self.head_dim or self.hidden_size // self.num_attention_heads)

    @property
    def keys(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.queries // self.num_attention_heads * (self.num_key_value_heads or self.num_attention_heads)

    @cached_property
    def layer(self) -> Weights:
        """One layer."""
        width, mlp, biased = self.hidden_size, self.intermediate_size, self.attention_bias
        qkv = biased or self.model_type == "qwen2"
        attention = (*linear(width, self.queries, bias=qkv), *linear(width, self.keys, 2, bias=qkv))
        out = linear(self.queries, width, bias=biased)
        feed = (*linear(width, mlp, 2, bias=self.mlp_bias), *linear(mlp, width, bias=self.mlp_bias))
        return (*attention, *out, *feed, Weight((width,), 2))

    @cached_property
    def ends(self) -> Weights:
        """What is in no layer: embeddings, the last norm, and the head unless it is the embeddings again."""
        table = Weight((self.vocab_size, self.hidden_size), 1 if self.tie_word_embeddings else 2)
        return (table, Weight((self.hidden_size,)))

    @cached_property
    def weights(self) -> Weights:
        return (*(replace(part, count=part.count * self.num_hidden_layers) for part in self.layer), *self.ends)


def connector_weights(settings: ConnectorSettings, width: int, text_width: int, out: int) -> Weights:
    """DPE and CCE, for encoders of these widths; a selector of one's own counts as having none."""
    fine = (*linear(width, out), *linear(out, out))
    if settings.encoder == "average_pooling":
        return fine
    rods = (*linear(width, width, bias=False), *linear(text_width, width), *fine)
    if settings.selector_name != "dpe":
        return (*fine, *rods)
    score = (*norm(2 * width), *linear(2 * width, width // 2), *linear(width // 2, 1, bias=False))
    if settings.score_reads_question:
        shared = min(width, text_width)
        score += (*linear(text_width, shared, bias=False), *linear(width, shared, bias=False), *linear(text_width, 1))
    return (*fine, *rods, *score)


@dataclass(frozen=True)
class Towers:
    """Sizes of the three towers; the defaults are the paper's."""

    vision: VisionSizes = field(default_factory=VisionSizes)
    instruction: InstructionSizes = field(default_factory=InstructionSizes)
    language: LanguageSizes = field(default_factory=LanguageSizes)

    def connector(self, settings: ConnectorSettings) -> Weights:
        widths = self.vision.hidden_size, self.instruction.hidden_size, self.language.hidden_size
        return connector_weights(settings, *widths)


TOWERS = Towers()
