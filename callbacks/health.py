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
from dynfocus.method.diagnostics import choosing, chosen, measures, overhear
from dynfocus.types import Batch, Focus, FrameSketch, SelectorInputs

LOOKS = 64  # videos with a choice, before it is said that the choice does not hang on what they show
CHANCE = 1e-6  # what is less probable has not come about by chance


class SelectorHealth(Observer):
    """Log how the learned selector fares as ``dpe/<phase>/<name>``, phase train, val or test, and warn of a collapse.

    ``entropy`` and ``score_spread`` of the scores; ``hit_rate`` where it is known which frames a question needs;
    ``most_kept``: videos have their events in a row, and of all places in it, in what share of the videos is the one
    kept that is kept most often? In training also ``soft_hard_gap``, ``never_kept`` and ``gradient_snr``. What each is,
    `dynfocus.method.diagnostics` says. They are means over the videos where there is something to choose (K' < L');
    what nowhere means anything has no tag. A video counts as often as it is shown. Selectors without scores are
    not observed, nor are a test's other arms.

    It warns once if the scores of all videos are constant, or if the same place was kept in many different ones.
    """

    def __init__(self) -> None:
        self.handle: RemovableHandle | None = None
        # Of each video, numbers side by side. A rehearsal or a probe may call the selector as well: what counts is the
        # last call before a batch ends.
        self.last: dict[str, Tensor] = {}
        self.sums: dict[str, dict[str, Tensor]] = {}
        self.judged: dict[str, list[float]] = {}
        self.shown: set[tuple[Any, ...]] = set()  # videos since it was last judged which places are kept
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
    def note(self, select: nn.Module, given: tuple[FrameSketch, SelectorInputs], focus: Focus) -> None:
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
        if "kept" in last:
            fresh = self.fresh(batch)[:, None]
            last |= {f"first_{name}": last[name] & fresh for name in ("kept", "met")}
        # In training no row is repeated, and blank ones have nothing to choose.
        counts = None if phase == "train" else slots_of(batch, [row is not None for row in batch.records])[:, None]
        for name, values in last.items():
            total = (values if counts is None else values * counts).sum(0, dtype=torch.float)
            sums[name] = plus(sums[name], total) if name in sums else total

    def tell(self, phase: str, trainer: Trainer) -> dict[str, float]:
        held = self.sums.pop(phase, {})
        numbers = iter(torch.cat(list(held.values())).tolist() if held else [])  # one wait for the device
        own = {name: list(islice(numbers, len(total))) for name, total in held.items()}
        # Not of all processes: each knows which videos it has shown, and not which of them others have.
        first = {name: own.pop(f"first_{name}", []) for name in ("kept", "met")}
        sums = added(gathered(trainer, own))
        self.judge({"constant": sums.pop("constant", []), **first})
        kept, met = sums.pop("kept", []), sums.pop("met", [])
        told = {name: total / count for name, (total, count) in sums.items() if count}
        # Places that only few of the videos are long enough for say little.
        if rates := [one / of for one, of in zip(kept, met, strict=True) if of > max(met) / 2]:
            told["most_kept"] = max(rates)
        return {f"dpe/{phase}/{name}": value for name, value in told.items()}

    def fresh(self, batch: Batch) -> Tensor:
        """Which slots are the first to show their video: of one video asked often, the same place is always kept."""
        new = []
        for row in batch.records:
            video = () if row is None else (row.source, row.media, row.span)
            new.append(row is not None and video not in self.shown)
            self.shown.add(video)
        return slots_of(batch, new) & (batch.slot_row != pad(batch.slot_row, (1, 0), value=-1)[:-1])

    def judge(self, sums: dict[str, list[float]]) -> None:
        """Warn if what was seen, of enough videos, shows that the choice does not hang on what they show."""
        self.judged = added([self.judged, sums])
        constant, looks = self.judged["constant"] or (0.0, 0.0)
        kept, met = self.judged["kept"], self.judged["met"]
        said = []
        if looks >= LOOKS:
            self.judged["constant"] = []
            if constant == looks:
                said.append(f"the scores of all the last {looks:.0f} videos are constant or NaN, and choose nothing")
        if max(met, default=0.0) >= LOOKS:
            share = sum(kept) / sum(met)  # where nearly all events are kept, one always is, by chance
            always = [n for n, of in enumerate(met) if kept[n] == of >= LOOKS and share**of < CHANCE]
            said += [
                f"event {n + 1} of the last {met[n]:.0f} videos was always kept, whatever it shows" for n in always
            ]
        if max(met, default=0.0) >= LOOKS or not any(sums["met"]):  # images alone, whose names would pile up
            self.shown, self.judged["kept"], self.judged["met"] = set(), [], []
        if said and not self.warned:
            self.warned = True
            rank_zero_warn(f"the selector has collapsed: {said[0]}. {ADVICE}")


ADVICE = (
    "Look at dpe/train/gradient_snr and at the pictures of the probe videos; then at model.lr (too high a rate kills "
    "the score net), at connector.sigma (0 gives the scores no gradient, far too little hardly any), and at "
    "connector.keep = 1 or kept_tokens 0 or 2, under which the score net stays as it began."
)


def slots_of(batch: Batch, rows: list[bool]) -> Tensor:
    """Which slots are of the rows that are marked; those of text-only rows are of none."""
    marked = torch.tensor([*rows, False]).to(batch.slot_row.device, non_blocking=True)  # the host need not wait
    return marked[batch.slot_row]  # -1 is the last place


def plus(one: Tensor, other: Tensor) -> Tensor:
    """Their sum, the shorter filled with zeros."""
    if len(one) == len(other):
        return one + other
    size = max(len(one), len(other))
    return pad(one, (0, size - len(one))) + pad(other, (0, size - len(other)))
