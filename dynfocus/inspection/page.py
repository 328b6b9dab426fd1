"""Write answers about one video as a page that needs nothing but itself: it opens from disk, without a network."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path

from markupsafe import Markup

from dynfocus.errors import ConfigError
from dynfocus.evals.pages import open_templates
from dynfocus.inspection.charts import COLORS, style_rules, use_style
from dynfocus.inspection.content import Inspection, PageFacts
from dynfocus.inspection.frames import choose_embedded, encode_frame
from dynfocus.inspection.sections import build_budget, build_comparison, build_section
from dynfocus.inspection.wording import explain_terms, format_time, list_legend, make_visible, rank_frames

HERE = Path(__file__).parent
DARK = {
    "paper": "#181a1e",
    "ink": "#e8eaee",
    "faint": "#a0a6b0",
    "rule": "#3e424a",
    "cone": "#f08a2c",
    "rod": "#607698",
    "none": "#30333a",
    "peak": "#9696f0",
    "relevant": "#46b46e",
    "shade": "#20382a",
}


def print_value(value: object) -> object:
    """What the template writes for a value; Jinja2 escapes all but the markup of templates."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    return f"{value:.4g}" if isinstance(value, float) else make_visible(value)


TEMPLATES = open_templates(HERE, finalize=print_value)
TEMPLATES.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}


@use_style
def render_page(inspections: Sequence[Inspection], facts: PageFacts) -> str:
    """The page of one or several questions about one video; what is the same for all of them is drawn once.

    The main content needs no script; the page's one script shows the numbers of a frame under the mouse or a finger, or
    under the arrow keys. Its Content-Security-Policy forbids every other script and every request. Frames are embedded
    once for all questions: the kept ones, and others up to 96 in all, at 160 pixels or less; of more than 250 each is
    smaller, so that their pixels together stay below 250 frames' worth.

    Args:
        inspections: one for each question; of the same frames.
        facts: what holds for all of them.

    Raises:
        ConfigError: if there is no question, or they are not about the same frames.
    """
    if not inspections or len({one.selection.seconds for one in inspections}) > 1:
        raise ConfigError(
            f"{len(inspections)} questions about {len({one.selection.seconds for one in inspections})} videos",
            "at least one question, all about the same frames of one video",
            "Write a page for each video.",
        )
    for one in inspections:
        one.check()
    selections = [one.selection for one in inspections]
    frames = next((one.frames for one in inspections if one.frames), ())
    kept = {frame for selection in selections for frame in selection.kept}
    embedded = choose_embedded(kept, len(selections[0].seconds)) if frames else []
    questions = list(zip(count(1), inspections, [*facts.details, *({} for _ in inspections)], strict=False))
    alike = all(selection == selections[0] for selection in selections)
    groups, classes = [questions] if alike else [[question] for question in questions], dict[str, str]()
    sections = [build_section(group, embedded, classes) for group in groups]
    comparison = build_comparison(inspections, facts, classes)
    style = write_style(classes, frames[0].shape[:2] if frames else (1, 1))
    script = (HERE / "page.js").read_text(encoding="utf-8")
    return TEMPLATES.get_template("page.html.j2").render(
        facts=facts,
        seconds=selections[0].seconds,
        images=[(frame, *encode_frame(frames[frame], len(embedded))) for frame in embedded],
        sections=sections,
        comparison=comparison,
        budget=build_budget(inspections, facts.others),
        style=Markup(style),
        script=Markup(script),
    )


def write_style(classes: dict[str, str], shape: tuple[int, int]) -> str:
    """The style sheet: colours, rules, styles of charts, and the size of frames of this height and width."""
    width = min(14.0, max(4.0, 7 * (shape[1] / shape[0]) ** 0.5))  # rem; of whatever shape, frames take the same room
    return (
        f"{write_variables(COLORS)}\n@media (prefers-color-scheme: dark) {{ {write_variables(DARK)} }}\n"
        + (HERE / "page.css").read_text(encoding="utf-8")
        + style_rules(classes)
        + f".frame {{ aspect-ratio: {shape[1]} / {shape[0]}; }} figure {{ width: {width:.1f}rem; }}\n"
    )


def write_variables(colors: Mapping[str, str]) -> str:
    """Colours as variables of CSS."""
    return ":root { " + " ".join(f"--{name}: {color};" for name, color in colors.items()) + " }"


def write_digest(text: str) -> str:
    """The name by which a Content-Security-Policy allows a text."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


TEMPLATES.filters["digest"] = write_digest
TEMPLATES.globals |= {one.__name__: one for one in (explain_terms, format_time, list_legend, rank_frames)}
