"""Every annotation of the library is checked while the tests run, those of tensors with their axes."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import jaxtyping
import pytest
from torchvision_beside_torch import import_torchvision

# Before anything of ours is imported: the hook sees only what comes after it. An int may stand where a float is asked.
jaxtyping.install_import_hook(
    ["dynfocus", "datamodules", "callbacks", "perf"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads cost more than they give
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else data loader workers warn of the fork
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in a shell's background inherit none
for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # `make test ARGS=...` would tell the tests' own makes the same
    os.environ.pop(name, None)
os.environ["HF_HUB_OFFLINE"] = "1"  # nothing in the tests may reach for a network
import_torchvision()  # before transformers looks whether it is there
hypothesis.settings.register_profile("unhurried", hypothesis.settings.default, deadline=None)  # cores may be busy
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a miniature world and towers of random weights."""
    import tiny

    from dynfocus.world.dataset import write_world

    folder = tmp_path_factory.mktemp("miniature")
    write_world(folder / "data", videos=8, val=2, test=2, workers=0, progress=False)
    tiny.towers(folder / "towers")
    return folder


@pytest.fixture(scope="session")
def trained_runs(place: Path) -> Path:
    """Both stages and the test, run once through the real command line: the folder of the runs."""
    from tiny_world import call

    runs = place / "runs"
    assert call(place, "fit", "stage1", runs / "stage1") == 0
    assert call(place, "fit", "stage2", runs / "stage2") == 0
    assert call(place, "test", "stage2", runs / "stage2") == 0
    return runs


@pytest.fixture(scope="session")
def observed_run(place: Path) -> Path:
    """Stage 2 under probes and answers, validated after steps 6 and 12, then tested: its folder, not to be changed."""
    from observed_runs import run_with_observers

    return run_with_observers(place, run_with_observers(place, place / "runs" / "observed"), verb="test")


@pytest.fixture(scope="session")
def accumulator(observed_run: Path) -> Any:
    """All that TensorBoard would read of it."""
    from observed_runs import events

    return events(observed_run)


@pytest.fixture
def media(place: Path, tmp_path: Path) -> list[Path | None]:
    """Things to sketch."""
    from tiny_sketches import some_media

    return some_media(place, tmp_path / "media")


@pytest.fixture
def cache(place: Path, tmp_path: Path) -> Any:
    """Makes sketch caches in one folder, with settings of one's own."""
    from tiny_sketches import small_cache

    return partial(small_cache, place, **{"folder": tmp_path / "cache"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of random weights with its processor, as training leaves them."""
    import tiny
    from saved_models import save_model

    return save_model(tiny.model(), tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of towers of random weights; a Q-Former without dropout, whose draws no two layouts share."""
    import json

    import tiny

    folder = tmp_path_factory.mktemp("towers")
    config = tiny.towers(folder)[0] / "config.json"
    settings = json.loads(config.read_text())
    settings["qformer_config"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(settings))
    return folder


@pytest.fixture
def video(place: Path) -> Path:
    """Twenty frames at one a second."""
    return place / "data" / "videos" / "train_000000.mp4"
