"""Rows and what they show -> Batch: prompts expanded by the visual tokens each video will cost."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from dynfocus.budget import budget
from dynfocus.errors import CheckpointError, DataError, PromptError
from dynfocus.models.context import too_long
from dynfocus.models.prompts import IGNORED, IMAGE, TEMPLATES, Encoded, Place, Turns, check_tokenizer, encode, expand
from dynfocus.models.towers import language_config, load_instruction_tokenizer, load_tokenizer
from dynfocus.records.rows import Row, Turn
from dynfocus.records.skipped import Skipped, describe_skipped
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Batch, FrameSketch, stack_sketches


@dataclass
class Example:
    """One row and what it shows: its sketch, or else its frames.

    With ``is_padding`` it repeats a row so that every process has equally many, and counts in no result. Where
    ``skipped`` says why a row could not be read, ``row`` is a blank one in its place. ``place`` is the row's number in
    the data set that it comes from, where that is not its ``index``. ``seconds`` are the time stamps of its frames.
    """

    row: Row
    sketch: FrameSketch | None = None
    frames: torch.Tensor | None = None
    is_padding: bool = False
    skipped: Skipped | None = None
    place: int | None = None
    seconds: tuple[float, ...] = ()

    @property
    def length(self) -> int:
        return int(self.sketch.frames) if self.sketch is not None else len(self.frames)  # type: ignore[arg-type]


def blank_row(index: int = 0) -> Row:
    """What stands in the place of a row that could not be read; no picture, and nothing to learn."""
    return Row("", index, None, (Turn(".", None),))  # some tokenizer would leave nothing of no question


@dataclass(frozen=True)
class Measure:
    """What one row costs, in tokens.

    Attributes:
        text: of the prompt, visual ones left out.
        slots: places where its video or image is shown.
        targets: that are learned.
        visual: of each slot.
        unknown: learned ones that stand for what the tokenizer does not know.
    """

    text: int
    slots: int
    targets: int
    visual: int
    unknown: int = 0

    @property
    def total(self) -> int:
        """Tokens of the whole prompt."""
        return self.text + self.slots * self.visual


@dataclass
class Collator:
    """Makes batches of mixed text, image and video rows with any numbers of frames.

    Attributes:
        tokenizer: the language model's; it knows ``<image>``.
        instruction_tokenizer: the instruction encoder's.
        settings: the connector's, which say what each video costs.
        context: the language model's longest prompt.
        prompt: name of the template in `dynfocus.models.prompts.TEMPLATES`.
        system_prompt: whether the conversation opens with the template's long sentence, which a language model's own
            chat template is told as the system's message.
        slots: whether the first turn alone or every turn shows the video again.
        answers: true to give the answers (training), false to leave the last one open (asking).
        place: on which side of the question a video stands; None for either in training, as the paper has it, and for
            before the question where an answer is asked for.
        seed: keys on which side of the question a training row's video stands, with the name of the row's data set and
            its number there: however sets are mixed, its prompt is the same.
        longest_instruction: tokens of a question that the instruction encoder reads at most, the last ones where its
            tokenizer truncates on the left; the language model reads all of it.
        new_tokens: room of the context that an open question leaves for its answer.
        skip_invalid: whether a row that does not fit becomes a blank one without target, named in `Batch.skipped`,
            instead of an error.

    Raises:
        ConfigError: if the prompt cannot be made with this tokenizer.
    """

    tokenizer: Any
    instruction_tokenizer: Any
    settings: ConnectorSettings
    context: int
    prompt: str = "vicuna_v1"
    system_prompt: bool = True
    slots: Turns = "every"
    answers: bool = False
    place: Place | None = None
    seed: int = 0
    longest_instruction: int = 256
    new_tokens: int = 0
    skip_invalid: bool = False

    def __post_init__(self) -> None:
        check_tokenizer(self.tokenizer, TEMPLATES[self.prompt])

    @classmethod
    def from_folders(
        cls, encoders: Path, language_model: Path, settings: ConnectorSettings, **options: Any
    ) -> "Collator":
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
            PromptError: if a prompt is longer than the context (nothing of it is ever cut), does not fit its template,
                or holds nothing to learn in training.
            DataError: if a question needs frames that were not read.
        """
        coded, slot_video, slot_row, questions, taken = [], [], [], [], []
        for n, original in enumerate(examples):
            example, encoded = self._encode_or_skip(original)
            row, visual = example.row, example.row.media is not None
            taken.append(example)
            coded.append(encoded)
            asked = [turn.question for turn in row.turns]
            asked = asked if visual and self.slots == "every" else [" ".join(asked)]
            slot_video += [n] * len(asked)
            slot_row += [n if visual else -1] * len(asked)
            questions += asked
        pad = self.tokenizer.pad_token_id  # any id will do, as the mask hides it; many language models have none
        ids, mask, labels = _pad_left(coded, _end(self.tokenizer) if pad is None else pad)
        instruction = self.instruction_tokenizer(
            questions,
            padding=True,
            padding_side="right",  # positions are absolute: on the left, neighbours would move a question
            truncation=True,
            max_length=self.longest_instruction,
            return_attention_mask=True,
            return_tensors="pt",
        )
        sketches = [example.sketch for example in taken if example.sketch is not None]
        if sketches and len(sketches) < len(taken):
            raise ValueError("a batch of sketches and frames; give the one or the other for every row")
        return Batch(
            input_ids=ids,
            attention_mask=mask,
            labels=labels,
            question_ids=instruction["input_ids"],
            question_mask=instruction["attention_mask"].bool(),
            slot_video=torch.tensor(slot_video),
            slot_row=torch.tensor(slot_row),
            video_rows=torch.tensor([example.row.index for example in taken]),
            sketch=stack_sketches(sketches) if sketches else None,
            frames=tuple(example.frames for example in taken if example.frames is not None),
            relevant=_relevant(taken),
            records=tuple(None if example.is_padding or example.skipped else example.row for example in taken),
            skipped=tuple(example.skipped for example in taken if example.skipped and not example.is_padding),
            seconds=tuple(np.array(example.seconds) for example in taken),
        )

    def measure(self, row: Row, frames: int, number: int | None = None) -> Measure:
        """What a row costs that shows so many frames, however long that is.

        Args:
            row: of any data set.
            frames: that its video or image has.
            number: the row's in its data set, where that is not its ``index``.

        Raises:
            PromptError: if it does not fit its template, or holds nothing to learn in training.
        """
        encoded, visual = self._write_prompt(row, frames, row.index if number is None else number)
        slots = encoded.input_ids.count(self.image_id)
        unknown = encoded.labels.count(self.tokenizer.unk_token_id)
        if self.tokenizer.unk_token_id == self.tokenizer.eos_token_id:  # then each answer ends with one
            unknown -= sum(turn.answer is not None for turn in row.turns)
        return Measure(len(encoded.input_ids) - slots, slots, _targets(encoded), visual, unknown)

    def write_text(self, row: Row) -> str:
        """The row's prompt in words, with one ``<image>`` for each visual slot; raises PromptError as a call does."""
        ids = self._prompt(row, self.slots, row.index).input_ids
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    @property
    def image_id(self) -> int:
        return self.tokenizer.convert_tokens_to_ids(IMAGE)

    def _encode_or_skip(self, example: Example) -> tuple[Example, Encoded]:
        """The example as it is, or a blank one of one frame in its place, with its prompt."""
        row = example.row
        number = row.index if example.place is None else example.place
        if example.skipped is None:
            try:
                _check_segments(row, example.length)
                return example, self._encode(row, example.length, number)
            except (PromptError, DataError) as error:
                if not self.skip_invalid:
                    raise
                example = replace(_first_frame(example), skipped=describe_skipped(row.source, number, row, error))
        return replace(example, row=blank_row(row.index)), Encoded([_end(self.tokenizer)], [IGNORED])

    def _encode(self, row: Row, frames: int, number: int) -> Encoded:
        encoded, visual = self._write_prompt(row, frames, number)
        slots = encoded.input_ids.count(self.image_id)
        total, new = len(encoded.input_ids) + slots * (visual - 1), 0 if self.answers else self.new_tokens
        if total + new > self.context:
            once = len(self._prompt(row, "first", number).input_ids) - 1 + visual
            once_fits = slots > 1 and once + new <= self.context
            raise too_long(row, total, slots, frames, self.settings, self.context, new, once_fits)
        return expand(encoded, self.image_id, [visual] * slots)

    def _write_prompt(self, row: Row, frames: int, number: int) -> tuple[Encoded, int]:
        """The prompt with one id for each visual slot, and what each of them costs."""
        encoded = self._prompt(row, self.slots, number)
        has_media = row.media is not None
        expand(encoded, self.image_id, [1] * (len(row.turns) if self.slots == "every" else 1) * has_media)
        if self.answers and not _targets(encoded):
            raise PromptError(f"row {row.id!r} without any answer", "something to learn", "Drop it or answer it.")
        return encoded, budget(frames, self.settings).visual_tokens if has_media else 0

    def _prompt(self, row: Row, slots: Turns, number: int) -> Encoded:
        if not row.turns:
            raise PromptError(f"row {row.id!r} without any turn", "one question at least", "Drop the row or mend it.")
        turns = row.turns if self.answers else (*row.turns[:-1], Turn(row.turns[-1].question, None))
        has_media = row.media is not None
        key = (self.seed, crc32(row.source.encode()), number)
        after = self.answers and has_media and np.random.default_rng(key).random() < 0.5
        place: Place = self.place or ("after" if after else "before")
        template = TEMPLATES[self.prompt] if self.system_prompt else replace(TEMPLATES[self.prompt], opening="")
        return encode(self.tokenizer, turns, template, has_media, place, slots, row.system)


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


