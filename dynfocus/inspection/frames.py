"""Choose the frames that a picture or a page shows, and encode them for a page."""

from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynfocus.inspection.wording import rank_frames
from dynfocus.records.selections import Selection

LONGEST = 160  # pixels of a page's frame's longer side
SMALLEST = 24
MANY = 250  # frames; of more, each is made smaller, so that all of them hold no more pixels
OTHERS = 96  # frames in all, as long as no more are kept: beside kept ones some others, evenly
EXACT = 64  # pixels a side; videos that are no larger are stored without loss


def spread(frames: Sequence[int], count: int) -> list[int]:
    """``count`` of these frames, from the middles of equal shares; all of them where there are no more."""
    if len(frames) <= count:
        return list(frames)
    return [frames[(2 * place + 1) * len(frames) // (2 * count)] for place in range(count)]


def exclude(frames: Iterable[int], others: Collection[int]) -> list[int]:
    """The frames that are not among the others."""
    return [frame for frame in frames if frame not in others]


def choose_strip(selection: Selection, places: int) -> list[int]:
    """The frames that a strip of so many places shows: kept ones first, of these the best first; else evenly."""
    frames = set(list(rank_frames(selection))[:places])
    for group in (selection.kept, range(len(selection.seconds))):
        frames |= set(spread(exclude(group, frames), places - len(frames)))
    return sorted(frames)


def choose_embedded(kept: Collection[int], frames: int) -> list[int]:
    """The frames that a page holds: all kept ones, and of the others so many that there are `OTHERS`, evenly."""
    rest = spread(exclude(range(frames), set(kept)), max(0, OTHERS - len(kept)))
    return sorted({*kept, *rest})


def encode_frame(pixels: NDArray[np.uint8], count: int) -> tuple[int, int, str]:
    """Width, height and data URI of one of ``count`` frames of a page."""
    longest = max(SMALLEST, min(LONGEST, int(LONGEST * (MANY / max(1, count)) ** 0.5)))
    image, stream = Image.fromarray(np.ascontiguousarray(pixels)), BytesIO()
    kind = "PNG" if max(image.size) <= EXACT else "JPEG"
    image.thumbnail((longest, longest))
    image.save(stream, kind, quality=80, optimize=True)
    return *image.size, f"data:image/{kind.lower()};base64,{b64encode(stream.getvalue()).decode()}"
