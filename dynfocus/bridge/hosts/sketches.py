"""Sketch videos for selectors from the features of a host, so that choosing needs no second encoder."""

from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from dynfocus.bridge.features import Features, QuestionTokens
from dynfocus.bridge.hosts.families import Grids
from dynfocus.bridge.hosts.features import HostFeatures
from dynfocus.bridge.hosts.host import Host
from dynfocus.settings import ConnectorSettings, FrameRule
from dynfocus.types import FrameSketch

SIDE = 448  # pixels of a square frame for towers that read any size
TOGETHER = 8  # frames that are encoded at once; where frames share one number of pixels, each is so large as one of 8
CELLS = 4  # of the grid that a frame's tokens are averaged to, in each direction


class HostSketches(Features):
    """A frame is the mean of its tokens behind the host's projector (P = 1), and their means over 4 x 4 parts (G = 16).

    The question is its words' vectors in the same language model: both lie in the space that the model reads. Whether
    near vectors mean related things there hangs on the model and was not measured.

    Args:
        host: whose features these are.
        name: of the host, for people.
    """

    compares_text = True

    def __init__(self, host: Host, name: Path | str) -> None:
        self.host = host
        self.name = f"features of {host.model.config.model_type} in {name}"
        self.rule = FrameRule(size=find_side(host), fps=None, fit=host.family.fit)
        self.width = self.text_width = host.model.get_input_embeddings().weight.shape[1]
        self.settings = ConnectorSettings(
            patches=CELLS**2,
            pooled=1,
            spatial_prototypes=(CELLS**2,),
            spatial_neighbours=(8,),
            sketch_dtype="float32",
        )

    def sketch(self, frames: UInt8[Tensor, "T H W 3"]) -> FrameSketch:
        return self.average(self.host.encode(frames, min(TOGETHER, len(frames))))

    def average(self, features: HostFeatures) -> FrameSketch:
        """The sketch of a video whose frames are encoded."""
        maps = features.tokens.float().unflatten(1, features.grid).permute(0, 3, 1, 2)
        cells = adaptive_avg_pool2d(maps, CELLS).flatten(2).transpose(1, 2)[None].cpu()
        pooled = features.tokens.float().mean(1)[None, :, None].cpu()
        return FrameSketch(pooled, cells, torch.ones(1, len(features.tokens), dtype=torch.bool))

    @torch.no_grad()
    def read_question(self, question: str | None, sketch: FrameSketch) -> QuestionTokens:
        ids = self.host.processor.tokenizer(question or "", add_special_tokens=False, return_tensors="pt")["input_ids"]
        if question is None or ids.shape[1] == 0:
            return super().read_question(question, sketch)
        tokens = self.host.model.get_input_embeddings()(ids.to(self.host.device)).float().cpu()
        return QuestionTokens(tokens, torch.ones(1, tokens.shape[1], dtype=torch.bool))


def find_side(host: Host) -> int:
    """The side of the square that the host's processor makes of a frame; `SIDE` where it takes any size."""
    if isinstance(host.family, Grids):
        return SIDE
    video = host.processor.video_processor
    sizes = (getattr(video, "crop_size", None), getattr(video, "max_image_size", None), video.size)
    size = next(size for size in sizes if size)
    return int(size["height"] if "height" in size else size["longest_edge"])
