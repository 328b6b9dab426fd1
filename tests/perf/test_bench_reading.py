"""The bench of reading: what it compares does the same, and every row says what a table needs."""

import numpy as np
import pytest

from dynfocus.video import Clip
from perf.reading import CASES, WAYS, bench_reading
from perf.table import READING, line


def test_both_ways_give_the_same_frames_and_ours_needs_less_memory(tmp_path):
    pytest.importorskip("decord")
    rows = bench_reading(tmp_path, repeats=1, seconds=8)
    for case in CASES:
        ours, plain = (WAYS[way](tmp_path / case.file, case.rule) for way in ("as we do", "plainly"))
        assert isinstance(ours, Clip)
        difference = ours.frames.numpy().astype(int) - plain
        assert np.abs(difference).max() <= 2
    assert {(row["case"], row["pass"]) for row in rows} >= {(case.name, way) for case in CASES for way in WAYS}
    for row in rows:
        assert 0 < row["seconds"] <= row["seconds_median"]
        assert row["rows_per_second"] == pytest.approx(1 / row["seconds_median"])
        assert row["case"] in line(row, READING)
        assert ("times_faster" in row) == (row["pass"] == "as we do")
    extra_bytes = {row["pass"]: row["extra_bytes"] for row in rows if row["case"] == CASES[0].name}
    if None not in extra_bytes.values():
        assert extra_bytes["as we do"] < extra_bytes["plainly"]
