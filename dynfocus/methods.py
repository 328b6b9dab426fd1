"""Visual tokens of DynFocus and of others, by the formulas of their released code (no torch)."""

from collections.abc import Callable
from dataclasses import dataclass

from dynfocus.budget import budget
from dynfocus.settings import ConnectorSettings

PATCHES = 256  # tokens of a frame that is given whole: EVA ViT-G's 16 x 16 patches, as most connectors start from


@dataclass(frozen=True)
class Method:
    """How many visual tokens a method spends on a video.

    Attributes:
        name: as in the paper.
        tokens: from the frames of the video at one a second.
        formula: the same in words.
    """

    name: str
    tokens: Callable[[int], int]
    formula: str


def dynfocus(settings: ConnectorSettings = ConnectorSettings(), given: int | None = None) -> Method:  # noqa: B008 (frozen)
    """DynFocus with these settings; ``given`` says that it reads so many frames, however long the video is."""
    if given is None:
        return Method("DynFocus", lambda frames: budget(frames, settings).visual_tokens, "40 K' + 2 (T - K')")
    spent = budget(given, settings).visual_tokens
    return Method(f"DynFocus, {given} frames", lambda frames: spent, f"40 K' + 2 ({given} - K')")


LLAMA_VID = Method("LLaMA-VID", lambda frames: 2 * frames, "2 T")
OTHERS = (
    LLAMA_VID,
    Method("Chat-UniVi", lambda frames: 112 * -(-min(frames, 64) // 16), "112 ceil(min(T, 64) / 16)"),
    Method("ST-LLM", lambda frames: 512, "512: 16 frames of 32 tokens"),
    Method("ST-LLM, every frame", lambda frames: 32 * frames, "32 T: 32 for each frame given; its own scripts give 16"),
    Method("Video-ChatGPT", lambda frames: 356, "356: 100 frames, pooled over time and over space"),
    Method("VideoChat2", lambda frames: 96, "96: learned queries"),
    Method("LLaVA-NeXT-Video", lambda frames: 32 * 144, "144 a frame, 32 frames"),
)


def every_patch(frames: int) -> int:
    """Tokens of T frames that are given whole."""
    return PATCHES * frames
