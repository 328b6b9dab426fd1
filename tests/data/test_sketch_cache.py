"""The sketch cache: it gives what the model makes, and what an entry's key hangs on."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_sketches import RULE, count_calls, same

from dynfocus.data.sketches import digests
from dynfocus.data.sketches import sketcher as sketching_itself
from dynfocus.data.sketches.cache import FillReport, SketchCache
from dynfocus.data.sketches.digests import Digests, hash_file
from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.models.model import DynFocusModel
from dynfocus.records import atomic
from dynfocus.records.rows import FrameFiles
from dynfocus.video.media import read_or_blank

ALL = replace(tiny.SETTINGS, kept_tokens=256)


@pytest.mark.parametrize("settings", [tiny.SETTINGS, ALL, replace(ALL, patch_frames="all", sketch_dtype="float32")])
def test_what_is_read_is_what_the_model_makes(cache, media, settings) -> None:
    kept = cache(settings=settings)
    assert kept.fill(media, workers=2) == FillReport(0, len(media), 0, kept.folder)
    net = tiny.model(settings)
    with count_calls() as calls:
        read = [cache(settings=settings).read(medium) for medium in media]
        assert cache(settings=settings).fill(media) == FillReport(len(media), 0, 0, kept.folder)
    assert not calls
    for medium, result in zip(media, read, strict=True):
        clip = read_or_blank(medium, RULE)
        assert same(result.sketch, net.sketch(clip.frames))
        assert torch.equal(result.seconds, clip.seconds)
        assert (result.sketch.patches is None) == (settings.kept_tokens != 256)
    assert not [path for path in kept.folder.rglob("*") if path.name.startswith(".")]


def test_reading_alone_fills_too(cache, media) -> None:
    with count_calls() as calls:
        first, again = (cache().read(media[0]).sketch for _ in range(2))
    assert same(first, again)
    assert calls["reader"] == 1
    assert calls["encoder"] > 0


CHANGES: dict[str, dict[str, Any]] = {
    "size": {"rule": replace(RULE, size=12)},
    "frames": {"rule": replace(RULE, frames=3)},
    "fps": {"rule": replace(RULE, fps=0.5)},
    "interpolation": {"rule": replace(RULE, interpolation="bicubic")},
    "fit": {"rule": replace(RULE, fit="crop")},
    "another fit": {"rule": replace(RULE, fit="pad")},
    "patches": {"settings": replace(tiny.SETTINGS, patches=144)},
    "pooled": {"settings": replace(tiny.SETTINGS, pooled=9)},
    "spatial_prototypes": {"settings": replace(tiny.SETTINGS, spatial_prototypes=(5, 3))},
    "spatial_neighbours": {"settings": replace(tiny.SETTINGS, spatial_neighbours=(4, 3))},
    "spatial_neighbourhood": {"settings": replace(tiny.SETTINGS, spatial_neighbourhood="nearest")},
    "sketch_dtype": {"settings": replace(tiny.SETTINGS, sketch_dtype="bfloat16")},
    "kept_tokens": {"settings": ALL},
    "patch_frames": {"settings": replace(ALL, patch_frames="all")},
    "events of patches": {"settings": replace(ALL, events=4)},
    "neighbours of patches": {"settings": replace(ALL, neighbours=2)},
    "format": {},
}


def test_every_change_has_a_key_of_its_own(cache, media, monkeypatch) -> None:
    def keys(built: SketchCache) -> list[Path]:
        return [built.path(medium) for medium in media]

    result = {"before": keys(cache())}
    for name, change in CHANGES.items():
        if name == "format":
            monkeypatch.setattr(sketching_itself, "FORMAT", 0)
        result[name] = keys(cache(**change))
    assert len({path for paths in result.values() for path in paths}) == len(result) * len(media)


def test_sketches_made_before_frames_could_be_cropped_are_found(cache, media) -> None:
    assert RULE.fit == "squeeze"
    assert set(json.loads(cache().key(media[0]))["rule"]) == {"size", "frames", "fps", "interpolation"}


def test_what_shapes_no_sketch_is_not_in_the_key(cache, media) -> None:
    other = replace(tiny.SETTINGS, events=9, keep=0.1, neighbours=7, sigma=2.0, samples=3, selector="uniform")
    assert cache(settings=other).path(media[0]) == cache().path(media[0])
    assert cache(rule=replace(RULE, max_pixels=10**6)).path(media[0]) == cache().path(media[0])


def test_a_file_is_known_by_what_it_holds(cache, media, monkeypatch) -> None:
    """Copied, moved or touched it hits; changed it never does, however alike it looks from outside."""
    monkeypatch.setattr(atomic, "SETTLED", 0)
    video, image = media[0], media[1]
    assert (video.suffix, image.suffix) == (".mp4", ".png")
    before = cache().path(video)
    assert cache().path(shutil.copy(video, video.with_name("copy.mp4"))) == before
    os.utime(video, (1, 1))
    assert cache().path(video) == before
    assert cache().path(video.rename(video.with_name("moved.mp4"))) == before
    one = cache()
    old, result, pixels = one.path(image), os.stat(image), bytearray(image.read_bytes())
    pixels[-1] ^= 1  # the checksum of PNG's end, which readers skip
    image.write_bytes(pixels)
    os.utime(image, ns=(result.st_atime_ns, result.st_mtime_ns))
    assert os.stat(image).st_size == result.st_size
    assert one.path(image) != old
    assert cache().path(image) != old
    assert cache().path(shutil.copy(image, image.with_name("image.mp4"))) != one.path(image)  # it is read as a video


def test_a_file_is_hashed_once(cache, media, monkeypatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(digests, "hash_file", lambda file: hashed.append(file) or hash_file(file))
    cache().path(media[0])
    cache().path(media[0])
    assert len(hashed) == 2  # it is so new that it might change again without a sign
    monkeypatch.setattr(atomic, "SETTLED", 0)
    for _ in range(3):
        one = cache()
        assert one.path(media[0]) == one.path(media[0])
    assert len(hashed) == 3
    os.utime(media[0], (1, 1))
    cache().path(media[0])
    assert len(hashed) == 4


def test_a_file_that_changes_while_it_is_hashed(tmp_path) -> None:
    file = tmp_path / "f"
    file.write_text("a")
    output = []

    def compute() -> str:
        output.append(file.read_text())
        if output == ["a"]:
            file.write_text("bb")
        return output[-1]

    assert Digests(tmp_path / "digests").get([file], compute) == "bb"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"files": 1, "digest": "x"}', '{"digest": "x"}'])
def test_a_damaged_digest_is_computed_again(tmp_path, damage, monkeypatch) -> None:
    monkeypatch.setattr(atomic, "SETTLED", 0)
    file = tmp_path / "f"
    file.write_text("a")
    assert Digests(tmp_path / "d").get([file], lambda: "right") == "right"
    assert Digests(tmp_path / "d").get([file], lambda: "wrong") == "right"
    [remembered] = (tmp_path / "d").rglob("*.json")
    remembered.write_text(damage)
    assert Digests(tmp_path / "d").get([file], lambda: "again") == "again"


def test_a_file_that_changes_while_it_is_read(cache, media, monkeypatch) -> None:
    """The entry is made of the frames that belong to its key."""
    one, reader, reads = cache(), sketching_itself.read_or_blank, []

    def read(medium: Path, *how: Any) -> Any:
        clip = reader(medium, *how)
        if not reads:
            shutil.copy(media[2], medium)
        reads.append(medium)
        return clip

    old = one.path(media[0])
    monkeypatch.setattr(sketching_itself, "read_or_blank", read)
    result = one.read(media[0]).sketch
    assert len(reads) == 2
    assert not old.exists()
    assert same(result, tiny.model().sketch(read_or_blank(media[2], RULE).frames))


def test_an_encoder_is_known_by_its_weights(place, tmp_path) -> None:
    """The folder, a copy, half a checkpoint more, a trained model's: one encoder. Another weight or pixel mean: not."""
    folder = place / "towers" / "encoders"
    identity = EncoderFolder(folder).identity()
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert EncoderFolder(copy).identity() == identity
    state = load_file(copy / "model.safetensors")
    vision = {name: value for name, value in state.items() if name.startswith("vision_model.")}
    few = dict(list(vision.items())[:3])
    (copy / "model.safetensors").unlink()
    save_file(few, copy / "b.safetensors")
    save_file(
        {n: v for n, v in state.items() if n not in few} | {"vision_model.x.position_ids": torch.ones(1)},
        copy / "a.safetensors",
    )
    assert EncoderFolder(copy).identity() == identity
    net = tiny.model(seed=3)
    net.vision.encoder.load_state_dict({name.removeprefix("vision_model."): value for name, value in vision.items()})
    net.save_pretrained(tmp_path / "trained")
    trained = EncoderFolder(tmp_path / "trained")
    assert trained.identity() == identity
    frames = tiny.frames(2)
    assert torch.equal(trained.tower()(frames), EncoderFolder(folder).tower()(frames))
    name = "vision_model.encoder.layers.0.mlp.fc1.bias"
    other = {**{n: v for n, v in state.items() if n not in few}, name: vision[name] + 1e-6}
    save_file(other, copy / "a.safetensors")
    others = [EncoderFolder(copy).identity(), EncoderFolder(folder, torch.bfloat16).identity()]
    for file, key in (("preprocessor_config.json", "image_mean"), ("config.json", "vision_config")):
        again = shutil.copytree(folder, tmp_path / key)
        inputs = json.loads((again / file).read_text())
        inputs[key] = [0.1, 0.2, 0.3] if key == "image_mean" else inputs[key] | {"layer_norm_eps": 1e-5}
        (again / file).write_text(json.dumps(inputs))
        others.append(EncoderFolder(again).identity())
    assert len({identity, *others}) == 5


