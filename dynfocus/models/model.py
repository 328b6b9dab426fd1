"""Make DynFocus a model of transformers: encode, connect, place tokens, and let the language model answer."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    GenerationConfig,
    GenerationMixin,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from dynfocus.errors import ConfigError, PromptError
from dynfocus.method.sketch import Encoder, encoder_calls, sketch_frames
from dynfocus.models.config import DynFocusConfig
from dynfocus.models.frame_instruction import build_instructed_encoder, encode_with_instruction
from dynfocus.models.loading import ENDS, Folders
from dynfocus.models.prompts import IGNORED
from dynfocus.models.towers import InstructionTower, QueryTokens, VisionTower
from dynfocus.types import Batch, FrameSketch, VideoTokens, stack_sketches


class DynFocusModel(Folders, GenerationMixin):
    """A frozen vision encoder, the connector, and a language model that answers questions about videos.

    The steps for a video: ``sketch`` (frames -> FrameSketch), ``connect`` (sketch and question -> tokens), ``embed``
    (tokens placed in the prompt), then the language model's loss (``forward``) or answer (``generate``).
    """

    base_model_prefix = "dynfocus"
    main_input_name = "input_ids"
    input_modalities = ["image", "video", "text"]  # noqa: RUF012 (transformers' own type)
    accepts_loss_kwargs = True  # transformers' Trainer then counts the target tokens of all accumulated batches
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: DynFocusConfig, language_model: nn.Module | None = None) -> None:
        super().__init__(config)
        self.settings = config.settings
        self.vision = VisionTower(config.vision_config, config.image_mean, config.image_std)
        config.vision_blocks = self.vision.used_blocks
        if self.settings.patches != self.vision.patches:
            raise ConfigError(
                f"connector.patches = {self.settings.patches} with a vision encoder of {self.vision.patches} patches",
                "the same number in both",
                f"Set connector.patches to {self.vision.patches}, and pooled and spatial_prototypes to fit.",
            )
        self.instruction = InstructionTower(config.qformer_config, self.settings.instruction_mode, config.queries)
        self.vision.requires_grad_(False)
        self.instruction.requires_grad_(False)
        self.connector = self.fresh_connector()
        self.language_model = language_model or AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()
        self.most_calls: Callable[[int], int] = int  # of any process; sharded encoders must be called equally often
        self.training_calls = 0  # of `forward` by names, which key the noise
        self.synced = False  # whether all processes must generate equally many tokens

    def _init_weights(self, module: nn.Module) -> None:
        # Our layers keep torch's initialisation; the towers are models of their own and initialise themselves.
        if isinstance(module, nn.Linear | nn.LayerNorm | QueryTokens):
            module.reset_parameters()

    @torch.no_grad()
    def sketch(self, frames: UInt8[Tensor, "T H W 3"]) -> FrameSketch:
        """Frames of one video -> its sketch; the only place where the vision encoder runs.

        It computes in its own precision, whatever a trainer's mixed precision is, as for the sketch cache.
        """
        with torch.autocast(frames.device.type, enabled=False):
            return sketch_frames(frames, self.vision, self.settings)

    def connect(self, batch: Batch, step: int = 0) -> VideoTokens:
        """Sketches and instructions -> the tokens of each visual slot."""
        ids, mask = batch.question_ids, batch.question_mask
        missing = self.missing_calls(batch)
        if self.settings.instruction_mode == "frame":
            sketch, question = encode_with_instruction(batch, self.vision, self.instruction, self.settings)
            self.call_more(missing, build_instructed_encoder(self.vision, self.instruction, ids[:1], mask[:1], []))
            mask = mask.new_ones(len(question), question.shape[2])
        else:
            sketch = batch.sketch or stack_sketches([self.sketch(frames) for frames in batch.frames])
            self.call_more(missing, self.vision)
            question = self.instruction(ids, mask)
        return self.connector(
            sketch.gather(batch.slot_video),
            question.to(next(self.connector.parameters()).dtype),
            mask,
            batch.video_rows[batch.slot_video],
            step,
            None if batch.relevant is None else batch.relevant[batch.slot_video],
        )

    def missing_calls(self, batch: Batch) -> int:
        """How many calls of its encoder this process has fewer than some other; all processes must ask together."""
        own = sum(encoder_calls(len(frames), self.settings) for frames in batch.frames)
        return self.most_calls(own) - own

    @torch.no_grad()
    def call_more(self, times: int, encode: Encoder) -> None:
        """Encode a blank frame ``times`` times: every process must call a sharded encoder equally often."""
        blank = torch.zeros(1, self.vision.size, self.vision.size, 3, dtype=torch.uint8, device=self.device)
        for _ in range(times):
            encode(blank)

    def embed(self, batch: Batch, step: int = 0) -> tuple[Float[Tensor, "Rows S D"], VideoTokens]:
        """The prompt as embeddings, with the visual tokens in their places."""
        video = self.connect(batch, step)
        words = batch.input_ids.masked_fill(batch.input_ids == self.config.image_token_id, 0)
        embeds = self.language_model.get_input_embeddings()(words)
        return place(embeds, batch.input_ids == self.config.image_token_id, video, batch.slot_row), video

    def without_video(self, batch: Batch) -> Batch:
        """The same rows without video: the visual tokens stay in place, but nothing attends to them."""
        text = batch.attention_mask * (batch.input_ids != self.config.image_token_id)
        return replace(batch, attention_mask=text)

    def get_input_embeddings(self) -> nn.Module:
        """The language model's word embeddings."""
        return self.language_model.get_input_embeddings()

    def train(self, mode: bool = True) -> "DynFocusModel":
        """As torch's, but frozen encoders stay as they answer: without dropout."""
        super().train(mode)
        for tower in (self.vision, self.instruction):
            if not any(weight.requires_grad for weight in tower.parameters()):
                tower.eval()
        return self

    def forward(
        self,
        batch: Batch | None = None,
        step: int | None = None,
        *,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        question_ids: Tensor | None = None,
        question_mask: Tensor | None = None,
        slot_video: Tensor | None = None,
        slot_row: Tensor | None = None,
        video_rows: Tensor | None = None,
        sketch: FrameSketch | None = None,
        frames: Any = (),
        relevant: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        return_dict: bool = True,
    ) -> Any:
        """The loss of a `Batch`, or loss and logits of what the processor gives by name, as models of transformers do.

        Args:
            batch: given by our own trainer; then the result is the mean cross-entropy over all target tokens, and the
                visual tokens.
            step: keys the noise of Eq. 5; by default 0 for a batch, and in training a count of the calls by name.
            input_ids, attention_mask, labels, question_ids, question_mask, slot_video, slot_row, video_rows: see
                `Batch`; without ``labels`` there is no loss.
            sketch, frames, relevant: see `Batch`.
            num_items_in_batch: the target tokens that the sum of losses is divided by; this batch's where not given.
            return_dict: false for a tuple.
        """
        if batch is not None:
            return self.loss(batch, step or 0)
        if step is None:
            self.training_calls += self.training
            step = self.training_calls
        inputs = (input_ids, attention_mask, input_ids if labels is None else labels, question_ids, question_mask)
        slots = (slot_video, slot_row, video_rows)
        batch = Batch(*inputs, *slots, sketch=sketch, frames=tuple(frames), relevant=relevant)  # type: ignore[arg-type]
        embeds, _ = self.embed(batch, step)
        logits = self.language_model(
            inputs_embeds=embeds,
            attention_mask=batch.attention_mask,
            position_ids=number_positions(batch.attention_mask),
            use_cache=False,
        ).logits
        loss = None
        if labels is not None:
            total = sum_losses(logits[:, :-1], labels[:, 1:])
            loss = total / (batch.targets.clamp(min=1) if num_items_in_batch is None else num_items_in_batch)
        output = CausalLMOutputWithPast(loss=loss, logits=logits)
        return output if return_dict else output.to_tuple()

    def loss(self, batch: Batch, step: int = 0) -> tuple[Float[Tensor, ""], VideoTokens]:
        """The mean cross-entropy over all target tokens, and the visual tokens; ``step`` keys the noise."""
        embeds, video = self.embed(batch, step)
        targets = batch.labels[:, 1:]
        has_target = (targets != IGNORED).any(0).nonzero().flatten()
        logits = self.language_model(
            inputs_embeds=embeds,
            attention_mask=batch.attention_mask,
            position_ids=number_positions(batch.attention_mask),
            use_cache=False,
            logits_to_keep=has_target,  # few of 2000 positions, each with logits of 32 000 words
        ).logits
        return sum_losses(logits, targets[:, has_target]) / batch.targets.clamp(min=1), video

    @torch.no_grad()
    def answer(self, batch: Batch, **options: Any) -> tuple[Any, VideoTokens]:
        """Generate each row's answer (greedily by default): the new token ids, and the visual tokens that were read.

        Rows must be padded on the left. ``options`` go to transformers' `generate`.
        """
        embeds, video = self.embed(batch)
        given = options.get("generation_config") or GenerationConfig()
        ends = {name: getattr(self.generation_config, name) for name in ENDS if getattr(given, name, None) is None}
        defaults: dict[str, Any] = {"do_sample": False, "max_new_tokens": 16}
        defaults = {} if options.get("generation_config") else defaults  # which says both
        options = defaults | {"synced_gpus": self.synced} | ends | options
        return self.language_model.generate(inputs_embeds=embeds, attention_mask=batch.attention_mask, **options), video

    def find_cut(self, ids: Int[Tensor, "Rows S"]) -> list[bool]:
        """Whether each answer of `answer` lacks an end of its own, and so was cut off where it may not be longer."""
        end = self.generation_config.eos_token_id
        ends = end if isinstance(end, list) else [end]
        return [not any(token in ends for token in row) for row in ids.tolist()]

    @torch.no_grad()
    def generate(self, **inputs: Any) -> Any:
        """Answer the processor's output: the new token ids alone; options are those of transformers' `generate`.

        Departs: models of transformers repeat the prompt before the answer. Here it would hold hundreds of `<image>`
        ids, which nobody reads; pipelines and streamers take both forms.
        """
        batch = Batch(**{field.name: inputs.pop(field.name) for field in fields(Batch) if field.name in inputs})
        return self.answer(batch, **inputs)[0]


