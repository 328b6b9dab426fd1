"""Rows and what they show -> Batch: prompts expanded by the visual tokens each video will cost."""

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dynfocus.budget import budget, largest_fit
from dynfocus.errors import CheckpointError, PromptError
from dynfocus.nn.backbones import language_config, load_instruction_tokenizer, load_tokenizer
from dynfocus.prompts import IGNORED, TEMPLATES, Encoded, Place, Turns, encode, expand
from dynfocus.records import Row, Skipped, Turn
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Batch, FrameSketch, stack_sketches


@dataclass
class Example:
    """One row and what it shows: its sketch, or else its frames.

    An ``extra`` one is repeated so that every process has equally many: it is computed and counted nowhere. Where
    ``skipped`` says why a row could not be read, ``row`` is a blank one in its place.
    """

    row: Row
    sketch: FrameSketch | None = None
    frames: torch.Tensor | None = None
    extra: bool = False
    skipped: Skipped | None = None

    @property
    def length(self) -> int:
        return int(self.sketch.frames) if self.sketch is not None else len(self.frames)  # type: ignore[arg-type]


@dataclass
class Processor:
    """Makes batches of mixed text, image and video rows with any numbers of frames.

    Attributes:
        tokenizer: the language model's; it knows ``<image>``.
        instruction_tokenizer: the instruction encoder's.
        settings: the connector's, which say what each video costs.
        context: the language model's longest prompt.
        prompt: name of the template in `dynfocus.prompts.TEMPLATES`.
        system_prompt: whether the conversation opens with the template's long sentence.
        slots: whether the first turn alone or every turn shows the video again.
        answers: true to give the answers (training), false to leave the last one open (asking).
        seed: keys on which side of the question a training row's video stands.
        longest_instruction: tokens of a question that the instruction encoder reads at most, the last ones where its
            tokenizer truncates on the left; the language model reads all of it.
        new_tokens: room of the context that an open question leaves for its answer.
    """

    tokenizer: Any
    instruction_tokenizer: Any
    settings: ConnectorSettings
    context: int
    prompt: str = "vicuna_v1"
    system_prompt: bool = True
    slots: Turns = "every"
    answers: bool = False
    seed: int = 0
    longest_instruction: int = 256
    new_tokens: int = 0

    @classmethod
    def from_folders(
        cls, encoders: Path, language_model: Path, settings: ConnectorSettings, **options: Any
    ) -> "Processor":
        """The tokenizers of an InstructBLIP folder and of a language model's; ``options`` are the other attributes."""
        return cls(
            load_tokenizer(language_model),
            load_instruction_tokenizer(encoders),
            settings,
            longest_prompt(language_config(language_model)),
            **options,
        )

    def __call__(self, examples: list[Example]) -> Batch:
        """Examples side by side, prompts padded on the left.

        Raises:
            PromptError: if a prompt is longer than the context; nothing of it is ever cut.
        """
        coded, slot_video, slot_row, questions = [], [], [], []
        for n, example in enumerate(examples):
            row, visual = example.row, example.row.media is not None
            coded.append(self._encode(row, visual, example.length))
            asked = [turn.question for turn in row.turns]
            asked = asked if visual and self.slots == "every" else [" ".join(asked)]
            slot_video += [n] * len(asked)
            slot_row += [n if visual else -1] * len(asked)
            questions += asked
        pad = self.tokenizer.pad_token_id  # any id will do, as the mask hides it; many language models have none
        ids, mask, labels = _pad_left(coded, self.tokenizer.eos_token_id if pad is None else pad)
        instruction = self.instruction_tokenizer(
            questions, padding=True, truncation=True, max_length=self.longest_instruction, return_tensors="pt"
        )
        sketches = [example.sketch for example in examples if example.sketch is not None]
        if sketches and len(sketches) < len(examples):
            raise ValueError("a batch of sketches and frames; give the one or the other for every row")
        return Batch(
            input_ids=ids,
            attention_mask=mask,
            labels=labels,
            question_ids=instruction["input_ids"],
            question_mask=instruction["attention_mask"].bool(),
            slot_video=torch.tensor(slot_video),
            slot_row=torch.tensor(slot_row),
            video_rows=torch.tensor([example.row.index for example in examples]),
            sketch=stack_sketches(sketches) if sketches else None,
            frames=tuple(example.frames for example in examples if example.frames is not None),
            relevant=_relevant(examples),
            records=tuple(None if example.extra else example.row for example in examples),
        )

    def _encode(self, row: Row, visual: bool, frames: int) -> Encoded:
        turns = row.turns if self.answers else (*row.turns[:-1], Turn(row.turns[-1].question, None))
        after = self.answers and visual and np.random.default_rng((self.seed, row.index)).random() < 0.5
        template = TEMPLATES[self.prompt] if self.system_prompt else replace(TEMPLATES[self.prompt], opening="")
        place: Place = "after" if after else "before"
        encoded = encode(self.tokenizer, turns, template, visual, place, self.slots)
        tokens = budget(frames, self.settings).visual_tokens
        times = 0 if not visual else len(turns) if self.slots == "every" else 1
        encoded = expand(encoded, self.tokenizer.convert_tokens_to_ids("<image>"), [tokens] * times)
        total, new = len(encoded.input_ids), 0 if self.answers else self.new_tokens
        if total + new > self.context:
            once = len(encode(self.tokenizer, turns, template, visual, place, "first").input_ids) - 1 + tokens
            once_fits = times > 1 and once + new <= self.context
            raise _too_long(row, total, times, frames, self.settings, self.context, new, once_fits)
        return encoded


