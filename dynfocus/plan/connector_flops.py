"""The fewest floating-point operations that compute the connector's function, from T and the settings (no torch)."""

from dataclasses import dataclass, fields

from dynfocus.budget import budget
from dynfocus.settings import ConnectorSettings


@dataclass(frozen=True)
class Sizes:
    """Widths d, d' and D, and R, the instruction tokens; the defaults are the paper's towers."""

    width: int = 1408
    text: int = 768
    out: int = 4096
    question: int = 32


@dataclass(frozen=True)
class Flops:
    """Operations by what they are for; the first three are done in fp32 under any precision.

    Attributes:
        distances: Gram matrices of Eq. 1-2, over patches, spatial prototypes and frames.
        merges: pooling, and the weighted means of Eq. 3.
        scores: the score net of Eq. 4.
        mixing: P_sigma M of Eq. 5.
        cones: F_fine of Eq. 8.
        grounding: Eq. 9 with its two maps f_k and f_q.
        rods: F_coarse of Eq. 10.
    """

    distances: int = 0
    merges: int = 0
    scores: int = 0
    mixing: int = 0
    cones: int = 0
    grounding: int = 0
    rods: int = 0

    @property
    def single(self) -> int:
        """Those that stay in fp32 under any precision."""
        return self.distances + self.merges + self.scores

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def fewest_flops(frames: int, settings: ConnectorSettings, sizes: Sizes, training: bool = False) -> Flops:
    """The fewest operations from patches to tokens, of one video of T ``frames``; with ``training`` the gradients too.

    What counts: every multiplication and every addition of a product or sum over features, as 1 each, so that a
    product [m, k] x [k, n] is 2 m k n. Comparisons, sorting, normalisations, GELU, softmax, copies and random numbers
    count as nothing. Each part is taken at its cheapest exact form:

    * Gram matrices are symmetric, so one half of them and the diagonal: M (M + 1) f for M points of f numbers. Code
      that computes panels up to the diagonal needs more, the less the more points there are.
    * Eq. 3 by members: each point is scaled and added once where clusters share no point, C of them for each
      prototype where the neighbourhood is ``nearest``.
    * The mixture of Eq. 5 where it mixes: in training, with noise, and K' below L'; a hard selection is a copy.
    * Cones and rods through linear d -> D and linear D -> D, only for tokens that the video gives.
    * Eq. 9 with f_q applied to the grains of every frame, or folded into the query side (R rows once), whichever is
      cheaper together with its gradient.
    * Backward: gradients of all weights, and of those inputs that lead to weights: not of the sketch, nor of the
      instruction.

    Raises:
        VideoError: if ``frames`` is below 1.
    """
    cost = budget(frames, settings)
    if settings.encoder == "average_pooling":
        pooled = Flops(merges=frames * settings.patches * sizes.width)
        return pooled + Flops(cones=_projector(cost.cones, sizes, 0, training))
    events, kept = cost.prototypes, cost.kept
    chooses = settings.scores_events
    result = _sketch(frames, settings, sizes) + (_events(frames, events, settings, sizes) if chooses else Flops())
    mixes = training and chooses and settings.sigma > 0 and kept < events
    heard = mixes and settings.cones > 0 and settings.selector_name != "dpe_frozen"  # whose scores get no gradient
    rows = settings.patches if settings.reads_patches else settings.pooled + settings.grains
    return result + Flops(
        scores=_scores(events, settings, sizes, heard) if chooses else 0,
        mixing=(2 if heard else 1) * 2 * kept * events * rows * sizes.width if mixes else 0,
        cones=_projector(cost.cones, sizes, cost.cones if heard else 0, training),
        grounding=_grounding(cost.rods // 2, settings, sizes, training),
        rods=_projector(cost.rods, sizes, cost.rods // 2, training),
    )


def _sketch(frames: int, settings: ConnectorSettings, sizes: Sizes) -> Flops:
    distances, merges, points = 0, settings.patches, settings.patches
    for count, neighbours in zip(settings.spatial_prototypes, settings.spatial_neighbours, strict=True):
        distances += points * (points + 1)
        merges += _count_merge_flops(points, count, neighbours, settings.spatial_neighbourhood)
        points = count
    return Flops(distances=frames * distances * sizes.width, merges=frames * merges * sizes.width)


def _events(frames: int, events: int, settings: ConnectorSettings, sizes: Sizes) -> Flops:
    features = settings.pooled * sizes.width
    merges = _count_merge_flops(frames, events, settings.neighbours, settings.neighbourhood) * features
    return Flops(distances=frames * (frames + 1) * features, merges=merges)


def _count_merge_flops(points: int, count: int, neighbours: int, neighbourhood: str) -> int:
    members = points if neighbourhood == "cluster" else count * min(neighbours, points)
    return 2 * members


def _scores(events: int, settings: ConnectorSettings, sizes: Sizes, training: bool) -> int:
    rows = events * 3 * settings.pooled * sizes.width  # norms for Max, sums for Avg
    net = events * (2 * 2 * sizes.width * (sizes.width // 2) + 2 * (sizes.width // 2))
    heard = _interaction(events, settings, sizes, training) if settings.scores_read_question else 0
    return rows + net * (3 if training else 1) + heard


def _interaction(events: int, settings: ConnectorSettings, sizes: Sizes, training: bool) -> int:
    """The question's term of the scores; its gradient runs through the best grain of each token alone."""
    shared, pairs = min(sizes.width, sizes.text), events * sizes.question
    maps = 2 * shared * (sizes.question * sizes.text + events * settings.grains * sizes.width)
    gate = 2 * sizes.question * sizes.text + 2 * pairs
    backward = 4 * pairs * shared if training else 0
    return (maps + gate) * (2 if training else 1) + 2 * pairs * settings.grains * shared + backward


def _projector(tokens: int, sizes: Sizes, traced: int, training: bool) -> int:
    """Linear d -> D and D -> D; ``traced`` of the tokens pass a gradient on to what they were made from."""
    first, second = 2 * sizes.width * sizes.out, 2 * sizes.out * sizes.out
    backward = tokens * (first + 2 * second) + traced * first
    return tokens * (first + second) + (backward if training else 0)


def _grounding(frames: int, settings: ConnectorSettings, sizes: Sizes, training: bool) -> int:
    if frames == 0:
        return 0
    grains, square = frames * settings.grains, 2 * sizes.width * sizes.width
    queries = 2 * sizes.question * sizes.text * sizes.width * (2 if training else 1)
    fit = 2 * sizes.question * grains * sizes.width
    means = (2 + 1) * grains * sizes.width  # E averaged over the instruction, and Avg(G)
    folded = sizes.question * square * (3 if training else 1) + (fit if training else 0)
    applied = grains * square * (2 if training else 1) + (2 * fit if training else 0)
    heard = 2 * grains * sizes.width if training else 0
    return queries + fit + means + min(folded, applied) + heard
