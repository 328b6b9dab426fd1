"""The instruments of `make bench`: what they count, weigh and time is checked on work whose cost is known."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from lightning.pytorch.profilers import SimpleProfiler
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dynfocus.budget import budget
from dynfocus.errors import ConfigError, DiskError
from dynfocus.plan.connector_flops import Flops, Sizes, fewest_flops
from dynfocus.settings import ConnectorSettings
from perf import peak_memory
from perf.cases import Bench
from perf.counting import count_operations
from perf.peak_memory import extra_peak
from perf.roofline import Roofline, Timing
from perf.run import bench_connector
from perf.table import CONNECTOR, heading, line
from perf.world import ACTIONS, mean_seconds, world_steps

ROOT = Path(__file__).parents[2]
MB = 1 << 20
SMALL = Sizes(width=24, text=12, out=40, question=5)
MASK = torch.tensor([True, False, True, False])


def x() -> Tensor:
    return torch.arange(4.0)


@pytest.mark.parametrize(
    ("work", "operations"),
    [
        (lambda a: a.view(2, 2).mT[0].unsqueeze(0).expand(3, 2).detach(), 0),
        (lambda a: a.split(2)[0].unbind()[0], 0),
        (lambda a: a + 1, 1),
        (lambda a: a.add_(1), 1),
        (lambda a: a.view(2, 2).mT.contiguous(), 1),
        (lambda a: a.view(2, 2) @ a.view(2, 2), 1),
        (lambda a: a.to(torch.float16).to(torch.float16), 1),
    ],
)
def test_operations_are_counted_and_views_are_not(work, operations: int) -> None:  # type: ignore[no-untyped-def]
    a = x()
    with count_operations() as counts:
        work(a)
    assert counts.operations.total() == operations
    assert counts.syncs.total() == 0


@pytest.mark.parametrize(
    ("work", "syncs"),
    [
        (lambda a: a.sum().item(), 1),
        (lambda a: float(a.sum()) + int(a.max()), 2),
        (lambda a: 1 if (a > 9).any() else 0, 1),
        (lambda a: a.tolist(), 1),
        (lambda a: a.cpu().numpy(), 2),
        (lambda a: a[MASK], 1),
        (lambda a: a.masked_select(MASK), 1),
        (lambda a: a.nonzero(), 1),
        (lambda a: torch.equal(a, a), 1),
        (lambda a: a.repeat_interleave(MASK.long()), 1),
        (lambda a: a.repeat_interleave(MASK.long(), output_size=2), 0),
        (lambda a: a.index_put((MASK,), torch.ones(2)), 1),
        (lambda a: a[torch.tensor([1, 2])], 0),
        (lambda a: a.index_put((MASK,), torch.zeros(())), 0),
        (lambda a: a.masked_fill(MASK, 0.0), 0),
        (lambda a: a.where(MASK, 0.0), 0),
    ],
)
def test_waiting_for_numbers_is_counted(work, syncs: int) -> None:  # type: ignore[no-untyped-def]
    a = x()
    with count_operations() as counts:
        work(a)
    assert counts.syncs.total() == syncs


def test_forward_and_backward_are_counted_apart() -> None:
    a = x().requires_grad_()
    with count_operations() as forward:
        loss = (a * a).sum()
    with count_operations() as backward:
        loss.backward()
    assert forward.operations == {"aten::mul": 1, "aten::sum": 1}
    assert backward.operations["aten::mul"] == 2
    assert "aten::sum" not in backward.operations


def test_extra_memory_is_what_was_held_at_once() -> None:
    def work() -> Tensor:
        first = torch.ones(48 * MB // 4)
        second = first * 2  # 96 MB are held here
        del first
        return second[:1].clone()

    for _ in range(2):
        extra = extra_peak(work)
        assert extra is not None
        assert 95 * MB <= extra < 104 * MB  # the kernel counts pages in batches


def test_memory_that_was_freed_before_hides_nothing() -> None:
    def work() -> list[Tensor]:
        return [torch.ones(16 * 1024) for _ in range(512)]  # 32 MB in small parts, which the C library keeps

    work()
    assert (extra_peak(work) or 0) >= 31 * MB


def test_memory_that_cannot_be_measured_is_not_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(peak_memory, "REFERENCES", tmp_path / "absent" / "clear_refs")
    assert extra_peak(lambda: done.append(1)) is None
    assert done  # the work itself was done
    memory_hog = torch.ones(16 * MB)
    del memory_hog
    # A kernel that takes the word and does nothing.
    monkeypatch.setattr(peak_memory, "REFERENCES", tmp_path / "clear_refs")
    assert extra_peak(lambda: None) is None


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("frames", [1, 3, 16, 40])
def test_projectors_cost_what_torch_counts(frames: int, training: bool) -> None:
    made = Bench(ConnectorSettings(), SMALL)
    cost = budget(frames, made.settings)
    fewest = fewest_flops(frames, made.settings, SMALL, training)
    soft = training and cost.kept < cost.prototypes
    values = torch.randn(cost.cones, SMALL.width).requires_grad_(soft)
    with FlopCounterMode(display=False) as counter:
        tokens = made.net.cones.fine(values)  # type: ignore[union-attr, operator]
        if training:
            tokens.sum().backward()
    assert counter.get_total_flops() == fewest.cones
    grounded = torch.randn(frames, SMALL.width, requires_grad=True)
    mean = torch.randn(frames, SMALL.width)
    with FlopCounterMode(display=False) as counter:
        for part in (grounded, mean):
            tokens = made.net.rods.coarse(part)  # type: ignore[union-attr, operator]
            if training:
                tokens.sum().backward()
    assert counter.get_total_flops() == fewest.rods


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 30, 100])
def test_no_way_of_ours_needs_fewer(frames: int, training: bool) -> None:
    made = Bench(ConnectorSettings(), SMALL)
    with FlopCounterMode(display=False) as counter:
        if training:
            made.step(frames)
        else:
            made.answer(frames)
    fewest = fewest_flops(frames, made.settings, SMALL, training)
    products = fewest.total - fewest.merges  # which torch does not count where they are no matrix products
    assert 0.3 * counter.get_total_flops() < products <= counter.get_total_flops()


def test_the_count_at_the_papers_sizes_by_hand() -> None:
    d, e, D, R = 1408, 768, 4096, 32
    flops = fewest_flops(200, ConnectorSettings(), Sizes())
    assert flops == Flops(
        distances=200 * (256 * 257 + 16 * 17) * d + 200 * 201 * 16 * d,
        merges=200 * (256 + 2 * (256 + 16)) * d + 2 * 200 * 16 * d,
        scores=25 * (3 * 16 * d + 2 * 2 * d * (d // 2) + 2 * (d // 2)),
        mixing=0,
        cones=20 * 38 * 2 * (d * D + D * D),
        grounding=2 * R * e * d + 2 * R * d * d + 2 * 200 * 22 * R * d + 3 * 200 * 22 * d,
        rods=400 * 2 * (d * D + D * D),
    )
    assert fewest_flops(1, ConnectorSettings(), Sizes()).grounding < flops.grounding  # 22 grains, below R = 32 rows


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (ConnectorSettings(kept_tokens=0), ("cones",)),
        (ConnectorSettings(kept_tokens=0, redundant_tokens=0), ("cones", "rods", "grounding")),
        (ConnectorSettings(selector="uniform"), ("scores", "mixing")),
        (ConnectorSettings(encoder="average_pooling"), ("distances", "scores", "mixing", "rods", "grounding")),
        (ConnectorSettings(sigma=0.0), ("mixing",)),
    ],
)
def test_switches_that_leave_a_part_out_leave_its_cost_out(settings: ConnectorSettings, parts: tuple[str, ...]) -> None:
    whole, less = (fewest_flops(40, s, Sizes(), training=True) for s in (ConnectorSettings(), settings))
    assert all(getattr(less, part) == 0 for part in parts)
    assert less.total < whole.total
    assert all(getattr(whole, part) > 0 for part in parts)


def test_what_is_kept_whole_is_not_mixed_and_what_reads_more_costs_more() -> None:
    assert fewest_flops(40, ConnectorSettings(keep=1.0), Sizes(), training=True).mixing == 0
    plain, asked = (fewest_flops(40, ConnectorSettings(score_reads_question=on), Sizes()) for on in (False, True))
    assert asked.scores - plain.scores == 2 * 768 * (32 * 768 + 25 * 22 * 1408) + 2 * 32 * 768 + 2 * 25 * 32 * (
        1 + 22 * 768
    )


def test_the_share_of_the_roofline_weighs_both_precisions() -> None:
    timing = Timing(best=2.0, median=3.0, repeats=3, rate32=10.0, rate=20.0)
    assert timing.share(Flops(distances=10)) == 0.5
    assert timing.share(Flops(distances=10, cones=20)) == 1.0


def test_bare_products_reach_the_roofline() -> None:
    roofline = Roofline(torch.float32, "cpu", Sizes(width=256, text=12, out=512, question=5))
    with FlopCounterMode(display=False) as counter:
        roofline.single.rate()
    timing = roofline.time(roofline.single.rate)
    assert 0.6 < timing.share(Flops(cones=counter.get_total_flops())) < 1.4
    assert timing.median >= timing.best
    assert timing.repeats > 1


def test_a_quick_bench_writes_what_it_prints(tmp_path: Path) -> None:
    messages: list[str] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for _ in range(2):
            bench_connector(
                tmp_path / "new/bench.jsonl", [1, 3, 999], True, ConnectorSettings(), SMALL, messages.append
            )
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    rows = [json.loads(text) for text in (tmp_path / "new/bench.jsonl").read_text().splitlines()]
    half = rows[: len(rows) // 2]
    assert [(row["case"], row.get("pass")) for row in rows[len(half) :]] == [
        (row["case"], row.get("pass")) for row in half
    ]
    measured = [row for row in half if row["case"] == "connector" and row["device"] == "cpu"]
    assert [(row["frames"], row["pass"]) for row in measured] == [
        (count, name) for name in ("forward", "forward+backward") for count in (1, 3)
    ]
    for row in measured:
        assert row["tokens"] == budget(row["frames"], ConnectorSettings()).visual_tokens
        assert row["flops"] == fewest_flops(row["frames"], ConnectorSettings(), SMALL, "back" in row["pass"]).total
        assert 0 < row["seconds"] <= row["seconds_median"]
        assert row["roofline"] > 0
        assert row["threads"] == 1
        assert {"commit", "cpu", "gpu", "torch", "date", "extra_bytes", "syncs"} <= row.keys()
        assert (row["operations_backward"] or 0) > 0 or row["pass"] == "forward"
    assert len(messages) == 2 * (2 + len(half))
    assert line(half[0], CONNECTOR).split()[:3] == ["connector,", "forward", "1"]


def test_lines_fit_their_heading() -> None:
    row = {"case": "connector", "pass": "forward", "frames": 1024, "seconds": 1.5, "roofline": 0.654, "syncs": 0}
    cells = line(row, CONNECTOR)
    assert len(cells) == len(heading(CONNECTOR).splitlines()[0])
    expected = ["connector,", "forward", "1024", "-", "-", "1.5000", "-", "65%", "-", "-", "0", "-", "-", "-"]
    assert cells.split() == expected
    assert len(expected) == len(CONNECTOR) + 1


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--frames"):
        bench_connector(tmp_path / "bench.jsonl", [128], quick=True)
    with pytest.raises(ConfigError, match="--frames"):
        bench_connector(tmp_path / "bench.jsonl", [0, 1], quick=False)
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="--out"):
        bench_connector(tmp_path / "file" / "bench.jsonl", [1], quick=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_profile_of_lightning_is_read() -> None:
    profiler = SimpleProfiler(extended=True)
    for action in ("[_TrainingEpochLoop].train_dataloader_next", "run_training_batch"):
        with profiler.profile(action):
            pass
    profiler.recorded_durations = {name: [0.25, 0.75] for name in profiler.recorded_durations}  # type: ignore[assignment]
    assert [mean_seconds(profiler.summary(), action) for action in ACTIONS.values()] == [0.5, 0.5]
    with pytest.raises(ConfigError, match="no_such_action"):
        mean_seconds(profiler.summary(), "no_such_action")


def test_make_bench_hands_its_arguments_on() -> None:
    command = ["make", "-n", "PYTHON=./python", "bench", "ARGS=--quick --frames 1,16"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--quick --frames 1,16" in done.stdout


@pytest.mark.slow
def test_the_cache_makes_a_training_step_faster(tmp_path: Path) -> None:
    without, cached = world_steps(tmp_path / "absent", steps=4)
    assert 0 < cached["seconds"] < without["seconds"]
    assert cached["times_faster"] == pytest.approx(without["seconds"] / cached["seconds"])
