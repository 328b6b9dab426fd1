"""JSON of any size read through a window that moves over it."""

import codecs
import json
import re
from pathlib import Path
from typing import Any, BinaryIO

from dynfocus.errors import DataError

WINDOW = 4 << 20  # bytes read at a time
LIMIT = 64 << 20  # a row of more bytes is a bracket or a quote that is never closed
MARGIN = 16  # longer than any number's or word's end that a window's border can cut off
BOM = codecs.BOM_UTF8
DECODER = json.JSONDecoder()
BLANK = re.compile(r"[ \t\n\r]*")


class Window:
    """The text of a file, some of it at a time, and the byte at which its next character stands.

    Args:
        path: the file's name, for messages.
        file: the file, open for reading bytes.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.text, self.next, self.ended = "", 0, False
        # What is no UTF-8 is for the row that holds it to answer for.
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.offset = len(BOM) if file.read(len(BOM)) == BOM else 0
        file.seek(self.offset)

    def peek(self) -> str:
        """The next character that is no blank; empty at the end of the file."""
        while True:
            found = BLANK.match(self.text, self.next)
            assert found is not None
            self.offset += found.end() - self.next
            self.next = found.end()
            if self.next < len(self.text) or self.ended:
                return self.text[self.next : self.next + 1]
            self._more()

    def skip(self) -> None:
        """Leave one character of ASCII behind."""
        self.next += 1
        self.offset += 1

    def take(self) -> Any:
        """The JSON value that begins at the next character.

        Raises:
            DataError: if there is none.
        """
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.next)
                if end + MARGIN <= len(self.text) or self.ended:
                    break
            except json.JSONDecodeError as error:
                open_string = error.msg.startswith("Unterminated string")
                if self.ended or (error.pos + MARGIN < len(self.text) and not open_string):
                    at = self.offset + self._bytes(self.next, error.pos)
                    raise self.wrong(error.msg, at) from error
            except (ValueError, RecursionError) as error:
                raise self.wrong(str(error), self.offset) from error
            self._more()
        self.offset += self._bytes(self.next, end)
        self.next = end
        return value

    def wrong(self, cause: str, at: int) -> DataError:
        """What to say of a file that is no JSON from byte ``at`` on."""
        last = self.offset + self._bytes(self.next, len(self.text.rstrip()))
        if self.ended and (at >= last or cause.startswith("Unterminated")):
            given = f"{self.path}, which is cut off at byte {at}"
        else:
            given = f"{self.path}, which is no JSON at byte {at} ({cause})"
        return DataError(given, "a whole JSON file", "Get it again, or mend it there.")

    def _bytes(self, start: int, end: int) -> int:
        return len(self.text[start:end].encode("utf-8", "surrogateescape"))

    def _more(self) -> None:
        kept = self.text[self.next :]
        if len(kept) > LIMIT:
            raise DataError(
                f"{self.path}, a row of more than {LIMIT} bytes at byte {self.offset}",
                "rows of a few kilobytes",
                "Look for a bracket or quote that is never closed.",
            )
        data = self.file.read(max(WINDOW, len(kept)))
        self.ended = not data
        self.text, self.next = kept + self.decoder.decode(data, final=self.ended), 0
