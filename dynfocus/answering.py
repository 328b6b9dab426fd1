"""Ask a trained model about any video or image: video -> sketch -> focus -> tokens -> answer."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dynfocus.errors import CheckpointError
from dynfocus.nn.model import DynFocusConfig, DynFocusModel
from dynfocus.processor import Example, Processor
from dynfocus.records import Row, Turn
from dynfocus.settings import FrameRule
from dynfocus.sketches.cache import SketchCache, Sketched
from dynfocus.sketches.clips import media_stamp
from dynfocus.sketches.digests import Stamp
from dynfocus.sketches.encoders import EncoderFolder
from dynfocus.video import read_media


@dataclass(frozen=True)
class Answer:
    """What the model says, the frames it kept with their time stamps, and what the video cost.

    Attributes:
        answer: the text.
        frames: T, frames that were read.
        kept: indices of the kept frames, in time order.
        seconds: their time stamps.
        visual_tokens: tokens the video cost.
    """

    answer: str
    frames: int
    kept: tuple[int, ...]
    seconds: tuple[float, ...]
    visual_tokens: int


class Answerer:
    """A trained model and the way it reads videos, from the folder that stage 2 leaves.

    A second question about a video costs neither decoding nor the vision encoder, while the file stays the same.

    Args:
        folder: the trained model's.
        cache: folder where sketches are kept for the next time; without one they are kept in memory alone.
        remembered: how many videos' sketches are kept in memory.

    Raises:
        CheckpointError: if there is no trained model.
    """

    def __init__(self, folder: Path, cache: Path | None = None, remembered: int = 4) -> None:
        reading = dict(trained_config(folder).reading or {})
        self.model = DynFocusModel.from_folder(folder).eval()
        self.rule = FrameRule(**reading.pop("frame_rule"))
        self.processor = Processor.from_folders(folder, folder, self.model.settings, **reading)
        self.cache = None if cache is None else trained_cache(folder, cache, self.model)
        self.remembered = remembered
        self.known: dict[Stamp, Sketched] = {}

    @torch.no_grad()
    def ask(self, video: Path, question: str, max_new_tokens: int = 16) -> Answer:
        """Answer one question greedily; raises VideoError if the file cannot be read."""
        sketched = self.sketch(video)
        row = Row(str(video), 0, str(video), (Turn(question, None),))
        batch = self.processor([Example(row, sketch=sketched.sketch)])
        ids, tokens = self.model.answer(batch, max_new_tokens=max_new_tokens)
        kept = [] if tokens.focus is None else tokens.focus.frames[0].tolist()
        return Answer(
            self.processor.tokenizer.decode(ids[0], skip_special_tokens=True).strip(),
            len(sketched.seconds),
            tuple(kept),
            tuple(float(sketched.seconds[frame]) for frame in kept),
            int(tokens.mask.sum()),
        )

    def sketch(self, video: Path) -> Sketched:
        """The sketch of a video or image, from memory where it is one of the last that were asked about.

        Raises:
            VideoError: if the file cannot be read.
        """
        key = media_stamp(video)
        found = self.known.pop(key, None)
        if found is None and self.cache is not None:
            found = self.cache.read(video)
        elif found is None:
            clip = read_media(video, self.rule)
            found = Sketched(self.model.sketch(clip.frames), clip.seconds)
        self.known[key] = found
        for oldest in list(self.known)[: -self.remembered]:
            del self.known[oldest]
        return found


def trained_config(folder: Path) -> DynFocusConfig:
    """The config of a trained model's folder; raises CheckpointError if there is none."""
    if not (Path(folder) / "config.json").exists():
        raise CheckpointError(f"no trained model in {folder}", "one, as stage 2 leaves it", "Run `make stage2` first.")
    return DynFocusConfig.from_pretrained(folder, local_files_only=True)


def trained_cache(folder: Path, cache: Path, model: DynFocusModel | None = None) -> SketchCache:
    """The sketch cache in ``cache`` for a trained model's folder, or for that model where it is loaded already.

    Raises:
        CheckpointError: if there is no trained model in the folder.
    """
    config = trained_config(folder)
    rule = FrameRule(**dict(config.reading or {})["frame_rule"])
    loaded = (None, None) if model is None else (model.device, model.vision)
    return SketchCache(cache, EncoderFolder(folder), config.settings, rule, *loaded)
