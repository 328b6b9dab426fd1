"""Sketches in shards: what is read is what files give, from wherever it lies, and damage is noticed."""

import io
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
import webdataset
from safetensors.torch import load
from tiny_sketches import RULE, count_calls, list_videos, same, small_cache, small_sketcher
from torch.utils.data import DataLoader, Dataset

from dynfocus.data.sketches import stores
from dynfocus.data.sketches.cache import FillReport
from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.data.sketches.media import SketchItem
from dynfocus.data.sketches.shard_index import ShardIndex, address_digest
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.write_shards import write_shards
from dynfocus.errors import ConfigError, DiskError, VideoError
from dynfocus.settings import ConnectorSettings

PART = 40_000  # bytes, of which a video takes some eleven thousand


@pytest.fixture(scope="module")
def written(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished shares of the world's videos, and one file that cannot be read."""
    folder = tmp_path_factory.mktemp("shards")
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no video")
    for n in range(2):
        items = [*list_videos(place), ("broken.mp4", broken)]
        write_shards(items, small_sketcher(place), str(folder / "set"), (n, 2), workers=0, part=PART)
    return folder / "set"


@pytest.fixture
def shards(written: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return shutil.copytree(written, tmp_path / "set")


def test_shards_give_what_files_give_bit_for_bit(place: Path, written: Path, tmp_path: Path) -> None:
    kept = small_cache(place, tmp_path / "a")
    read = small_cache(place, tmp_path / "b", shards=SketchShards(str(written)))
    for address, path in list_videos(place):
        with count_calls() as calls:
            result = read.read(tmp_path / "there" / "is" / "no.mp4", address)
            assert read.frames(None, address) == len(result.seconds)
        assert not calls
        wanted = kept.read(path)
        assert same(result.sketch, wanted.sketch)
        assert torch.equal(result.seconds, wanted.seconds)
    assert len(SketchShards(str(written))) == len(list_videos(place))
    assert not list((tmp_path / "b").rglob("*.safetensors"))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves them to the collector
def test_webdataset_streams_the_parts_as_they_are(place: Path, written: Path) -> None:
    shards, tars = SketchShards(str(written)), [str(path) for path in sorted(written.glob("*.tar"))]
    assert len(tars) > 2
    result = {}
    for row in webdataset.WebDataset(tars, shardshuffle=False):
        output, tensors = json.loads(row["json"]), load(row["safetensors"])
        result[output["address"]] = tensors
        assert output["frames"] == len(tensors["seconds"])
    assert result.keys() == {address for address, _ in list_videos(place)}
    for address, tensors in result.items():
        wanted = shards.get(address)
        assert wanted is not None
        assert torch.equal(tensors["grains"], wanted.sketch.grains[0])


def test_what_shards_hold_is_neither_looked_for_nor_hashed(place: Path, written: Path, tmp_path: Path, caplog) -> None:
    one = small_cache(place, tmp_path / "cache", shards=SketchShards(str(written)))
    shown = [SketchItem(tmp_path / "none.mp4", address) for address, _ in list_videos(place)]
    with count_calls() as calls:
        assert one.fill([*shown, *shown], workers=0) == FillReport(len(shown), 0, 0, one.folder)
    assert not calls
    assert len(list((tmp_path / "cache" / "digests").rglob("*.json"))) <= 1  # the encoder's
    image = SketchItem(next((place / "data" / "images").iterdir()), "images/other.png")
    filled = one.fill([*shown, image, SketchItem(tmp_path / "broken.mp4", "broken.mp4"), None], workers=0)
    assert filled == FillReport(len(shown), 2, 0, one.folder, 1)
    assert ["broken.mp4 cannot be read" in record.getMessage() for record in caplog.records] == [True]
    with pytest.raises(VideoError, match=r"broken\.mp4 cannot be read"):
        one.read(image.media, "broken.mp4")
    assert one.frames(tmp_path / "broken.mp4", "broken.mp4") is None
    assert one.read(image.media, image.address).seconds.tolist() == [0.0]


def narrow(settings: ConnectorSettings) -> ConnectorSettings:
    return replace(settings, pooled=9, sketch_dtype="bfloat16")


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("rule", r"rule\.fps is 1\.0 in place of 0\.5"),
        ("settings", r"sketch\.pooled is 4 in place of 9; sketch\.sketch_dtype is float16 in place of bfloat16"),
        ("source", r"where encoder is [0-9a-f]{64} in place of [0-9a-f]{64}\."),
    ],
)
def test_shards_made_otherwise_are_refused(place: Path, written: Path, tmp_path: Path, name: str, output: str) -> None:
    change: dict[str, Any] = {
        "rule": replace(RULE, fps=0.5),
        "settings": narrow(small_cache(place, tmp_path).settings),
        "source": EncoderFolder(place / "towers" / "encoders", torch.bfloat16),
    }
    one = small_cache(place, tmp_path / "c", shards=SketchShards(str(written)), **{name: change[name]})
    for use in (lambda: one.read(None, "x"), lambda: one.frames(None, "x"), lambda: one.fill([SketchItem(None, "x")])):
        with pytest.raises(ConfigError, match=output):
            use()


