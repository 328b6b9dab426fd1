"""Frames within a page: each once, as a symbol that any place of the page shows."""

from base64 import b64encode
from collections.abc import Collection, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynfocus.inspection.report.axis import clock
from dynfocus.inspection.report.filmstrip import evenly, without

LONGEST = 160  # pixels of a frame's longer side
SMALLEST = 24
MANY = 250  # frames; of more, each is made smaller, so that all of them hold no more pixels
OTHERS = 96  # frames in all, as long as no more are kept: beside kept ones some others, evenly
EXACT = 64  # pixels a side; videos that are no larger are stored without loss


def embedded(kept: Collection[int], frames: int) -> frozenset[int]:
    """The frames that a page holds: all kept ones, and of the others so many that there are `OTHERS`, evenly."""
    rest = evenly(without(range(frames), set(kept)), max(0, OTHERS - len(kept)))
    return frozenset((*kept, *rest))


def symbols(frames: Sequence[NDArray[np.uint8]], chosen: Collection[int]) -> str:
    """The chosen frames as the symbols ``f0``, ``f1``, ... of an SVG that is not shown itself."""
    longest = max(SMALLEST, min(LONGEST, int(LONGEST * (MANY / max(1, len(chosen))) ** 0.5)))
    told = []
    for frame in sorted(chosen):
        pixels = np.ascontiguousarray(frames[frame])
        image = Image.fromarray(pixels)
        image.thumbnail((longest, longest))
        kind = "PNG" if max(pixels.shape[:2]) <= EXACT else "JPEG"
        size = f'width="{image.width}" height="{image.height}"'
        told.append(
            f'<symbol id="f{frame}" viewBox="0 0 {image.width} {image.height}">'
            f'<image {size} href="{data_uri(image, kind)}"/></symbol>'
        )
    return f'<svg class="store" aria-hidden="true">{"".join(told)}</svg>'


def data_uri(image: Image.Image, kind: str) -> str:
    """A picture as an address that holds it, in a format by its name in Pillow."""
    stream = BytesIO()
    image.save(stream, kind, quality=80, optimize=True)
    return f"data:image/{kind.lower()};base64,{b64encode(stream.getvalue()).decode()}"


def shown_frame(frame: int, seconds: float) -> str:
    """An embedded frame in its place, with words for those who do not see it."""
    words = f"frame {frame} at {clock(seconds)}"
    return f'<svg class="frame" role="img" aria-label="{words}"><use href="#f{frame}"/></svg>'
