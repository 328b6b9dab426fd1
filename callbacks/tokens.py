"""Log how many tokens a run reads: of videos by their kind, of text, in all and of each data set."""

from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor

from callbacks.observer import Observer, add_by_name, gather_objects
from dynfocus.budget import budget, every_patch
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Batch


class TokenCounts(Observer):
    """Log the tokens of what was read: ``tokens/<phase>/<name>``, with phase train, val or test.

    ``cones``, ``rods`` and ``visual`` are means over all showings of a video or image, ``text`` and ``total`` over all
    rows; a row's total has every showing in it. ``share_of_256_per_frame`` is what all showings cost, of what they
    would cost if each of their frames gave 256. Each data set of a mixture has its own ``visual``, ``text`` and
    ``total``, as ``tokens/<phase>/<data set>/<name>``. Blank and repeated rows do not count.

    Placeholders and masks of the batches themselves are counted; the budget of T frames splits them into cones and
    rods.
    """

    def __init__(self) -> None:
        self.logs: dict[str, TokenLog] = {}

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self.logs = {}  # an earlier run may have ended between two logs

    def update(self, phase: str, pl_module: Any, batch: Batch) -> None:
        model = pl_module.model
        log = self.logs.setdefault(phase, TokenLog(model.settings))
        visual, read = batch.input_ids == model.config.image_token_id, batch.attention_mask
        if batch.sketch is None:
            frames = torch.tensor([len(one) for one in batch.frames], device=read.device)
        else:
            frames = batch.sketch.frames
        row = torch.where(batch.slot_row < 0, -1, batch.slot_row + len(log.names))
        log.slots.append(torch.stack([row, frames[batch.slot_video]]))
        log.rows.append(torch.stack([visual.sum(-1), read.sum(-1)]))
        # A split that is one file goes by the split's own name: it would say the same numbers twice.
        names = (None if one is None else one.source for one in batch.records)
        log.names += ["" if name == phase else name for name in names]

    def compute(self, phase: str, trainer: Trainer) -> dict[str, float]:
        log = self.logs.pop(phase, None)
        sums = add_by_name(gather_objects(trainer, {} if log is None else log.sums()))
        return {f"tokens/{phase}/{name}": total / count for name, (total, count) in sums.items()}


@dataclass
class TokenLog:
    """The tokens since the last log.

    Attributes:
        settings: the connector's.
        names: the data set of each row, empty where it has no name of its own, None where the row does not count.
        rows: of each batch, the visual and all tokens of each row.
        slots: of each batch, the row (-1 for none) and T of each showing.
    """

    settings: ConnectorSettings
    names: list[str | None] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    slots: list[Tensor] = field(default_factory=list)

    def sums(self) -> dict[str, list[float]]:
        """Sum by name: a total and the count of its parts. Only here the host waits for the device."""
        first, second = torch.cat([*self.rows, *self.slots], 1).tolist()
        count = len(self.names)
        frames_shown: dict[int, list[int]] = {}
        for row, frames in zip(first[count:], second[count:], strict=True):
            frames_shown.setdefault(row, []).append(frames)
        read = (
            (name, first[n], second[n], frames_shown.get(n, []))
            for n, name in enumerate(self.names)
            if name is not None
        )
        return add_by_name([self.row(*one) for one in read])

    def row(self, name: str, visual: int, total: int, frames_shown: list[int]) -> dict[str, list[float]]:
        """Sum one row of the data set ``name``, which shows videos of so many frames."""
        sums: dict[str, list[float]] = {}
        for prefix in ("", f"{name}/") if name else ("",):
            sums |= {f"{prefix}text": [total - visual, 1], f"{prefix}total": [total, 1]}
            if frames_shown:
                sums[f"{prefix}visual"] = [visual, len(frames_shown)]
        if frames_shown:
            costs = [budget(frames, self.settings) for frames in frames_shown]
            sums["cones"] = [sum(cost.cones for cost in costs), len(frames_shown)]
            sums["rods"] = [sum(cost.rods for cost in costs), len(frames_shown)]
            sums["share_of_256_per_frame"] = [visual, sum(map(every_patch, frames_shown))]
        return sums
