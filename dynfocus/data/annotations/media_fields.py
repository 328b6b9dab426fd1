"""Parse which video or images a row shows, of whatever trainer's keys, and take their slots off its questions."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, pairwise
from pathlib import PurePosixPath
from typing import Any

from dynfocus.data.annotations.parse import IMAGE, IMAGES, TEXT, VIDEO, is_number, require_list, require_text

SLOTS = ("<image>", "<video>")
SLOT_LINE = re.compile(r"^(<image>|<video>)\s*\n|\n\s*(<image>|<video>)$")
# Slots as other models write them; a tag of HTML, which a question about code may hold, is none.
OTHER_SLOT = re.compile(
    r"<img>[^<>]+</img>|<ImageHere>|<\|?(?:image|video)_?\d+\|?>|<\|(?:vision_start|(?:image|video)(?:_pad)?)\|>", re.I
)
MEDIA_KEYS = {"image": IMAGE, "images": IMAGE, "video": VIDEO, "videos": VIDEO}
SPAN_KEYS = (("start", "end"), ("video_start", "video_end"))
SPAN_NAMES = tuple(key for pair in SPAN_KEYS for key in pair)
# Words of a key that stands for a medium or for times, and endings of a value that is a file.
MEDIA_WORDS = {"image", "img", "picture", "photo", "video", "clip", "movie", "media", "frame", "gif", "audio"}
TIME_WORDS = {"start", "end", "begin", "stop", "from", "time", "t", "timestamp", "span", "segment", "interval"}
# Keys by which other trainers learn less, or not at all, from a row or an answer.
TARGET_KEYS = {"loss", "loss_scale", "loss_weight", "loss_mask", "train", "trainable", "weight", "mask"}
NAME_WORDS = {"id", "name", "count", "number"}  # beside one of these, a word of times stands for no time
IMAGE_FILE = re.compile(r".+\.(jpe?g|png|webp|bmp|tiff?|gif|avif|heic)", re.I)
OTHER_FILE = re.compile(r".+\.(mp4|mkv|webm|avi|mov|m4v|wav|mp3)", re.I)
EPOCH = 1e8  # a number above is a date in seconds, not a place in a video


@dataclass(frozen=True)
class Medium:
    """What a row shows; the attributes are those of `Entry`."""

    media: str | None
    kind: int
    span: tuple[float, float] | None = None
    frames: tuple[str, ...] = ()
    times: float | tuple[float, ...] | None = None


def parse_media(row: dict) -> Medium:
    """Parse what a row shows: one video, one image, several images, or nothing; raises TypeError or ValueError.

    Read are ``image``, ``images``, ``video`` and ``videos``, each a name, ``{"path": name}`` or a list; a list of
    images as the video is its frames. Their times are ``fps`` (or ``sample_fps``), frames a second, or ``timestamps``,
    the seconds of each; ``start`` and ``end`` (or ``video_start`` and ``video_end``) are a segment, in seconds. A name
    that ends in ``.pkl``, of features, stands for the video they were made from.
    """
    shown = [(kind, name) for key, kind in MEDIA_KEYS.items() if row.get(key) for name in _list_names(row[key], key)]
    images, videos = [[name for kind, name in shown if kind == which] for which in (IMAGE, VIDEO)]
    if len(videos) > 1 or (images and videos):
        raise ValueError(f"more than one video or image: {[name for _, name in shown]!r:.200}")
    frames = videos[0] if videos and isinstance(videos[0], tuple) else ()
    refuse_unread_keys(row, bool(shown), (*SPAN_NAMES, *(("timestamps",) if frames else ())))
    span = parse_span(row)
    if videos:
        if frames:
            return Medium(_name_list(frames), VIDEO, span, frames, _parse_times(row, len(frames)))
        name = re.sub(r"\.pkl$", ".mp4", str(videos[0]))
        return Medium(name, VIDEO, span, (), None if PurePosixPath(name).suffix else _parse_times(row, None))
    if span is not None:
        raise ValueError("start and end without a video")
    if len(images) > 1:
        names = tuple(map(str, images))
        return Medium(_name_list(names), IMAGES, None, names)
    return Medium(str(images[0]), IMAGE) if images else Medium(None, TEXT)


def _list_names(value: Any, key: str) -> list[str | tuple[str, ...]]:
    """List the media that a key names: of a video's frames all names as one."""
    if not value:
        return []
    if isinstance(value, dict):
        refuse_unread_keys({name: value[name] for name in value.keys() - {"path", "url", "bytes"}}, True, ())
        return _list_names(value.get("path") or value.get("url") or require_text(None, f"the path of {key}"), key)
    if isinstance(value, str):
        return [require_text(value, key).removeprefix("file://")]
    names = [name for one in require_list(value, key) for name in _list_names(one or require_text(None, key), key)]
    flat = tuple(name for name in names if isinstance(name, str))
    is_frames = MEDIA_KEYS[key] == VIDEO and len(flat) == len(names) and all(map(IMAGE_FILE.fullmatch, flat))
    return [flat] if is_frames else names


