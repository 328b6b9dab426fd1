"""Ask a trained model about any video or image: video -> sketch -> focus -> tokens -> answer."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dynfocus.errors import CheckpointError
from dynfocus.nn.model import DynFocusModel
from dynfocus.processor import Example, Processor
from dynfocus.records import Row, Turn
from dynfocus.settings import FrameRule
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

    Raises:
        CheckpointError: if there is no trained model.
    """

    def __init__(self, folder: Path) -> None:
        if not (Path(folder) / "config.json").exists():
            raise CheckpointError(
                f"no trained model in {folder}", "one, as stage 2 leaves it", "Run `make stage2` first."
            )
        self.model = DynFocusModel.from_folder(folder).eval()
        reading = dict(self.model.config.reading or {})
        self.rule = FrameRule(**reading.pop("frame_rule"))
        self.processor = Processor.from_folders(folder, folder, self.model.settings, **reading)

    @torch.no_grad()
    def ask(self, video: Path, question: str, max_new_tokens: int = 16) -> Answer:
        """Answer one question greedily; raises VideoError if the file cannot be read."""
        clip = read_media(video, self.rule)
        row = Row(str(video), 0, str(video), (Turn(question, None),))
        batch = self.processor([Example(row, sketch=self.model.sketch(clip.frames))])
        ids, tokens = self.model.answer(batch, max_new_tokens=max_new_tokens)
        kept = [] if tokens.focus is None else tokens.focus.frames[0].tolist()
        return Answer(
            self.processor.tokenizer.decode(ids[0], skip_special_tokens=True).strip(),
            len(clip.frames),
            tuple(kept),
            tuple(float(clip.seconds[frame]) for frame in kept),
            int(tokens.mask.sum()),
        )
