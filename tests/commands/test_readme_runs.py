"""The dynfocus commands of README.md, each of them run: in a folder like the reader's, with a miniature in it."""

import glob
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from test_readme import DYNFOCUS, run
from tiny_world import CONFIGS

OVERLAY = {
    "model": {
        "encoders": "cache/world/towers/instructblip",
        "language_model": "cache/world/towers/llm",
        "system_prompt": False,
        "connector": {
            **{"patches": 36, "pooled": 4, "events": 5, "keep": 0.6},
            **{"spatial_prototypes": [6, 3], "spatial_neighbours": [4, 2]},
        },
        "frame_rule": {"size": 24},
    },
    "data": {
        "init_args": {
            "sets": [],
            "sources": [{"name": "clips", "folder": "clips", "file": "clips.jsonl", "format": "jsonl", "media": "."}],
            "sketch_cache": "cache/mine",
            "batch_size": 2,
            "global_batch": None,
        }
    },
    "trainer": {"default_root_dir": "runs/mine/${model.stage}", "accelerator": "cpu", "precision": "32-true"},
}
CLIP = (
    '{"id": "k", "video": "1.mp4", "conversations": [{"from": "human", "value": "<video>\\nwhat color is the star"},'
    ' {"from": "gpt", "value": "star red"}]}\n'
)


@pytest.fixture(scope="module")
def home(place: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the reader has after `make stage2`, beside an overlay and clips of their own."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(CONFIGS, home / "lightning_configs")
    (home / "cache/world").mkdir(parents=True)
    (home / "runs").mkdir()
    (home / "cache/world/data").symlink_to(place / "data")
    shutil.copytree(place / "towers/encoders", home / "cache/world/towers/instructblip")
    shutil.copytree(place / "towers/language", home / "cache/world/towers/llm")
    shutil.copytree(trained, home / "runs/world")
    film = place / "data/videos/train_000000.mp4"
    for name in ("my_video.mp4", "my_videos/one.mp4", "my_videos/two.mp4", "data/clips/1.mp4"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, home / name)
    (home / "data/clips/clips.jsonl").write_text(CLIP)
    (home / "my_overlay.yaml").write_text(yaml.safe_dump(OVERLAY))
    return home


@pytest.mark.parametrize("line", DYNFOCUS)
def test_it_runs(line: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(home)
    words = [found for word in shlex.split(line)[1:] for found in (sorted(glob.glob(word)) or [word])]
    done = run(words)
    said = capsys.readouterr()
    assert done == 0, said.err
    assert said.out
