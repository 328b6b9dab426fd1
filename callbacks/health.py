"""Log how well the selector learns: its scores, what its noise explores, its gradient; warn of a collapse."""

from functools import partial
from itertools import islice
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.hooks import RemovableHandle

from callbacks.observer import Observer, add_by_name, gather_objects
from dynfocus.method.diagnostics import has_choice, measure_selector, one_hot_choice, report_gradient
from dynfocus.types import Batch, Focus, FrameSketch, SelectorInputs

MIN_VIDEOS = 64  # with a choice, before a warning that the choice does not depend on the videos
MAX_CHANCE = 1e-6  # what is less probable is not put down to chance
MAX_DISTANCE = 10.0  # median between frames; above it exp(-D) of Eq. 1 loses events (a tenth at 14, half at 43)


class SelectorHealth(Observer):
    """Log numbers of the learned selector as ``dpe/<phase>/<name>``, phase train, val or test; warn of a collapse.

    ``distance``, the median between a video's frames; ``entropy`` and ``score_spread`` of the scores; ``hit_rate``
    where it is known which frames a question needs; and ``most_kept``, the share of videos that keep the event number
    which is kept most often (events are numbered in time order). In training also ``soft_hard_gap``, ``never_kept`` and
    ``gradient_snr``. `dynfocus.method.diagnostics` defines each. They are means over the videos with a choice
    (K' < L'); a number that has no meaning for any video has no tag. A video counts as often as it is shown. Selectors
    without scores are not observed, nor are a test's other arms.

    It warns once if the scores of all videos are constant, or if many different videos kept the same event number; and
    once if distances are so large that Eq. 1-2 lose events.
    """

    def __init__(self) -> None:
        self.handle: RemovableHandle | None = None
        # Numbers of each video. A rehearsal or a probe may call the selector as well: the last call before a batch ends
        # counts, apart in training, where probes are looked at without training on them.
        self.last: dict[bool, dict[str, Tensor]] = {}
        self.sums: dict[str, dict[str, Tensor]] = {}
        self.since_check: dict[str, list[float]] = {}
        self.videos_shown: set[tuple[Any, ...]] = set()  # since the last check of which places are kept
        self.has_warned = False
        self.has_warned_of_distance = False
        self.is_scaled = True  # whether the selector divides distances by their mean

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.hook_selector(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.hook_selector(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.hook_selector(pl_module)

    def hook_selector(self, pl_module: Any) -> None:
        select = getattr(pl_module.model.connector, "select", None)
        if self.handle is None and select is not None:
            self.handle = select.register_forward_hook(self.record_call)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.handle is not None:
            self.handle.remove()
        self.handle, self.last, self.sums = None, {}, {}

    @torch.no_grad()
    def record_call(self, select: nn.Module, inputs: tuple[FrameSketch, SelectorInputs], focus: Focus) -> None:
        metrics = measure_selector(focus, inputs[1].relevant, inputs[0])
        self.is_scaled = getattr(getattr(select, "settings", None), "distance_scale", "width") == "video"
        self.last[select.training] = last = {
            name: torch.stack([value * is_known, is_known.float()], -1) for name, (value, is_known) in metrics.items()
        }
        if focus.events is None or not metrics:
            return
        free = has_choice(focus)[:, None]
        last["kept"], last["met"] = one_hot_choice(focus).any(1) & free, focus.events.mask & free
        if focus.mixture is not None and focus.mixture.requires_grad:
            report_gradient(focus.mixture, partial(last.__setitem__, "gradient_snr"))

    def update(self, phase: str, pl_module: Any, batch: Batch) -> None:
        last = self.last.pop(phase == "train", {})
        sums = self.sums.setdefault(phase, {})
        if "kept" in last:
            is_first = self.first_showings(batch)[:, None]
            last |= {f"first_{name}": last[name] & is_first for name in ("kept", "met")}
        # In training no row is repeated, and blank ones have nothing to choose.
        counts = None if phase == "train" else mask_slots(batch, [row is not None for row in batch.records])[:, None]
        for name, values in last.items():
            total = (values if counts is None else values * counts).sum(0, dtype=torch.float)
            sums[name] = add_padded(sums[name], total) if name in sums else total

    def compute(self, phase: str, trainer: Trainer) -> dict[str, float]:
        totals = self.sums.pop(phase, {})
        numbers = iter(torch.cat(list(totals.values())).tolist() if totals else [])  # one wait for the device
        own_sums = {name: list(islice(numbers, len(total))) for name, total in totals.items()}
        # Checked in each process alone: it does not know which videos the others have shown.
        first = {name: own_sums.pop(f"first_{name}", []) for name in ("kept", "met")}
        sums = add_by_name(gather_objects(trainer, own_sums))
        self.check_collapse({"constant": sums.pop("constant", []), **first})
        kept, shown = sums.pop("kept", []), sums.pop("met", [])
        values = {name: total / count for name, (total, count) in sums.items() if count}
        # Places that only few of the videos are long enough for say little.
        if rates := [one / of for one, of in zip(kept, shown, strict=True) if of > max(shown) / 2]:
            values["most_kept"] = max(rates)
        self.check_distance(phase, values.get("distance", 0.0))
        return {f"dpe/{phase}/{name}": value for name, value in values.items()}

    def check_distance(self, phase: str, distance: float) -> None:
        """Warn once of features so large that Eq. 1-2 lose events."""
        if distance <= MAX_DISTANCE or self.is_scaled or self.has_warned_of_distance:
            return
        self.has_warned_of_distance = True
        rank_zero_warn(
            f"the frames' median distance is {distance:.1f} (dpe/{phase}/distance), above {MAX_DISTANCE:.0f}: "
            "exp(-distance) of Eq. 1 is then next to 0 for all but repeated frames, and rare events are lost. "
            "Set model.connector.distance_scale to video, which divides by the video's mean distance."
        )

    def first_showings(self, batch: Batch) -> Tensor:
        """Return which slots are the first to show their video: one with many questions keeps the same frames."""
        new = []
        for row in batch.records:
            video = () if row is None else (row.source, row.media, row.span)
            new.append(row is not None and video not in self.videos_shown)
            self.videos_shown.add(video)
        return mask_slots(batch, new) & (batch.slot_row != pad(batch.slot_row, (1, 0), value=-1)[:-1])

    def check_collapse(self, sums: dict[str, list[float]]) -> None:
        """Warn if enough videos show that the choice does not depend on their content."""
        self.since_check = add_by_name([self.since_check, sums])
        constant, videos = self.since_check["constant"] or (0.0, 0.0)
        kept, shown = self.since_check["kept"], self.since_check["met"]
        warnings = []
        if videos >= MIN_VIDEOS:
            self.since_check["constant"] = []
            if constant == videos:
                warnings.append(
                    f"the scores of all the last {videos:.0f} videos are constant or NaN, and choose nothing"
                )
        if max(shown, default=0.0) >= MIN_VIDEOS:
            share = sum(kept) / sum(shown)  # where nearly all events are kept, one always is, by chance
            always = [n for n, of in enumerate(shown) if kept[n] == of >= MIN_VIDEOS and share**of < MAX_CHANCE]
            warnings += [
                f"event {n + 1} of the last {shown[n]:.0f} videos was always kept, whatever it shows" for n in always
            ]
        if max(shown, default=0.0) >= MIN_VIDEOS or not any(
            sums["met"]
        ):  # images alone: forget their names, which would fill memory
            self.videos_shown, self.since_check["kept"], self.since_check["met"] = set(), [], []
        if warnings and not self.has_warned:
            self.has_warned = True
            rank_zero_warn(f"the selector has collapsed: {warnings[0]}. {ADVICE}")


ADVICE = (
    "Look at dpe/train/gradient_snr and at the pictures of the probe videos; then at model.lr (too high a rate kills "
    "the score net), at connector.sigma (0 gives the scores no gradient, far too little hardly any), and at "
    "connector.keep = 1 or kept_tokens 0 or 2, under which the score net stays as it began."
)


def mask_slots(batch: Batch, rows: list[bool]) -> Tensor:
    """Return which slots belong to rows that are True in ``rows``; slots of text-only rows belong to none."""
    mask = torch.tensor([*rows, False]).to(batch.slot_row.device, non_blocking=True)  # the host need not wait
    return mask[batch.slot_row]  # -1 is the last place


def add_padded(one: Tensor, other: Tensor) -> Tensor:
    """Add two tensors, the shorter one padded with zeros."""
    if len(one) == len(other):
        return one + other
    size = max(len(one), len(other))
    return pad(one, (0, size - len(one))) + pad(other, (0, size - len(other)))
