"""Measure which frames were kept of one video for one question: pure functions over frame numbers and seconds.

``segments`` are the frames of each segment that the question needs, and ``seconds`` the time stamps of all T frames of
the video. A function returns None where its number is not defined.
"""

from collections.abc import Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

Segments = Sequence[Sequence[int]]


def measure_precision(kept: Sequence[int], segments: Segments) -> float | None:
    """Measure the share of kept frames that lie in a segment the question needs.

    Source: precision of a set (van Rijsbergen 1979, Information Retrieval, ch. 7).
    """
    if not kept or not segments:
        return None
    needed = {frame for segment in segments for frame in segment}
    return sum(frame in needed for frame in kept) / len(kept)


def count_frames_per_segment(kept: Sequence[int], segments: Segments) -> float | None:
    """Count the kept frames in a segment that the question needs, as a mean over its segments."""
    if not kept or not segments:
        return None
    return sum(len({*kept} & {*segment}) for segment in segments) / len(segments)


def measure_balance(kept: Sequence[int], segments: Segments) -> float | None:
    """Measure how evenly kept frames are spread over the needed segments: 1 evenly, 0 all in one.

    It is the entropy of the shares of kept frames in each segment, over its largest value. None of fewer than two
    segments, and where no kept frame lies in any.

    Source: the evenness J' of Pielou 1966.
    """
    counts = [len({*kept} & {*segment}) for segment in segments]
    if len(counts) < 2 or not sum(counts):
        return None
    shares = [count / sum(counts) for count in counts if count]
    return max(0.0, -sum(share * log(share) for share in shares) / log(len(counts)))


def match_times(
    kept: Sequence[int], segments: Segments, seconds: Sequence[float], tolerance: float
) -> tuple[float, float, float] | None:
    """Match kept with needed frames in time: precision, recall and F1 at +- ``tolerance`` seconds.

    Precision is the share of kept frames with a needed frame at most that far away, recall the share of needed frames
    with a kept one; F1 is their harmonic mean, 0 where both are.

    Source: the temporal similarity of LV-Haystack (Ye et al. 2025), as counts within a tolerance.
    """
    needed = sorted({frame for segment in segments for frame in segment})
    if not kept or not needed:
        return None
    times = np.asarray(seconds)
    near = np.abs(times[[*kept]][:, None] - times[needed][None]) <= tolerance + 1e-9
    precision, recall = float(near.any(1).mean()), float(near.any(0).mean())
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def measure_coverage(kept: Sequence[int], seconds: Sequence[float], tolerance: float) -> float | None:
    """Measure the share of the video's frames that have a kept frame at most ``tolerance`` seconds away.

    Source: the coverage of a cover by balls (k-centre, Gonzalez 1985), on the axis of time.
    """
    if not kept or not seconds:
        return None
    times = np.asarray(seconds)
    return float((np.abs(times[:, None] - times[[*kept]][None]).min(1) <= tolerance + 1e-9).mean())


def measure_redundancy(kept: Sequence[int], seconds: Sequence[float], tolerance: float) -> float | None:
    """Measure the share of kept frames that follow another kept frame within ``tolerance`` seconds.

    It is redundancy in time; how alike the frames look is not read. The first kept frame follows none.
    """
    if not kept or not seconds:
        return None
    times = np.sort(np.asarray(seconds)[[*kept]])
    return float((np.diff(times) <= tolerance + 1e-9).sum() / len(times))


def measure_largest_gap(kept: Sequence[int], seconds: Sequence[float]) -> float | None:
    """Measure the longest stretch without a kept frame, in seconds, from the first to the last frame of the video.

    Source: the maximal spacing of points on a line (Pyke 1965).
    """
    if not kept or not seconds:
        return None
    times = np.asarray(seconds)
    return float(np.diff(np.sort([times[0], *times[[*kept]], times[-1]])).max())


def measure_agreement(a: Sequence[float], b: Sequence[float], tolerance: float) -> float | None:
    """Measure how far two choices of frames agree, by their time stamps: 1 the same, 0 nothing in common.

    It is the Jaccard index of the two sets, where a frame of one and a frame of the other are the same if they are at
    most ``tolerance`` seconds apart; of each frame only one other can be the same.

    Args:
        a, b: seconds of the kept frames, ascending.
        tolerance: in seconds.

    Source: the Jaccard index of Kalousis et al. 2007, of sets of features, on frames that are matched in time.
    """
    if not a or not b:
        return None
    first = second = matched = 0
    while first < len(a) and second < len(b):  # of the earliest two, one that matches nothing now never will
        apart = a[first] - b[second]
        matched += abs(apart) <= tolerance + 1e-9
        first, second = first + (apart <= tolerance + 1e-9), second + (apart >= -tolerance - 1e-9)
    return matched / (len(a) + len(b) - matched)


def mark_needed(count: int, segments: Segments) -> NDArray[np.bool_]:
    """Mark which of ``count`` frames the question needs."""
    needed = np.zeros(count, dtype=bool)
    needed[[frame for segment in segments for frame in segment if frame < count]] = True
    return needed


def rank_values(values: Sequence[float] | NDArray) -> NDArray[np.float64]:
    """Rank values from 1 on; equal ones get the mean of their ranks."""
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def measure_auroc(scores: Sequence[float], segments: Segments) -> float | None:
    """Measure the chance that a needed frame has a higher score than another; equal scores count one half.

    None where all or none of the frames are needed.

    Source: the area under the ROC curve as the Mann-Whitney statistic (Hanley and McNeil 1982).
    """
    needed = mark_needed(len(scores), segments)
    positive, negative = int(needed.sum()), int((~needed).sum())
    if not positive or not negative:
        return None
    total = float(rank_values(scores)[needed].sum())
    return (total - positive * (positive + 1) / 2) / (positive * negative)


def measure_rank_correlation(scores: Sequence[float], segments: Segments) -> float | None:
    """Measure Spearman's correlation of the scores of all frames with whether each is needed, from -1 to 1.

    None where all scores are equal, and where all or none of the frames are needed.

    Source: Spearman 1904, with mean ranks for equal values.
    """
    needed = mark_needed(len(scores), segments)
    ranks, truth = rank_values(scores), rank_values(needed)
    if not len(scores) or not np.ptp(ranks) or not np.ptp(truth):
        return None
    return float(np.corrcoef(ranks, truth)[0, 1])


def measure_distance(a: Sequence[int], b: Sequence[int]) -> float | None:
    """Measure the Jaccard distance of two sets of kept frames: 0 the same, 1 none in common.

    Source: Jaccard 1912.
    """
    union = {*a} | {*b}
    return 1 - len({*a} & {*b}) / len(union) if union else None
