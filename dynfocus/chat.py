"""A conversation in the words of the language model's own chat template, and where its answers lie in them."""

from typing import Any

from dynfocus.errors import ConfigError, PromptError

Message = dict[str, str]


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


def chat_text(tokenizer: Any, messages: list[Message]) -> tuple[str, list[tuple[int, int]]]:
    """The text of a conversation, and the first character and the one after the last of each answer with its end.

    An answer begins where the prompt that asks for it ends, and ends with the last character before the next turn that
    is no white space. A conversation whose last message is a question is closed by the prompt that asks for its answer.

    Raises:
        PromptError: if the template refuses the conversation, takes back what it wrote when it is told more, or changes
            what is said.
    """
    text, spans, at = _rendered(tokenizer, messages, messages[-1]["role"] != "assistant"), [], 0
    for n, message in enumerate(messages):
        start, stop = at, len(text)
        if message["role"] == "assistant":
            start = len(_beginning(_rendered(tokenizer, messages[:n], True), text))
            told = text if n + 1 == len(messages) else _rendered(tokenizer, messages[: n + 1], False)
            stop = len(_beginning(told.rstrip(), text))
            spans.append((start, stop))
        if (found := text.find(message["content"], start, stop)) < 0:
            raise PromptError(
                f"a chat template that changes what the {message['role']} says: {_cut(message['content'])}",
                "a template that writes every message as it is",
                _do(message["role"] == "system"),
            )
        at = found + len(message["content"]) if message["role"] != "assistant" else stop
    return text, spans


def _rendered(tokenizer: Any, messages: list[Message], asking: bool) -> str:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asking)
    except Exception as error:  # a template is a program, which may fail in any way
        said = " ".join(str(error).split()).rstrip(".")
        raise PromptError(
            f"a chat template that refuses a conversation of {', '.join(m['role'] for m in messages)} "
            f"({type(error).__name__}: {said})",
            "one that takes them",
            _do(messages[0]["role"] == "system"),
        ) from error


def _beginning(part: str, text: str) -> str:
    """``part``, which must be the beginning of ``text``."""
    if text.startswith(part):
        return part
    same = next((n for n, (a, b) in enumerate(zip(part, text, strict=False)) if a != b), min(len(part), len(text)))
    raise PromptError(
        f"a chat template that takes back what it wrote: {_cut(part[same:])} after {_cut(part[:same], last=True)} "
        f"becomes {_cut(text[same:])} when the conversation goes on",
        "a template whose prompt for an answer, and each answered turn, is the beginning of the longer conversation",
        _do(),
    )


def _do(system: bool = False) -> str:
    first = "Set model.system_prompt to false if it takes no system message. Else set" if system else "Set"
    return f"{first} model.template to vicuna_v1, or mend the chat template of the language model's tokenizer."


def _cut(text: str, last: bool = False) -> str:
    shown = text[-30:] if last else text[:30]
    return repr(shown if len(shown) == len(text) else f"...{shown}" if last else f"{shown}...")
