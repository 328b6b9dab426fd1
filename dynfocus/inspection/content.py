"""Hold what a picture or a page shows: one selection with its frames and texts, and what holds for a whole page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dynfocus.errors import ConfigError
from dynfocus.records.selections import Selection


@dataclass(frozen=True)
class Inspection:
    """One selection with what a person needs to judge it.

    Attributes:
        selection: which frames were kept, and why.
        frames: the T frames as uint8 [H, W, 3]; empty where pixels are not at hand: then no filmstrip is drawn.
        title: what the picture is headed with, such as the video's name.
        question, answer, truth: the texts; empty where there are none.
    """

    selection: Selection
    frames: Sequence[NDArray[np.uint8]] = ()
    title: str = ""
    question: str = ""
    answer: str = ""
    truth: str = ""

    def check(self) -> None:
        """Raises ConfigError if there are more or fewer frames than time stamps."""
        frames, times = len(self.frames), len(self.selection.seconds)
        if not times or frames not in (0, times):
            raise ConfigError(
                f"{frames} frames and {times} time stamps",
                "as many of the one as of the other, or no frames",
                "Give the frames that the selection was made of.",
            )


@dataclass(frozen=True)
class PageFacts:
    """What holds for all questions of a page.

    Attributes:
        video: the video or image, as the user named it.
        model: the folder or checkpoint that answered.
        settings: every setting under its name; where ``score_reads_question`` is true, the page says so.
        versions: of the project and of the libraries that took part, by name.
        timing: seconds that each step took, by its name, such as ``reading the video``.
        details: for each question, further facts by name, such as ``prompt tokens``; empty where there are none.
        others: visual tokens of other ways with the same file, by their names, to compare with.
    """

    video: str
    model: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    details: Sequence[Mapping[str, object]] = ()
    others: Mapping[str, int] = field(default_factory=dict)
