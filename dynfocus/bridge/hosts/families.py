"""List the families of video language models that frames can be handed to: the next host is one row more."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import isqrt
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from dynfocus.bridge.hosts.features import HostFeatures, ShownFrame
from dynfocus.bridge.hosts.positions import find_positions, spread_seconds
from dynfocus.errors import ConfigError

Clock = Literal["prompt", "positions", "sentence"]


class Family:
    """What most hosts have in common; a family states what differs.

    Attributes:
        clock: how the model learns a frame's time: in the prompt that its processor writes, in its rotary positions, or
            not at all, so that a sentence has to say it.
        time_error: how far a time that the model learns may lie from the true one, in seconds.
        entry: under which name ``mm_encoder_outputs`` takes the features.
        options: arguments that its processor needs beside the frames.
        fit: how frames become the square that its tower reads, as its own processor would make it.
        shared: whether all frames of a video share one number of pixels, so that more frames are smaller ones.
        listed: whether the model takes features as a list with one entry a video.
        closing: tokens behind the last frame of a video.
    """

    clock: Clock = "sentence"
    time_error: float = 0.05
    entry: Literal["video", "image"] = "video"
    options: Mapping[str, Any] = MappingProxyType({})
    fit: Literal["squeeze", "crop", "pad"] = "squeeze"
    shared: bool = False
    listed: bool = False
    closing: int = 0

    def tag(self, processor: Any) -> str:
        """What stands for the video in a prompt."""
        return processor.video_token

    def stamp(self, second: float) -> float:
        """The time that a processor is given for a frame."""
        return second

    def write(self, processor: Any, parts: Sequence[ShownFrame], duration: float) -> str:
        """What the tag becomes when frames of any number of tokens stand for it."""
        return processor.video_token * sum(part.count for part in parts)

    def count(self, processor: Any, frames: int, height: int, width: int) -> int:
        """Tokens of one of so many frames of this size."""
        raise NotImplementedError(type(self).__name__)

    def encode(self, model: Any, processor: Any, pixels: Mapping[str, Any], frames: int) -> HostFeatures:
        """Run the tower and the projector on what the video processor made of so many frames."""
        tokens = self.run(model, pixels).reshape(frames, -1, model.get_input_embeddings().weight.shape[1])
        return HostFeatures(tokens, (isqrt(tokens.shape[1]),) * 2)

    def run(self, model: Any, pixels: Mapping[str, Any]) -> Tensor:
        """Every token of the frames, one behind the other."""
        raise NotImplementedError(type(self).__name__)

    def wrap(self, model: Any, features: HostFeatures) -> Any:
        """The features of all shown frames as the model's own tower would have returned them."""
        tokens: Any = [features.tokens[0]] if self.listed else features.tokens
        return BaseModelOutputWithPooling(pooler_output=tokens)

    def add_inputs(
        self,
        model: Any,
        processor: Any,
        inputs: dict[str, Any],
        parts: Sequence[ShownFrame] | None,
        seconds: list[float],
    ) -> None:
        """Add what the model reads beside tokens and features; ``parts`` is None where pixels are given."""


