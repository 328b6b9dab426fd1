"""Ask a trained model about any video or image: video -> sketch -> focus -> tokens -> answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from dynfocus.data.sketches.cache import SketchCache, TimedSketch
from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.data.sketches.media import media_stamp
from dynfocus.device import choose_device
from dynfocus.errors import ConfigError
from dynfocus.inspection.answer import Answer, Timing
from dynfocus.method.selection import make_selection
from dynfocus.models.collate import Example
from dynfocus.models.loading import read_trained_config
from dynfocus.models.model import DynFocusModel
from dynfocus.models.processor import DynFocusProcessor, read_trained_rule
from dynfocus.models.prompts import find_unknown
from dynfocus.models.watching import Watch, Watcher
from dynfocus.records.rows import FrameFiles, Row, Turn, VideoSegment
from dynfocus.settings import FrameRule, selector_label
from dynfocus.video import Clip
from dynfocus.video.media import Media, read_or_blank
from dynfocus.video.thumbnails import Thumbnails


class Answerer:
    """A trained model and the way it reads videos, from the folder that stage 2 leaves.

    A second question about a video costs no decoding, while the file stays the same, and no run of the vision encoder
    unless the model reads each frame under the question: then frames are kept in place of sketches.

    Args:
        folder: the trained model's.
        cache: folder where sketches are kept for the next time; without one they are kept in memory alone.
        remembered: how many videos' sketches are kept in memory.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.
        frames: of a video at most so many are looked at; None for as many as in training.
        trust_selector: see `DynFocusModel.from_folder`.
        threads: that decode a video, see `read_clip`.

    Raises:
        CheckpointError: if there is no trained model.
        ConfigError: if the folder names a selector that is not trusted, if a cache is given to a model that has no use
            for sketches, or if there is no such device.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path | None = None,
        remembered: int = 4,
        device: str = "cpu",
        frames: int | None = None,
        trust_selector: bool = False,
        threads: int = 1,
    ) -> None:
        self.threads = threads
        self.folder, place = Path(folder), choose_device(device)
        self.processor = DynFocusProcessor.from_pretrained(folder)
        if frames is not None:
            self.processor.frame_rule = replace(self.processor.frame_rule, frames=frames)
        self.cache = None if cache is None else open_trained_cache(folder, cache, self.processor.frame_rule)
        self.model = DynFocusModel.from_folder(folder, trust_selector=trust_selector, device=place)
        self.model = self.model.to(place).eval()
        if self.cache is not None:
            self.cache.device, self.cache.tower, self.cache.threads = self.model.device, self.model.vision, threads
        self.remembered = remembered
        self.recent: dict[object, TimedSketch | Clip] = {}
        self.encoded = 0  # how often something was read, as memory did not hold it

    def ask(self, video: Path, question: str, max_new_tokens: int = 16, chooser: nn.Module | None = None) -> Answer:
        """Answer one question greedily, from frames that ``chooser`` keeps where one is given; raises as `answer`."""
        with self._choosing(chooser):
            return self.answer(Row("", 0, str(video), (Turn(question, None),)), video, max_new_tokens)

    def answer(self, row: Row, media: Media, max_new_tokens: int = 16, watch: Watch | None = None) -> Answer:
        """Answer the last question of a conversation greedily.

        Args:
            row: the conversation; its ``media`` is None where it shows nothing.
            media: what it shows.
            max_new_tokens: most tokens of the answer.
            watch: called with the answer so far after each token; where it returns true, the answer ends.

        Raises:
            VideoError: if a file cannot be read.
            PromptError: if video, conversation and answer do not fit the context together.
        """
        return self.answer_batch([(row, media)], max_new_tokens, watch)[0]

    @torch.no_grad()
    def answer_batch(
        self, asked: Sequence[tuple[Row, Media]], max_new_tokens: int = 16, watch: Watch | None = None
    ) -> list[Answer]:
        """Answer several conversations together, each with what it shows; raises as `answer` does.

        Args:
            asked: conversations and their media; an error of one of them leaves all without an answer.
            max_new_tokens: most tokens of each answer.
            watch: see `answer`; of one conversation alone.
        """
        begin = perf_counter()
        contents, reading = [], []
        for _, media in asked:
            start = perf_counter()
            contents.append(self.read(media))
            reading.append(perf_counter() - start)
        examples = [
            Example(row, content.sketch) if isinstance(content, TimedSketch) else Example(row, frames=content.frames)
            for (row, _), content in zip(asked, contents, strict=True)
        ]
        batch = replace(self.processor.collate, new_tokens=max_new_tokens)(examples)
        watching = {} if watch is None else {"stopping_criteria": [Watcher(self.processor.tokenizer, watch)]}
        ids, tokens = self.model.answer(batch.to(self.model.device), max_new_tokens=max_new_tokens, **watching)
        ids, tokens = ids.tolist(), tokens.to("cpu")
        answering = (perf_counter() - begin - sum(reading)) / len(examples)
        answers = []
        for place, (row, _) in enumerate(asked):
            end = next((n for n, token in enumerate(ids[place], 1) if self.ends(token)), None)
            question, written = row.turns[-1].question, ids[place][:end]
            slot = int((batch.slot_video == place).nonzero()[-1])
            seconds = contents[place].seconds.tolist()
            answers.append(
                Answer(
                    question,
                    self.processor.decode(written, skip_special_tokens=True).strip(),
                    end is None,
                    make_selection(tokens, slot, seconds, self.model.settings),
                    int(batch.attention_mask[place].sum()),
                    Timing(reading[place], answering),
                    self.find_unknown(question),
                    visual_tokens=int((batch.input_ids[place] == self.processor.collate.image_id).sum()),
                    new_tokens=len(written),
                )
            )
        return answers

    def find_unknown(self, question: str) -> tuple[str, ...]:
        """The words of a question that the language model's or the question encoder's tokenizer does not know."""
        collator = self.processor.collate
        words = [find_unknown(one, question) for one in (collator.tokenizer, collator.instruction_tokenizer)]
        return tuple(dict.fromkeys(words[0] + words[1]))

    def thumbnails(self, video: Path, answer: Answer) -> Thumbnails:
        """The frames that an answer about this video rests on, for a person to look at."""
        return Thumbnails(video, answer.selection.seconds, self.processor.frame_rule)

    @property
    def settings(self) -> dict[str, object]:
        """Every setting that an answer hangs on, by its name in a config."""
        rule = {f"frame_rule.{name}": value for name, value in asdict(self.processor.frame_rule).items()}
        selector = {"selector": selector_label(self.model.settings.selector)}
        return asdict(self.model.settings) | selector | rule | {"device": str(self.model.device)}

    @contextmanager
    def _choosing(self, chooser: nn.Module | None) -> Iterator[None]:
        connector = self.model.connector
        own = getattr(connector, "select", None)
        if chooser is not None:
            connector.select = chooser
        try:
            yield
        finally:
            if chooser is not None:
                connector.select = own

    def ends(self, token: int) -> bool:
        """Whether an answer ends with this token of its own accord."""
        end = self.model.generation_config.eos_token_id
        return token in (end if isinstance(end, list) else [end])

    def read(self, media: Media) -> TimedSketch | Clip:
        """The sketch of a medium, or its frames where these are kept, from memory if it was asked about lately.

        Raises:
            VideoError: if the file cannot be read.
        """
        key = stamp(media)
        content = self.recent.pop(key, None)
        self.encoded += content is None
        if content is None and self.cache is not None:
            content = self.cache.read(media)
        elif content is None:
            clip = read_or_blank(media, self.processor.frame_rule, self.threads)
            sketched = self.model.settings.instruction_mode == "instruction"
            frames = clip.frames.to(self.model.device)
            content = TimedSketch(self.model.sketch(frames).to("cpu"), clip.seconds) if sketched else clip
        self.recent[key] = content
        for oldest in list(self.recent)[: -self.remembered]:
            del self.recent[oldest]
        return content


def stamp(media: Media) -> object:
    """What stays the same while the files of a medium do; raises MissingFileError if one is absent."""
    if isinstance(media, FrameFiles):
        return media, tuple(map(media_stamp, media.paths))
    if isinstance(media, VideoSegment):
        return media, media_stamp(media.path)
    return None if media is None else media_stamp(media)


def open_trained_cache(folder: Path, cache: Path, rule: FrameRule | None = None) -> SketchCache:
    """The sketch cache in ``cache`` for a trained model's folder; by default of the frames that it was trained on.

    Raises:
        CheckpointError: if there is no trained model in the folder.
        ConfigError: if the model reads each frame under the question, so that no sketch serves a second one.
    """
    settings = read_trained_config(Path(folder)).settings
    if settings.instruction_mode == "frame":
        raise ConfigError(
            f"a sketch cache for the model in {folder}, whose instruction_mode is frame",
            "a model whose sketches do not hang on the question",
            "Leave the cache out: every question needs the vision encoder.",
        )
    return SketchCache(cache, EncoderFolder(folder), settings, rule or read_trained_rule(Path(folder)))
