"""Figure 5: the storyboard of one video under a trained model's answer, and every frame's numbers."""

from pathlib import Path
from typing import Any

from dynfocus.inspection.figures.chart import write_table
from dynfocus.inspection.report.picture import picture
from dynfocus.inspection.report.story import Story
from dynfocus.records.atomic import atomic_write
from dynfocus.records.selections import Selection

NOTES = (
    "A line for each frame: peak is rho * delta (Eq. 1-2), event the place of the event that it belongs to, score that "
    "event's s (Eq. 4), kept is b, top whether it is among the kept frames with the highest scores.",
)


def draw(out: Path, story: Story) -> Path:
    """Write figure5.png and figure5.csv into ``out``; returns the picture's path.

    Raises:
        DiskError: if they cannot be written.
    """
    write_table(out / "figure5.csv", NOTES, numbers(story.selection))
    with atomic_write(out / "figure5.png") as part:
        picture(story).save(part, "PNG")
    return out / "figure5.png"


def numbers(seen: Selection) -> list[dict[str, Any]]:
    """A row for each frame; empty where the selector says no such thing."""
    best, scores = seen.best(), seen.frame_scores
    return [
        {
            "frame": frame,
            "seconds": second,
            "kept": int(frame in seen.kept),
            "top": int(frame in best),
            "peak": seen.peaks[frame] if seen.peaks else "",
            "event": seen.nearest[frame] if seen.nearest else "",
            "representative": int(frame in seen.representatives),
            "score": scores[frame] if scores else "",
        }
        for frame, second in enumerate(seen.seconds)
    ]
