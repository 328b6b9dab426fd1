"""Place frames at their true times in the rotary positions of Qwen2.5-VL."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROUNDING = 1e-6  # seconds that are added, so that a time that stands exactly on a step is not cut to the step before


def spread_seconds(seconds: Sequence[float]) -> Float[Tensor, "1 K"]:
    """One interval for each frame, where transformers expects one for the whole video.

    It places a frame at its number times the interval; with an interval of its own each frame lies at its own time
    since the first frame.
    """
    times = torch.tensor(seconds, dtype=torch.float64) - seconds[0] + ROUNDING
    return (times / torch.arange(len(seconds)).clamp(min=1))[None]


def find_positions(
    is_video: Bool[Tensor, " S"], grids: Sequence[tuple[int, int]], seconds: Sequence[float], rate: float
) -> Int[Tensor, "4 1 S"]:
    """The positions of one prompt with one video: of the text, then in time, height and width.

    Args:
        is_video: where visual tokens stand, one frame behind the other.
        grids: rows and columns of each frame's tokens.
        seconds: the frames' times.
        rate: steps a second in time.

    Returns:
        Text counts on after the largest position of the video in any direction, as in the model's first implementation;
        transformers 5.24 counts on after height and width alone, so that the question would lie before the last frames.
    """
    begin = int(is_video.int().argmax())
    frames = []
    for (rows, columns), second in zip(grids, seconds, strict=True):
        step = torch.tensor([int((second - seconds[0] + ROUNDING) * rate)])
        frames.append(torch.cartesian_prod(step, torch.arange(rows), torch.arange(columns)).T + begin)
    video = torch.cat(frames, 1)
    before, after = torch.arange(begin), torch.arange(len(is_video) - begin - video.shape[1]) + int(video.max()) + 1
    text = torch.arange(len(is_video), device=is_video.device)[None]
    places = torch.cat([before.expand(3, -1), video, after.expand(3, -1)], 1).to(is_video.device)
    return torch.cat([text, places])[:, None]
