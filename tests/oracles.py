"""Compute Eq. 1-11 in slow and plain ways, from the paper's text; nothing here is shared with the library.

First as loops over single numbers; then, for sizes at which loops take too long, as tensors in the equations' order.
"""

import itertools
import math
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor


def distance(a: Tensor, b: Tensor) -> float:
    """Squared Euclidean distance, averaged over all the numbers of a point."""
    return sum((x - y) ** 2 for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)) / a.numel()


def eq1(points: list[Tensor], neighbours: int) -> list[float]:
    """log rho: minus the mean distance to the C nearest, the point itself the first of them."""
    near = [sorted(distance(a, b) for b in points)[:neighbours] for a in points]
    return [-sum(row) / len(row) for row in near]


def eq2(points: list[Tensor], log_rho: list[float]) -> list[float]:
    """delta: how far the nearest denser point is; of equal ones, the earlier is denser."""
    out = []
    for t, a in enumerate(points):
        above = [
            distance(a, b)
            for u, b in enumerate(points)
            if log_rho[u] > log_rho[t] or (log_rho[u] == log_rho[t] and u < t)
        ]
        out.append(min(above) if above else max(distance(a, b) for b in points))
    return out


def eq3(
    points: list[Tensor], count: int, neighbours: int, reading: str = "cluster", parts: int = 1
) -> tuple[list[int], list[Tensor]]:
    """The representatives in order, and each one's prototype; Eq. 1-2 within ``parts`` runs of points."""
    ends = [len(points) * part // parts for part in range(parts + 1)]
    log_rho, delta = [], []
    for start, end in pairwise(ends):
        log_rho += eq1(points[start:end], neighbours)
        delta += eq2(points[start:end], log_rho[start:])
    peak = [math.exp(r) * d for r, d in zip(log_rho, delta, strict=True)]
    order = sorted(range(len(points)), key=lambda t: (-peak[t], t))
    chosen = sorted(order[: min(count, len(points))])
    groups: dict[int, list[int]] = {rep: [] for rep in chosen}
    if reading == "cluster":
        for t, a in enumerate(points):
            groups[t if t in groups else min(chosen, key=lambda rep: distance(a, points[rep]))].append(t)
    else:
        for rep in chosen:
            by_distance = sorted(range(len(points)), key=lambda t: (t != rep, distance(points[rep], points[t])))
            groups[rep] = by_distance[:neighbours]
    prototypes = []
    for rep in chosen:
        weights = [math.exp(peak[t]) for t in groups[rep]]
        total = sum(w * points[t].double() for w, t in zip(weights, groups[rep], strict=True))
        prototypes.append(total / sum(weights))
    return chosen, prototypes


def grains(patches: Tensor, counts: tuple[int, ...], neighbours: tuple[int, ...], reading: str = "cluster") -> Tensor:
    """G_t of one frame: every layer's prototypes, each layer made of the one before."""
    points, rows = list(patches), []
    for count, near in zip(counts, neighbours, strict=True):
        _, points = eq3(points, count, near, reading)
        rows += points
    return torch.stack(rows)


def eq4(prototypes: list[Tensor], weights: dict[str, Tensor]) -> list[Tensor]:
    """s in [0, 1]: layer norm, linear, GELU, linear over the longest row beside the mean row; then min-max."""
    raw = []
    for m in prototypes:
        longest = max(m, key=lambda patch: sum(x * x for x in patch.tolist()))
        x = torch.cat([longest, sum(m) / len(m)])
        mean = sum(x) / len(x)
        spread = sum((x - mean) ** 2) / len(x)
        x = (x - mean) / (spread + 1e-5) ** 0.5 * weights["net.0.weight"] + weights["net.0.bias"]
        hidden = [gelu(sum(w * x) + b) for w, b in zip(weights["net.1.weight"], weights["net.1.bias"], strict=True)]
        raw.append(sum(w * h for w, h in zip(weights["net.3.weight"][0], hidden, strict=True)))
    low, high = min(raw), max(raw)
    return [(s - low) / (high - low) if high > low else s * 0 for s in raw]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def mlp(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Linear, GELU, linear on one row."""
    hidden = torch.stack([gelu(sum(w * x) + b) for w, b in zip(weights["0.weight"], weights["0.bias"], strict=True)])
    return torch.stack([sum(w * hidden) + b for w, b in zip(weights["2.weight"], weights["2.bias"], strict=True)])


def count_kept(frames: int, events: int, keep: str) -> int:
    return math.ceil(Fraction(keep) * min(events, frames))


def top(scores: list[float], count: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda n: (-scores[n], n))[:count])


def top_by_sorting(scores: Tensor, count: int) -> Tensor:
    """The best of each row in time order: sorted by score, the first in time of equal ones, then by time."""
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :count].sort(-1).values


def eq6(scores: list[float], count: int, noise: Tensor, sigma: float) -> Tensor:
    """P_sigma: the mean of one-hot rows of every sample's sorted top-K."""
    out = torch.zeros(count, len(scores), dtype=torch.float64)
    for sample in noise.tolist():
        noisy = [s + sigma * z for s, z in zip(scores, sample, strict=True)]
        for slot, chosen in enumerate(top(noisy, count)):
            out[slot, chosen] += 1 / len(noise)
    return out


def eq7(scores: list[float], count: int, noise: Tensor, sigma: float, weights: Tensor) -> Tensor:
    """The gradient of <weights, P_sigma> by samples, with the samples' mean taken off."""
    gains = []
    for sample in noise.tolist():
        noisy = [s + sigma * z for s, z in zip(scores, sample, strict=True)]
        gains.append(sum(float(weights[slot, chosen]) for slot, chosen in enumerate(top(noisy, count))))
    mean = sum(gains) / len(gains)
    return sum((gain - mean) * z / sigma for gain, z in zip(gains, noise.double(), strict=True)) / len(gains)


def smooth_top_k(scores: Tensor, count: int, sigma: float, weights: Tensor, points: int = 72) -> Tensor:
    """E <weights, top-K(s + sigma z)> for three scores: top-K on a grid of u = s + sigma z, under each u's density.

    Only the density depends on s, so this is smooth in s although top-K is not.
    """
    centre, reach = scores.mean(), 5 * sigma + (scores.max() - scores.min())
    step = 2 * reach / points
    axes = [centre - reach + step * (torch.arange(points) + (n + 0.5) / 3) for n in range(3)]  # no two are ever equal
    total = torch.zeros((), dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).double()
    density = torch.exp(-(((grid - scores) / sigma) ** 2).sum(-1) / 2)
    for order in itertools.permutations(range(3)):
        here = (grid[:, order[0]] > grid[:, order[1]]) & (grid[:, order[1]] > grid[:, order[2]])
        gain = sum(weights[slot, chosen] for slot, chosen in enumerate(sorted(order[:count])))
        total = total + gain * density[here].sum()
    return total / density.sum()


def eq9(question: list[Tensor], grain: Tensor, f_q: dict[str, Tensor], f_k: dict[str, Tensor]) -> Tensor:
    """Avg(E) of one frame: each instruction token attends over the frame's prototypes; ``question`` has no padding."""
    keys = [f_q["weight"] @ g for g in grain]
    rows = []
    for q in question:
        query = f_k["weight"] @ q + f_k["bias"]
        fit = [torch.exp(sum(query * key) / len(key) ** 0.5) for key in keys]
        rows.append(sum(f / sum(fit) * g for f, g in zip(fit, grain, strict=True)))
    return sum(rows) / len(rows)


def eq11(frames: int, cones: dict[int, list[Tensor]], rods: list[list[Tensor]]) -> list[Tensor]:
    """O: ``cones`` by frame index for kept frames, then that frame's rods; in time order."""
    out = []
    for t in range(frames):
        out += cones.get(t, []) + rods[t]
    return out


def squared_distances(points: Tensor) -> Tensor:
    """D [B,M,M] from the differences of the points [B,M,f], number by number."""
    return (points[:, None] - points[:, :, None]).square().mean(-1)


def first_copies(points: Tensor) -> Tensor:
    """The first of the points [B,M,f] that each equals, number by number: [B,M]."""
    return (points[:, :, None] == points[:, None]).all(-1).byte().argmax(-1)


def perturbed_top_k(scores: Tensor, noise: Tensor, sigma: float, keep: int) -> Tensor:
    """P_sigma [B,K,L] of Eq. 6: the mean of every sample's one-hot rows, for videos that keep equally many."""
    best = (scores[:, None] + sigma * noise).topk(keep).indices.sort(-1).values
    return torch.nn.functional.one_hot(best, scores.shape[-1]).float().mean(1)


def ground(grains: Tensor, f_q: torch.nn.Linear, keys: Tensor, mask: Tensor) -> Tensor:
    """Avg(E) in the order of Eq. 9: E = softmax(f_k(Q) f_q(G)^T / sqrt(d)) G, then the mean of its real rows."""
    fit = torch.einsum("brd,btgd->btrg", keys, f_q(grains)) / grains.shape[-1] ** 0.5
    e = torch.einsum("btrg,btgd->btrd", fit.softmax(-1), grains)
    return (e * mask[:, None, :, None]).sum(2) / mask.sum(-1).clamp(min=1)[:, None, None]
