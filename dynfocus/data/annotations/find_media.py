"""Find the file of the video or image that a row names."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from dynfocus.data.annotations.media_fields import IMAGE_FILE
from dynfocus.data.annotations.nextqa import FOLDERS
from dynfocus.data.annotations.parse import IMAGE, IMAGES, VIDEO
from dynfocus.data.annotations.sources import Source, sort_by_number
from dynfocus.data.annotations.unpack import find_unpacked
from dynfocus.errors import DataError, MissingFileError, PathEscapeError

VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".wmv", ".mpg")
SUFFIXES = (*VIDEOS, ".MP4", ".AVI", ".MOV")
OCR_VQA = (".png", ".gif", ".jpeg", ".PNG")
VG = re.compile(r"(|.*/)VG_100K(_2)?(/[^/]+)")
KIND_KEYS = {IMAGE: "<image>", IMAGES: "<image>"}
CLEVRER_FOLDER = 1000  # videos in a folder of CLEVRER


@dataclass(frozen=True)
class MediaFinder:
    """Finds the video and image files of one source.

    Args:
        source: says in which folders they are.
        root: the data root.
        links: whether a link may lead out of its folder.
        index: folder of indices, where media of packed files lie.
    """

    source: Source
    root: Path
    links: bool = False
    index: Path = Path("cache/index")

    def find(self, name: str, kind: int, group: str | None) -> Path:
        """Find the file that a row names, or the folder of a video's frames; ``kind`` and ``group`` are as in `Entry`.

        Raises:
            MissingFileError: if there is none, under this name or another one that the set is known by.
            DataError: if the name, or a link there, leads out of its folder.
        """
        if (unpacked := find_unpacked(name, self.index)) is not None:
            return self._inside(unpacked, self.index, name)
        folder, rest = self._place(name, kind, group)
        count = 0
        base = self.root / self.source.folder / folder
        is_webvid = "webvid" in (self.source.format, self.source.name.partition("_")[0])
        for candidate in candidates(rest, name, is_webvid):
            count += 1
            if os.path.isfile(
                base / candidate
            ):  # Path.is_file raises where a name is too long, or the folder is not ours to read
                return self._inside(base / candidate, base, name)
        if kind == VIDEO and self.list_frames(base / rest):
            return self._inside(base / rest, base, name)
        others = f", nor under {count - 1} other names" if count > 1 else ""
        needed, hint = f"the file that a row of {self.source.name} names as {name}", "Get it"
        if self.source.format == "nextqa" and "/" not in name:
            map_file = (self.root / self.source.folder / self.source.file).parent / FOLDERS
            needed = (
                f"{needed}, or {map_file}, which says in what folder each video is (it is absent, or leaves this out)"
            )
            hint = f"Get {FOLDERS}, which is published with the set"
        raise MissingFileError(
            f"no file at {base / rest}{others}", needed, f"{hint}, or check the folder of the set's media."
        )

    def list_frames(self, folder: Path) -> tuple[Path, ...]:
        """List the images in a folder, in the order of the numbers in their names; raises PathEscapeError."""
        if not os.path.isdir(folder):
            return ()
        names = sorted((name for name in os.listdir(folder) if IMAGE_FILE.fullmatch(name)), key=sort_by_number)
        return tuple(self._inside(folder / name, folder, name) for name in names)

    def address(self, name: str, kind: int, group: str | None) -> str:
        """Return the name of a row's medium under the data root, whether the file exists or not.

        Raises:
            DataError: if the name leads out of its folder.
        """
        folder, rest = self._place(name, kind, group)
        root = os.path.abspath(self.root)
        path = os.path.normpath(os.path.join(root, self.source.folder, folder, rest))
        if path.startswith(root + os.sep):
            return PurePosixPath(os.path.relpath(path, root)).as_posix()
        parts = (self.source.name, *([group] if group else []), name)
        return PurePosixPath(*parts).as_posix()

    def _place(self, name: str, kind: int, group: str | None) -> tuple[str, str]:
        """Return the folder that holds a medium, and its name in there."""
        path = self._relative(name)
        if not path.parts or ".." in path.parts or path.is_absolute() or PureWindowsPath(name).drive or "\0" in name:
            raise PathEscapeError(
                f"a row of {self.source.name} that names {name!r}, which is no path in its folder",
                "names relative to the folder of the set's media",
                "Mend or delete the row.",
            )
        folders = self.source.media
        if isinstance(folders, str):
            return folders, str(path)
        if group in folders:
            return folders[group], str(path)
        for parent in list(path.parents)[:-1]:
            if str(parent) in folders:
                return folders[str(parent)], str(path.relative_to(parent))
        for key in (KIND_KEYS.get(kind, "<video>"), ""):
            if key in folders:
                return folders[key], str(path)
        raise DataError(
            f"a row of {self.source.name} that names {name!r}{f' of class {group!r}' if group else ''}",
            f"media that begin with one of {', '.join(map(repr, folders))}",
            'Add its folder to the source\'s media, under "" for all that no other key fits.',
        )

    def _relative(self, name: str) -> PurePosixPath:
        """Return a name relative to the folder of media, where it is a whole path of a file in there."""
        if isinstance(self.source.media, str) and PurePosixPath(name).is_absolute():
            folder = os.path.abspath(self.root / self.source.folder / self.source.media)
            if os.path.normpath(name).startswith(os.path.join(folder, "")):
                return PurePosixPath(os.path.relpath(name, folder))
        return PurePosixPath(name)

    def _inside(self, path: Path, folder: Path, name: str) -> Path:
        if self.links:
            return path
        real, home = os.path.realpath(path), os.path.realpath(folder)
        if real != home and not real.startswith(os.path.join(home, "")):
            raise PathEscapeError(
                f"{name} of {self.source.name}, a link that leads out of {home} to {real}",
                "media inside the folder of the set, or leave to follow links",
                "Set data.init_args.links to true, or name the folder itself in the source's media.",
            )
        return path


def candidates(name: str, annotated: str, is_webvid: bool = False) -> Iterator[str]:
    """Yield the names that a medium may have in its folder, the likeliest first; ``annotated`` is that in the row."""
    yield name
    path = PurePosixPath(name)
    if path.suffix == ".jpg" and "ocr" in annotated:
        yield from (str(path.with_suffix(suffix)) for suffix in OCR_VQA)
    if parts := VG.fullmatch(name):
        yield from (f"{parts[1]}{folder}{parts[3]}" for folder in ("images", "VG_100K" if parts[2] else "VG_100K_2"))
    if number := re.fullmatch(r"video_([0-9]{5})\.mp4", path.name):
        start = int(number[1]) // CLEVRER_FOLDER * CLEVRER_FOLDER
        nested = f"video_{start:05d}-{start + CLEVRER_FOLDER:05d}/{path.name}"
        yield from (str(path.parent / nested), str(path.parent / "video_train" / nested))
    if not path.suffix:
        yield from (f"{name}{suffix}" for suffix in SUFFIXES)
    elif path.suffix.lower() in VIDEOS:
        yield from (str(path.with_suffix(suffix)) for suffix in SUFFIXES if suffix != path.suffix)
    elif path.suffix.lower() in (".jpg", ".jpeg", ".png"):
        yield str(path.with_suffix(path.suffix.swapcase()))
    # NExT-QA's and WebVid's folders, which some unpack or fetch without.
    if (is_webvid and len(path.parts) > 1) or re.fullmatch(r"(.*/)?[0-9]{4}/[0-9]+\.mp4", name):
        yield from candidates(str(path.parent.parent / path.name), annotated)
