"""DynFocus as a transformers model: encode, connect, place, and let the language model answer."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, no_type_check

import torch
from jaxtyping import Bool, Float, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GenerationMixin,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec

from dynfocus.errors import CheckpointError, ConfigError, PromptError
from dynfocus.nn import backbones
from dynfocus.nn.backbones import InstructionTower, VisionTower
from dynfocus.nn.connector import build_connector
from dynfocus.nn.sketch import sketch_frames
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Batch, FrameSketch, VideoTokens, stack_sketches

PROJECTORS = ("connector.cones.fine.", "connector.rods.coarse.", "connector.fine.")


@no_type_check  # transformers checks its own, and passes on more than the signature that a dataclass shows
class DynFocusConfig(PreTrainedConfig):
    """Sizes of the towers, the connector's settings, the id of ``<image>``, and how videos and questions are read.

    ``reading`` holds the frame rule and the processor's options, so that a saved model needs nothing beside it.
    """

    model_type = "dynfocus"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "vision_config": InstructBlipVisionConfig,
        "qformer_config": InstructBlipQFormerConfig,
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }
    vision_config: Any = None
    qformer_config: Any = None
    text_config: Any = None
    connector: dict[str, Any] | None = None
    image_mean: Any = None
    image_std: Any = None
    image_token_id: int = -1
    reading: dict | None = None

    @property
    def settings(self) -> ConnectorSettings:
        given: Any = {n: tuple(v) if isinstance(v, list) else v for n, v in (self.connector or {}).items()}
        return ConnectorSettings(**given)


class DynFocusModel(PreTrainedModel, GenerationMixin):
    """A frozen vision encoder, the connector, and a language model that answers questions about videos.

    The road of a video: ``sketch`` (frames -> FrameSketch), ``connect`` (sketch and question -> tokens), ``embed``
    (tokens placed in the prompt), then the language model's loss (``forward``) or answer (``generate``).
    """

    config_class = DynFocusConfig
    base_model_prefix = "dynfocus"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: DynFocusConfig) -> None:
        super().__init__(config)
        self.settings = config.settings
        self.vision = VisionTower(config.vision_config, config.image_mean, config.image_std)
        if self.settings.patches != self.vision.patches:
            raise ConfigError(
                f"connector.patches = {self.settings.patches} with a vision encoder of {self.vision.patches} patches",
                "the same number in both",
                f"Set connector.patches to {self.vision.patches}, and pooled and spatial_prototypes to fit.",
            )
        self.instruction = InstructionTower(config.qformer_config)
        widths = config.vision_config.hidden_size, config.qformer_config.hidden_size, config.text_config.hidden_size
        self.connector = build_connector(self.settings, *widths)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # Our own layers keep torch's initialisation; the towers are models of their own and bring theirs.
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.reset_parameters()

    @classmethod
    def from_folder(cls, folder: Path, settings: ConnectorSettings | None = None) -> "DynFocusModel":
        """A trained model from its folder, with its own connector settings or with others of the same sizes.

        Raises:
            CheckpointError: if the folder lacks weights that the settings ask for.
        """
        backbones.existing(Path(folder) / "config.json")
        config = DynFocusConfig.from_pretrained(folder, local_files_only=True)
        if settings is not None:
            config.connector = asdict(settings)
        try:
            loaded: Any = cls.from_pretrained(folder, config=config, local_files_only=True, output_loading_info=True)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise _misfit(folder, str(error).splitlines()[-1]) from error
        model, found = loaded
        if found["missing_keys"]:
            raise _misfit(folder, f"{sorted(found['missing_keys'])[0]} is absent")
        return model

    @classmethod
    def from_towers(cls, encoders: Path, language_model: Path, settings: ConnectorSettings) -> "DynFocusModel":
        """Build the model on pretrained towers; the connector starts afresh.

        Args:
            encoders: an InstructBLIP checkpoint folder with the vision encoder and the Q-Former.
            language_model: a folder of any causal language model with a tokenizer that knows ``<image>``.
            settings: the connector's.

        Raises:
            CheckpointError: if a folder is absent or its weights do not fit.
        """
        tokenizer = backbones.load_tokenizer(language_model)
        image_id = tokenizer.convert_tokens_to_ids("<image>")
        if image_id in (None, tokenizer.unk_token_id):
            raise CheckpointError(
                f"the tokenizer in {language_model}, which does not know <image>",
                "<image> as one token of it",
                'Add it: tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]}), then save it there.',
            )
        config = DynFocusConfig(
            **backbones.read_config(encoders),
            text_config=backbones.language_config(language_model).to_dict(),
            connector=asdict(settings),
            image_token_id=image_id,
        )
        model = cls(config)
        backbones.load_part(model.vision.encoder, encoders, "vision_model.")
        backbones.load_part(model.instruction.encoder, encoders, "qformer.")
        model.language_model = backbones.load_language_model(language_model)
        return model

    @torch.no_grad()
    def sketch(self, frames: UInt8[Tensor, "T H W 3"]) -> FrameSketch:
        """Frames of one video -> its sketch; the only place where the vision encoder runs.

        It computes in its own precision, whatever a trainer's mixed precision says: as a sketch cache's does.
        """
        with torch.autocast(frames.device.type, enabled=False):
            return sketch_frames(frames, self.vision, self.settings)

    def connect(self, batch: Batch, step: int = 0) -> VideoTokens:
        """Sketches and instructions -> the tokens of each visual slot."""
        sketch = batch.sketch or stack_sketches([self.sketch(frames) for frames in batch.frames])
        with torch.no_grad():
            question = self.instruction(batch.question_ids, batch.question_mask)
        rows, relevant = batch.video_rows[batch.slot_video], batch.relevant
        return self.connector(
            sketch.gather(batch.slot_video),
            question,
            batch.question_mask,
            rows,
            step,
            None if relevant is None else relevant[batch.slot_video],
        )

    def embed(self, batch: Batch, step: int = 0) -> tuple[Float[Tensor, "Rows S D"], VideoTokens]:
        """The prompt as embeddings, visual tokens in their places."""
        video = self.connect(batch, step)
        words = batch.input_ids.masked_fill(batch.input_ids == self.config.image_token_id, 0)
        embeds = self.language_model.get_input_embeddings()(words)
        return place(embeds, batch.input_ids == self.config.image_token_id, video, batch.slot_row), video

    def without_video(self, batch: Batch) -> Batch:
        """The same rows asked blind: the visual tokens stay in place, but nothing attends to them."""
        seen = batch.attention_mask * (batch.input_ids != self.config.image_token_id)
        return replace(batch, attention_mask=seen)

    def forward(self, batch: Batch, step: int = 0) -> tuple[Float[Tensor, ""], VideoTokens]:
        """The mean cross-entropy over all target tokens, and the visual tokens; ``step`` keys the noise."""
        embeds, video = self.embed(batch, step)
        positions = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
        logits = self.language_model(
            inputs_embeds=embeds, attention_mask=batch.attention_mask, position_ids=positions
        ).logits
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch.labels[:, 1:].flatten())
        return loss, video

    @torch.no_grad()
    def answer(self, batch: Batch, **options: Any) -> tuple[Int[Tensor, "Rows new"], VideoTokens]:
        """Generate each row's answer (greedily by default): the new token ids, and the visual tokens that were read.

        Rows must be padded on the left. ``options`` go to transformers' `generate`.
        """
        embeds, video = self.embed(batch)
        options = {"do_sample": False, "max_new_tokens": 16} | options
        return self.language_model.generate(inputs_embeds=embeds, attention_mask=batch.attention_mask, **options), video

    def projectors(self) -> dict[str, Tensor]:
        """F_fine and F_coarse: what stage 1 hands to stage 2."""
        return {name: tensor for name, tensor in self.state_dict().items() if name.startswith(PROJECTORS)}

    def load_projectors(self, path: Path) -> None:
        """Start F_fine and F_coarse from a file of stage 1; raises CheckpointError if it does not hold just those."""
        try:
            given, own = load_file(backbones.existing(path)), self.projectors()
        except SafetensorError as error:
            raise CheckpointError(
                f"{path}, which does not open ({error})", "projectors of stage 1", "Run it again."
            ) from error
        wrong = sorted(given.keys() ^ own.keys()) or [n for n, t in given.items() if t.shape != own[n].shape]
        if wrong:
            raise CheckpointError(
                f"projectors in {path} whose {wrong[0]} is absent, surplus or of another shape",
                "the projectors of the same towers and connector",
                "Run stage 1 with these towers and sizes first.",
            )
        self.load_state_dict(given, strict=False)


def place(
    embeds: Float[Tensor, "Rows S D"],
    slots: Bool[Tensor, "Rows S"],
    video: VideoTokens,
    slot_row: Int[Tensor, " I"],
) -> Float[Tensor, "Rows S D"]:
    """Put visual tokens where the prompt keeps room for them; slots of text-only rows stand nowhere.

    Raises:
        PromptError: if a row keeps room for another number of tokens than its videos have.
    """
    used = video.mask & (slot_row >= 0)[:, None]
    have = torch.zeros(len(embeds), dtype=torch.long, device=embeds.device)
    have.index_add_(0, slot_row.clamp(min=0), used.sum(-1))
    room = slots.sum(-1)
    if (have != room).any():
        row = int((have != room).nonzero()[0])
        raise PromptError(
            f"row {row} with room for {room[row]} visual tokens and features for {have[row]}",
            "the same number of both",
            "Whoever builds the batch must expand <image> with the model's own connector settings.",
        )
    # A row without video still touches the tokens, by zero, so that every process computes the same modules.
    embeds = embeds + (0.0 * video.tokens).sum()  # each by zero: a sum in half precision may be infinite
    return embeds.masked_scatter(slots[..., None], video.tokens[used].to(embeds.dtype))


def _misfit(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"the model in {folder}, which does not fit the settings ({what})",
        "weights of the same towers and connector",
        "Use the settings the model was trained with: its run's config.yaml holds them.",
    )


AutoConfig.register("dynfocus", DynFocusConfig)
AutoModel.register(DynFocusConfig, DynFocusModel)
