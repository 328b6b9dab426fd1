"""Sketch frames and questions with CLIP or SigLIP, whose images and texts share one space."""

import math
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize
from transformers import AutoConfig, AutoModel, AutoTokenizer

from dynfocus.bridge.features import CANDIDATES, FPS, Features, QuestionTokens
from dynfocus.device import choose_device
from dynfocus.errors import CheckpointError
from dynfocus.models.towers.weights import read_json, read_settings, reason, unfit
from dynfocus.settings import CHUNK, ConnectorSettings, FrameRule
from dynfocus.types import FrameSketch

KINDS = ("clip", "siglip")
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model")  # files; without any transformers makes an empty one
GRID = 4  # cells of a frame's patches in each direction, at most


class TextImageFeatures(Features):
    """Each frame as the vector that a checkpoint of CLIP or SigLIP compares with texts, and its patches in that space.

    The pooled patch is the image's vector (P = 1). The grains are its patches, put through the same last layers and
    averaged to a grid of at most 4 x 4. The relevance of a frame is the cosine of its vector and the question's, both
    by the same checkpoint.

    Args:
        folder: of a whole CLIP or SigLIP model of transformers, with its tokenizer and image preprocessing.
        device: where to compute: ``cpu``, ``cuda`` or ``auto``.

    Raises:
        CheckpointError: if the folder holds no such model, or a part of it is absent.
    """

    compares_text = True

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        kind = read_json(Path(folder) / "config.json").get("model_type")
        if kind not in KINDS:
            raise CheckpointError(
                f"an encoder in {folder} of the architecture {kind!r}",
                f"a whole model of {' or '.join(KINDS)}, whose images and texts share one space",
                "Point to a folder of one of these; a trained DynFocus model goes behind --model.",
            )
        config = read_settings(AutoConfig, folder)
        pixels = read_json(Path(folder) / "preprocessor_config.json")
        self.device = choose_device(device)
        self.model, self.tokenizer = _load(Path(folder))
        self.model.to(self.device)
        try:
            self.mean, self.std = (
                torch.tensor(pixels[name], device=self.device) for name in ("image_mean", "image_std")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise unfit(Path(folder), f"preprocessor_config.json without {error}") from error
        size = config.vision_config.image_size
        # As the checkpoints were trained: CLIP on the middle square of the picture, SigLIP on all of it, squeezed.
        cropped = pixels.get("do_center_crop", kind == "clip")
        self.rule = FrameRule(size, CANDIDATES, FPS, fit="crop" if cropped else "squeeze")
        self.kind, self.name = kind, f"{kind} in {folder}, image and text"
        self.side = min(GRID, size // config.vision_config.patch_size)
        self.width = self.text_width = config.projection_dim if kind == "clip" else config.vision_config.hidden_size
        cells = self.side**2
        self.settings = ConnectorSettings(
            patches=cells,
            pooled=1,
            spatial_prototypes=(cells,),
            spatial_neighbours=(min(8, cells),),
            sketch_dtype="float32",
        )

    @torch.no_grad()
    def sketch(self, frames: UInt8[Tensor, "T H W 3"]) -> FrameSketch:
        parts = [self._encode(part.to(self.device)) for part in frames.split(CHUNK)]
        images, patches = (torch.cat(kind).cpu()[None] for kind in zip(*parts, strict=True))
        return FrameSketch(images[:, :, None], patches, torch.ones(1, len(frames), dtype=torch.bool))

    @torch.no_grad()
    def read_question(self, question: str | None, sketch: FrameSketch) -> QuestionTokens:
        if question is None:
            return super().read_question(question, sketch)
        most = self.model.config.text_config.max_position_embeddings
        padding: dict[str, Any] = {"padding": "max_length"} if self.kind == "siglip" else {}  # as SigLIP was trained
        ids = self.tokenizer([question], truncation=True, max_length=most, return_tensors="pt", **padding)["input_ids"]
        text = _vector(self.model.get_text_features(input_ids=ids.to(self.device))).float().cpu()
        images = normalize(sketch.pooled[:, :, 0], dim=-1)
        relevance = (images @ normalize(text, dim=-1).T)[..., 0]
        return QuestionTokens(text[None], torch.ones(1, 1, dtype=torch.bool), relevance)

    def _encode(self, frames: UInt8[Tensor, "T H W 3"]) -> tuple[Float[Tensor, "T d"], Float[Tensor, "T G d"]]:
        pixels = rearrange((frames / 255 - self.mean) / self.std, "t h w c -> t c h w").to(self.model.dtype)
        output = self.model.vision_model(pixels)
        if self.kind == "clip":
            image = self.model.visual_projection(output.pooler_output)
            patches = self.model.visual_projection(
                self.model.vision_model.post_layernorm(output.last_hidden_state[:, 1:])
            )
        else:
            image, patches = output.pooler_output, output.last_hidden_state
        grid = rearrange(patches.float(), "t (h w) d -> t d h w", h=math.isqrt(patches.shape[1]))
        return image.float(), rearrange(adaptive_avg_pool2d(grid, self.side), "t d h w -> t (h w) d")


def _load(folder: Path) -> tuple[Any, Any]:
    """The model and its tokenizer; raises CheckpointError if one is absent or they do not fit each other."""
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise unfit(folder, f"no tokenizer: none of {', '.join(TOKENIZERS)} is there")
    try:
        safe = {"local_files_only": True, "trust_remote_code": False}
        loaded: Any = AutoModel.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **safe)
        tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
    except Exception as error:  # of many kinds, by what is absent
        raise unfit(folder, reason(error)) from error
    model, loading = loaded
    if loading["missing_keys"]:
        raise unfit(folder, f"{sorted(loading['missing_keys'])[0]} is absent")
    room = model.config.text_config.vocab_size
    if len(tokenizer) > room:
        raise unfit(folder, f"the tokenizer has {len(tokenizer)} ids and the text encoder {room} embeddings")
    return model.eval().requires_grad_(False), tokenizer


def _vector(output: Any) -> Tensor:
    """The vector of a text, which newer versions of transformers hand over inside an output."""
    return output if isinstance(output, Tensor) else output.pooler_output
