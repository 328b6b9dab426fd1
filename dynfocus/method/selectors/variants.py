"""Change one thing about DPE: let its scores read the question, or leave its score net untrained."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dynfocus.method.dpe import EventPrototypeSelector
from dynfocus.method.score import TimeInteraction
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Events, FrameSketch, SelectorInputs


class QuestionEventSelector(EventPrototypeSelector):
    """DPE whose scores read the question too, as with ``score_reads_question``; trained with the model.

    Shapes, complexity: as `EventPrototypeSelector`, and O(L R G d) for the question's term (`LateInteraction`).

    Args:
        rotation: seed of a fixed random rotation of the question's tokens: a control, in which words and patches share
            no space until the term has learned one. None rotates nothing.

    Departs: an extension; the paper's score net sees no question.
    """

    reads = "network and question"
    rotation: Tensor | None

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int, rotation: int | None = None) -> None:
        super().__init__(replace(settings, score_reads_question=True), width, text_width)
        turn = None
        if rotation is not None:
            numbers = np.random.default_rng(rotation).standard_normal((text_width, text_width))
            turn = torch.from_numpy(np.linalg.qr(numbers).Q).float()
        self.register_buffer("rotation", turn)

    def score(self, sketch: FrameSketch, events: Events, inputs: SelectorInputs) -> Float[Tensor, "B L"]:
        if self.rotation is not None:
            inputs = replace(inputs, question=inputs.question.float() @ self.rotation.float())
        return super().score(sketch, events, inputs)


class QuestionTimeSelector(QuestionEventSelector):
    """DPE whose scores read the question, and by it the time of an event; trained with the model.

    Shapes, complexity: as `QuestionEventSelector`, and O(L cosines) for the time's term (`TimeInteraction`). Copies of
    a frame at two times have two scores.

    Departs: an extension; the paper's scores know neither the question nor the time.
    """

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int, cosines: int = 4) -> None:
        super().__init__(settings, width, text_width)
        self.score_time = TimeInteraction(text_width, cosines)

    def score(self, sketch: FrameSketch, events: Events, inputs: SelectorInputs) -> Float[Tensor, "B L"]:
        last = (sketch.frames - 1).clamp(min=1)
        times = events.frames / last[:, None]
        return super().score(sketch, events, inputs) + self.score_time(times, inputs.question, inputs.question_mask)


class FrozenEventSelector(EventPrototypeSelector):
    """DPE whose score net stays as it was first drawn, random: what training the scores is worth.

    The weights are buffers: nothing trains them, and a model's folder keeps them. Shapes, complexity: as
    `EventPrototypeSelector`.

    Departs: a control; the paper trains its score net.
    """

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int) -> None:
        super().__init__(settings, width, text_width)
        freeze_weights(self)


def freeze_weights(module: nn.Module) -> None:
    """Turn every weight of a module into a buffer of the same name."""
    for part in module.modules():
        for name, weight in [*part.named_parameters(recurse=False)]:
            delattr(part, name)
            part.register_buffer(name, weight.detach())
