"""Encode frames under the question, with query tokens that read each frame as LLaMA-VID's do."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dynfocus.errors import FeatureError
from dynfocus.method.sketch import Encoder, sketch_frames
from dynfocus.models.towers import InstructionTower, VisionTower
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Batch, FrameSketch, stack_sketches


def encode_with_instruction(
    batch: Batch, vision: VisionTower, instruction: InstructionTower, settings: ConnectorSettings
) -> tuple[FrameSketch, Float[Tensor, "I T R e"]]:
    """The sketches of a batch's videos, and Q of each visual slot: of every frame, padded to the longest video.

    Raises:
        FeatureError: if the batch holds sketches: query tokens read whole frames.
    """
    if batch.sketch is not None:
        raise FeatureError(
            "a batch of sketches with instruction_mode = frame",
            "frames, which query tokens read anew under every question",
            "Use no sketch cache, or set connector.instruction_mode to instruction.",
        )
    sketches: list[FrameSketch] = []
    queries: dict[int, Tensor] = {}
    for video, frames in enumerate(batch.frames):
        slots = (batch.slot_video == video).nonzero().flatten()
        outputs: list[Tensor] = []
        ids, mask = batch.question_ids[slots], batch.question_mask[slots]
        encode = build_instructed_encoder(vision, instruction, ids, mask, outputs)
        with torch.autocast(frames.device.type, enabled=False):
            sketches.append(sketch_frames(frames, encode, settings))
        # Where kept frames give every patch, some frames are encoded a second time, after all others: cut these off.
        queries |= dict(zip(slots.tolist(), torch.cat(outputs, 1)[:, : len(frames)], strict=True))
    return stack_sketches(sketches), pad_sequence([queries[slot] for slot in sorted(queries)], batch_first=True)


def build_instructed_encoder(
    vision: VisionTower,
    instruction: InstructionTower,
    ids: Int[Tensor, "I R"],
    mask: Bool[Tensor, "I R"],
    outputs: list[Tensor],
) -> Encoder:
    """An encoder of frames that also appends to ``outputs`` what query tokens read of them under each instruction."""
    with_gradients = torch.is_grad_enabled()  # a sketch is made without gradients, but the Q-Former may be trained

    def encode(frames: Tensor) -> Tensor:
        rows, normed = vision.rows(frames)
        with torch.set_grad_enabled(with_gradients):
            outputs.append(instruction.look(normed, ids, mask))
        return rows[:, -vision.patches :]

    return encode
