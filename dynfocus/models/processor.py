"""A trained model's folder as transformers reads it: importing this registers the model and its processor there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import AutoProcessor, BatchFeature, ProcessorMixin

from dynfocus.errors import CheckpointError, ConfigError, DynFocusError, PromptError
from dynfocus.models.collate import Collator, Example, longest_prompt
from dynfocus.models.conversations import Shown, list_shown, read_conversation
from dynfocus.models.hub import AUTO_MAP, OPTIONS, check_options, find_folder, write_remote_code
from dynfocus.models.loading import read_trained_config
from dynfocus.models.model import DynFocusConfig
from dynfocus.models.prompts import IMAGE, TEMPLATES, Turns
from dynfocus.models.towers import check_files, load_instruction_tokenizer, load_tokenizer
from dynfocus.records.rows import Row, Turn
from dynfocus.settings import FrameRule
from dynfocus.types import Batch
from dynfocus.video.media import read_or_blank

STATE, PARTS = "processor_config.json", ("frame_rule", "prompt", "system_prompt", "slots")
TENSORS: dict[str, tuple[Any, ...]] = {
    "return_tensors": ("pt", None, "auto"),
    "padding": (True, False, None, "longest"),
    "padding_side": ("left", None),
    "truncation": (False, None),
    "audio": (None,),
}
TEMPLATE: dict[str, tuple[Any, ...]] = {
    "chat_template": (None,),
    "tools": (None,),
    "documents": (None,),
    "continue_final_message": (False, None),
    "return_assistant_tokens_mask": (False, None),
    "load_audio_from_video": (False, None),
}
UNREAD = ("records", "skipped", "seconds")  # fields of a batch that are for scores and records: no model reads them
LARGEST = 4096  # pixels a side of a frame, several times what any vision encoder reads


class DynFocusProcessor(ProcessorMixin):
    """Videos or images and questions -> what `DynFocusModel.generate` takes.

    ``processor_config.json`` holds how videos and questions are read; what a video costs stands in the model's config.

    Args:
        tokenizer: the language model's.
        qformer_tokenizer: the instruction encoder's.
        config: the model's.
        frame_rule: how frames are taken from a video.
        prompt, system_prompt, slots: see `Collator`.
    """

    def __init__(
        self,
        tokenizer: Any,
        qformer_tokenizer: Any,
        config: DynFocusConfig,
        frame_rule: FrameRule = FrameRule(),  # noqa: B008 (frozen)
        prompt: str = "vicuna_v1",
        system_prompt: bool = True,
        slots: Turns = "every",
    ) -> None:
        super().__init__(tokenizer, qformer_tokenizer)
        self.frame_rule = frame_rule
        self.collate = Collator(
            tokenizer, qformer_tokenizer, config.settings, longest_prompt(config), prompt, system_prompt, slots
        )

    @classmethod
    def from_pretrained(cls, folder: Path | str, **options: Any) -> "DynFocusProcessor":  # type: ignore[override]
        """The processor of a trained model's folder; ``options`` replace what its ``processor_config.json`` says.

        The options that transformers passes to any processor, such as ``subfolder`` or ``use_fast``, are taken too; a
        text that names no folder is a repository of the Hugging Face Hub.

        Raises:
            CheckpointError: if the folder holds no trained model, or its processor does not fit.
            ConfigError: if there is no such option.
        """
        place = find_folder(folder, options)
        config = read_trained_config(place)
        parts = read_processor_state(place)
        changes = {name: value for name, value in options.items() if name not in OPTIONS}
        side = changes.pop("padding_side", None)
        check_options({} if side is None else {"padding_side": side}, TENSORS)
        if unknown := changes.keys() - set(PARTS):
            raise ConfigError(f"the option {min(unknown)}", f"one of {', '.join(PARTS)}", "Correct it.")
        parts |= changes
        for name, known in (("prompt", tuple(TEMPLATES)), ("slots", get_args(Turns))):
            if parts[name] not in known:
                raise ConfigError(f"{name} = {parts[name]!r}", f"one of {', '.join(known)}", f"Correct {name}.")
        try:
            return cls(load_tokenizer(place), load_instruction_tokenizer(place), config, **parts)
        except (DynFocusError, MemoryError):
            raise
        except Exception as error:  # what others have written into a folder ends in any
            raise CheckpointError(
                f"the processor in {folder}, which cannot be made ({type(error).__name__}: {error})",
                "one that training has written",
                "Get the model's folder again.",
            ) from error

    def save_pretrained(self, save_directory: Path | str, push_to_hub: bool = False, **options: Any) -> Any:
        """As transformers', with the file that names the folder's classes where dynfocus was not imported."""
        written = super().save_pretrained(str(save_directory), push_to_hub, **options)
        write_remote_code(save_directory)
        return written

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoProcessor") -> None:
        """Nothing: transformers would copy a file of this package into the folder, where it is of no use alone."""

    def to_dict(self) -> dict[str, Any]:
        """What ``processor_config.json`` holds."""
        named = {name: getattr(self.collate, name) for name in PARTS[1:]}
        kind = {"processor_class": type(self).__name__, "auto_map": {"AutoProcessor": AUTO_MAP["AutoProcessor"]}}
        return {**kind, "frame_rule": asdict(self.frame_rule), **named}

    def __call__(
        self,
        images: Any = None,
        text: Sequence[str] | str = (),
        videos: Any = None,
        new_tokens: int = 0,
        **options: Any,
    ) -> BatchFeature:
        """One row a question: the fields of `Batch`, by their names; a row without video or image is text alone.

        Args:
            images, videos: what each question is about, as `list_shown` takes it: a file; a PIL image or an array
                [H, W, 3] as an image; a list of these or an array [T, H, W, 3] as the frames of a video. None where a
                question has none.
            text: the questions.
            new_tokens: room of the context that is left for each answer.
            options: those of transformers that ask for what is done anyway, such as ``return_tensors="pt"``.

        Raises:
            PromptError: if the numbers of questions and files differ, or a prompt is longer than the context.
            VideoError: if a file cannot be read.
            ConfigError: if an option asks for something else.
        """
        check_options(options, TENSORS)
        questions = [text] if isinstance(text, str) else list(text)
        if any(IMAGE in question for question in questions):
            raise PromptError(
                f"a question that holds {IMAGE}",
                "the question alone: the processor writes the prompt, and the video's place in it",
                f"Leave out {IMAGE}, or give a conversation to apply_chat_template with tokenize=True.",
            )
        both = [list_shown("videos", videos, len(questions)), list_shown("images", images, len(questions))]
        if not questions:
            raise PromptError("0 questions", "one at least", "Give text.")
        pairs = list(zip(*both, strict=True))
        if twice := [n for n, pair in enumerate(pairs) if None not in pair]:
            raise PromptError(
                f"question {twice[0]} about a video and an image",
                "one file for each question",
                "Ask about one at a time.",
            )
        shown = [video or image for video, image in pairs]
        rows = [
            Row(f"text[{n}]", n, None if one is None else one.name, (Turn(question, None),))
            for n, (question, one) in enumerate(zip(questions, shown, strict=True))
        ]
        return self._collate(rows, shown, new_tokens)

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        *,
        tokenize: bool = False,
        return_dict: bool = False,
        add_generation_prompt: bool = False,
        processor_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Conversations in transformers' form -> what the model takes, in the prompt that the model was trained with.

        A conversation that ends with a question asks for its answer. One that ends with an answer is one to learn from:
        its ``labels`` are the answers. The video stands before its question, wherever its part stands.

        Args:
            conversation: messages, see `read_conversation`, or a list of conversations.
            chat_template: none; the prompt is the trained one.
            tokenize: false for the prompt's text alone, to look at: the processor takes no such text.
            return_dict: false for the token ids alone.
            add_generation_prompt: whether an answer is asked for; a conversation that ends with an answer refuses it.
            processor_kwargs: options as of `__call__`, such as ``new_tokens``.
            options: the same, or those of transformers that ask for what is done anyway.

        Returns:
            A BatchFeature, token ids, or text; a list of texts for a list of conversations.

        Raises:
            PromptError: if a conversation has another form, or is longer than the context.
            VideoError: if a file cannot be read.
            ConfigError: if an option asks for something else.
        """
        options = {**options, **(processor_kwargs or {}), "chat_template": chat_template}
        new_tokens = options.pop("new_tokens", 0)
        check_options(options, TENSORS | TEMPLATE)
        many = bool(conversation) and not isinstance(conversation[0], Mapping)
        listed = conversation if many else [conversation]
        rows, shown = zip(*(read_conversation(getattr(c, "messages", c), n) for n, c in enumerate(listed)), strict=True)
        learns = {row.turns[-1].answer is not None for row in rows}
        if len(learns) > 1 or (add_generation_prompt and True in learns):
            raise PromptError(
                "a conversation that ends with an answer" + (", beside one that does not" if len(learns) > 1 else ""),
                "only answers to learn, or only questions to answer",
                "Give them to two calls, or set add_generation_prompt to False.",
            )
        collate = replace(self.collate, answers=True, place="before") if True in learns else self.collate
        if not tokenize:
            texts = [collate.write_text(row) for row in rows]
            return texts if many else texts[0]
        inputs = self._collate(rows, shown, new_tokens, collate)
        return inputs if return_dict else inputs["input_ids"]

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """The texts of answers, or of prompts; pipelines call it."""
        return self.tokenizer.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens)

    @property
    def model_input_names(self) -> list[str]:
        """What the model takes of a batch."""
        return [field.name for field in fields(Batch) if field.name not in UNREAD]

    def _collate(
        self, rows: Sequence[Row], shown: Sequence[Shown | None], new_tokens: int, collate: Collator | None = None
    ) -> BatchFeature:
        frames = [self.frames(None) if one is None else one.read(self.frame_rule) for one in shown]
        examples = [Example(row, frames=clip) for row, clip in zip(rows, frames, strict=True)]
        batch = replace(collate or self.collate, new_tokens=new_tokens)(examples)
        return BatchFeature(
            {name: value for name, value in vars(batch).items() if value is not None and name not in UNREAD}
        )

    def frames(self, medium: Path | str | None) -> torch.Tensor:
        """The frames of a video or image, as the frame rule takes them; the blank one of text alone."""
        return read_or_blank(None if medium is None else Path(medium), self.frame_rule).frames


def read_trained_rule(folder: Path) -> FrameRule:
    """How a trained model reads videos; raises CheckpointError if its folder does not say it."""
    return read_processor_state(folder)["frame_rule"]


def read_processor_state(folder: Path) -> dict[str, Any]:
    """How a trained model reads videos and writes prompts: ``frame_rule``, ``prompt``, ``system_prompt``, ``slots``.

    Raises:
        CheckpointError: if its folder does not say it.
    """
    file = folder / STATE
    check_files(folder)
    try:
        parts = dict(json.loads(file.read_text()))
        for name in ("processor_class", "auto_map"):
            parts.pop(name, None)
        if odd := parts.keys() ^ set(PARTS):
            raise KeyError(min(odd))
        rule = FrameRule(**parts["frame_rule"])
        if rule.size > LARGEST:
            raise ValueError(f"frames of {rule.size} pixels a side, above {LARGEST}")
        return parts | {"frame_rule": rule}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{file}, which does not say how videos are read ({type(error).__name__}: {error})",
            "the processor of a trained model",
            "Train the model again, which writes it.",
        ) from error


AutoProcessor.register(DynFocusConfig, DynFocusProcessor)
