"""Count what a host's own processor would spend on a video if it were given the file."""

from dataclasses import dataclass
from typing import Any

from dynfocus.bridge.hosts.host import Host
from dynfocus.video.numbered import NumberedFrames


@dataclass(frozen=True)
class OwnDefault:
    """How many frames a processor takes of a video by itself, and the visual tokens that they cost."""

    frames: int
    tokens: int


def count_default(host: Host, video: NumberedFrames) -> OwnDefault:
    """Ask the processor's own rule which frames it would take of the file, in the file's own size.

    A processor without a rule takes every frame. Frames that share patches cost a patch for each group.
    """
    from transformers.video_utils import VideoMetadata

    times, processor = video.times, host.processor.video_processor
    total = len(times)
    rate = (total - 1) / float(times[-1]) if total > 1 and times[-1] > 0 else 1.0
    frames = total
    if processor.do_sample_frames or any(getattr(processor, name, None) for name in ("num_frames", "fps")):
        names = ("num_frames", "fps", "min_frames", "max_frames", "temporal_patch_size", "skip_secs", "initial_shift")
        rule: dict[str, Any] = {name: getattr(processor, name) for name in names if hasattr(processor, name)}
        facts = VideoMetadata(total_num_frames=total, fps=rate, duration=total / rate)
        try:
            frames = max(1, len(processor.sample_frames(facts, **rule)))
        except ValueError:  # a rule that takes more frames than a short video has
            frames = total
    size = video.images([0])[0]
    groups = -(-frames // host.frames_per_patch)
    each = host.family.count(host.processor, groups, size.height, size.width)
    return OwnDefault(frames, groups * each + host.family.closing)