def number_positions(mask: Int[Tensor, "Rows S"]) -> Int[Tensor, "Rows S"]:
    """The place of each token among those that are attended to; padding has place 0."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def sum_losses(logits: Float[Tensor, "Rows S V"], targets: Int[Tensor, "Rows S"]) -> Float[Tensor, ""]:
    """The sum of the cross-entropies of all targets that are not -100, in fp32."""
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")


def place(
    embeds: Float[Tensor, "Rows S D"],
    slots: Bool[Tensor, "Rows S"],
    video: VideoTokens,
    slot_row: Int[Tensor, " I"],
) -> Float[Tensor, "Rows S D"]:
    """Put visual tokens where the prompt keeps room for them; slots of text-only rows have no place.

    Raises:
        PromptError: if a row keeps room for another number of tokens than its videos have.
    """
    real = video.mask & (slot_row >= 0)[:, None]
    tokens = torch.zeros(len(embeds), dtype=torch.long, device=embeds.device)
    tokens.index_add_(0, slot_row.clamp(min=0), real.sum(-1))
    room = slots.sum(-1)
    if (tokens != room).any():
        row = int((tokens != room).nonzero()[0])
        raise PromptError(
            f"row {row} with room for {room[row]} visual tokens and features for {tokens[row]}",
            "the same number of both",
            "Whoever builds the batch must expand <image> with the model's own connector settings.",
        )
    # A row without video still depends on the tokens, times zero, so that every process computes the same modules.
    embeds = embeds + (0.0 * video.tokens).sum()  # zero times each: their sum in half precision may be infinite
    return embeds.masked_scatter(slots[..., None], video.tokens[real].to(embeds.dtype))


AutoConfig.register("dynfocus", DynFocusConfig)
for auto in (AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM):
    auto.register(DynFocusConfig, DynFocusModel)
