"""Read messages in transformers' form, and videos and images in every form that callers give them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from dynfocus.errors import PromptError
from dynfocus.records.rows import FrameFiles, Row, Turn
from dynfocus.settings import FrameRule
from dynfocus.video.media import AnyMedia, read_or_blank
from dynfocus.video.pictures import is_picture, read_pictures, save_picture

Kind = Literal["videos", "images"]
KINDS: dict[str, Kind] = {"video": "videos", "image": "images", "video_url": "videos", "image_url": "images"}


@dataclass(frozen=True, eq=False)
class Shown:
    """What one row shows: a video (a file, or its frames in order), or images.

    Attributes:
        kind: of both.
        content: a path, or pictures in memory or in files.
    """

    kind: Kind
    content: Any

    @property
    def name(self) -> str:
        """A path, or a word for what has none."""
        return str(self.content) if isinstance(self.content, str | Path) else f"{self.kind} in memory"

    def is_same(self, other: "Shown") -> bool:
        """Whether both are one file, or one thing in memory."""
        paths = isinstance(self.content, str | Path) and isinstance(other.content, str | Path)
        return self.kind == other.kind and (self.content is other.content or (paths and self.name == other.name))

    def read(self, rule: FrameRule) -> Tensor:
        """Its frames ``[T, size, size, 3]``, as the frame rule takes them; raises VideoError."""
        if isinstance(self.content, str | Path):
            return read_or_blank(Path(self.content), rule).frames
        return read_pictures(self.content, rule, is_album=self.kind == "images").frames

    def save(self, folder: Path) -> AnyMedia:
        """As files, for what reads files alone: pictures in memory are written into a folder; raises VideoError."""
        if isinstance(self.content, str | Path):
            return Path(self.content)
        files = [
            Path(one) if isinstance(one, str | Path) else save_picture(one, number, folder / f"{number}.png")
            for number, one in enumerate(self.content)
        ]
        return FrameFiles(tuple(files), is_album=self.kind == "images")


def list_shown(kind: Kind, given: Any, count: int) -> list[Shown | None]:
    """What each of ``count`` rows shows.

    Args:
        kind: whether videos or images were given.
        given: None; one file; one picture; the frames of one video, as a list of pictures or an array of four axes; or
            a list with any of these for each row, where a list in the list is a video's frames, or one row's images.

    Raises:
        PromptError: if that is for another number of rows.
    """
    if given is None:
        return [None] * count
    whole = isinstance(given, np.ndarray | Tensor) and given.ndim == (4 if kind == "videos" else 3)
    frames = kind == "videos" and isinstance(given, list | tuple) and given and all(map(is_picture, given))
    listing = [given] if isinstance(given, str | Path) or is_picture(given) or whole or frames else list(given)
    if not count or len(listing) != count:
        raise PromptError(
            f"{count} questions and {len(listing)} {kind}",
            "one video, one image or one list of images for each question",
            "Give None where it has none.",
        )
    return [None if one is None else make_shown(kind, one) for one in listing]


def make_shown(kind: Kind, content: Any) -> Shown:
    """A file, named as a path or ``file://``, or pictures; raises PromptError where it is neither."""
    if isinstance(content, str) and content.split("://", 1)[0] in ("http", "https", "data", "s3", "gs"):
        raise PromptError(f"the address {content[:60]}", "a file on this machine", "Fetch it first, and give its path.")
    if isinstance(content, str | Path):
        return Shown(kind, content.removeprefix("file://") if isinstance(content, str) else content)
    if is_picture(content):
        return Shown(kind, [content])
    if isinstance(content, list | tuple | np.ndarray | Tensor):
        return Shown(kind, content)
    raise PromptError(
        f"{kind} given as {type(content).__name__}",
        "a path, a PIL image, an array, or a list of these",
        "Give the file's path, or its frames.",
    )


def read_conversation(messages: Sequence[Mapping[str, Any]], number: int) -> tuple[Row, Shown | None]:
    """A conversation in transformers' form as a row, and what it shows.

    Messages have a ``role`` (system, user or assistant) and a ``content``: a text, or parts of type ``text``, ``video``
    or ``image``. A conversation shows one video, or images, from its first question on; later turns may repeat it.
    Questions of the user that follow each other become one. A conversation whose last message is the assistant's has
    no open question.

    Args:
        messages: of one conversation.
        number: its place among others, by which the row is named.

    Raises:
        PromptError: if it has another form, or shows something else later on.
    """
    system: str | None = None
    turns: list[Turn] = []
    shown: Shown | None = None
    for place, message in enumerate(messages):
        role, text = message.get("role"), ""
        text, media = _read_parts(message.get("content"), number, place)
        if role in ("system", "developer") and place == 0 and media is None:
            system = text
        elif role == "user":
            if media is not None and not (shown.is_same(media) if shown else not turns):
                raise _make_error(
                    number, place, "shows something that the first question does not", "one video, or images"
                )
            shown = shown or media
            if turns and turns[-1].answer is None:
                turns[-1] = Turn(f"{turns[-1].question}\n{text}", None)
            else:
                turns.append(Turn(text, None))
        elif role == "assistant" and turns and turns[-1].answer is None and media is None:
            turns[-1] = Turn(turns[-1].question, text)
        else:
            raise _make_error(
                number, place, f"of the role {role!r} stands out of order", "system, user, assistant, user"
            )
    if not turns or any(not turn.question.strip() for turn in turns):
        raise _make_error(
            number, len(messages) - 1, "ends a conversation without a question", "words in every question"
        )
    return Row(f"chat[{number}]", number, None if shown is None else shown.name, tuple(turns), system=system), shown


def _read_parts(content: Any, number: int, place: int) -> tuple[str, Shown | None]:
    """The text of a message, its parts on lines of their own, and what it shows."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple):
        raise _make_error(number, place, f"has {type(content).__name__} as its content", "a text, or a list of parts")
    texts, found = [], []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(kind, str) and kind in KINDS:
            content = next((part[key] for key in (kind, "url", "path") if part.get(key) is not None), None)
            content = content.get("url") if isinstance(content, Mapping) else content
            if content is None:
                raise _make_error(
                    number, place, f"has a part of type {kind} without the {kind}", "its path or its frames"
                )
            found.append(make_shown(KINDS[kind], content))
        else:
            raise _make_error(number, place, f"has a part of type {kind!r}", "parts of type text, video or image")
    if len(found) > 1 and any(one.kind == "videos" for one in found):
        raise _make_error(number, place, "shows several videos, or a video and an image", "one video, or images")
    if len(found) > 1:
        pictures = [p for one in found for p in ([one.content] if isinstance(one.content, str | Path) else one.content)]
        return "\n".join(texts), Shown("images", pictures)
    return "\n".join(texts), found[0] if found else None


def _make_error(number: int, place: int, what: str, needed: str) -> PromptError:
    return PromptError(f"message {place} of conversation {number}, which {what}", needed, "Change the conversation.")
