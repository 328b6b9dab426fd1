"""The operations of a training step that the model's function asks for, from its sizes alone (no torch)."""

from dataclasses import dataclass, fields

from dynfocus.bench.flops import Sizes, fewest_flops
from dynfocus.budget import budget
from dynfocus.plan import Towers, Training
from dynfocus.plan.memory import adapters
from dynfocus.plan.towers import InstructionSizes, LanguageSizes, VisionSizes, parameters
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


def prompt_tokens(frames: int, settings: ConnectorSettings, training: Training) -> int:
    """S, tokens of one row: visual ones, text and answer."""
    return budget(frames, settings).visual_tokens + training.text + training.answer


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

    What activation checkpointing computes again is not counted, nor what unpacks 4-bit weights, nor the optimizer.

    Raises:
        VideoError: if ``frames`` is below 1.
    """
    language, rows = towers.language, training.rows
    tokens, times = prompt_tokens(frames, settings, training), TRAINED if training.train == "stage2" else FROZEN
    sizes = Sizes(towers.vision.hidden_size, towers.instruction.hidden_size, language.hidden_size, question)
    added = adapters(language.weights, training.rank) if training.train in ("lora", "qlora") else ()
    linear = parameters(weight for weight in language.weights if weight.linear)
    return StepFlops(
        vision=rows * frames * frame_flops(towers.vision),
        instruction=rows * question_flops(towers.instruction, question),
        connector=rows * fewest_flops(frames, settings, sizes, training=True).total,
        layers=2 * rows * tokens * linear * times,
        adapters=2 * rows * tokens * parameters(added) * TRAINED,
        attention=rows * language.num_hidden_layers * attention_flops(language, tokens),
        head=2 * rows * training.answer * language.hidden_size * language.vocab_size * times,
    )


def frame_flops(sizes: VisionSizes) -> int:
    """The second-last block's output of one frame, forward."""
    tokens, width = sizes.patches + (sizes.model_type != "siglip_vision_model"), sizes.hidden_size
    block = 2 * tokens * (4 * width * width + 2 * width * sizes.intermediate_size) + 4 * tokens * tokens * width
    return (sizes.num_hidden_layers - 1) * block + 2 * sizes.patches * 3 * sizes.patch_size**2 * width


def question_flops(sizes: InstructionSizes, tokens: int) -> int:
    """One question, forward."""
    width = sizes.hidden_size
    layer = 2 * tokens * (4 * width * width + 2 * width * sizes.intermediate_size) + 4 * tokens * tokens * width
    return sizes.num_hidden_layers * layer


def attention_flops(sizes: LanguageSizes, tokens: int) -> int:
    """Scores and weighted sums of one layer on one row, forward and backward; neither has weights."""
    return 4 * tokens * tokens * sizes.queries * (FORWARD + 2)