def _name_list(names: tuple[str, ...]) -> str:
    """Name several files as one: by the first, their number, and a digest of all."""
    return f"{names[0]}+{len(names) - 1}-{hashlib.sha256(repr(names).encode()).hexdigest()[:8]}"


def _parse_times(row: dict, frames: int | None) -> float | tuple[float, ...] | None:
    fps, seconds = row.get("fps", row.get("sample_fps")), row.get("timestamps")
    if fps is not None and seconds is not None:
        raise ValueError("fps and timestamps, where one of them is enough")
    if seconds is not None:
        times = tuple(float(one) if is_number(one) else math.nan for one in require_list(seconds, "timestamps"))
        if frames != len(times) or not all(one < two for one, two in pairwise((-1e-9, *times))):
            raise ValueError(f"timestamps {seconds!r:.80} that are not {frames} ascending numbers of seconds")
        return times
    if fps is not None and not (is_number(fps) and 0 < fps < math.inf):
        raise ValueError(f"fps {fps!r}, which is no number of frames a second")
    return None if fps is None else float(fps)


def parse_span(row: dict) -> tuple[float, float] | None:
    """Parse the start and end that a row names, in seconds; raises TypeError or ValueError."""
    named = [(row.get(first), row.get(last)) for first, last in SPAN_KEYS]
    start, end = next((pair for pair in named if pair != (None, None)), (None, None))
    if start is None and end is None:
        return None
    if not is_number(start) or not is_number(end):
        raise TypeError(f"start {start!r} and end {end!r} that are not both numbers of seconds")
    span = float(start), float(end)
    if not 0 <= span[0] < span[1] < math.inf:
        raise ValueError(f"start {start} and end {end}, which are no segment of a video")
    return span


def refuse_unread_keys(row: dict, shows: bool, read: Sequence[str] = SPAN_NAMES) -> None:
    """Raise ValueError that names keys nobody reads where they look like the medium of a row, or like times in it.

    So do a list of a video's frames, and what says that an answer is no target or counts less than others. Such a row
    would be learned from without what it is about. Where a row ``shows`` something, further names of it are
    left alone, but not a second picture beside the first. The keys ``read`` are known. Objects in the row are looked
    into, one level down.
    """
    inner = {key: value for key, value in row.items() if isinstance(value, dict) and key not in MEDIA_KEYS}
    if inner:
        row = row | {f"{key}.{name}": one for key, value in inner.items() for name, one in value.items()}
    media_keys, second_keys, time_keys, frame_keys, target_keys = _sort_keys(tuple(row))
    if shows:
        media = [key for key in second_keys if row[key]]
    else:
        media = [key for key in row if _names_files(row[key], key in media_keys)]
        media += [key for key in media_keys if "id" in _split_words(key) and is_number(row[key])]
    times = [key for key in time_keys if key not in read and _is_time(row[key])]
    frames = [key for key in frame_keys if key not in read and (key == "nframes" or _is_list_of_numbers(row[key]))]
    targets = [key for key in target_keys if _is_other_weight(row[key])]
    for keys, what in (
        (media, "which look like a medium, image or video"),
        (times, "which look like times, start and end in seconds"),
        (frames, "which look like frames of a video: model.frame_rule says which are taken"),
        (targets, "by which an answer counts less or not at all: every answer is learned from alike"),
    ):
        if keys:
            raise ValueError(f"{', '.join(map(repr, keys))}, which nobody reads and {what}")


