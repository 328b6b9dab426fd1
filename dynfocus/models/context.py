"""What a row that is longer than the language model's context is told."""

from decimal import Decimal

from dynfocus.budget import budget, largest_fit
from dynfocus.errors import ContextLengthError
from dynfocus.records.rows import Row
from dynfocus.settings import ConnectorSettings


def too_long(
    row: Row, total: int, slots: int, frames: int, settings: ConnectorSettings, context: int, new: int, once_fits: bool
) -> ContextLengthError:
    """What a row that does not fit costs, and each setting that alone would make it fit; no token is ever cut.

    A row without a name is a question that somebody asks about a video.
    """
    each = budget(frames, settings).visual_tokens
    text = total - slots * each
    prompt = f"row {row.id!r}" if row.id else "the question and its video"
    prompt += f" of {total} tokens, {slots * each} of them visual"
    prompt += f" ({slots} slots of {each})" if slots > 1 else ""
    needed = f"at most {max(0, context - new)}, the language model's context"
    needed += f" of {context} less {new} new tokens" if new else ""
    spare, context = context - total, context - new
    if text > context:
        remedy = "The text itself is too long, without any visual token: shorten the conversation"
        remedy = f"Ask for max_new_tokens {spare}" if spare > 0 else remedy
        model = "or take a language model of a longer context."
        return ContextLengthError(f"{prompt}, {text} of them text", needed, f"{remedy}, {model}")
    fit = largest_fit(frames, settings, (context - text) // slots)
    values: dict[str, int | float | None] = {"frames": fit.frames}
    if row.id:  # of a trained model that is asked, the connector stays as it is
        values = {"frame_rule.frames": fit.frames, "connector.events": fit.events, "connector.keep": fit.keep}
    able = [f"{name} {_number(value)}" for name, value in values.items() if value is not None]
    unable = [name for name, value in values.items() if value is None]
    able += ["slots first"] if once_fits else []
    able += [f"max_new_tokens {spare}"] if spare > 0 else []
    advice = [f"Each of these alone makes it fit: {', '.join(able)}"] if able else []
    advice += [f"Not enough alone at any value: {', '.join(unable)}"] if unable else []
    advice += [] if able else ["Shorten the conversation, or take a language model of a longer context"]
    return ContextLengthError(prompt, needed, ". ".join(advice) + ".")


def _number(value: int | float) -> str:
    """A number without exponent, so that YAML reads it as one."""
    return format(Decimal(str(value)), "f")
