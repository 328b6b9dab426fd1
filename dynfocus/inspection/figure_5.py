"""Draw Figure 5: the storyboard of one video under a trained model's answer, and every frame's numbers."""

from pathlib import Path
from typing import Any

from dynfocus.inspection.charts import FIGURES, check_folder, write_table
from dynfocus.inspection.content import Inspection
from dynfocus.inspection.storyboard import draw_storyboard
from dynfocus.records.atomic import atomic_write
from dynfocus.records.selections import Selection

NOTES = (
    "A line for each frame: peak is rho * delta (Eq. 1-2), event the place of the event that it belongs to, score that "
    "event's s (Eq. 4), kept is b, top whether it is among the kept frames with the highest scores.",
)


def draw_figure_5(video: Path, question: str, model: Path, out: Path = FIGURES, trust_selector: bool = False) -> Path:
    """Write figure5.png and figure5.csv of one video and question under a trained model; returns the picture's path.

    Args:
        video: any video or image file.
        question: what the model is asked about it.
        model: folder of a trained model.
        out: folder to write into.
        trust_selector: import the selector that the model's folder names by a dotted path.

    Raises:
        CheckpointError: if there is no trained model.
        DiskError: if ``out`` cannot be written into.
        VideoError: if the video cannot be read.
    """
    from dynfocus.inspection.answerer import Answerer

    check_folder(out)
    answerer = Answerer(model, trust_selector=trust_selector)
    answer = answerer.ask(video, question)
    frames, text = answerer.thumbnails(video, answer), answer.answer + " ..." * answer.cut
    picture = draw_storyboard(Inspection(answer.selection, frames, video.name, question, text))
    write_table(out / "figure5.csv", NOTES, list_frames(answer.selection))
    with atomic_write(out / "figure5.png") as part:
        picture.save(part, "PNG")
    return out / "figure5.png"


def list_frames(selection: Selection) -> list[dict[str, Any]]:
    """A row for each frame; empty where the selector says no such thing."""
    best, scores = selection.best(), selection.frame_scores
    return [
        {
            "frame": frame,
            "seconds": second,
            "kept": int(frame in selection.kept),
            "top": int(frame in best),
            "peak": selection.peaks[frame] if selection.peaks else "",
            "event": selection.nearest[frame] if selection.nearest else "",
            "representative": int(frame in selection.representatives),
            "score": scores[frame] if scores else "",
        }
        for frame, second in enumerate(selection.seconds)
    ]