class Grids(Family):
    """Hosts whose tower reads frames of any size, and says how many rows and columns of tokens each gives."""

    fit = "pad"
    listed = True

    def count(self, processor: Any, frames: int, height: int, width: int) -> int:
        video = processor.video_processor
        patches = video.get_num_of_video_patches(frames * count_frames_per_patch(processor), height, width, {})
        return int(patches) // video.merge_size**2 // frames

    def encode(self, model: Any, processor: Any, pixels: Mapping[str, Any], frames: int) -> HostFeatures:
        sizes = [pixels["video_merge_sizes"]] if "video_merge_sizes" in pixels else []
        out = model.model.get_video_features(
            pixels["pixel_values_videos"], pixels["video_grid_thw"], *sizes, return_dict=True
        )
        merge, (_, rows, columns) = processor.video_processor.merge_size, pixels["video_grid_thw"][0].tolist()
        layers = getattr(out, "deepstack_features", None) or ()
        tokens, *deep = (part[0].unflatten(0, (frames, -1)) for part in (out.pooler_output, *layers))
        return HostFeatures(tokens, (rows // merge, columns // merge), tuple(deep))


class Qwen25VL(Grids):
    """Qwen2.5-VL: two frames in one patch; time in the rotary positions, half a second a step by default."""

    clock = "positions"
    time_error = 0.5

    def tag(self, processor: Any) -> str:
        return f"<|vision_start|>{processor.video_token}<|vision_end|>"

    def add_inputs(
        self,
        model: Any,
        processor: Any,
        inputs: dict[str, Any],
        parts: Sequence[ShownFrame] | None,
        seconds: list[float],
    ) -> None:
        if parts is None:
            merge, (count, rows, columns) = processor.video_processor.merge_size, inputs["video_grid_thw"][0].tolist()
            grids = [(rows // merge, columns // merge)] * count
            inputs["second_per_grid_ts"] = spread_seconds(seconds)
        else:
            grids = [part.features.grid for part in parts]
        rate = model.config.vision_config.tokens_per_second
        is_video = inputs["input_ids"][0] == processor.video_token_id
        inputs["position_ids"] = find_positions(is_video, grids, seconds, rate)


class Qwen3VL(Grids):
    """Qwen3-VL: two frames in one patch; the prompt says each patch's time; layers of the tower go in deeper too."""

    clock = "prompt"
    shared = True

    def write(self, processor: Any, parts: Sequence[ShownFrame], duration: float) -> str:
        begin, end = processor.vision_start_token, processor.vision_end_token
        return "".join(f"<{part.second:.1f} seconds>{begin}{processor.video_token * part.count}{end}" for part in parts)

    def wrap(self, model: Any, features: HostFeatures) -> Any:
        from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

        lists: dict[str, Any] = {"pooler_output": [features.tokens[0]]}
        lists["deepstack_features"] = [[layer[0]] for layer in features.deep]
        return BaseModelOutputWithDeepstackFeatures(**lists)

    def add_inputs(
        self,
        model: Any,
        processor: Any,
        inputs: dict[str, Any],
        parts: Sequence[ShownFrame] | None,
        seconds: list[float],
    ) -> None:
        if parts is not None:  # each frame as a video of its own, so that it may have a grid of its own
            merge = processor.video_processor.merge_size
            grids = [[1, part.features.grid[0] * merge, part.features.grid[1] * merge] for part in parts]
            inputs["video_grid_thw"] = torch.tensor(grids)
            types = processor.create_mm_token_type_ids(inputs["input_ids"].tolist())
            inputs["mm_token_type_ids"] = torch.tensor(types)


class VideoLlama3(Grids):
    """VideoLLaMA3: the prompt says each frame's time; patches like the frame before are kept, or rods would fail."""

    clock = "prompt"
    options = MappingProxyType({"use_token_compression": False})
    shared = True

    def write(self, processor: Any, parts: Sequence[ShownFrame], duration: float) -> str:
        return ",".join(f"Time {part.second:.1f}s:{processor.video_token * part.count}" for part in parts)


class LlavaOneVision(Family):
    """LLaVA-OneVision: no channel of time; one token for a line's end closes the video."""

    closing = 1

    def write(self, processor: Any, parts: Sequence[ShownFrame], duration: float) -> str:
        return super().write(processor, parts, duration) + processor.video_token

    def count(self, processor: Any, frames: int, height: int, width: int) -> int:
        side = -(-isqrt(processor.num_image_tokens) // 2)
        return side**2

    def run(self, model: Any, pixels: Mapping[str, Any]) -> Tensor:
        return model.model.get_video_features(pixels["pixel_values_videos"], return_dict=True).pooler_output[0][:-1]

    def wrap(self, model: Any, features: HostFeatures) -> Any:
        end = model.model.image_newline[None, None].to(features.tokens.dtype)
        return super().wrap(model, HostFeatures(torch.cat([features.tokens, end], 1), features.grid))


class LlavaNextVideo(Family):
    """LLaVA-NeXT-Video: no channel of time; its processor cuts the square in the middle."""

    fit = "crop"

    def count(self, processor: Any, frames: int, height: int, width: int) -> int:
        side = processor.video_processor.crop_size["height"] // processor.patch_size
        return side**2 // 4

    def run(self, model: Any, pixels: Mapping[str, Any]) -> Tensor:
        return model.model.get_video_features(pixels["pixel_values_videos"], return_dict=True).pooler_output[0]


class InternVL(Family):
    """InternVL: frames are numbered in the prompt, without times; they enter the model as images do."""

    entry = "image"

    def write(self, processor: Any, parts: Sequence[ShownFrame], duration: float) -> str:
        begin, end = processor.start_image_token, processor.end_image_token
        frames = (f"{begin}{processor.image_token * part.count}{end}" for part in parts)
        return "\n".join(f"Frame{number}: {frame}" for number, frame in enumerate(frames, 1))

    def count(self, processor: Any, frames: int, height: int, width: int) -> int:
        return processor.image_seq_length

    def run(self, model: Any, pixels: Mapping[str, Any]) -> Tensor:
        frames = pixels["pixel_values_videos"].flatten(0, 1)
        return model.model.get_image_features(pixel_values=frames, return_dict=True).pooler_output


class SmolVLM(Family):
    """SmolVLM2: the prompt says times in whole seconds, here the nearest ones; frames enter the model as images do."""

    clock = "prompt"
    time_error = 0.5
    entry = "image"
    listed = True

    def stamp(self, second: float) -> float:
        return float(round(second))  # its processor would cut off what is behind the point

    def write(self, processor: Any, parts: Sequence[ShownFrame], duration: float) -> str:
        from num2words import num2words
        from transformers.models.smolvlm import processing_smolvlm as texts

        length = str(timedelta(seconds=int(duration)))
        written = texts.DEFAULT_VIDEO_INTRO.format(frame_count=num2words(len(parts)), video_duration=length)
        mark, start = processor.fake_image_token, processor.global_image_token
        for part in parts:
            stamp = "{:02d}:{:02d}".format(*divmod(int(self.stamp(part.second)), 60))
            frame = f"{mark}{start}{processor.image_token * part.count}{mark}"
            written += texts.FRAME_TIMESTAMP_MESSAGE.format(timestamp=stamp) + frame
        return written + texts.DEFAULT_MEDIA_OUTTRO

    def count(self, processor: Any, frames: int, height: int, width: int) -> int:
        return processor.image_seq_len

    def run(self, model: Any, pixels: Mapping[str, Any]) -> Tensor:
        mask = pixels.get("pixel_attention_mask")
        return torch.cat(
            list(model.model.get_image_features(pixels["pixel_values"], mask, return_dict=True).pooler_output)
        )


# By the ``model_type`` of a config, with the class of its processor.
FAMILIES: dict[str, tuple[Family, str]] = {
    "qwen2_5_vl": (Qwen25VL(), "Qwen2_5_VLProcessor"),
    "qwen3_vl": (Qwen3VL(), "Qwen3VLProcessor"),
    "llava_onevision": (LlavaOneVision(), "LlavaOnevisionProcessor"),
    "llava_next_video": (LlavaNextVideo(), "LlavaNextVideoProcessor"),
    "internvl": (InternVL(), "InternVLProcessor"),
    "smolvlm": (SmolVLM(), "SmolVLMProcessor"),
    "video_llama_3": (VideoLlama3(), "VideoLlama3Processor"),
}


def count_frames_per_patch(processor: Any) -> int:
    """How many frames the tower behind a processor reads as one."""
    return getattr(processor.video_processor, "temporal_patch_size", 1)


def find_family(model_type: str) -> Family:
    """The family of a model; raises ConfigError if there is none."""
    if model_type not in FAMILIES:
        raise ConfigError(
            f"a model of type {model_type}",
            f"one of {', '.join(FAMILIES)}",
            "Choose another model, or select frames with `dynfocus select` and hand them over yourself.",
        )
    return FAMILIES[model_type][0]


def find_processor_family(processor: Any) -> Family:
    """The family that a processor belongs to; raises ConfigError if there is none."""
    names = {name: family for family, name in FAMILIES.values()}
    name = type(processor).__name__
    if name not in names:
        raise ConfigError(
            f"a {name}", f"one of {', '.join(names)}", "Give images() and seconds to the model in its own way."
        )
    return names[name]
