"""`make figures` and `make notebooks`: what they ask Python for."""

from pathlib import Path

from sandbox import ROOT, Clone


def test_figures_are_drawn_after_stage_2(tmp_path: Path) -> None:
    code, out, calls = Clone(tmp_path).make("figures")
    assert code == 0, out
    last = [call.removeprefix("-m dynfocus ") for call in calls[-3:]]
    assert last[0] == "figure 1a --data cache/world/data --out runs/world/figures"
    assert last[1] == "figure 4 --out runs/world/figures"
    assert last[2].startswith("figure 5 cache/world/data/videos/test_000000.mp4 what color is the star --model")
    assert any(call.startswith("-m dynfocus fit --config lightning_configs/stage2.yaml") for call in calls[:-3])


def test_notebooks_are_run_in_a_copy(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    (tmp_path / "notebooks").mkdir()
    names = [path.name for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    for name in names:
        (tmp_path / "notebooks" / name).write_text("{}")
    code, out, calls = clone.make("notebooks")
    assert code == 0, out
    assert calls[-len(names) :] == [f"-m jupyter execute --inplace runs/world/notebooks/{name}" for name in names]
