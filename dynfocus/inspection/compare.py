"""Compare several questions about one video: which kept frames they share, which differ, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

from dynfocus.inspection.content import Inspection, PageFacts


@dataclass(frozen=True)
class Comparison:
    """How the kept frames of one video change with the question.

    Attributes:
        changes: whether any frame is kept for one question and not for another.
        every: frames that are kept for every question.
        some: for each question, the frames kept for it and not for every question.
        why: what decides it, in a sentence.
    """

    changes: bool
    every: tuple[int, ...]
    some: tuple[tuple[int, ...], ...]
    why: str


def compare_questions(inspections: Sequence[Inspection], facts: PageFacts) -> Comparison:
    """How what is kept changes over two or more questions about one video."""
    kept = [frozenset(one.selection.kept) for one in inspections]
    every = frozenset.intersection(*kept)
    some = tuple(tuple(sorted(own - every)) for own in kept)
    return Comparison(any(some), tuple(sorted(every)), some, explain(inspections, facts))


def explain(inspections: Sequence[Inspection], facts: PageFacts) -> str:
    """Why kept frames differ between questions, or do not."""
    selections = [one.selection for one in inspections]
    differ = len({selection.kept for selection in selections}) > 1
    reads, selector = bool(facts.settings.get("score_reads_question")), facts.settings.get("selector", "dpe")
    if not any(selection.kept for selection in selections):
        return "This model keeps no frame before others: every frame gives the same number of averaged tokens."
    if selector != "dpe":
        met = "and for these questions it chose differently" if differ else "and it chose the same for these questions"
        return f"Frames were chosen by the selector {selector}, not by the paper's score net, {met}."
    if reads and differ:
        return (
            "The score net of this model reads the question (score_reads_question), so the kept frames may change "
            "with it. The paper's own score net does not, and there none can."
        )
    if reads and all(len(selection.kept) == len(selection.representatives) for selection in selections):
        return (
            "The score net of this model reads the question (score_reads_question), but every event was kept "
            "(K' = L'), so that there was nothing to choose."
        )
    if reads:
        return (
            "The score net of this model reads the question (score_reads_question), so the kept frames could have "
            "changed with it; for these questions they did not."
        )
    if differ:
        return "The settings do not say why: with the paper's score net, which does not read the question, none can."
    return (
        "With the paper's score net none can: it scores each event from the event alone (Eq. 4) and does not read the "
        "question, so one video gives one selection. What changes with the question is one of each frame's two rods, "
        "which holds what the question's words attend to (Eq. 9-10), and so the answer."
    )
