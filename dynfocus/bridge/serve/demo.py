"""Show answers on a page for people: drop a video, ask, see which frames were kept, compare two selectors."""

from collections.abc import Sequence
from functools import partial
from html import escape
from logging import getLogger
from mimetypes import guess_type
from pathlib import Path
from threading import Lock
from time import time
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI

from dynfocus.bridge.hosts.answerer import HostAnswerer
from dynfocus.bridge.serve.gate import FILE, Gate
from dynfocus.bridge.serve.media import MediaShelf
from dynfocus.bridge.serve.refusals import describe_fault, rename
from dynfocus.bridge.serve.service import Limits
from dynfocus.bridge.trained import open_selector
from dynfocus.errors import ConfigError, DynFocusError, PromptError
from dynfocus.inspection.answer import list_facts, list_inspections
from dynfocus.inspection.answerer import Answerer
from dynfocus.inspection.output import check
from dynfocus.inspection.page import render_page
from dynfocus.method.selectors import SELECTORS
from dynfocus.settings import selector_label

log = getLogger(__name__)
NONE = "no other"
CSS = """
.answer iframe { width: 100%; height: 80vh; border: 1px solid var(--border-color-primary); }
.preview { max-width: 100%; max-height: 20rem; margin: 0 auto; }
"""


class Demo:
    """Answers the questions of the page, one after another; a video is read once for all questions about it.

    Args:
        answerer: what answers.
        name: of the model, for people.
        shelf: its folder is where dropped files lie; it is this server's own.
        limits: what is taken.
        remembered: how many dropped files stay.
    """

    def __init__(
        self, answerer: Answerer | HostAnswerer, name: str, shelf: MediaShelf, limits: Limits, remembered: int
    ) -> None:
        self.answerer, self.name, self.shelf, self.limits = answerer, name, shelf, limits
        self.remembered, self.choosers = remembered, open_choosers(answerer)
        self.asked: dict[Path, float] = {}  # when each file was asked about last
        self.lock, self.answered = Lock(), 0

    def show(self, file: str | None, question: str | None, first: str, second: str) -> tuple[str, list[str]]:
        """What the page shows: a sentence where something is wrong, or one or two answers as pages of their own."""
        names = {} if file is None else {file: Path(file).name, str(Path(file).resolve()): Path(file).name}
        selectors = [first] if second in (NONE, first) else [first, second]
        try:
            with self.lock:
                return "", self._answer(file, question or "", selectors)
        except DynFocusError as error:
            sentence = str(rename(error, names))
        except Exception:
            log.exception("a question failed")
            sentence = describe_fault()["error"]["message"]
        return f'<p role="alert">{escape(sentence)}</p>', []

    def make_room(self) -> None:
        """Delete the files that were dropped or asked about before the last ones, as many as are too many."""
        files = [file for file in self.shelf.folder.glob("*/*") if file.is_file()] if self.shelf.folder else []
        files.sort(key=lambda file: max(file.stat().st_mtime, self.asked.get(file, 0)))
        for file in files[: max(0, len(files) + 1 - self.remembered)]:
            file.unlink(missing_ok=True)
            self.asked.pop(file, None)

    def _answer(self, file: str | None, question: str, selectors: Sequence[str]) -> list[str]:
        if file is None:
            raise PromptError("a question without a video", "a video that it is about", "Drop one on the page first.")
        if unknown := [name for name in selectors if name not in self.choosers]:
            raise ConfigError(f"the selector {unknown[0]!r}", f"one of {', '.join(self.choosers)}", "Choose one.")
        path, most = self.shelf.find_file(file, Path(file).name), self.limits.new_tokens
        check(path, [question], None, compare=False, new_tokens=most)
        self.asked[path] = time()
        self.shelf.check_length(path, path.name)
        pages = []
        for selector in selectors:
            answer = self.answerer.ask(path, question, most, self.choosers[selector])
            settings = self.answerer.settings | {"selector": selector, "max_new_tokens": most}
            facts = list_facts(Path(path.name), Path(self.name), [answer], settings)
            page = render_page(list_inspections(path, [answer], self.answerer.thumbnails(path, answer)), facts)
            pages.append(write_frame(f"Frames kept by {selector}", page))
        self.answered += 1
        return pages


def open_choosers(answerer: Any) -> dict[str, Any]:
    """The selectors that the model's own features suffice for, by their names; None stands for its own, the first."""
    is_host = isinstance(answerer, HostAnswerer)
    own = answerer.chooser.label if is_host else selector_label(answerer.model.settings.selector)
    open_one = answerer.open_chooser if is_host else partial(open_selector, answerer.model)
    choosers: dict[str, Any] = {own: None}
    for name in SELECTORS.keys() - {own}:
        try:
            choosers[name] = open_one(name)
        except ConfigError:  # it reads what there is none of
            continue
    return {name: choosers[name] for name in (own, *SELECTORS) if name in choosers}


def write_frame(title: str, page: str) -> str:
    """A whole page within another one, where it can reach nothing of that one."""
    inner = f'<iframe sandbox="allow-scripts" title="{escape(title)}" srcdoc="{escape(page)}"></iframe>'
    return f'<h3>{escape(title)}</h3><div class="answer">{inner}</div>'


def write_preview(file: str | None) -> str:
    """The dropped file for a person to look at, as far as the browser can show it."""
    if file is None:
        return ""
    kind = "img" if (guess_type(file)[0] or "").startswith("image/") else "video controls"
    return f'<{kind} class="preview" src="{FILE}{quote(file)}"></{kind.partition(" ")[0]}>'


def build_demo(demo: Demo, key: str | None) -> FastAPI:
    """The application of the page, behind a gate; see `Gate` for the key."""
    import gradio  # which takes seconds

    choices = [*demo.choosers]

    def show(*asked: Any) -> list[Any]:
        sentence, pages = demo.show(*asked)
        shown = [gradio.update(value=page, visible=True) for page in pages]
        return [sentence, *shown, *[gradio.update(value="", visible=False)] * (2 - len(shown))]

    with gradio.Blocks(title=f"DynFocus: {demo.name}", analytics_enabled=False, fill_width=True) as blocks:
        with gradio.Row():
            with gradio.Column():
                video = gradio.File(label="Video or image", elem_id="video", height=160)
                preview = gradio.HTML(elem_id="preview")
            with gradio.Column():
                question = gradio.Textbox(label="Question", elem_id="question", placeholder="What is asked about it?")
                with gradio.Row():
                    first = gradio.Dropdown(choices, value=choices[0], label="Frames kept by", elem_id="first")
                    second = gradio.Dropdown([NONE, *choices], value=NONE, label="Compare with", elem_id="second")
                ask = gradio.Button("Ask", variant="primary", elem_id="ask")
                said = gradio.HTML(elem_id="said")
        video.change(write_preview, video, preview, api_visibility="private", show_progress="hidden")
        with gradio.Row():
            pages = [gradio.HTML(visible=False, elem_id=f"page{number}") for number in (1, 2)]
        gradio.on(
            [ask.click, question.submit],
            show,
            [video, question, first, second],
            [said, *pages],
            concurrency_limit=1,
            api_visibility="private",
        )
    blocks.queue(max_size=demo.limits.requests, api_open=False)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        show_error=False,
        max_file_size=demo.limits.body,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        css=CSS,
    )
    app.add_middleware(Gate, shelf=demo.shelf, limits=demo.limits, key=key, make_room=demo.make_room)
    return app
