"""Whether the selector lives: how its scores lie, what its noise tries out, what its gradient says."""

from functools import partial
from itertools import islice
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.hooks import RemovableHandle

from callbacks.observer import Observer, added, gathered
from dynfocus.health import choosing, chosen, measures, overhear
from dynfocus.types import Batch, Cues, Focus, FrameSketch

LOOKS = 64  # videos with a choice, before it is said that the choice does not hang on what they show
CHANCE = 1e-6  # what is less probable has not come about by chance


class SelectorHealth(Observer):
    """Log how the learned selector fares as ``dpe/<phase>/<name>``, phase train, val or test, and warn of a collapse.

    ``entropy`` and ``score_spread`` of the scores; ``hit_rate`` where it is known which frames a question needs;
    ``most_kept``: videos have their events in a row, and of all places in it, in what share of the videos is the one
    kept that is kept most often? In training also ``soft_hard_gap``, ``never_kept`` and ``gradient_snr``. What each is,
    `dynfocus.health` says. They are means over the videos where there is something to choose (K' < L'); what nowhere
    means anything has no tag. Selectors without scores are not observed, nor are a test's other arms.

    It warns once if the scores of all videos are constant, or the same place was kept in each of them.
    """

    def __init__(self) -> None:
        self.handle: RemovableHandle | None = None
        # Of each video, numbers side by side. A rehearsal or a probe may call the selector as well: what counts is the
        # last call before a batch ends.
        self.last: dict[str, Tensor] = {}
        self.sums: dict[str, dict[str, Tensor]] = {}
        self.judged: dict[str, list[float]] = {}
        self.warned = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch(pl_module)

    def watch(self, pl_module: Any) -> None:
        select = getattr(pl_module.model.connector, "select", None)
        if self.handle is None and select is not None:
            self.handle = select.register_forward_hook(self.note)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.handle is not None:
            self.handle.remove()
        self.handle, self.last, self.sums = None, {}, {}

    @torch.no_grad()
    def note(self, select: nn.Module, given: tuple[FrameSketch, Cues], focus: Focus) -> None:
        found = measures(focus, given[1].relevant)
        self.last = last = {
            name: torch.stack([value * known, known.float()], -1) for name, (value, known) in found.items()
        }
        if focus.events is None or not found:
            return
        free = choosing(focus)[:, None]
        last["kept"], last["met"] = chosen(focus).any(1) & free, focus.events.mask & free
        if focus.mixture is not None and focus.mixture.requires_grad:
            overhear(focus.mixture, partial(last.__setitem__, "gradient_snr"))

    def see(self, phase: str, pl_module: Any, batch: Batch) -> None:
        last, self.last = self.last, {}
        sums = self.sums.setdefault(phase, {})
        # In training no row is repeated, and blank ones have nothing to choose.
        counts = None if phase == "train" else counting(batch)[:, None]
        for name, values in last.items():
            total = (values if counts is None else values * counts).sum(0).float()
            sums[name] = plus(sums[name], total) if name in sums else total

    def tell(self, phase: str, trainer: Trainer) -> dict[str, float]:
        held = self.sums.pop(phase, {})
        numbers = iter(torch.cat(list(held.values())).tolist() if held else [])  # one wait for the device
        sums = added(gathered(trainer, {name: list(islice(numbers, len(total))) for name, total in held.items()}))
        self.judge(sums)
        kept, met = sums.pop("kept", []), sums.pop("met", [])
        sums.pop("constant", None)
        told = {name: total / count for name, (total, count) in sums.items() if count}
        # Places that only few of the videos are long enough for say little.
        if rates := [one / of for one, of in zip(kept, met, strict=True) if of > max(met) / 2]:
            told["most_kept"] = max(rates)
        return {f"dpe/{phase}/{name}": value for name, value in told.items()}

    def judge(self, sums: dict[str, list[float]]) -> None:
        """Warn if what was seen, of enough videos, shows that the choice does not hang on what they show."""
        names = ("constant", "kept", "met")
        self.judged = added([self.judged, {name: sums[name] for name in names if name in sums}])
        constant, looks = self.judged.get("constant", [0.0, 0.0])
        if looks < LOOKS:
            return
        kept, met = self.judged["kept"], self.judged["met"]
        self.judged = {}
        share = sum(kept) / sum(met)  # where nearly all events are kept, one always is, by chance
        always = [n + 1 for n, count in enumerate(kept) if count == met[n] >= LOOKS and share**count < CHANCE]
        if constant == looks:
            said = f"the scores of all the last {looks:.0f} videos are constant, so that their first events are kept"
        elif always:
            said = f"event {always[0]} of each of the last {looks:.0f} videos was kept, whatever it shows"
        else:
            return
        if not self.warned:
            rank_zero_warn(f"the selector has collapsed: {said}. {ADVICE}")
        self.warned = True


ADVICE = (
    "Look at dpe/train/gradient_snr and at the pictures of the probe videos; then at model.lr (too high a rate kills "
    "the score net), at connector.sigma (0 gives the scores no gradient, far too little hardly any), and at "
    "connector.keep = 1 or kept_tokens 0 or 2, under which the score net stays as it began."
)


def counting(batch: Batch) -> Tensor:
    """Which slots are of rows that count: neither blank nor repeated."""
    rows = torch.tensor([row is not None for row in batch.records], device=batch.slot_row.device)
    return rows[batch.slot_row.clamp(min=0)] & (batch.slot_row >= 0)


def plus(one: Tensor, other: Tensor) -> Tensor:
    """Their sum, the shorter filled with zeros."""
    if len(one) == len(other):
        return one + other
    size = max(len(one), len(other))
    return pad(one, (0, size - len(one))) + pad(other, (0, size - len(other)))
