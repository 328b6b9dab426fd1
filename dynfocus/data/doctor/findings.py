"""Summarize what the doctor found of whole data sets, in numbers and as a table (no torch here)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynfocus.data.doctor.store import Checkup, count_tokens, find_over_long
from dynfocus.errors import DataError
from dynfocus.records.skipped import FAULTS
from dynfocus.settings import UNKNOWN_SHARE, ConnectorSettings

Spread = tuple[int, int, int]


@dataclass(frozen=True)
class Findings:
    """The findings on one data set.

    Attributes:
        source: its name.
        rows: how many it has.
        faults: how many rows have each fault of `FAULTS`.
        frames: median, 95th percentile and most frames of what good rows show; None where none shows anything.
        tokens: the same of the tokens of good rows' prompts; None where no row is good.
        quarantine: the file that lists the bad rows.
        unknown: share of the tokens learned of good rows that stand for what the tokenizer does not know.
    """

    source: str
    rows: int
    faults: dict[str, int]
    frames: Spread | None
    tokens: Spread | None
    quarantine: Path
    unknown: float = 0.0

    @property
    def bad(self) -> int:
        """How many rows cannot be learned from."""
        return sum(self.faults.values())


def summarize_checkup(
    source: str, checkup: Checkup, settings: ConnectorSettings, context: int, quarantine: Path
) -> Findings:
    """Count the findings of a finished checkup, under the connector's settings and a language model's context."""
    long = find_over_long(checkup, settings, context)
    counts = Counter(one.fault for one in checkup.bad.values()) + Counter({"too long": len(long)})
    good = checkup.frames >= 0
    good[long] = False
    frames = checkup.frames[good]
    return Findings(
        source=source,
        rows=len(checkup),
        faults={name: counts[name] for name in FAULTS},
        frames=_spread(frames[frames > 0]),
        tokens=_spread(count_tokens(checkup, settings)[good]),
        quarantine=quarantine,
        unknown=float(checkup.unknown[good].sum() / max(checkup.targets[good].sum(), 1)),
    )


def format_table(all_findings: Sequence[Findings]) -> str:
    """Format the findings as lines of text, one a data set, and one for all of them where there are several."""
    names = ["data set", "rows", "good", *FAULTS, "share", "frames: median", "95 %", "max"]
    lines = [[*names, "tokens: median", "95 %", "max"]]
    lines += [
        [*_counts(one.source, [one]), *map(str, one.frames or "---"), *map(str, one.tokens or "---")]
        for one in all_findings
    ]
    if len(all_findings) > 1:
        lines.append([*_counts("together", all_findings), *[""] * 6])
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    rows = [
        "  ".join(cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(pairs)).rstrip()
        for pairs in ([*zip(line, widths, strict=True)] for line in lines)
    ]
    files = [f"the bad rows of {one.source}: {one.quarantine}" for one in all_findings if one.bad]
    unread = [
        f"{one.unknown:.0%} of what is learned of {one.source} are words that the language model's tokenizer does not "
        "know: a model trained on it answers with unknown words. Choose a language model that knows them."
        for one in all_findings
        if one.unknown >= UNKNOWN_SHARE
    ]
    return "\n".join([rows[0], "-" * max(map(len, rows)), *rows[1:], *files, *unread])


def refuse(all_findings: Sequence[Findings], limit: float) -> None:
    """Raise DataError where a larger share of a data set's rows than the ``limit`` cannot be learned from."""
    worse = [one for one in all_findings if one.bad > limit * one.rows]
    if worse:
        details = "; ".join(
            f"{one.source}: {one.bad} of {one.rows} rows ("
            + ", ".join(f"{count} {name}" for name, count in one.faults.items() if count)
            + f"), listed in {one.quarantine}"
            for one in worse
        )
        raise DataError(
            f"more bad rows than the limit of {limit:.1%} - {details}",
            "data sets that are nearly whole",
            "Mend the data and check again with --again, correct the root, or raise --limit.",
        )


def _counts(name: str, all_findings: Sequence[Findings]) -> list[str]:
    rows, bad = sum(one.rows for one in all_findings), sum(one.bad for one in all_findings)
    faults = [str(sum(one.faults[fault] for one in all_findings)) for fault in FAULTS]
    return [name, str(rows), str(rows - bad), *faults, f"{bad / max(rows, 1):.2%}"]


def _spread(values: NDArray) -> Spread | None:
    if not len(values):
        return None
    middle, most, last = np.quantile(values, [0.5, 0.95, 1], method="higher").astype(int).tolist()
    return middle, most, last
