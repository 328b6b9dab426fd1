"""Draw the paper's figures."""

from pathlib import Path
from typing import Any

from dynfocus.verbs.answerers import MODEL
from dynfocus.verbs.screen import quiet

FIGURE = "figure {0} is in {1}, its numbers beside it in {1.stem}.csv"


def figure_1a(**options: Any) -> None:
    """Draw figure 1a: the share of repeated and of irrelevant frames of a data set.

    Example: dynfocus figure 1a --data cache/world/data
    """
    from dynfocus.inspection.figure_1a import draw_figure_1a

    print(FIGURE.format("1a", draw_figure_1a(**options)))


def figure_4(**options: Any) -> None:
    """Draw figure 4: visual tokens of many methods, per benchmark and against duration.

    Example: dynfocus figure 4
    """
    from dynfocus.inspection.figure_4 import draw_figure_4

    print(FIGURE.format("4", draw_figure_4(**options)))


def figure_5(video: Path, question: str, model: Path = MODEL, **options: Any) -> None:
    """Draw figure 5: the storyboard and the scores of one video under a trained model.

    Example: dynfocus figure 5 cache/world/data/videos/test_000000.mp4 "what color is the star"

    Args:
        video: any video or image file.
        question: what the model is asked about it.
        model: folder of a trained model.
    """
    from dynfocus.inspection.output import check

    check(video, [question], None, False, 1)
    quiet()
    from dynfocus.inspection.figure_5 import draw_figure_5

    print(FIGURE.format("5", draw_figure_5(video, question, model, **options)))
