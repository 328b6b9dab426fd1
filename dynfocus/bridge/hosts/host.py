"""Let a video language model read frames as pixels or as features of its own tower, and answer."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from transformers import LogitsProcessorList

from dynfocus.bridge.hosts.families import count_frames_per_patch, find_family
from dynfocus.bridge.hosts.features import HostFeatures, ShownFrame, arrange, join, stack
from dynfocus.bridge.hosts.processor_calls import (
    Pair,
    correct_times,
    list_arguments,
    mean_times,
    pair_frames,
    write_times,
)
from dynfocus.budget import HostBudget, budget_host
from dynfocus.errors import PromptError
from dynfocus.models.watching import Watch, Watcher

KINDS = ("image", "video")  # of what a token stands for, in the names of a config


class Host:
    """A video language model of transformers with its processor.

    Args:
        model: such as a ``Qwen3VLForConditionalGeneration``.
        processor: the one that belongs to it.
        pair: what shares a temporal patch of two frames with a frame: the frame itself, or the ``next`` one.

    Raises:
        ConfigError: if the model is of a family that is not in `FAMILIES`.
    """

    def __init__(self, model: Any, processor: Any, pair: Pair = "same") -> None:
        self.model, self.processor, self.pair = model, processor, pair
        self.family = find_family(model.config.model_type)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def prompt(self, question: str, times: str = "", video: bool = True) -> str:
        """The question in the model's own chat template, behind the tag of the video, or without a ``video``.

        Without a template the tag and the question stand alone. ``times`` is put before the question.

        Raises:
            PromptError: if the question holds what stands for a video, an image or their tokens.
        """
        if tags := [tag for tag in self.visual_tags if tag in question]:
            raise PromptError(
                f"a question that holds {tags[0]}", "words alone", "Leave it out: the video is put in by itself."
            )
        if (self.processor.chat_template or getattr(self.processor.tokenizer, "chat_template", None)) is None:
            return f"{self.family.tag(self.processor) * video}{times}{question}"
        content = [{"type": "video"}] * video + [{"type": "text", "text": times + question}]
        turns = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    def text_inputs(self, question: str) -> dict[str, Any]:
        """What the model reads when it is asked without a video; raises PromptError as `prompt` does."""
        made = self.processor.tokenizer(
            [self.prompt(question, video=False)], return_tensors="pt", return_token_type_ids=False
        )
        return dict(made.to(self.device))

    @property
    def visual_tags(self) -> set[str]:
        """The texts that the model takes for a video or an image, or for one of their tokens."""
        named = [getattr(self.model.config, f"{kind}_token_{end}", None) for kind in KINDS for end in ("id", "index")]
        ids = [number for number in named if number is not None]
        return {self.processor.video_token, *self.processor.tokenizer.convert_ids_to_tokens(ids)}

    def pixel_inputs(
        self,
        frames: UInt8[Tensor, "K H W 3"],
        seconds: Sequence[float],
        duration: float,
        question: str,
        beside: UInt8[Tensor, "K H W 3"] | None = None,
        seconds_beside: Sequence[float] | None = None,
    ) -> dict[str, Any]:
        """Level 1: what the model reads when its own processor is given the pixels of the chosen frames.

        Args:
            frames: the chosen frames in time order.
            seconds: their times in the file.
            duration: of the whole video, in seconds.
            question: what is asked.
            beside, seconds_beside: the frames that share their patches, and their times; by default the frames.
        """
        arguments = list_arguments(self.processor, frames, seconds, duration, beside, seconds_beside)
        shown = mean_times(seconds, seconds_beside)
        times = write_times(shown, duration) if self.family.clock == "sentence" else ""
        made = self.processor(text=[self.prompt(question, times)], return_tensors="pt", **arguments)
        inputs = dict(made.to(self.device))
        return inputs | correct_times(self.model, self.processor, inputs, shown)

    @torch.no_grad()
    def encode(
        self, frames: UInt8[Tensor, "T H W 3"], together: int, beside: UInt8[Tensor, "T H W 3"] | None = None
    ) -> HostFeatures:
        """Level 2: run the model's own tower on every frame once.

        Args:
            frames: all frames of the video.
            together: how many frames its video processor is given at once. Hosts whose frames share one number of
                pixels see them as large as if so many were shown: give as many as are kept.
            beside: the frames that share their patches; by default the frames.
        """
        count = len(frames)
        paired = pair_frames(self.processor, frames, frames if beside is None else beside)
        step = together * len(paired) // count
        missing = -len(paired) % step
        paired = torch.cat([paired, paired[-1:].expand(missing, -1, -1, -1)])
        chunks = []
        for start in range(0, len(paired), step):
            video = self.processor.video_processor(
                videos=[paired[start : start + step]],
                do_sample_frames=False,
                return_tensors="pt",
                **self.family.options,
            ).to(self.device)
            video = {name: self._cast(value) for name, value in video.items()}
            chunks.append(self.family.encode(self.model, self.processor, video, together))
        return stack(chunks, count)

    def feature_inputs(self, parts: Sequence[ShownFrame], duration: float, question: str) -> dict[str, Any]:
        """Level 2: what the model reads when features stand for the frames; any number of tokens of each frame.

        Args:
            parts: the shown frames in time order, as `arrange` puts them together.
            duration: of the whole video, in seconds.
            question: what is asked.
        """
        family, seconds = self.family, [part.second for part in parts]
        times = write_times(seconds, duration) if family.clock == "sentence" else ""
        tag, shown = self.processor.video_token, family.write(self.processor, parts, duration)
        text = self.prompt(question, times).replace(tag, shown, 1)
        made = self.processor.tokenizer([text], return_tensors="pt", return_token_type_ids=False)
        inputs: dict[str, Any] = dict(made)
        family.add_inputs(self.model, self.processor, inputs, parts, seconds)
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        return inputs | {"mm_encoder_outputs": {family.entry: family.wrap(self.model, join(parts).to(self.device))}}

    def show(
        self, features: HostFeatures, seconds: Sequence[float], kept: Sequence[int], rods: int = 0
    ) -> list[ShownFrame]:
        """Kept frames in full, the others as ``rods`` tokens each, at the times that their patches have."""
        beside = None if self.pair == "same" or self.frames_per_patch == 1 else [*seconds[1:], seconds[-1]]
        return arrange(features, mean_times(seconds, beside), kept, rods)

    @property
    def frames_per_patch(self) -> int:
        """How many frames the tower reads as one."""
        return count_frames_per_patch(self.processor)

    def budget(self, frames: int, keep: int, rods: int, height: int, width: int) -> HostBudget:
        """The visual tokens of T frames of this size of which K are kept, before anything runs.

        Raises:
            ConfigError: if more frames are to be kept than there are.
        """
        full = self.family.count(self.processor, keep, height, width)
        return budget_host(frames, keep, full, rods, self.family.closing)

    @torch.no_grad()
    def generate(
        self,
        inputs: dict[str, Any],
        max_new_tokens: int,
        watch: Watch | None = None,
        drawn: LogitsProcessorList | None = None,
    ) -> Tensor:
        """The new tokens of an answer.

        Args:
            inputs: what the model reads.
            max_new_tokens: most tokens of the answer.
            watch: called with the text so far after each token, see `Watcher`.
            drawn: what `make_processors` makes of a `Sampling`; without it the most likely token is taken each time.
        """
        words = self.processor.tokenizer
        watching = [] if watch is None else [Watcher(words, watch, inputs["input_ids"].shape[1])]
        options = {"do_sample": False, "stopping_criteria": watching, "logits_processor": drawn}
        made = self.model.generate(**inputs, max_new_tokens=max_new_tokens, **options)
        return made[0, inputs["input_ids"].shape[1] :]

    def ends(self, token: int) -> bool:
        """Whether an answer ends with this token of its own accord."""
        end = self.model.generation_config.eos_token_id
        return token in (end if isinstance(end, list) else [end])

    def _cast(self, value: Any) -> Any:
        return value.to(self.model.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
