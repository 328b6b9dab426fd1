"""Check that features, question and numbers fit what a selector reads, and say what to give where they do not."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from dynfocus.errors import ConfigError
from dynfocus.method.selectors import EventPrototypeSelector
from dynfocus.settings import selector_label


@dataclass(frozen=True)
class Needs:
    """What a selector reads beside the frames.

    Attributes:
        question: whether it reads the question.
        network: whether it has weights that must be trained.
        truth: whether it reads which frames the question needs.
        events: whether it keeps representatives of events, of which there are at most L.
    """

    question: bool
    network: bool
    truth: bool
    events: bool


@runtime_checkable
class Readable(Protocol):
    """What selectors are given to read, as `Features` says it of itself."""

    @property
    def name(self) -> str: ...

    @property
    def own_selector(self) -> Any: ...

    @property
    def compares_text(self) -> bool: ...


def find_needs(selector: nn.Module) -> Needs:
    """Find what a selector reads; some read more or less by their settings."""
    reads = str(getattr(selector, "reads", "frames"))
    events = isinstance(selector, EventPrototypeSelector)
    return Needs("question" in reads, "network" in reads, "truth" in reads, events)


def check_features(needs: Needs, label: str, features: Readable) -> None:
    """Refuse features that cannot give what a selector reads; raises ConfigError."""
    if needs.truth:
        raise ConfigError(
            f"selector {label}, which reads which frames the question needs",
            "a selector that can work on any video",
            "Name another one; `dynfocus select --list` lists them.",
        )
    if needs.network and (features.own_selector is None or selector_label(features.own_selector) != label):
        raise ConfigError(
            f"selector {label}, whose scores come from trained weights, with {features.name}",
            "the folder of a model that was trained with it",
            "Give it as --model FOLDER (model= in Python), or name a selector without weights.",
        )
    if needs.question and not needs.network and not features.compares_text:
        raise ConfigError(
            f"selector {label}, which compares frames with the question, with {features.name}",
            "features of images and texts in one space",
            "Give the folder of a CLIP or SigLIP model of transformers as --encoder FOLDER (encoder= in Python).",
        )


def check_question(needs: Needs, label: str, question: str | None) -> None:
    """Refuse to leave the question out where a selector reads it; raises ConfigError."""
    if needs.question and not (question and question.strip()):
        raise ConfigError(
            f"selector {label} without a question",
            "the question that it chooses frames for",
            "Give the question, or name a selector that reads none.",
        )


def check_keep(keep: int) -> None:
    """Raises ConfigError if no frame would be kept."""
    if keep < 1:
        raise ConfigError(f"keep = {keep}", "at least 1 frame", "Raise keep.")


def frames_of_budget(budget: int, frame_tokens: int) -> int:
    """How many frames fit into a budget of visual tokens, where a frame costs ``frame_tokens``.

    Raises:
        ConfigError: if not one fits, or a frame costs nothing.
    """
    if frame_tokens < 1:
        raise ConfigError(f"frame_tokens = {frame_tokens}", "at least 1 token a frame", "Raise frame_tokens.")
    if budget < frame_tokens:
        raise ConfigError(
            f"a budget of {budget} tokens, where one frame costs {frame_tokens}",
            f"at least {frame_tokens} tokens",
            "Raise the budget, or set frame_tokens to what a frame costs your model.",
        )
    return budget // frame_tokens