def test_no_flipped_bit_goes_through(place: Path, shards: Path) -> None:
    """Of what any row hangs on: each part of an entry, and every tenth byte of an index."""
    address = list_videos(place)[0][0]
    whole = SketchShards(str(shards))
    row = whole._find_row(address)
    part, start, size, _ = whole.index.places[row].tolist()
    tar = shards / whole.index.parts[part][0]
    content = tar.read_bytes()
    for n in [start, start + 9, start + size // 2, start + size - 1]:
        tar.write_bytes(content[:n] + bytes([content[n] ^ 4]) + content[n + 1 :])
        with pytest.raises(DiskError, match=rf"{tar.name}, which is damaged: {address} .* --shard [01]/2 again"):
            SketchShards(str(shards)).get(address)
    tar.write_bytes(content)
    index = next(shards.glob("00000-of-00002.index"))
    content, harmless = index.read_bytes(), 0
    for n in range(0, len(content), 10):
        index.write_bytes(content[:n] + bytes([content[n] ^ (1 << n % 8)]) + content[n + 1 :])
        try:
            result = SketchShards(str(shards)).index
        except (DiskError, ConfigError):
            continue
        assert result.parts == whole.index.parts
        assert np.array_equal(result.places, whole.index.places)
        harmless += 1
    assert harmless < 8


def test_incomplete_sets_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no sketches\.json"):
        SketchShards(str(tmp_path / "nothing")).check({})
    part = next(shards.glob("00001-of-00002.*.tar"))
    content = part.read_bytes()
    part.write_bytes(content[:-100])
    with pytest.raises(DiskError, match=rf"{part.name}, .* has {len(content) - 100} of {len(content)} bytes"):
        len(SketchShards(str(shards)))
    part.unlink()
    with pytest.raises(DiskError, match=rf"{part.name}, .* missing.* --shard 1/2 again"):
        len(SketchShards(str(shards)))
    (shards / "00001-of-00002.index").unlink()
    with pytest.raises(ConfigError, match=r"1 of 2 shares are not finished \(1/2\).*--shard 1/2"):
        len(SketchShards(str(shards)))
    with pytest.raises(ConfigError, match="nosuch://place"):
        SketchShards("nosuch://place")


class Ranges(SimpleHTTPRequestHandler):
    """A web server that sends byte ranges, counts what it sends, and fails as often as it is told to."""

    sent: list[int]
    failing: list[int]
    whole = False

    def log_message(self, *_: Any) -> None:
        pass

    def send_head(self) -> Any:
        path, asked = Path(self.translate_path(self.path)), self.headers.get("Range")
        if self.failing:
            return self.send_error(self.failing.pop())
        if asked is None or self.whole or not path.is_file():
            return super().send_head()
        start, end = asked.removeprefix("bytes=").split("-")
        content = path.read_bytes()[int(start) : int(end) + 1]
        self.sent.append(len(content))
        self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)


@pytest.fixture
def server(written: Path) -> Iterator[tuple[str, type[Ranges]]]:
    handler = type("Handler", (Ranges,), {"sent": [], "failing": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(written.parent))) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}/set", handler
        served.shutdown()
        thread.join()


