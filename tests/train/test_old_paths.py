"""Configs of the release before, whose classes have moved since."""

from pathlib import Path

import pytest
import tiny_world

from dynfocus.cli import main
from dynfocus.train.old_paths import OLD_PATHS, accept_old_paths

OLD = """
trainer:
  callbacks+:
    - class_path: callbacks.pace.Pace
    - class_path: callbacks.rehearsal.Rehearsal
  strategy:
    class_path: dynfocus.sharding.Sharded
"""


def test_a_config_with_the_old_paths_is_read_and_the_new_path_is_named(place: Path, tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(OLD)
    command = tiny_world.arguments(place, "fit", "stage1", tmp_path / "run", "--config", str(tmp_path / "old.yaml"))
    with pytest.warns(FutureWarning) as warnings, pytest.raises(SystemExit) as end:
        main([*command, "--print_config"])
    assert end.value.code == 0
    messages = "\n".join(str(one.message) for one in warnings)
    for old, new in OLD_PATHS.items():
        assert f"{old} is now {new}" in messages


def test_what_never_was_there_is_no_old_path() -> None:
    accept_old_paths()
    with pytest.raises(ImportError):
        from callbacks.pace import Watch  # noqa: F401
