"""Keep frames that stand for the others: by clusters, by the farthest frame, by what is covered."""

import torch
from torch import Tensor

from dynfocus.method.selectors.pairs import add_farthest, distances_within
from dynfocus.method.selectors.sets import SetSelector

ROUNDS = 100  # of k-means and k-medoids at most; both end when nothing changes


class KMeansSelector(SetSelector):
    """The frame nearest to the centre of each of K' clusters of k-means.

    It starts from frames at equal distances, so nothing is random. Where copies leave a cluster empty, the frame
    farthest from the kept ones is added. O(T K' f) a round.

    Source: Lloyd, Least squares quantization in PCM, 1982.
    """

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        centres = frames[(torch.arange(keep) * 2 + 1) * len(frames) // (2 * keep)]
        labels = torch.full((len(frames),), -1, device=frames.device)
        for _ in range(ROUNDS):
            before, labels = labels, _far(frames, centres).argmin(1)
            if torch.equal(labels, before):
                break
            for n in labels.unique().tolist():
                centres[n] = frames[labels == n].mean(0)
        far = _far(frames, centres)
        own = [far[:, n].masked_fill(labels != n, torch.inf).argmin() for n in labels.unique().tolist()]
        return add_farthest([int(frame) for frame in own], distances_within(frames), keep)


class KMedoidsSelector(SetSelector):
    """The K' frames with the smallest sum of distances from every frame to its nearest kept one (PAM).

    Frames are added one by one, each the best; then a kept frame is exchanged for another as long as that lowers the
    sum, so the result is a local optimum. O(K' T^2) an exchange.

    Source: Kaufman and Rousseeuw, Finding Groups in Data, 1990 (PAM).
    """

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        distances = distances_within(frames)
        kept: list[int] = []
        nearest = torch.full((len(frames),), torch.inf, device=frames.device)
        for _ in range(keep):
            costs = torch.minimum(nearest[:, None], distances).sum(0)
            costs[kept] = torch.inf
            kept.append(int(costs.argmin()))
            nearest = torch.minimum(nearest, distances[kept[-1]])
        cost = nearest.sum()
        for _ in range(ROUNDS):
            costs = torch.stack([_costs_without(distances, kept, n) for n in range(keep)])
            best = int(costs.argmin())
            if not costs.flatten()[best] < cost * (1 - 1e-6):  # less than rounding is no gain
                break
            kept[best // len(frames)], cost = best % len(frames), costs.flatten()[best]
        return kept


class FarthestFirstSelector(SetSelector):
    """K-centre: first the frame nearest to the video's mean, then always the frame farthest from the kept ones.

    The largest distance from a frame to its nearest kept one is at most twice the smallest that K' frames allow.
    O(T^2 f).

    Source: Gonzalez, Clustering to minimize the maximum intercluster distance, 1985.
    """

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        start = int(_far(frames, frames.mean(0, keepdim=True))[:, 0].argmin())
        return add_farthest([start], distances_within(frames), keep)


class FacilityLocationSelector(SetSelector):
    """The frames that cover the video best: the largest sum of similarities to the nearest kept one, greedily.

    The similarity is the largest distance in the video less the distance of the two. The greedy sum is at least 1 - 1/e
    of the best one. O(K' T^2).

    Source: Nemhauser, Wolsey and Fisher, An analysis of approximations for maximizing submodular set functions, 1978.
    """

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        distances = distances_within(frames)
        similarity = distances.max() - distances
        kept: list[int] = []
        covered = torch.zeros(len(frames), device=frames.device)
        for _ in range(keep):
            gains = (similarity - covered[:, None]).clamp(min=0).sum(0)
            gains[kept] = -1
            kept.append(int(gains.argmax()))
            covered = torch.maximum(covered, similarity[:, kept[-1]])
        return kept


def _far(frames: Tensor, centres: Tensor) -> Tensor:
    # Differences number by number: copies of a frame are then equally far to the bit.
    return torch.cdist(frames, centres, compute_mode="donot_use_mm_for_euclid_dist")


def _costs_without(distances: Tensor, kept: list[int], n: int) -> Tensor:
    """The sum of distances if the ``n``-th kept frame were exchanged for each frame; infinite for those kept."""
    others = kept[:n] + kept[n + 1 :]
    nearest = distances[others].amin(0) if others else torch.full_like(distances[0], torch.inf)
    costs = torch.minimum(nearest[:, None], distances).sum(0)
    costs[kept] = torch.inf
    return costs
