"""Say by its first bytes what a file is that was given as something else."""

from pathlib import Path

HEAD = 256  # bytes that are looked at
POINTER = "a pointer of Git LFS, whose content was never fetched (`git lfs pull` fetches it)"
PAGE = "a web page (HTML), such as a server sends in place of a file"
KINDS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs.github.com/spec/", POINTER),
    (b"\x1f\x8b", "packed by gzip; only a name that ends with .gz is unpacked"),
    (b"PAR1", "parquet; only a name that ends with .parquet is read so"),
    (b"ARROW1", "an Arrow file; only a name that ends with .arrow is read so"),
    (b"\xff\xfe", "text in UTF-16; `iconv -f UTF-16 -t UTF-8` makes it UTF-8"),
    (b"\xfe\xff", "text in UTF-16; `iconv -f UTF-16 -t UTF-8` makes it UTF-8"),
    (b"PK\x03\x04", "a zip archive"),
    (b"%PDF-", "a PDF"),
)
PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml")


def name_kind(head: bytes) -> str | None:
    """What begins with these bytes, in words, and what to do about it; None for anything else."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(PAGES):
        return PAGE
    return next((kind for start, kind in KINDS if head.startswith(start)), None)


def name_kind_of(path: Path) -> str | None:
    """As `name_kind`, of a file; None also where it cannot be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return name_kind(file.read(HEAD))
    except OSError:
        return None
