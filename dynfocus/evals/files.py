"""Find and read the published files of a benchmark, wherever below a folder they lie."""

import csv
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from dynfocus.errors import DataError
from dynfocus.records.first_bytes import name_kind_of
from dynfocus.records.rows import FrameFiles, VideoSegment

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
IMAGES = (".png", ".jpg", ".jpeg")
# A published row may leave these out of the name that its file has, or the file may.
PREFIXES = ("", "v_", "vid", "video")
NAMED = 10  # missing videos that an error names


@dataclass(frozen=True)
class BenchmarkFiles:
    """The folder of a benchmark's annotation files and videos, in any layout.

    Args:
        root: the folder.

    Raises:
        DataError: if it is no folder.
    """

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise DataError(f"{self.root}, which is no folder", "the folder of the benchmark's files", "Correct ROOT.")

    @cached_property
    def paths(self) -> dict[str, list[PurePosixPath]]:
        """Every file below the folder by its name in small letters; paths are relative to the folder, in order."""
        found: dict[str, list[PurePosixPath]] = defaultdict(list)
        for folder, folders, files in os.walk(self.root, followlinks=True):
            folders.sort()
            for name in sorted(files):
                path = PurePosixPath(Path(folder, name).relative_to(self.root).as_posix())
                found[name.lower()].append(path)
        return found

    @cached_property
    def folders(self) -> dict[PurePosixPath, list[PurePosixPath]]:
        """The images in every folder."""
        images: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
        for path in (path for paths in self.paths.values() for path in paths if path.suffix.lower() in IMAGES):
            images[path.parent].append(path)
        return images

    def find(self, *names: str) -> Path:
        """Find the first of some files that is there; raises DataError that lists what was looked for and where."""
        if (path := self._find_first(names)) is None:
            raise DataError(
                f"{self.root}, which holds none of {', '.join(names)}, nor does any folder in it",
                "one of these annotation files, as the benchmark publishes them",
                "Download it, or correct ROOT.",
            )
        return self.root / path

    def require(self, *groups: Sequence[str]) -> None:
        """Raise one DataError that lists each group of names of which no file is there, and where it looked."""
        absent = [" or ".join(names) for names in groups if self._find_first(names) is None]
        if absent:
            raise DataError(
                f"{self.root}, which lacks {len(absent)} of {len(groups)} annotation files, as does any folder in it: "
                f"{', '.join(absent)}",
                "all of them, as the benchmark publishes them",
                "Download them, or correct ROOT.",
            )

    def find_video(self, name: str, exact: bool = False) -> str | None:
        """Find a video or image by the name that a row gives it; None where there is none.

        Args:
            name: such as ``needle_32.mp4``, ``v_abc`` without a suffix, ``1201`` of the file ``vid1201.avi``, or
                ``clevrer/video_1.mp4`` where different videos have the same name.
            exact: find it in a folder of the name's folder alone, and not in any other.

        Returns:
            its path relative to the folder.
        """
        path = PurePosixPath(name)
        stem, suffix = (path.stem, path.suffix) if path.suffix.lower() in VIDEOS + IMAGES else (path.name, "")
        others = () if suffix.lower() in IMAGES else VIDEOS
        for prefix in PREFIXES:
            for ending in dict.fromkeys((suffix, *others)):
                file = self._find_one(str(path.with_name(f"{prefix}{stem}{ending}")), exact) if ending else None
                if file is not None:
                    return str(file)
        return None

    def find_frames(self, name: str) -> list[str]:
        """Find the frames of a video that is a folder of images, in the order of their names; none if it is absent."""
        wanted = PurePosixPath(name).parts
        folders = [folder for folder in self.folders if folder.parts[-len(wanted) :] == wanted]
        return [str(path) for folder in folders[:1] for path in sorted(self.folders[folder])]

    def find_paths(self, videos: Iterable[tuple[str | None, bool, float | None]]) -> dict[str, str | None]:
        """Find each video by its name, and by whether that is exact; None stands where there is none.

        Where a video has frames a second it is a folder of frames. Without a name there is nothing to find.
        """
        found: dict[str, str | None] = {}
        for name, exact, fps in videos:
            if name is not None and fps is None:
                found[name] = self.find_video(name, exact)
            elif name is not None:
                frames = self.find_frames(name)
                found[name] = str(PurePosixPath(frames[0]).parent) if frames else None
        return found

    def make_media(
        self, path: str, fps: float | None, span: tuple[float, float] | None
    ) -> Path | VideoSegment | FrameFiles:
        """Make what a question is about: the file at a found path, a segment of it, or the frames of a folder."""
        found = self.root / path
        if fps is not None and found.is_dir():
            frames = tuple(self.root / frame for frame in self.find_frames(path))
            return FrameFiles(frames, tuple(number / fps for number in range(len(frames))), *(span or ()))
        return found if span is None else VideoSegment(found, *span)

    def read_json(self, *names: str) -> Any:
        """Read the first of some JSON files that is there; raises DataError."""
        return self._read(self.find(*names), lambda text: json.loads(text))

    def read_json_lines(self, *names: str) -> list[Any]:
        """Read the first of some files of JSON lines that is there; raises DataError."""
        return self._read(
            self.find(*names), lambda text: [json.loads(line) for line in text.split("\n") if line.strip()]
        )

    def read_csv(self, *names: str) -> list[dict[str, str]]:
        """Read the first of some CSV files that is there, with a header; raises DataError."""
        return self._read(self.find(*names), lambda text: list(csv.DictReader(StringIO(text))))

    def read_parquet(self, *names: str) -> list[dict[str, Any]]:
        """Read the first of some parquet files that is there; raises DataError, also where pyarrow is not installed."""
        path = self.find(*names)
        try:
            from pyarrow import ArrowException, parquet
        except ImportError as error:
            raise DataError(
                f"{path}, and no pyarrow that reads it", "pyarrow", 'Install it: pip install "dynfocus[eval]".'
            ) from error
        try:
            return parquet.read_table(path).to_pylist()
        except (OSError, ArrowException) as error:
            raise DataError(f"{path} ({error})", "a parquet file", "Download it again.") from error

    def _read(self, path: Path, parse: Any) -> Any:
        try:
            return parse(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError, csv.Error) as error:
            kind = name_kind_of(path)
            cause = error if kind is None else f"it is {kind}"
            raise DataError(f"{path} ({cause})", f"a readable {path.suffix} file", "Download it again.") from error

    def _find_first(self, names: Sequence[str]) -> PurePosixPath | None:
        """The first of some files that is there, one in a folder of its published name before one in any other."""
        found = (self._find_one(name, exact) for exact in (True, False) for name in names)
        return next((path for path in found if path is not None), None)

    def _find_one(self, name: str, exact: bool = False) -> PurePosixPath | None:
        """The file of that name: in a folder of that name where several have it, else in any."""
        wanted = PurePosixPath(name)
        named = self.paths.get(wanted.name.lower(), [])
        paths = [path for path in named if path.parts[-len(wanted.parts) : -1] == wanted.parts[:-1]]
        paths = [wanted] if wanted in named else paths if paths or exact else named
        if len({self._size(path) for path in paths}) > 1:
            raise DataError(
                f"{self.root} with {paths[0]} and {paths[1]}, which differ", f"one file {name}", "Remove the other one."
            )
        return paths[0] if paths else None

    def _size(self, path: PurePosixPath) -> int:
        return (self.root / path).stat().st_size


def name_missing(benchmark: str, files: BenchmarkFiles, missing: Sequence[str], videos: int, may_miss: bool) -> str:
    """Say which of a benchmark's videos are missing; raises DataError unless they may."""
    few = ", ".join(missing[:NAMED]) + (" ..." if len(missing) > NAMED else "")
    problem = f"{len(missing)} of the {videos} videos of {benchmark} are not below {files.root}: {few}"
    if not may_miss:
        raise DataError(problem, "all videos", "Get them, or pass --allow-missing, which results will name.")
    return problem
