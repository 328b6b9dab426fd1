"""Named errors, each in three parts: what was given, what is needed, what to do; and the end by a signal."""

import os
import re
import signal
from collections.abc import Callable, Iterable
from difflib import SequenceMatcher, get_close_matches
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class DynFocusError(Exception):
    """A mistake that a user can mend; its message says what was given, what is needed and what to do.

    It comes out of a data loader's worker as it was raised there: torch makes it anew from one text, the traceback,
    whose last line is the message. That text becomes its cause.
    """

    def __init__(self, given: str, needed: str | None = None, do: str | None = None) -> None:
        if needed is None or do is None:
            self.__cause__ = RuntimeError(given)
            given, needed, do = self._parts(given)
        super().__init__(f"{given}. Needed: {needed}. {do}")
        self.given, self.needed, self.do = given, needed, do

    @classmethod
    def _parts(cls, traceback: str) -> tuple[str, str, str]:
        message = re.split(rf"^(?:\S+\.)?{re.escape(cls.__qualname__)}: ", traceback, flags=re.MULTILINE)[-1]
        parts = re.fullmatch(r"(.*?)\. Needed: (.*?)\. (.*)", message.strip(), re.DOTALL)
        if parts is None:
            raise TypeError(f"{cls.__name__} of one text, which is no traceback of one: give given, needed and do")
        return parts[1], parts[2], parts[3]

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:  # such errors cross borders of processes
        return type(self), (self.given, self.needed, self.do)


class ConfigError(DynFocusError):
    """A setting that cannot be used, alone or beside another."""


class UsageError(DynFocusError):
    """A command line that cannot be read."""


class CheckpointError(DynFocusError):
    """Weights that are absent, incomplete or of another shape than the model."""


class DataError(DynFocusError):
    """An annotation row or file that does not fit its format."""


class PathEscapeError(DataError):
    """A path that leads out of the folder that it has to stay in."""


class NoTargetError(DataError):
    """A row that fits its format and holds no answer to learn from."""


class VideoError(DynFocusError):
    """A video or image that cannot be read, or holds no frame."""


class MissingFileError(VideoError):
    """A video or image that is not there."""


class CrashingFileError(VideoError):
    """A video or image that crashes the process that reads it."""


class PromptError(DynFocusError):
    """A prompt that does not fit: too long, or its placeholders do not match the visual tokens."""


class ContextLengthError(PromptError):
    """A prompt that is longer than the language model's context."""


class SelectorError(DynFocusError):
    """A selector whose ranking of frames fails, or is nothing that frames can be chosen by."""


class FeatureError(DynFocusError):
    """Features that are not finite numbers, or not of the expected shape."""


class RequestError(DynFocusError):
    """A request that a server refuses."""


class JudgeError(DynFocusError):
    """A model that judges answers and gives no reply any more, or may be asked no more."""


class DiskError(DynFocusError):
    """A file that cannot be written, such as for want of room, or a store that cannot be read."""


def suggest(word: str, names: Iterable[str]) -> str:
    """A question after the name that is most like a mistyped one; empty if none is, in its last part and as a whole."""
    last = word.rpartition(".")[2].lstrip("-")
    alike = [name for name in names if SequenceMatcher(None, last, name.rpartition(".")[2].lstrip("-")).ratio() >= 0.6]
    return "".join(f"Did you mean {name}?" for name in get_close_matches(word, alike, n=1))


class Stopped(KeyboardInterrupt):
    """A signal that ends a command, as Ctrl-C does.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop_now(number: int, frame: FrameType | None) -> None:
    """Handle a signal: end what runs. Raises Stopped."""
    raise Stopped(number)


def catch_signals(handler: Callable[[int, FrameType | None], Any] = stop_now) -> None:
    """Let ``handler`` answer the signals that stop a command, but for those that are ignored, as under nohup."""
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _reset() -> None:
    for number in STOPPING:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


# A process that is forked to read files has to end at once, even where it hangs outside of Python.
os.register_at_fork(after_in_child=_reset)