def _pad_left(coded: list[Encoded], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    longest = max(len(one.input_ids) for one in coded)
    room = [longest - len(one.input_ids) for one in coded]
    ids = [[pad] * r + one.input_ids for r, one in zip(room, coded, strict=True)]
    mask = [[0] * r + [1] * len(one.input_ids) for r, one in zip(room, coded, strict=True)]
    labels = [[IGNORED] * r + one.labels for r, one in zip(room, coded, strict=True)]
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(labels)


def _targets(encoded: Encoded) -> int:
    """Tokens that are learned; the first of a prompt follows nothing."""
    return sum(label != IGNORED for label in encoded.labels[1:])


def _end(tokenizer: Any) -> int:
    return 0 if tokenizer.eos_token_id is None else tokenizer.eos_token_id


def _first_frame(example: Example) -> Example:
    """Of a video that is not shown, one frame: so many bytes of the batch it may cost."""
    if example.sketch is None:
        return replace(example, frames=example.frames[:1])  # type: ignore[index]
    sketch = example.sketch
    patches = () if sketch.patches is None else (sketch.patches[:, :1], torch.zeros_like(sketch.patch_frames[:, :1]))  # type: ignore[index]
    return replace(
        example, sketch=FrameSketch(sketch.pooled[:, :1], sketch.grains[:, :1], sketch.mask[:, :1], *patches)
    )


def _check_segments(row: Row, frames: int) -> None:
    needed = [frame for question in row.questions for segment in question.segments for frame in segment]
    if row.media is not None and needed and not 0 <= min(needed) <= max(needed) < frames:
        wrong = min(needed) if min(needed) < 0 else max(needed)
        raise DataError(
            f"row {row.id!r} (number {row.index}), whose `segments` name the frame {wrong} of {frames} that were read",
            f"frames from 0 to {frames - 1}",
            "Let model.frame_rule (fps, frames) read every frame that the rows name, or leave out `segments`.",
        )


def _relevant(examples: list[Example]) -> torch.Tensor | None:
    if not any(example.row.questions for example in examples):
        return None
    out = torch.zeros(len(examples), max(example.length for example in examples), dtype=torch.bool)
    for n, example in enumerate(examples):
        if example.row.media is not None:
            for question in example.row.questions:
                for event in question.segments:
                    out[n, list(event)] = True
    return out
