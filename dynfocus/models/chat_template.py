"""A conversation in the words of the language model's own chat template, and where its answers lie in them."""

import re
from dataclasses import dataclass
from typing import Any

from dynfocus.errors import ConfigError, PromptError

Message = dict[str, str]
Span = tuple[int, int]


@dataclass(frozen=True)
class Written:
    """A conversation as the chat template writes it.

    Attributes:
        text: all of it.
        places: where the text of each message lies.
        answers: where each answer lies with what opens and ends it, which the model has to write itself.
    """

    text: str
    places: list[Span]
    answers: list[Span]


def chat_template(tokenizer: Any) -> str:
    """The chat template that a tokenizer brings.

    Raises:
        ConfigError: if it brings none.
    """
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise ConfigError(
            "template = chat with a language model whose tokenizer has no chat template",
            "a chat_template.jinja, or chat_template in tokenizer_config.json, in the language model's folder",
            "Set model.template to vicuna_v1, or take a language model that was taught to chat.",
        ) from error


def chat_text(tokenizer: Any, messages: list[Message]) -> Written:
    """The text of a conversation and where its messages and answers lie.

    The template first writes the same conversation with a mark in place of each message, which shows what it puts
    around them. An answer begins where the prompt that asks for it ends; some templates write earlier turns otherwise
    than when they asked for them, such as without thinking, and there it begins with its own first character. It ends
    with what the template writes behind an answer whether or not the conversation goes on, white space left out. A
    conversation whose last message is a question is closed by the prompt that asks for its answer.

    Raises:
        PromptError: if the template refuses the conversation, changes, moves or repeats what is said, or asks for the
            last answer otherwise than it writes it.
    """
    system, asking = messages[0]["role"] == "system", messages[-1]["role"] != "assistant"
    text, marked = (_render(tokenizer, conversation, asking) for conversation in (messages, _mark_messages(messages)))
    pieces, end, places, answers, at = _pieces(marked, messages), _end(tokenizer, messages), [], [], 0
    for n, message in enumerate(messages):
        start, stop = (place := at + len(pieces[n])), at + len(pieces[n]) + len(message["content"])
        if text[at:stop] != pieces[n] + message["content"]:
            raise _make_change_error(message, system)
        if message["role"] == "assistant":
            prompt = _render(tokenizer, _mark_messages(messages)[:n], True)
            if not marked.startswith(prompt) and n + 1 == len(messages):
                raise _make_rewrite_error(prompt, marked, system)
            if marked.startswith(prompt):
                start = place - (marked.index(_mark(n)) - len(prompt))
            if not pieces[n + 1].startswith(end):
                raise _make_rewrite_error(end, pieces[n + 1], system)
            answers.append((start, stop + len(end)))
        places.append((place, stop))
        at = stop
    if text[at:] != pieces[-1]:
        raise _make_change_error(messages[-1], system)
    return Written(text, places, answers)


def _mark(n: int) -> str:
    """What stands for a message: letters for private use, which no template writes."""
    return f"\ue000{n}\ue001"


def _mark_messages(messages: list[Message]) -> list[Message]:
    return [{"role": message["role"], "content": _mark(n)} for n, message in enumerate(messages)]


def _pieces(marked: str, messages: list[Message]) -> list[str]:
    """What the template writes before, between and behind the messages."""
    result = re.split("\ue000(\\d+)\ue001", marked)
    numbers = [int(number) for number in result[1::2]]
    wrong = [n for n in range(len(messages)) if numbers.count(n) != 1]
    moved = [n for n, number in enumerate(numbers[: len(messages)]) if number != n]
    for n in (wrong or moved)[:1]:
        raise _make_change_error(messages[n], messages[0]["role"] == "system")
    return result[::2]


def _end(tokenizer: Any, messages: list[Message]) -> str:
    """What stands behind every answer: as much as a closed conversation and one that goes on have in common."""
    roles = ["system"] * (messages[0]["role"] == "system") + ["user", "assistant", "user"]
    conversation = _mark_messages([{"role": role, "content": ""} for role in roles])
    if "assistant" not in {message["role"] for message in messages}:
        return ""
    last = _mark(len(conversation) - 2)
    closed = _render(tokenizer, conversation[:-1], False).partition(last)[2].rstrip()
    try:
        on = _render(tokenizer, conversation, True).partition(last)[2]
    except PromptError:
        return closed  # it takes a single turn, so that nothing goes on
    if on.startswith(closed):
        return closed
    names = sorted({str(token) for token in tokenizer.added_tokens_decoder.values()}, key=len, reverse=True)
    cuts = [re.split("(" + "|".join(map(re.escape, names)) + ")", tail) for tail in (closed, on)]
    same = next((n for n, (one, other) in enumerate(zip(*cuts, strict=False)) if one != other), 0)
    return "".join(cuts[0][:same]).rstrip()


def _render(tokenizer: Any, messages: list[Message], asking: bool) -> str:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asking)
    except Exception as error:  # a template is a program, which may fail in any way
        reason = " ".join(str(error).split()).rstrip(".")
        raise PromptError(
            f"a chat template that refuses a conversation of {', '.join(m['role'] for m in messages)} "
            f"({type(error).__name__}: {reason})",
            "one that takes them",
            _do(messages[0]["role"] == "system"),
        ) from error


def _make_change_error(message: Message, system: bool) -> PromptError:
    return PromptError(
        f"a chat template that changes what the {message['role']} says: {_shorten(message['content'])}",
        "a template that writes every message once, in order, and as it is",
        _do(system),
    )


def _make_rewrite_error(part: str, text: str, system: bool) -> PromptError:
    """Says where ``part``, which should be the beginning of ``text``, is not."""
    same = next((n for n, (a, b) in enumerate(zip(part, text, strict=False)) if a != b), min(len(part), len(text)))
    part, text = (re.sub("\ue000\\d+\ue001", "...", one) for one in (part[:same] + "\0" + part[same:], text[same:]))
    before, _, after = part.partition("\0")
    return PromptError(
        f"a chat template that takes back what it wrote: {_shorten(after)} after {_shorten(before, last=True)} "
        f"becomes {_shorten(text)} when the conversation goes on",
        "a template that writes the last answer behind the prompt that asks for it, and ends all answers alike",
        _do(system),
    )


def _do(system: bool) -> str:
    first = "Set model.system_prompt to false if it takes no system message first. Else set" if system else "Set"
    return f"{first} model.template to vicuna_v1, or mend the chat template of the language model's tokenizer."


def _shorten(text: str, last: bool = False) -> str:
    shown = text[-30:] if last else text[:30]
    return repr(shown if len(shown) == len(text) else f"...{shown}" if last else f"{shown}...")