def longest_prompt(config: Any) -> int:
    """The context of a language model, or of the language model in another's config, as its config says it.

    Raises:
        CheckpointError: if the config does not say it.
    """
    text = config.get_text_config()
    length = getattr(text, "max_position_embeddings", None)
    if not isinstance(length, int):
        raise CheckpointError(
            f"a language model ({text.model_type}) whose config.json does not say max_position_embeddings",
            "the length of its longest prompt, in tokens",
            'Write it there, such as "max_position_embeddings": 2048.',
        )
    return length


def _too_long(
    row: Row, total: int, slots: int, frames: int, settings: ConnectorSettings, context: int, new: int, once_fits: bool
) -> PromptError:
    """What a row that does not fit costs, and each setting that alone would make it fit; no token is ever cut."""
    each = budget(frames, settings).visual_tokens
    text = total - slots * each
    given = f"row {row.id!r} of {total} tokens, {slots * each} of them visual"
    given += f" ({slots} slots of {each})" if slots > 1 else ""
    needed = f"at most {context - new}, the language model's context"
    needed += f" of {context} less {new} new tokens" if new else ""
    spare, context = context - total, context - new
    if text > context:
        fewer = f", ask for max_new_tokens {spare}" if spare > 0 else ""
        return PromptError(
            f"{given}, {text} of them text",
            needed,
            f"The text itself is too long, without any visual token: shorten the conversation{fewer}, or take a "
            "language model of a longer context.",
        )
    fit = largest_fit(frames, settings, (context - text) // slots)
    values = {"frame_rule.frames": fit.frames, "connector.events": fit.events, "connector.keep": fit.keep}
    able = [f"{name} {_plain(value)}" for name, value in values.items() if value is not None]
    unable = [name for name, value in values.items() if value is None]
    able += ["slots first"] if once_fits else []
    able += [f"max_new_tokens {spare}"] if spare > 0 else []
    advice = [f"Each of these alone makes it fit: {', '.join(able)}"] if able else []
    advice += [f"Not enough alone at any value: {', '.join(unable)}"] if unable else []
    advice += [] if able else ["Shorten the conversation, or take a language model of a longer context"]
    return PromptError(given, needed, ". ".join(advice) + ".")


def _plain(value: int | float) -> str:
    """A number without exponent, so that YAML reads it as one."""
    return format(Decimal(str(value)), "f")


def _pad_left(coded: list[Encoded], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    longest = max(len(one.input_ids) for one in coded)
    room = [longest - len(one.input_ids) for one in coded]
    ids = [[pad] * r + one.input_ids for r, one in zip(room, coded, strict=True)]
    mask = [[0] * r + [1] * len(one.input_ids) for r, one in zip(room, coded, strict=True)]
    labels = [[IGNORED] * r + one.labels for r, one in zip(room, coded, strict=True)]
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(labels)


def _relevant(examples: list[Example]) -> torch.Tensor | None:
    if not any(example.row.questions for example in examples):
        return None
    out = torch.zeros(len(examples), max(example.length for example in examples), dtype=torch.bool)
    for n, example in enumerate(examples):
        if example.row.media is not None:
            for question in example.row.questions:
                for event in question.events:
                    out[n, list(event)] = True
    return out
