"""What the doctor found of whole data sets, in numbers and as a table (no torch here)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynfocus.data.doctor.store import Checkup, costs, over_long
from dynfocus.errors import DataError
from dynfocus.records.skipped import FAULTS
from dynfocus.settings import ConnectorSettings

Spread = tuple[int, int, int]


@dataclass(frozen=True)
class Findings:
    """What was found of one data set.

    Attributes:
        source: its name.
        rows: how many it has.
        faults: how many rows have each fault of `FAULTS`.
        frames: median, 95th percentile and most frames of what good rows show; None where none shows anything.
        tokens: the same of the tokens of good rows' prompts; None where no row is good.
        quarantine: the file that lists the bad rows.
    """

    source: str
    rows: int
    faults: dict[str, int]
    frames: Spread | None
    tokens: Spread | None
    quarantine: Path

    @property
    def bad(self) -> int:
        """How many rows cannot be learned from."""
        return sum(self.faults.values())


def findings(source: str, checkup: Checkup, settings: ConnectorSettings, context: int, quarantine: Path) -> Findings:
    """Count what a finished checkup holds, under the connector's settings and a language model's context."""
    long = over_long(checkup, settings, context)
    counts = Counter(one.fault for one in checkup.bad.values()) + Counter({"too long": len(long)})
    good = checkup.frames >= 0
    good[long] = False
    shown = checkup.frames[good]
    return Findings(
        source=source,
        rows=len(checkup),
        faults={name: counts[name] for name in FAULTS},
        frames=_spread(shown[shown > 0]),
        tokens=_spread(costs(checkup, settings)[good]),
        quarantine=quarantine,
    )


def table(found: Sequence[Findings]) -> str:
    """The findings as lines of text: a data set each, and all of them together where there are several."""
    names = ["data set", "rows", "good", *FAULTS, "share", "frames: median", "95 %", "max"]
    lines = [[*names, "tokens: median", "95 %", "max"]]
    lines += [
        [*_counts(one.source, [one]), *map(str, one.frames or "---"), *map(str, one.tokens or "---")] for one in found
    ]
    if len(found) > 1:
        lines.append([*_counts("together", found), *[""] * 6])
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    drawn = [
        "  ".join(cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(pairs)).rstrip()
        for pairs in ([*zip(line, widths, strict=True)] for line in lines)
    ]
    files = [f"the bad rows of {one.source}: {one.quarantine}" for one in found if one.bad]
    return "\n".join([drawn[0], "-" * max(map(len, drawn)), *drawn[1:], *files])


def refuse(found: Sequence[Findings], limit: float) -> None:
    """Raise DataError where a larger share of a data set's rows than the ``limit`` cannot be learned from."""
    worse = [one for one in found if one.bad > limit * one.rows]
    if worse:
        said = "; ".join(
            f"{one.source}: {one.bad} of {one.rows} rows ("
            + ", ".join(f"{count} {name}" for name, count in one.faults.items() if count)
            + f"), listed in {one.quarantine}"
            for one in worse
        )
        raise DataError(
            f"more bad rows than the limit of {limit:.1%} - {said}",
            "data sets that are nearly whole",
            "Mend the data and check again with --again, correct the root, or raise --limit.",
        )


def _counts(name: str, found: Sequence[Findings]) -> list[str]:
    rows, bad = sum(one.rows for one in found), sum(one.bad for one in found)
    faults = [str(sum(one.faults[fault] for one in found)) for fault in FAULTS]
    return [name, str(rows), str(rows - bad), *faults, f"{bad / max(rows, 1):.2%}"]


def _spread(values: NDArray) -> Spread | None:
    if not len(values):
        return None
    middle, most, last = np.quantile(values, [0.5, 0.95, 1], method="higher").astype(int).tolist()
    return middle, most, last
