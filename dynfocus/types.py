"""What crosses rooms on the device. Symbols: B videos, T frames (padded), N patches, P pooled patches, G grains,
L events, K kept, S visual tokens, R instruction tokens, d vision width, D language width."""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

Bundle = TypeVar("Bundle", bound="TensorDataclass")


@dataclass
class TensorDataclass:
    """A dataclass of tensors that moves between devices as one."""

    def to(self: Bundle, *args: Any, **kwargs: Any) -> Bundle:
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: _move(value, *args, **kwargs) for name, value in moved.items()})


def _move(value: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(value, Tensor | TensorDataclass):
        return value.to(*args, **kwargs)
    return tuple(_move(part, *args, **kwargs) for part in value) if isinstance(value, tuple) else value


@dataclass
class FrameSketch(TensorDataclass):
    """All that the trainable part reads of a video: it has no learned parameter and knows no question.

    Attributes:
        pooled: f_t, the locally averaged patches.
        grains: G_t, the multi-grained spatial prototypes.
        mask: true at real frames, false at padding.
        patches: V of some frames, in time order; only where kept frames give all their patches.
        patch_frames: which frames ``patches`` are of; -1 at padding.
    """

    pooled: Float[Tensor, "B T P d"]
    grains: Float[Tensor, "B T G d"]
    mask: Bool[Tensor, "B T"]
    patches: Float[Tensor, "B V N d"] | None = None
    patch_frames: Int[Tensor, "B V"] | None = None

    @property
    def frames(self) -> Int[Tensor, " B"]:
        """T of each video, padding left out."""
        return self.mask.sum(-1)

    def gather(self, rows: Int[Tensor, " I"]) -> "FrameSketch":
        """The sketches of the videos ``rows``, in that order; no copy where they stand so already."""
        if rows.tolist() == list(range(len(self.mask))):
            return self
        return FrameSketch(*(None if part is None else part[rows] for part in vars(self).values()))  # type: ignore


def stack_sketches(sketches: list[FrameSketch]) -> FrameSketch:
    """Put sketches of single videos (B = 1 each) side by side, padded to the longest."""
    if len(sketches) == 1:
        return sketches[0]

    def pad(name: str, value: int = 0) -> Any:
        parts = [getattr(sketch, name)[0] for sketch in sketches if getattr(sketch, name) is not None]
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=value) if parts else None

    return FrameSketch(pad("pooled"), pad("grains"), pad("mask"), pad("patches"), pad("patch_frames", -1))


@dataclass
class SelectorInputs(TensorDataclass):
    """What a selector may read beside the sketch.

    Attributes:
        frames: T of each video, known on the host.
        keep: K', how many frames of each video it keeps, known on the host.
        rows, step: the key of the noise in training, see `Batch`.
        question, question_mask: the instruction Q, false at padding.
        relevant: true at frames the questions need, where known.
        relevance: how well each frame fits the question, where another model has measured it, such as CLIP's similarity
            of image and text; the higher, the better. Numbers at padding may be any.
    """

    frames: tuple[int, ...]
    keep: tuple[int, ...]
    rows: Int[Tensor, " B"]
    step: int
    question: Float[Tensor, "B *T R e"]
    question_mask: Bool[Tensor, "B R"]
    relevant: Bool[Tensor, "B T"] | None = None
    relevance: Float[Tensor, "B T"] | None = None


@dataclass
class Events(TensorDataclass):
    """Event prototypes of each video and how they were found.

    Attributes:
        frames: the representative frame of each prototype, in time order.
        mask: true at real prototypes.
        prototypes: m_l of Eq. 3.
        first: the first prototype that each is an exact copy of; its own place where there is none before it.
        labels: for each frame, the prototype whose cluster it is in.
        spread: -log rho_t of Eq. 1: the mean distance to the nearest frames.
        distance: delta_t of Eq. 2.
    """

    frames: Int[Tensor, "B L"]
    mask: Bool[Tensor, "B L"]
    prototypes: Float[Tensor, "B L P d"]
    first: Int[Tensor, "B L"]
    labels: Int[Tensor, "B T"]
    spread: Float[Tensor, "B T"]
    distance: Float[Tensor, "B T"]