class Read(Dataset):
    def __init__(self, shards: SketchShards, addresses: list[str]) -> None:
        self.shards, self.addresses = shards, addresses

    def __len__(self) -> int:
        return len(self.addresses)

    def __getitem__(self, index: int) -> torch.Tensor:
        result = self.shards.get(self.addresses[index])
        assert result is not None
        return result.sketch.grains


@pytest.mark.parametrize("start", [None, "fork", "spawn"])
def test_ranges_are_read_from_a_web_server_in_any_process(place: Path, written: Path, server, start) -> None:
    url, handler = server
    shards, near = SketchShards(url), SketchShards(f"file://{written}")
    addresses = [address for address, _ in list_videos(place)]
    first = shards.get(addresses[0])  # opens a connection that other processes must not use
    assert first is not None
    rows = Read(shards, addresses)
    loader = DataLoader(rows, batch_size=None, num_workers=2, multiprocessing_context=start) if start else rows
    for address, result in zip(addresses, loader, strict=True):
        wanted = near.get(address)
        assert wanted is not None
        assert torch.equal(result, wanted.sketch.grains)
    assert sum(handler.sent) == sum(near.index.places[:, 2]) + handler.sent[0]  # and not a byte more


def test_a_web_server_that_fails(place: Path, server, monkeypatch, caplog) -> None:
    url, handler = server
    monkeypatch.setattr(stores, "PAUSES", (0.0, 0.0))
    shards, address = SketchShards(url), list_videos(place)[0][0]
    assert len(shards)
    handler.failing += [503, 500]
    assert shards.get(address) is not None
    assert len([record for record in caplog.records if "is tried again" in record.getMessage()]) == 2
    handler.failing += [500] * 3
    with pytest.raises(DiskError, match=r"\.tar, which cannot be read"):
        shards.get(address)
    handler.failing.append(404)
    with pytest.raises(DiskError, match=r"\.tar, which is damaged: it is missing"):
        shards.get(address)
    with pytest.raises(DiskError, match="x, which could not be written"):
        shards.store.write("x", b"")
    handler.whole = True
    with pytest.raises(DiskError, match="sent whole where a range"):
        shards.get(address)


def test_shards_lie_anywhere_that_fsspec_reaches(place: Path) -> None:
    url = "memory://somewhere/set"
    try:
        for n in (1, 0):
            write_shards(list_videos(place), small_sketcher(place), url, (n, 2), workers=0, part=PART)
        again = write_shards(list_videos(place), small_sketcher(place), url, (0, 2), workers=0, part=PART)
        assert again.computed == 0
        assert again.there > 0
        shards = SketchShards(url)
        result = [shards.get(address) for address, _ in list_videos(place)]
        assert all(one is not None and len(one.seconds) == 20 for one in result)
        fsspec.filesystem("memory").rm("/somewhere/set/" + shards.index.parts[0][0])
        with pytest.raises(DiskError, match="missing"):
            len(SketchShards(url))
    finally:
        fsspec.filesystem("memory").rm("/somewhere", recursive=True)


def test_an_index_of_many_is_small_and_every_row_is_found(monkeypatch) -> None:
    """Addresses that agree in the first half of their digests among them."""
    count = 300_000
    digests = [address_digest(f"videos/{n}.mp4") for n in range(count)]
    alike = [digests[7][:8] + bytes([n]) * 8 for n in range(3)]
    addresses = np.frombuffer(b"".join([*alike, *digests]), np.uint8).reshape(-1, 16)
    places = np.stack([np.arange(count + 3)] * 4, 1)
    shards = SketchShards("memory://none")
    shards.__dict__["index"] = ShardIndex({}, (0, 1), (), addresses, addresses, places)
    assert [shards.frames(f"videos/{n}.mp4") for n in (0, 7, count - 1)] == [3, 10, count + 2]
    assert not shards.holds("videos/x.mp4")
    stored = [shards.index.addresses, shards.index.contents, shards.index.places, *shards.order]
    assert sum(array.nbytes for array in stored) < 100 * count