@lru_cache(1000)  # the rows of a file have few different sets of keys
def _sort_keys(keys: tuple[str, ...]) -> tuple[list[str], ...]:
    """Return the keys that look like a medium, a second one, times, frames of a video, and weights of answers."""
    media = [key for key in keys if _split_words(key) & MEDIA_WORDS]
    second = [key for key in keys if re.fullmatch(r"(image|video)s?_?[0-9]+", key)]
    times = [key for key in keys if _split_words(key) & TIME_WORDS and not _split_words(key) & NAME_WORDS]
    frames = [key for key in keys if key == "nframes" or "frame" in _split_words(key)]
    targets = [key for key in keys if key.rpartition(".")[2] in TARGET_KEYS]
    return media, second, times, frames, targets


def _split_words(key: str) -> set[str]:
    """Split a key such as ``videoPaths`` or ``video_path`` into its words, in the singular."""
    return set(re.findall(r"[a-z]+?(?=s?(?![a-z]))", re.sub(r"([A-Z])", r"_\1", key).lower()))


def _names_files(value: Any, any_name: bool) -> bool:
    if isinstance(value, dict):
        return any(_names_files(value.get(key), any_name) for key in ("path", "bytes", "url"))
    if isinstance(value, list | tuple):
        return bool(value) and _names_files(value[0], any_name)
    if not isinstance(value, str) or not value.strip():
        return False
    return any_name or bool(IMAGE_FILE.fullmatch(value) or OTHER_FILE.fullmatch(value))


def _is_time(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and _is_time(value[0])
    if isinstance(value, str):
        return bool(re.match(r"\s*[0-9]", value)) and not re.match(r"\s*[0-9]{4}-[0-9]", value)
    return is_number(value) and abs(value) < EPOCH


def _is_other_weight(value: Any) -> bool:
    """Return whether a value is a weight other than 1, or a list that holds one; true and false are 1 and 0."""
    values = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(one, bool | int | float) and one != 1 for one in values)


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and is_number(value[0])


def strip_questions(questions: Sequence[str], kind: int, images: int = 1) -> list[str]:
    """Take the visual slots off the questions of a row that shows something of this kind; raises ValueError.

    Off the first at its start, or else at its end; off the others where they stand on a line of their own. Anywhere
    else they are a person's own text. A slot with nothing to show does not fit: any in a row of text alone, and more
    than there are images. (Of a video some write one for each frame.) Several images are shown together, as one clip:
    where their slots do not all stand at one end of the first question, each becomes a number, such as ``[image 2]``.
    """
    questions = [question.strip() for question in questions]
    if kind == TEXT:
        if blind := [one for one in questions if strip_slots(one) != one or OTHER_SLOT.search(one)]:
            raise ValueError(f"a slot with nothing to show, in the question {blind[0]!r:.80}")
        return questions
    first = strip_slots(questions[0])
    slots = sum(questions[0].count(slot) - first.count(slot) for slot in SLOTS)
    total = sum(question.count(SLOTS[0]) for question in questions) if kind == IMAGES else slots
    if kind != VIDEO and total > images:
        raise ValueError(f"{total} slots for {images} images" if images > 1 else f"{total} slots for one image")
    if total > slots:
        numbers = count(1)
        return [re.sub(SLOTS[0], lambda _: f"[image {next(numbers)}]", question) for question in questions]
    return [first, *(SLOT_LINE.sub("", one).strip() if "<" in one else one for one in questions[1:])]


def strip_slots(question: str) -> str:
    """Return a first question without the slots at its start, or without those at its end if it starts with none."""
    words = question
    if "<" not in question:
        return question.strip()
    while slot := next(filter(words.startswith, SLOTS), None):
        words = words.removeprefix(slot).lstrip()
    while words and not question.startswith(SLOTS) and (slot := next(filter(words.endswith, SLOTS), None)):
        words = words.removesuffix(slot).rstrip()
    return words.strip()