@dataclass
class Focus(TensorDataclass):
    """The kept frames and what the cones read of them.

    Attributes:
        frames: indices of the kept frames, in time order.
        mask: true at real slots; each video has exactly K' of them.
        pooled: h_k, the filtered prototypes; in training a soft mixture (Eq. 5).
        grains: G of the kept representatives, mixed alike.
        patches: V of the kept representatives, mixed alike; only where cones take every patch.
        scores: s of Eq. 4 in [0, 1], where the selector scores events.
        mixture: P_sigma of Eq. 6, in training.
        events: the prototypes it was chosen from, where the selector makes some.
        frame_scores: a score of every frame, where the selector has one; 0 at padding.
    """

    frames: Int[Tensor, "B K"]
    mask: Bool[Tensor, "B K"]
    pooled: Float[Tensor, "B K P d"]
    grains: Float[Tensor, "B K G d"]
    patches: Float[Tensor, "B K N d"] | None = None
    scores: Float[Tensor, "B L"] | None = None
    mixture: Float[Tensor, "B K L"] | None = None
    events: Events | None = None
    frame_scores: Float[Tensor, "B T"] | None = None

    def kept(self, frames: int) -> Bool[Tensor, "B T"]:
        """b: true at the kept frames."""
        b = torch.zeros(len(self.frames), frames, dtype=torch.int, device=self.frames.device)
        return b.scatter_add_(1, self.frames, self.mask.int()).bool()


@dataclass
class VideoTokens(TensorDataclass):
    """O of Eq. 11: each video's tokens in time order, left-aligned and padded, and the focus that made them."""

    tokens: Float[Tensor, "B S D"]
    mask: Bool[Tensor, "B S"]
    focus: Focus | None = None


@dataclass
class Batch(TensorDataclass):
    """Rows of text with their videos and images; text-only rows bring one blank frame that gives no token.

    Attributes:
        input_ids, attention_mask, labels: the text; ``<image>`` ids stand where visual tokens go.
        question_ids, question_mask: the instruction of each visual slot (I of them, in reading order).
        slot_video: which video each slot shows.
        slot_row: the row each slot stands in; -1 for the slots of text-only rows, which stand nowhere.
        video_rows: a number that names each video's row in its data set: it keys the noise of Eq. 5.
        sketch: one entry a video (B of them), where it was cached; else ``frames`` holds the pixels.
        frames: the pixels of each video.
        relevant: true at frames the questions need, where known; an oracle selector reads it.
        records: what the rows ask, for scoring; None at a row that is repeated and counts nowhere. The model never
            reads them.
        skipped: rows that could not be read; a blank one without target stands in the place of each.
        seconds: the time stamps of the frames that each row shows, as an array a row; empty where they are not known.
    """

    input_ids: Int[Tensor, "Rows S"]
    attention_mask: Int[Tensor, "Rows S"]
    labels: Int[Tensor, "Rows S"]
    question_ids: Int[Tensor, "I R"]
    question_mask: Bool[Tensor, "I R"]
    slot_video: Int[Tensor, " I"]
    slot_row: Int[Tensor, " I"]
    video_rows: Int[Tensor, " B"]
    sketch: FrameSketch | None = None
    frames: tuple[UInt8[Tensor, "_ H W 3"], ...] = ()
    relevant: Bool[Tensor, "B T"] | None = None
    records: tuple = ()
    skipped: tuple = ()
    seconds: tuple = ()

    @property
    def targets(self) -> Int[Tensor, ""]:
        """How many tokens are learned."""
        return (self.labels[:, 1:] != torch.nn.CrossEntropyLoss().ignore_index).sum()