def test_the_identity_is_computed_once_while_the_files_stay(place, cache, monkeypatch) -> None:
    monkeypatch.setattr(atomic, "SETTLED", 0)
    first = cache().encoder
    monkeypatch.setattr(EncoderFolder, "identity", lambda _: "computed")
    assert cache().encoder == first
    assert cache(source=EncoderFolder(place / "towers" / "encoders", torch.float16)).encoder == "computed"
    weights = place / "towers" / "encoders" / "model.safetensors"
    result = os.stat(weights)
    os.utime(weights, (1, 1))
    assert cache().encoder == "computed"
    os.utime(weights, ns=(result.st_atime_ns, result.st_mtime_ns))


def test_a_trained_model_hits_what_its_towers_made(cache, media, tmp_path, place) -> None:
    one = cache()
    one.fill(media)
    towers = place / "towers"
    DynFocusModel.from_towers(towers / "encoders", towers / "language", tiny.SETTINGS).save_pretrained(tmp_path / "m")
    trained = cache(source=EncoderFolder(tmp_path / "m"))
    assert trained.fill(media) == FillReport(len(media), 0, 0, one.folder)


def test_frames_that_are_files_have_a_sketch_of_their_own(cache, tmp_path) -> None:
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for n, path in enumerate(paths):
        Image.fromarray(np.full((9, 9, 3), 80 * n, np.uint8)).save(path)
    video, kept = FrameFiles(tuple(paths), (0.0, 1.0, 2.0)), cache()
    sketch = kept.read(video)
    assert sketch.seconds.tolist() == [0.0, 1.0, 2.0]
    assert kept.frames(video) == 3
    keys = {kept.key(one) for one in (video, replace(video, seconds=None), replace(video, end=1.5), paths[0])}
    keys.add(kept.key(FrameFiles(tuple(paths[::-1]), video.seconds)))
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(paths[1])
    keys.add(kept.key(video))
    assert len(keys) == 6
