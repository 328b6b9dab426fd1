"""A trained model's folder as transformers reads it: importing this registers the model and its processor there."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import AutoProcessor, BatchFeature, ProcessorMixin

from dynfocus.errors import CheckpointError, ConfigError, PromptError
from dynfocus.models.collate import Collator, Example, longest_prompt
from dynfocus.models.loading import read_trained_config
from dynfocus.models.model import DynFocusConfig
from dynfocus.models.prompts import TEMPLATES, Turns
from dynfocus.models.towers import load_instruction_tokenizer, load_tokenizer
from dynfocus.records.rows import Row, Turn
from dynfocus.settings import FrameRule
from dynfocus.video.media import read_or_blank

STATE, PARTS = "processor_config.json", ("frame_rule", "prompt", "system_prompt", "slots")
HUB = {"_from_auto", "cache_dir", "force_download", "local_files_only", "revision", "token", "trust_remote_code"}


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

        Raises:
            CheckpointError: if the folder holds no trained model, or its processor does not fit.
            ConfigError: if there is no such option.
        """
        config = read_trained_config(Path(folder))
        parts = read_processor_state(Path(folder))
        changes = {name: value for name, value in options.items() if name not in HUB}
        if unknown := changes.keys() - set(PARTS):
            raise ConfigError(f"the option {min(unknown)}", f"one of {', '.join(PARTS)}", "Correct it.")
        parts |= changes
        for name, known in (("prompt", tuple(TEMPLATES)), ("slots", get_args(Turns))):
            if parts[name] not in known:
                raise ConfigError(f"{name} = {parts[name]!r}", f"one of {', '.join(known)}", f"Correct {name}.")
        tokenizers = load_tokenizer(Path(folder)), load_instruction_tokenizer(Path(folder))
        return cls(*tokenizers, config, **parts)

    def to_dict(self) -> dict[str, Any]:
        """What ``processor_config.json`` holds."""
        named = {name: getattr(self.collate, name) for name in PARTS[1:]}
        return {"processor_class": type(self).__name__, "frame_rule": asdict(self.frame_rule), **named}

    def __call__(
        self,
        images: Sequence[Path | str | None] | Path | str | None = None,
        text: Sequence[str] | str = (),
        videos: Sequence[Path | str | None] | Path | str | None = None,
        new_tokens: int = 0,
    ) -> BatchFeature:
        """One row a question: the fields of `Batch`, by their names; a row without video or image is text alone.

        Args:
            images, videos: a file for each question; None where a question has none.
            text: the questions.
            new_tokens: room of the context that is left for each answer.

        Raises:
            PromptError: if the numbers of questions and files differ, or a prompt is longer than the context.
            VideoError: if a file cannot be read.
        """
        questions = [text] if isinstance(text, str) else list(text)
        media = _one_each(len(questions), videos=videos, images=images)
        examples = [
            Example(Row(f"text[{n}]", n, medium, (Turn(question, None),)), frames=self.frames(medium))
            for n, (question, medium) in enumerate(zip(questions, media, strict=True))
        ]
        batch = replace(self.collate, new_tokens=new_tokens)(examples)
        return BatchFeature(
            {n: value for n, value in vars(batch).items() if value is not None and n not in ("records", "skipped")}
        )

    def frames(self, medium: str | None) -> torch.Tensor:
        """The frames of a video or image, as the frame rule takes them; the blank one of text alone."""
        return read_or_blank(None if medium is None else Path(medium), self.frame_rule).frames


def _one_each(count: int, **files: Sequence[Path | str | None] | Path | str | None) -> list[str | None]:
    """The one file of each question, be it a video or an image."""
    listed = {}
    for name, listing in files.items():
        listing = [listing] if isinstance(listing, Path | str) else [None] * count if listing is None else list(listing)
        if not count or len(listing) != count:
            raise PromptError(
                f"{count} questions and {len(listing)} {name}",
                "one file for each question",
                "Give None where it has none.",
            )
        listed[name] = listing
    pairs = list(zip(*listed.values(), strict=True))
    if twice := [n for n, pair in enumerate(pairs) if None not in pair]:
        raise PromptError(
            f"question {twice[0]} about a video and an image", "one file for each question", "Ask about one at a time."
        )
    return [next((str(medium) for medium in pair if medium is not None), None) for pair in pairs]


def read_trained_rule(folder: Path) -> FrameRule:
    """How a trained model reads videos; raises CheckpointError if its folder does not say it."""
    return read_processor_state(folder)["frame_rule"]


def read_processor_state(folder: Path) -> dict[str, Any]:
    """How a trained model reads videos and writes prompts: ``frame_rule``, ``prompt``, ``system_prompt``, ``slots``.

    Raises:
        CheckpointError: if its folder does not say it.
    """
    file = folder / STATE
    try:
        parts = dict(json.loads(file.read_text()))
        parts.pop("processor_class", None)
        if odd := parts.keys() ^ set(PARTS):
            raise KeyError(min(odd))
        return parts | {"frame_rule": FrameRule(**parts["frame_rule"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file}, which does not say how videos are read ({type(error).__name__}: {error})",
            "the processor of a trained model",
            "Train the model again, which writes it.",
        ) from error


AutoProcessor.register(DynFocusConfig, DynFocusProcessor)
