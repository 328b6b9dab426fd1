"""Conversations -> token ids, the place of the visual tokens, and the labels of the answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from dynfocus.errors import ConfigError, PromptError
from dynfocus.models.chat_template import Message, Span, Written, chat_template, chat_text
from dynfocus.records.rows import Turn
from dynfocus.settings import UNKNOWN_SHARE

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


@dataclass(frozen=True)
class ChatTemplate:
    """The template that the language model's tokenizer brings; ``opening`` is said to it as the system's message."""

    opening: str = ""


VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
VICUNA_SHORT = Template("", "USER: ", " ASSISTANT:")
TEMPLATES: dict[str, Template | ChatTemplate] = {
    "plain": Template(asks=False),
    "vicuna_v1": replace(VICUNA_SHORT, opening=VICUNA_SYSTEM),
    "vicuna_v1_short": VICUNA_SHORT,
    "chat": ChatTemplate(VICUNA_SYSTEM),
}


@dataclass(frozen=True)
class Encoded:
    """A prompt as token ids with one ``<image>`` id per visual slot, and labels (-100 where nothing is learned)."""

    input_ids: list[int]
    labels: list[int]


def encode(
    tokenizer: Any,
    turns: Sequence[Turn],
    template: Template | ChatTemplate,
    visual: bool,
    place: Place = "before",
    slots: Turns = "first",
    system: str | None = None,
) -> Encoded:
    """Tokenize a conversation once and mark the answers, each with its end token, as what is learned.

    Args:
        tokenizer: a fast transformers tokenizer that knows ``<image>`` as one token.
        turns: the conversation; only the last answer may be None (then nothing follows the assistant's prefix).
        template: one of `TEMPLATES`.
        visual: whether the row shows an image or video at all.
        place: the visual slot stands before or after the question.
        slots: the first turn alone holds a visual slot, or every turn does.
        system: what a conversation opens with in place of the template's sentence; a template that does not ask leaves
            it out.

    Raises:
        PromptError: if an answer is empty, a middle one is open, a chat template does not fit, a token holds the end
            of a question and the beginning of its answer, or the tokenizer finds a special token in what is said.
        ConfigError: if the tokenizer is a slow one, begins or ends texts with what people write, or lacks an end token
            or the chat template that is asked for.
    """
    check_tokenizer(tokenizer, template)
    special = _special(tokenizer, template)
    if system and (isinstance(template, ChatTemplate) or template.asks):
        template = replace(template, opening=f"{_split_special_tokens(special, system)} ")
    conversation = [
        Turn(
            _split_special_tokens(special, turn.question),
            None if turn.answer is None else _split_special_tokens(special, turn.answer),
        )
        for turn in turns
    ]
    if any(turn.answer == "" for turn in conversation):
        raise PromptError("a turn with an empty answer", "at least one word to learn", "Drop the row or fill it in.")
    if any(turn.answer is None for turn in conversation[:-1]):
        raise PromptError("an open answer before the last turn", "answers to earlier turns", "Give the answers.")
    shown = [IMAGE if visual and (n == 0 or slots == "every") else "" for n in range(len(conversation))]
    asked = [_question(turn.question, slot, place) for turn, slot in zip(conversation, shown, strict=True)]
    answers = [turn.answer for turn in conversation]
    if isinstance(template, ChatTemplate):
        written = chat_text(tokenizer, _messages(template, asked, answers))
    else:
        written = _text(tokenizer, template, asked if template.asks else shown, answers)
    return _tokenize(tokenizer, written, special, isinstance(template, ChatTemplate))


def check_tokenizer(tokenizer: Any, template: Template | ChatTemplate) -> None:
    """Raises ConfigError if labels cannot be made with this tokenizer, or it lacks what the template needs."""
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"{type(tokenizer).__name__}, a slow tokenizer, which cannot tell which characters a token stands for",
            "a fast one, whose folder holds tokenizer.json",
            "Save it once with AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER).",
        )
    if isinstance(template, ChatTemplate):
        chat_template(tokenizer)
    elif tokenizer.eos_token is None:
        raise ConfigError(
            "a tokenizer without an end token",
            "one that ends an answer",
            "Name eos_token in the language model's tokenizer_config.json.",
        )
    for name in ("bos_token", "eos_token"):
        if (token := getattr(tokenizer, name)) is not None and _common(token):
            raise ConfigError(
                f"a tokenizer whose {name} is {token!r}, which people write",
                "one that no text holds, such as </s>",
                f"Add one to the language model's tokenizer and name it {name} in tokenizer_config.json.",
            )


def find_unknown(tokenizer: Any, text: str) -> tuple[str, ...]:
    """The words of a text that the tokenizer has no token for; none where they are less than `UNKNOWN_SHARE` of all.

    Punctuation is no word. Tokenizers of bytes know every word.
    """
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pieces = [
        (text[start:end], token == tokenizer.unk_token_id)
        for token, (start, end) in zip(coded["input_ids"], coded["offset_mapping"], strict=True)
        if any(map(str.isalnum, text[start:end]))
    ]
    unknown = [piece for piece, is_unknown in pieces if is_unknown]
    return tuple(dict.fromkeys(unknown)) if len(unknown) >= UNKNOWN_SHARE * len(pieces) else ()


def _text(tokenizer: Any, template: Template, asked: list[str], answers: list[str | None]) -> Written:
    text, places, spans = template.opening, [], []
    for question, answer in zip(asked, answers, strict=True):
        before, behind = (template.user, template.assistant) if template.asks else ("", "")
        places.append((len(text + before), len(text + before + question)))
        text += before + question + behind
        if answer is not None:
            start = len(text)
            text += (" " if template.asks else "") + answer
            places.append((len(text) - len(answer), len(text)))
            text += tokenizer.eos_token
            spans.append((start, len(text)))
    return Written(text, places, spans)


def _messages(template: ChatTemplate, asked: list[str], answers: list[str | None]) -> list[Message]:
    messages = [("system", template.opening.strip())] if template.opening else []
    for question, answer in zip(asked, answers, strict=True):
        messages += [("user", question)] if answer is None else [("user", question), ("assistant", answer)]
    return [{"role": role, "content": content} for role, content in messages]


def _question(question: str, slot: str, place: Place) -> str:
    return "\n".join(part for part in ((slot, question) if place == "before" else (question, slot)) if part)


def _tokenize(tokenizer: Any, written: Written, special: list[str], opened: bool) -> Encoded:
    """The ids of a text and of what the tokenizer puts before it, unless it is ``opened`` already; none after it."""
    text, spans = written.text, written.answers
    opened = opened or (tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token))
    coded = tokenizer(text, add_special_tokens=not opened, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids, offsets, framing = coded["input_ids"], coded["offset_mapping"], coded["special_tokens_mask"]
    length = max((n + 1 for n, framed in enumerate(framing) if not framed), default=framing.count(1))
    added, pending = tokenizer.added_tokens_decoder, spans[::-1]
    names = {token: str(name) for token, name in added.items() if str(name) in special}
    for token, offset in zip(ids[:length], offsets, strict=False):
        if token in names and _is_user_text(tokenizer, token, names[token], offset, written):
            raise PromptError(
                f"the text {text[slice(*offset)]!r}, which the tokenizer takes for its special token {names[token]!r}",
                "text in which no special token is written, in capitals or other letters either",
                "Change the row, or let the tokenizer know its special tokens as they are (normalized = false).",
            )
    learned: dict[Span, list[int]] = {span: [] for span in spans}
    marks: set[int] = set()  # by their text: some tokenizers call what they do not know by the end token's id
    for n, (begin, end) in enumerate(offsets[:length]):
        if ids[n] in added and text[begin:end].strip() == str(added[ids[n]]):
            marks.add(n)
            end = begin + len(text[begin:end].rstrip())  # it may swallow the white space behind it
        while pending and begin >= pending[-1][1]:
            pending.pop()
        if framing[n] or not pending or (begin < pending[-1][0] and (end <= pending[-1][0] or n in marks)):
            continue
        if begin < pending[-1][0] or end > pending[-1][1]:
            raise PromptError(
                f"the token {text[begin:end]!r}, which holds the end of a prompt and the beginning of its answer",
                "answers that begin where a token begins",
                "Choose another model.template, or change the answer.",
            )
        learned[pending[-1]].append(n)
    labels = [IGNORED] * length
    for (start, stop), places in learned.items():
        _check_answer(text[start:stop], len(places), bool(places) and places[-1] in marks)
        for n in places:
            labels[n] = ids[n]
    return Encoded(ids[:length], labels)


def _check_answer(text: str, tokens: int, ended: bool) -> None:
    if not ended:
        raise PromptError(
            f"a template that ends an answer without an end token: {text[-30:]!r}",
            "one after which the model knows that it is done",
            "Set model.template to vicuna_v1, or mend the chat template of the language model's tokenizer.",
        )
    if tokens == 1:
        raise PromptError(
            f"an empty answer: the tokenizer leaves nothing of {text!r} but the end token",
            "at least one token to learn",
            "Drop the row or mend it.",
        )


def _special(tokenizer: Any, template: Template | ChatTemplate) -> list[str]:
    """What a person's text must not hold, the longest first."""
    written = chat_template(tokenizer) if isinstance(template, ChatTemplate) else ""
    added = [(str(token), token.special) for token in tokenizer.added_tokens_decoder.values()]
    # all_special_tokens lacks those that play no named part, and some templates write tokens that are not special.
    result = {name for name, special in added if special or (name.strip() and name in written)}
    every = {IMAGE, *tokenizer.all_special_tokens, *result}
    return sorted((name for name in every if not _common(name)), key=len, reverse=True)


def _common(token: str) -> bool:
    """Whether people write it: "!" or an empty line, which some tokenizers use to pad, stays in what they say."""
    return len(token) <= 2 or token.isspace()


def _is_user_text(tokenizer: Any, token: int, name: str, offset: Span, written: Written) -> bool:
    """Whether a special token comes from what a person says: such as <|END|> where all is read in small letters."""
    if not any(offset[0] < stop and offset[1] > start for start, stop in written.places if start < stop):
        return False
    result = written.text[slice(*offset)].strip()
    if result == IMAGE:  # a person's own has been taken apart
        return False
    normal = tokenizer.backend_tokenizer.normalizer
    alike = result == name or (normal is not None and normal.normalize_str(result) == normal.normalize_str(name))
    return alike or token != tokenizer.unk_token_id


def _split_special_tokens(special: list[str], text: str) -> str:
    """A person's text with anything that reads like a special token taken apart, so that it stays text."""
    for token in special:
        text = text.replace(token, f"{token[0]} {token[1:-1]} {token[-1]}")
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
