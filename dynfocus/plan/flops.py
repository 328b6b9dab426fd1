"""The operations of a training step and of an answer that the model's function asks for, by its sizes (no torch)."""

from dataclasses import dataclass, fields

from dynfocus.errors import ConfigError
from dynfocus.plan.connector_flops import Sizes, fewest_flops
from dynfocus.plan.memory import adapters
from dynfocus.plan.towers import InstructionSizes, LanguageSizes, Towers, VisionSizes, parameters
from dynfocus.plan.training import Training, prompt_tokens
from dynfocus.settings import ConnectorSettings

FORWARD, FROZEN, TRAINED = 1, 2, 3  # times a product is done: itself, its gradient of the input, that of the weight


@dataclass(frozen=True)
class StepFlops:
    """Operations of a training step by what does them; see `step_flops`."""

    vision: int
    instruction: int
    connector: int
    layers: int
    adapters: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def step_flops(
    frames: int, settings: ConnectorSettings, training: Training, towers: Towers, question: int = Sizes.question
) -> StepFlops:
    """Model FLOPs of one batch, forward and backward, on videos of T ``frames``: what the share of the peak counts.

    A product [m, k] x [k, n] is 2 m k n, all else is nothing. Per row, with S prompt tokens and A answer tokens:

    * vision: forward alone, T times the patch embedding and all blocks but the last: for n tokens of width d and
      feed-forward m, 2 n (4 d^2 + 2 d m) + 4 n^2 d a block;
    * instruction: forward alone, likewise on the question's tokens;
    * connector: `fewest_flops`, with gradients;
    * layers: of N weights in the linear layers, 2 N S forward and 2 N S for the gradient of their input, as visual
      tokens are trained through them: 4 N S; trained weights take 2 N S more: 6 N S;
    * adapters: 6 N S of their own weights;
    * attention: 4 S^2 q a layer forward, q the width of all query heads, and twice that backward; the causal half that
      may be left out is counted;
    * head: as a layer, on the A supervised positions alone.

    A row of several slots pays for its instructions and the connector once a slot, for its video's frames once. What
    activation checkpointing computes again is not counted, nor what unpacks 4-bit weights, nor the optimizer.

    Raises:
        VideoError: if ``frames`` is below 1.
    """
    language, rows, slots = towers.language, training.rows, training.rows * training.slots
    tokens, times = prompt_tokens(frames, settings, training), TRAINED if training.train == "stage2" else FROZEN
    sizes = widths(towers, question)
    linear, added = language_weights(training, towers)
    return StepFlops(
        vision=rows * frames * frame_flops(towers.vision),
        instruction=slots * question_flops(towers.instruction, question),
        connector=slots * fewest_flops(frames, settings, sizes, training=True).total,
        layers=2 * rows * tokens * linear * times,
        adapters=2 * rows * tokens * added * TRAINED,
        attention=rows * language.num_hidden_layers * attention_flops(language, tokens) * (FORWARD + 2),
        head=2 * rows * training.answer * language.hidden_size * language.vocab_size * times,
    )


@dataclass(frozen=True)
class AnswerFlops:
    """Operations of one row's answer; see `answer_flops`.

    Attributes:
        vision: all frames.
        instruction: the question, once a slot.
        connector: from patches to tokens.
        prefill: the language model on the whole prompt; it gives the first new token.
        generation: the language model on the other new tokens, one by one, beside a cache of keys and values.
        new_token: the first of these alone.
    """

    vision: int
    instruction: int
    connector: int
    prefill: int
    generation: int
    new_token: int

    @property
    def language(self) -> int:
        return self.prefill + self.generation

    @property
    def total(self) -> int:
        return self.vision + self.instruction + self.connector + self.language


def answer_flops(
    frames: int,
    settings: ConnectorSettings,
    training: Training,
    towers: Towers,
    new: int,
    question: int = Sizes.question,
) -> AnswerFlops:
    """FLOPs of one row's greedy answer of ``new`` tokens, by a model trained so; what counts is as in `step_flops`.

    With S prompt tokens, N weights in linear layers and adapters, and q the width of all query heads: the prompt takes
    2 N S + 4 S^2 q a layer, the j-th new token after the first 2 N + 4 (S + j) q a layer; each of them takes the head
    once. Cached keys and values are computed once.

    Raises:
        ConfigError: if ``new`` is below 1.
        VideoError: if ``frames`` is below 1.
    """
    if new < 1:
        raise ConfigError(f"an answer of {new} new tokens", "at least 1", "Raise max_new_tokens.")
    language, tokens = towers.language, prompt_tokens(frames, settings, training) - training.answer
    weights, head = sum(language_weights(training, towers)), 2 * language.hidden_size * language.vocab_size
    layers, others = language.num_hidden_layers, new - 1
    each, look = 2 * weights + head, 4 * language.queries * layers  # a new token, and its look at one token

    return AnswerFlops(
        vision=frames * frame_flops(towers.vision),
        instruction=training.slots * question_flops(towers.instruction, question),
        connector=training.slots * fewest_flops(frames, settings, widths(towers, question)).total,
        prefill=2 * weights * tokens + layers * attention_flops(language, tokens) + head,
        generation=others * (each + look * tokens) + look * others * new // 2,
        new_token=each + look * (tokens + 1),
    )


def widths(towers: Towers, question: int) -> Sizes:
    """What the connector's operations depend on."""
    return Sizes(towers.vision.hidden_size, towers.instruction.hidden_size, towers.language.hidden_size, question)


def language_weights(training: Training, towers: Towers) -> tuple[int, int]:
    """Weights in the language model's linear layers, the head aside, and in its adapters."""
    added = adapters(towers.language.weights, training.rank) if training.train in ("lora", "qlora") else ()
    return parameters(weight for weight in towers.language.weights if weight.linear), parameters(added)


def frame_flops(sizes: VisionSizes) -> int:
    """The second-last block's output of one frame, forward."""
    tokens, width = sizes.patches + (sizes.model_type != "siglip_vision_model"), sizes.hidden_size
    blocks = (sizes.num_hidden_layers - 1) * block_flops(tokens, width, sizes.intermediate_size)
    return blocks + 2 * sizes.patches * 3 * sizes.patch_size**2 * width


def question_flops(sizes: InstructionSizes, tokens: int) -> int:
    """One question, forward."""
    return sizes.num_hidden_layers * block_flops(tokens, sizes.hidden_size, sizes.intermediate_size)


def block_flops(tokens: int, width: int, between: int) -> int:
    """One block of an encoder: attention and a feed-forward of width ``between``, forward."""
    return 2 * tokens * (4 * width * width + 2 * width * between) + 4 * tokens * tokens * width


def attention_flops(sizes: LanguageSizes, tokens: int) -> int:
    """Scores and weighted sums of one layer on one row, forward; neither has weights, so backward is twice that."""
    return 4 * tokens * tokens * sizes.queries
