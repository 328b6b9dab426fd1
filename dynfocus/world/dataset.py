"""Write the embedded world as a data set: H.264 videos, images, and conversations in LLaVA's JSON."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from PIL import Image

from dynfocus.errors import ConfigError
from dynfocus.world.build_rows import SPLITS, split_rows, split_seed, stage1_rows, stage2_rows
from dynfocus.world.card import format_card
from dynfocus.world.folder import WorldFolder, run_jobs
from dynfocus.world.pixels import Pixels, render, to_yuv
from dynfocus.world.recipes import EASY, WorldSettings
from dynfocus.world.videos import sample_image, sample_video
from dynfocus.world.world_record import CONTENT as CONTENT
from dynfocus.world.world_record import SETTINGS, World, make_record

# veryfast: as small and as true as the default preset here, in less than half the time.
# cpu-independent: the same bytes on CPUs whose fastest code differs.
ENCODER = {"crf": "10", "preset": "veryfast", "threads": "1", "x264-params": "cpu-independent=1"}
# What 1 video of 20 frames or 1 image takes on disk, generously, and the rows of one video.
BYTES = {"video": 150_000, "image": 20_000, "rows": 16_000}


@dataclass(frozen=True)
class _Job:
    medium: Literal["video", "image"]
    seed: int
    index: int
    path: str


def write_world(
    root: Path | str,
    videos: int = 1600,
    seed: int = 0,
    *,
    val: int = 100,
    test: int = 200,
    images: int | None = None,
    stage1: int | None = None,
    stage2: int | None = None,
    settings: WorldSettings = EASY,
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Write the world into the folder ``root``, whole or not at all; a world already there is kept if it is this one.

    Args:
        root: the folder to make; its parent holds a hidden sibling while the world is written.
        videos: training videos.
        seed: worlds of different seeds share no video.
        val, test: videos of the two other splits.
        images: still images; one for every second video unless given.
        stage1: caption rows, half about images and half about videos; 6 for each video unless given.
        stage2: conversation rows, 80 % about videos, 12 % about images, 8 % text only; 6.25 a video unless given.
        settings: what its videos are like.
        workers: processes that render; 0 renders in this one. They are spawned: a script that calls this needs
            ``if __name__ == "__main__":``.
        progress: whether to show a bar.

    Returns:
        ``root`` as given.

    Raises:
        ConfigError: if a number is out of range, or ``root`` holds another world or anything else.
        DataError: if ``root`` holds this world, but not all of its files.
        DiskError: if there is no room.
    """
    path, root = Path(root), Path(root).resolve()
    world = World(
        seed=seed,
        videos=videos,
        val=val,
        test=test,
        images=max(1, videos // 2) if images is None else images,
        stage1=6 * videos if stage1 is None else stage1,
        stage2=round(6.25 * videos) if stage2 is None else stage2,
        settings=settings,
    )
    _check(world, workers)
    count, jobs = videos + val + test, list(_jobs(world))
    a_video = BYTES["video"] * settings.frames // EASY.frames + BYTES["rows"]
    folder = WorldFolder(
        root,
        "world",
        SETTINGS,
        _record(world),
        [job.path for job in jobs],
        count * a_video + world.images * BYTES["image"],
        f"{count} videos and {world.images} images",
    )

    def fill(temporary: Path) -> None:
        (temporary / "videos").mkdir()
        (temporary / "images").mkdir()
        parts = [jobs[i : i + 16] for i in range(0, len(jobs), 16)]
        for _ in run_jobs(partial(_render, temporary, settings), parts, workers, progress, "world"):
            pass
        _write_rows(temporary, world)

    folder.write(fill)
    return path


def _check(world: World, workers: int) -> None:
    least = {field.name: 1 for field in fields(World)} | {"seed": 0, "stage1": 0, "stage2": 0}
    numbers = {name: value for name, value in asdict(world).items() if name != "settings"}
    for name, value in (numbers | {"workers": workers}).items():
        if value < least.get(name, 0):
            raise ConfigError(f"{name}={value}", f"a whole number of at least {least.get(name, 0)}", f"Change {name}.")


def _record(world: World) -> dict[str, Any]:
    return make_record(world, ENCODER)


def _jobs(world: World) -> Iterator[_Job]:
    for split in SPLITS:
        for index in range(world.videos if split == "train" else getattr(world, split)):
            yield _Job("video", split_seed(world.seed, split), index, f"videos/{split}_{index:06d}.mp4")
    for index in range(world.images):
        yield _Job("image", split_seed(world.seed, "image"), index, f"images/train_{index:06d}.png")


def _render(root: Path, settings: WorldSettings, jobs: list[_Job]) -> None:
    for job in jobs:
        if job.medium == "video":
            (root / job.path).write_bytes(encode_video(render(sample_video(job.seed, job.index, settings))))
        else:
            (root / job.path).write_bytes(_encode_image(render(sample_image(job.seed, job.index, settings))[0]))


def _double(frame: Pixels) -> Pixels:
    # Every pixel becomes 2 x 2, so that colour at half the resolution, as yuv420p keeps it, loses nothing.
    return frame.repeat(2, 0).repeat(2, 1)


def _yuv420p(frame: Pixels) -> av.VideoFrame:
    # The four pixels of a square are alike: their colour's average is the colour of the one that they came from.
    y, u, v = to_yuv(frame)
    planes = np.concatenate([_double(y).ravel(), u.ravel(), v.ravel()])
    return av.VideoFrame.from_ndarray(planes.reshape(-1, 2 * frame.shape[1]), "yuv420p")


def encode_video(frames: Pixels) -> bytes:
    """Encode RGB frames ``[T, H, W, 3]``, doubled, as an mp4 of one frame a second: H.264, closed GOP, yuv420p."""
    return encode_pictures(map(_yuv420p, frames), 1, ENCODER)


def encode_pictures(pictures: Iterable[av.VideoFrame], rate: int, options: Mapping[str, str]) -> bytes:
    """Encode pictures, all of one size, as an mp4 of ``rate`` frames a second: H.264, closed GOP, yuv420p."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=dict(options))
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            if not stream.codec_context.is_open:
                stream.height, stream.width = picture.height, picture.width
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file.getvalue()


def _encode_image(frame: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_double(frame)).save(file, "PNG")
    return file.getvalue()


def _write_rows(root: Path, world: World) -> None:
    settings = world.settings
    rows = {
        "stage1": stage1_rows(world.seed, world.videos, world.images, world.stage1, settings),
        "stage2": stage2_rows(world.seed, world.videos, world.images, world.stage2, settings),
        "val": split_rows(world.seed, "val", world.val, settings),
        "test": split_rows(world.seed, "test", world.test, settings),
    }
    for name, some in rows.items():
        lines = ",\n".join(json.dumps(row) for row in some)
        (root / f"{name}.json").write_text(f"[\n{lines}\n]\n" if some else "[]\n")
    (root / "README.md").write_text(format_card(world, {name: len(some) for name, some in rows.items()}))
