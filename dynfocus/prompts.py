"""Conversations -> token ids, the place of the visual tokens, and the labels of the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dynfocus.errors import PromptError
from dynfocus.records import Turn

IMAGE = "<image>"
IGNORED = -100

Place = Literal["before", "after"]
Turns = Literal["first", "every"]


@dataclass(frozen=True)
class Template:
    """How a conversation becomes text: ``opening``, then for each turn ``user`` question ``assistant`` answer, end.

    A template that does not ask (``asks=False``) holds the visual slot and the answer, nothing else.
    """

    opening: str = ""
    user: str = ""
    assistant: str = ""
    asks: bool = True


VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
TEMPLATES = {
    "plain": Template(asks=False),
    "vicuna_v1": Template(VICUNA_SYSTEM, "USER: ", " ASSISTANT:"),
    "vicuna_v1_short": Template("", "USER: ", " ASSISTANT:"),
}


@dataclass(frozen=True)
class Encoded:
    """A prompt as token ids with one ``<image>`` id per visual slot, and labels (-100 where nothing is learned)."""

    input_ids: list[int]
    labels: list[int]


def encode(
    tokenizer: Any,
    turns: Sequence[Turn],
    template: Template,
    visual: bool,
    place: Place = "before",
    slots: Turns = "first",
) -> Encoded:
    """Tokenize a conversation once and mark the answers, each with its end token, as what is learned.

    Args:
        tokenizer: a fast transformers tokenizer that knows ``<image>`` as one token.
        turns: the conversation; only the last answer may be None (then nothing follows the assistant's prefix).
        template: one of `TEMPLATES`.
        visual: whether the row shows an image or video at all.
        place: the visual slot stands before or after the question.
        slots: the first turn alone holds a visual slot, or every turn does.

    Raises:
        PromptError: if an answer is empty, or a middle one is open.
    """
    text, spans = template.opening, []
    for n, turn in enumerate(turns):
        if turn.answer is not None and not turn.answer.strip():
            raise PromptError(
                "a turn with an empty answer", "at least one word to learn", "Drop the row or fill it in."
            )
        if turn.answer is None and n + 1 < len(turns):
            raise PromptError("an open answer before the last turn", "answers to earlier turns", "Give the answers.")
        slot = IMAGE if visual and (n == 0 or slots == "every") else ""
        text += _question(_plain(tokenizer, turn.question), slot, place, template)
        if turn.answer is not None:
            start = len(text)
            text += (" " if template.asks else "") + _plain(tokenizer, turn.answer) + tokenizer.eos_token
            spans.append((start, len(text)))
    coded = tokenizer(text, return_offsets_mapping=True)
    learned = [end > begin and any(s <= begin and end <= e for s, e in spans) for begin, end in coded["offset_mapping"]]
    ids = coded["input_ids"]
    return Encoded(ids, [token if keep else IGNORED for token, keep in zip(ids, learned, strict=True)])


def _question(question: str, slot: str, place: Place, template: Template) -> str:
    if not template.asks:
        return slot
    parts = [part for part in ((slot, question) if place == "before" else (question, slot)) if part]
    return template.user + "\n".join(parts) + template.assistant


def _plain(tokenizer: Any, text: str) -> str:
    """A person's text with anything that reads like a special token taken apart, so that it stays text."""
    added = tokenizer.added_tokens_decoder.values()  # all_special_tokens lacks those that play no named part
    special = {IMAGE, *tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    for token in sorted(special, key=len, reverse=True):
        text = text.replace(token, f"{token[0]} {token[1:-1]} {token[-1]}" if len(token) > 2 else " ")
    return text.strip()


def expand(encoded: Encoded, image_id: int, counts: Sequence[int]) -> Encoded:
    """Repeat the n-th ``<image>`` id ``counts[n]`` times, so that every visual token has a place of its own.

    Raises:
        PromptError: if the prompt holds another number of slots than ``counts``.
    """
    slots = encoded.input_ids.count(image_id)
    if slots != len(counts):
        raise PromptError(
            f"{slots} visual slots in the prompt and {len(counts)} videos or images",
            "one slot for each",
            "Check the row: a person's own <image> is never a slot, and each turn holds at most one.",
        )
    ids, labels, left = [], [], iter(counts)
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        times = next(left) if token == image_id else 1
        ids += [token] * times
        labels += [label] * times
    return Encoded(ids, labels)
