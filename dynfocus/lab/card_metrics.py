"""List what a report card measures of each answered question, and of several questions or runs together."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from dynfocus.evals.protocol import Value
from dynfocus.lab.frame_metrics import (
    count_frames_per_segment,
    match_times,
    measure_auroc,
    measure_balance,
    measure_coverage,
    measure_distance,
    measure_largest_gap,
    measure_precision,
    measure_rank_correlation,
    measure_redundancy,
)
from dynfocus.records.predictions import Prediction

TEST_AGAIN = "Test the run again: `dynfocus test`; older predictions.jsonl lack it."
MISSING = {  # by the field of a prediction that a metric reads
    "kept": "No frame is kept.",
    "hit": "No question says which frames it needs, as the world's do; of other hosts it is not counted.",
    "segments": f"No question says which frames it needs, as the world's do. {TEST_AGAIN} Or name --on FOLDER.",
    "seconds": f"No time stamps of frames are recorded. {TEST_AGAIN}",
    "scores": f"This selector scores no frames, or its scores are not recorded. {TEST_AGAIN}",
}
UNTESTED = {  # the same where a selector was measured, and no run tested
    "kept": "No frame is kept.",
    "hit": "No question says which frames it needs.",
    "segments": "No question says which frames it needs.",
    "seconds": "No time stamps of frames are known.",
    "scores": "This selector scores no frames.",
}


@dataclass(frozen=True)
class FrameMetric:
    """One number of each answered question.

    Attributes:
        name: what results call it.
        about: what it says, in one sentence.
        better: ``high`` or ``low``, or "" where neither is better by itself.
        reads: the fields of a prediction without which it cannot be computed.
        compute: the number, of a prediction and the tolerance in seconds; None where it is not defined.
        undefined: why all questions may be without it although the fields are there.
    """

    name: str
    about: str
    better: str
    reads: tuple[str, ...]
    compute: Callable[[Prediction, float], float | None]
    undefined: str = "It is not defined for any question of this run."

    def explain_absence(self, predictions: Iterable[Prediction], is_tested: bool = True) -> str:
        """Explain why no prediction has this number, and what makes it; ``is_tested``: whether a model answered."""
        known = list(predictions)
        absent = (field for field in self.reads if not any(getattr(one, field) not in (None, ()) for one in known))
        return next(((MISSING if is_tested else UNTESTED)[field] for field in absent), self.undefined)


def _match(place: int) -> Callable[[Prediction, float], float | None]:
    def compute(one: Prediction, tolerance: float) -> float | None:
        matched = match_times(one.kept, one.segments, one.seconds, tolerance) if one.seconds else None
        return None if matched is None else matched[place]

    return compute


NEEDED = ("kept", "segments")
TIMED = ("kept", "seconds")
FRAME_METRICS = (
    FrameMetric(
        "hit_rate", "share of the needed segments with a kept frame", "high", ("kept", "hit"), lambda p, t: p.hit
    ),
    FrameMetric(
        "precision",
        "share of the kept frames that lie in a needed segment",
        "high",
        NEEDED,
        lambda p, t: measure_precision(p.kept, p.segments),
    ),
    FrameMetric(
        "frames_per_segment",
        "kept frames in a needed segment",
        "",
        NEEDED,
        lambda p, t: count_frames_per_segment(p.kept, p.segments),
    ),
    FrameMetric(
        "balance",
        "how evenly kept frames are spread over the needed segments: 1 evenly, 0 all in one",
        "high",
        NEEDED,
        lambda p, t: measure_balance(p.kept, p.segments),
        "No question needs two segments of which one has a kept frame.",
    ),
    FrameMetric(
        "temporal_precision",
        "share of the kept frames with a needed frame within the tolerance",
        "high",
        (*NEEDED, "seconds"),
        _match(0),
    ),
    FrameMetric(
        "temporal_recall",
        "share of the needed frames with a kept frame within the tolerance",
        "high",
        (*NEEDED, "seconds"),
        _match(1),
    ),
    FrameMetric("temporal_f1", "harmonic mean of these two", "high", (*NEEDED, "seconds"), _match(2)),
    FrameMetric(
        "auroc",
        "chance that a needed frame has a higher score than another",
        "high",
        ("scores", "segments"),
        lambda p, t: measure_auroc(p.scores, p.segments) if p.scores else None,
    ),
    FrameMetric(
        "rank_correlation",
        "Spearman's correlation of scores with whether a frame is needed",
        "high",
        ("scores", "segments"),
        lambda p, t: measure_rank_correlation(p.scores, p.segments) if p.scores else None,
        "All scores of every video are equal.",
    ),
    FrameMetric(
        "coverage",
        "share of the video's frames with a kept frame within the tolerance",
        "",
        TIMED,
        lambda p, t: measure_coverage(p.kept, p.seconds, t),
    ),
    FrameMetric(
        "redundancy",
        "share of the kept frames that follow another one within the tolerance",
        "low",
        TIMED,
        lambda p, t: measure_redundancy(p.kept, p.seconds, t),
    ),
    FrameMetric(
        "largest_gap",
        "longest stretch without a kept frame, in seconds",
        "",
        TIMED,
        lambda p, t: measure_largest_gap(p.kept, p.seconds),
    ),
    FrameMetric("visual_tokens", "tokens a video costs", "low", (), lambda p, t: float(p.visual_tokens)),
)


def list_frame_values(metric: FrameMetric, predictions: Iterable[Prediction], tolerance: float) -> list[Value]:
    """List a metric of each question that it is defined for; clusters are videos."""
    pairs = [(one, metric.compute(one, tolerance)) for one in predictions]
    return [Value(metric.name, one.video, value, one.id) for one, value in pairs if value is not None]


def list_sensitivities(predictions: Iterable[Prediction]) -> tuple[list[Value], list[Value]]:
    """List, for each pair of questions about one video, whether other frames are kept, and how far the sets differ.

    Returns:
        1 or 0 under ``question_sensitivity``, and Jaccard distances under ``question_distance``.

    Source: ours; the distance is Jaccard's (1912).
    """
    videos: dict[str, list[Prediction]] = defaultdict(list)
    for one in predictions:
        if one.kept:
            videos[one.video].append(one)
    pairs = [(video, a, b) for video, asked in videos.items() for a, b in combinations(asked, 2)]
    changed = [Value("question_sensitivity", v, float({*a.kept} != {*b.kept}), f"{a.id}/{b.id}") for v, a, b in pairs]
    return changed, [
        Value("question_distance", v, measure_distance(a.kept, b.kept) or 0.0, f"{a.id}/{b.id}") for v, a, b in pairs
    ]


def list_agreements(name: str, runs: Sequence[Sequence[Prediction]]) -> list[Value]:
    """List how alike the frames are that several runs keep for the same question: the mean Jaccard index of all pairs.

    Source: the stability of Kalousis et al. 2007, of sets of features, applied to frames.
    """
    asked: dict[str, list[Prediction]] = defaultdict(list)
    for run in runs:
        for one in run:
            if one.kept:
                asked[one.id].append(one)
    values = []
    for id, several in asked.items():
        distances = [measure_distance(a.kept, b.kept) for a, b in combinations(several, 2)]
        known = [distance for distance in distances if distance is not None]
        if known:
            values.append(Value(name, several[0].video, 1 - sum(known) / len(known), id))
    return values
