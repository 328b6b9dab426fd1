"""One process writes a share, what is deleted meanwhile is missed, and a place that fails is asked again."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from test_write_shards import PART, files, process
from tiny_sketches import list_videos, meanwhile, small_sketcher

from dynfocus.data.sketches import shards as reading
from dynfocus.data.sketches import stores
from dynfocus.data.sketches.locks import STALE, lock_share
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.sketcher import ITEM_ERRORS
from dynfocus.data.sketches.stores import Store
from dynfocus.data.sketches.write_shards import write_shards
from dynfocus.errors import ConfigError, DiskError, VideoError

SHARE = "00000-of-00001"


class Flaky(MemoryFileSystem):
    """A place in memory of its own, which fails as often as it is told to."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failing: ClassVar[list[Exception]] = []

    def _fail(self) -> None:
        if self.failing:
            raise self.failing.pop()

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self._fail()
        return super().ls(path, detail, **options)

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super().open(path, mode, **options)
        if mode == "wb" and self.failing:
            file.write(b"half of it")
            self._fail()
        return file

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        self._fail()
        return super().cat_file(path, start, end, **options)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Flaky]]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(stores, "PAUSES", (0.0, 0.0))
    yield Flaky
    Flaky.store.clear()
    Flaky.failing.clear()


def test_a_second_process_is_refused_and_harms_nothing(place: Path, tmp_path: Path) -> None:
    out, second = tmp_path / "set", []

    def write() -> None:
        half = out / f".{SHARE}.000001.tar.77.half"
        half.write_bytes(b"what the first is writing")
        other = process(place, out, 0, 1)
        second.extend([*other.communicate(timeout=120), other.returncode, half.exists()])
        half.unlink()

    write_shards(list_videos(place), meanwhile(place, 3, write), str(out), workers=0, part=PART)
    _, output, code, there = second
    assert there
    assert code == 1
    assert "ConfigError" in output
    assert f"share {SHARE} in {out}, which process " in output
    write_shards(list_videos(place), small_sketcher(place), str(tmp_path / "one"), workers=0, part=PART)
    assert files(out) == files(tmp_path / "one")  # nor does a lock stay behind


def test_one_of_many_holds_a_lock_at_a_time(tmp_path: Path) -> None:
    store, inside, most, refused = Store(str(tmp_path)), [0], [0], [0]

    def go() -> None:
        for _ in range(200):
            try:
                with lock_share(store, SHARE):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.0001)
                    inside[0] -= 1
            except ConfigError:
                refused[0] += 1

    threads = [threading.Thread(target=go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert 0 < refused[0] < 1200
    assert not list(tmp_path.iterdir())


def test_a_folder_that_nothing_may_be_written_to_cannot_be_locked() -> None:
    with pytest.raises(DiskError, match="cannot be locked"), lock_share(Store("/proc"), SHARE):
        pass


def test_a_remote_share_is_leased(flaky: type[Flaky], caplog, monkeypatch) -> None:
    store = Store("flaky://set")
    with lock_share(store, SHARE) as at_work:
        output = r"which process \d+ on .* is writing.*delete 00000-of-00001\.lock"
        with pytest.raises(ConfigError, match=output), lock_share(Store("flaky://set"), SHARE):
            pass
        with lock_share(store, "00001-of-00002"):
            at_work()
        output = json.loads(store.read(f"{SHARE}.lock"))
        monkeypatch.setattr("dynfocus.data.sketches.locks.RENEWAL", -1.0)
        at_work()
        assert json.loads(store.read(f"{SHARE}.lock"))["time"] > output["time"]
    assert store.sizes() == {}
    store.write(f"{SHARE}.lock", json.dumps(output | {"time": time.time() - STALE - 1}).encode())
    with lock_share(store, SHARE) as at_work:
        assert "was left by process" in caplog.text
        store.write(f"{SHARE}.lock", json.dumps(output | {"token": "another's"}).encode())
        with pytest.raises(ConfigError, match="is writing"):
            at_work()
    assert json.loads(store.read(f"{SHARE}.lock"))["token"] == "another's"


@pytest.mark.parametrize("lost", ["sketches.json", f"{SHARE}.000000.tar"])
@pytest.mark.parametrize("how", ["deleted", "cut off"])
def test_what_is_deleted_meanwhile_is_missed(place: Path, tmp_path: Path, lost: str, how: str) -> None:
    out = tmp_path / "set"

    def harm() -> None:
        (out / lost).unlink() if how == "deleted" else (out / lost).write_bytes(b"")

    items = list_videos(place)
    with pytest.raises((DiskError, ConfigError), match=lost.replace(".", r"\.")):
        write_shards(items, meanwhile(place, len(items), harm), str(out), workers=0, part=PART)
    assert not (out / f"{SHARE}.index").exists()
    if (lost, how) != ("sketches.json", "cut off"):
        write_shards(items, small_sketcher(place), str(out), workers=0, part=PART)
        assert len(SketchShards(str(out))) == len(items)


ASKED: dict[str, tuple[Callable[[Store], object], object]] = {
    "written": (lambda store: store.write("a", b"all of it"), None),
    "read": (lambda store: store.read("a"), b"all of it"),
    "listed": (lambda store: store.sizes(), {"a": 9}),
}


@pytest.mark.parametrize("what", ASKED)
def test_a_place_that_fails_for_a_moment_is_asked_again(flaky: type[Flaky], caplog, what: str) -> None:
    store, (ask, answer) = Store("flaky://set"), ASKED[what]
    store.write("a", b"all of it")
    flaky.failing += [OSError("reset"), TimeoutError("slow")]
    assert ask(store) == answer
    assert [f"could not be {what}" in record.getMessage() for record in caplog.records] == [True, True]
    assert store.read("a") == b"all of it"
    for wrong, left in ((OSError("down"), 0), (PermissionError("not yours"), 2)):
        flaky.failing[:] = [wrong] * 3
        with pytest.raises(DiskError, match=r"down|not yours"):
            ask(store)
        assert len(flaky.failing) == left


@pytest.mark.parametrize("name", ["a::b", "memory::c", "~a"])
def test_any_folder_holds_shards(place: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(list_videos(place)[:1], small_sketcher(place), str(tmp_path / name), workers=0)
    assert (tmp_path / name / "sketches.json").exists()
    assert len(SketchShards(str(tmp_path / name))) == 1
    monkeypatch.chdir(tmp_path)
    assert len(SketchShards(f"./{name}")) == 1


def test_every_error_that_an_index_may_hold_is_read_and_so_is_a_later_one() -> None:
    every = list(ITEM_ERRORS)
    for kind in every:
        every += kind.__subclasses__()
    assert (
        {kind.__name__ for kind in every}
        == reading.ERROR_TYPES.keys()
        >= {"MissingFileError", "NoTargetError", "VideoError"}
    )
    shards = SketchShards("memory://none")
    shards.__dict__["index"] = type("Held", (), {"failed": {"a": ("LaterError", "given", "needed", "do")}})
    with pytest.raises(VideoError, match=r"given\. Needed: needed\. do"):
        shards.get("a")
