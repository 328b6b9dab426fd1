"""Read JSON of any size through a window that moves over the file."""

import codecs
import json
import re
from pathlib import Path
from typing import Any, BinaryIO

from dynfocus.errors import DataError

WINDOW = 4 << 20  # bytes read at a time
LIMIT = 64 << 20  # a row of more bytes is a bracket or a quote that is never closed
MARGIN = 16  # longer than what a window's border can cut off the end of a number or word
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
        self.text, self.next, self.at_end = "", 0, False
        # Bytes that are no UTF-8 are kept, so that the error comes from the row that holds them.
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.offset = len(BOM) if file.read(len(BOM)) == BOM else 0
        file.seek(self.offset)

    def peek(self) -> str:
        """Return the next character that is no blank; empty at the end of the file."""
        while True:
            blank = BLANK.match(self.text, self.next)
            assert blank is not None
            self.offset += blank.end() - self.next
            self.next = blank.end()
            if self.next < len(self.text) or self.at_end:
                return self.text[self.next : self.next + 1]
            self._read_more()

    def skip(self) -> None:
        """Move past one ASCII character."""
        self.next += 1
        self.offset += 1

    def read_value(self) -> Any:
        """Read the JSON value that begins at the next character.

        Raises:
            DataError: if there is none.
        """
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.next)
                if end + MARGIN <= len(self.text) or self.at_end:
                    break
            except json.JSONDecodeError as error:
                open_string = error.msg.startswith("Unterminated string")
                if self.at_end or (error.pos + MARGIN < len(self.text) and not open_string):
                    at = self.offset + self._bytes(self.next, error.pos)
                    raise self.error_at(error.msg, at) from error
            except (ValueError, RecursionError) as error:
                raise self.error_at(str(error), self.offset) from error
            self._read_more()
        self.offset += self._bytes(self.next, end)
        self.next = end
        return value

    def error_at(self, cause: str, at: int) -> DataError:
        """Make the error of a file that is no JSON from byte ``at`` on."""
        last = self.offset + self._bytes(self.next, len(self.text.rstrip()))
        if self.at_end and (at >= last or cause.startswith("Unterminated")):
            problem = f"{self.path}, which is cut off at byte {at}"
        else:
            problem = f"{self.path}, which is no JSON at byte {at} ({cause})"
        return DataError(problem, "a whole JSON file", "Get it again, or mend it there.")

    def _bytes(self, start: int, end: int) -> int:
        return len(self.text[start:end].encode("utf-8", "surrogateescape"))

    def _read_more(self) -> None:
        rest = self.text[self.next :]
        if len(rest) > LIMIT:
            raise DataError(
                f"{self.path}, a row of more than {LIMIT} bytes at byte {self.offset}",
                "rows of a few kilobytes",
                "Look for a bracket or quote that is never closed.",
            )
        data = self.file.read(max(WINDOW, len(rest)))
        self.at_end = not data
        self.text, self.next = rest + self.decoder.decode(data, final=self.at_end), 0
