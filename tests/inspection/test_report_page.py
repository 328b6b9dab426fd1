"""The page: everything is in it once, nothing that a user wrote is more than text, and what it says is so."""

import ast
import json
import re
import subprocess
import sys
from base64 import b64decode, b64encode
from dataclasses import asdict, replace
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_selections import SETTINGS, CountedFrames, choose, color, inspection, plain_frames

from dynfocus.errors import ConfigError
from dynfocus.inspection.compare import explain
from dynfocus.inspection.content import Inspection, PageFacts
from dynfocus.inspection.frames import MANY, OTHERS, choose_embedded
from dynfocus.inspection.page import TEMPLATES, render_page
from dynfocus.records.selections import Selection

ROOT = Path(__file__).parents[2]
FACTS = PageFacts("bikes.mp4", "runs/model", asdict(SETTINGS), {"dynfocus": "0.1.0"}, {"reading": 1.25})
HOSTILE = (
    "<script>alert(1)</script>",
    "\" onload='alert(1)' x=`",
    "</script></svg></title></style><img src=x onerror=alert(1)>",
    "]]> --> <!-- <![CDATA[",
    "\u202egpj.exe \u2066 \u200b",
    "two\nlines\r\n\ttab \x00 \x1b[31m \x85",
    "javascript:alert(1) &lt;b&gt; &#60;",
    "name \udcff of bytes",
    "שלום العربية 日本 👩‍👩‍👧",
)


def safe(words: object) -> str:
    """What the template makes of a text."""
    return TEMPLATES.from_string("{{ words }}").render(words=words)


class ParsedPage(HTMLParser):
    """What a parser of HTML finds on a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.inside.append("/" + tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def skeleton(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.tags]


def hostile(words: str) -> str:
    """A page on which a user's text stands wherever it can."""
    story = replace(inspection(20), title=words, question=words, answer=words, truth=words)
    facts = PageFacts(words, words, {words: words, "s": (words,)}, {words: words}, {words: 1.0}, [{words: words}] * 2)
    return render_page([story, story], facts)


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_words_stay_words(words: str) -> None:
    page, usual = ParsedPage(hostile(words)), ParsedPage(hostile("harmless"))
    assert page.skeleton == usual.skeleton
    assert page.inside == usual.inside
    assert not [name for _, names in page.tags for name in names if name.startswith("on") or name == "style"]
    texts = [text.strip() for text in page.texts]
    assert texts.count(ParsedPage(safe(words)).texts[0].strip() if words else "") >= 5


@settings(max_examples=30)
@given(st.text())
def test_any_words_stay_words(words: str) -> None:
    assert ParsedPage(f"<p>{safe(words)}</p>").skeleton == [("p", ())]
    assert ParsedPage(f'<p title="{safe(words)}"></p>').skeleton == [("p", ("title",))]
    safe(words).encode()


def test_readable_words_stand_as_they_are_and_those_that_deceive_are_named() -> None:
    assert safe("日本 العربية 👩‍👧 a\nb") == "日本 العربية 👩‍👧 a\nb"
    assert safe("\u202egpj.exe\x00") == "\\u202egpj.exe\\u0000"
    assert safe("<a href=\"x\" b='y'>&") == "&lt;a href=&#34;x&#34; b=&#39;y&#39;&gt;&amp;"


def test_a_page_allows_its_own_script_and_style_alone_and_names_no_address() -> None:
    text = render_page([inspection(20)], FACTS)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    for kind in ("script", "style"):
        (block,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.S)
        assert f"{kind}-src 'sha256-{b64encode(sha256(block.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    attributes = [pair for _, names in ParsedPage(text).tags for pair in names.items()]
    links = [link or "" for name, link in attributes if name in ("href", "xlink:href", "src")]
    assert len(links) > 20
    assert all(link.startswith(("#", "data:")) for link in links)
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}


def test_each_frame_is_embedded_once_and_is_that_frame() -> None:
    story = inspection(20)
    text = render_page([story, replace(story, question="another")], FACTS)
    pictures = re.findall(r'<symbol id="f(\d+)".*?href="data:image/png;base64,([^"]+)"', text)
    assert [int(number) for number, _ in pictures] == list(range(20))
    for number, data in pictures:
        pixels = np.asarray(Image.open(BytesIO(b64decode(data))))
        assert (pixels == color(int(number))).all()
    figures = re.findall(r'<figure data-frame="(\d+)"[^>]*><svg[^>]*aria-label="([^"]*)"><use href="#f(\d+)"', text)
    assert figures == [(str(f), f"frame {f} at {f} s", str(f)) for f in story.selection.kept]
    assert len(re.findall('class="?best', text)) == len(story.selection.best(6))


def test_what_is_the_same_for_all_questions_is_drawn_once() -> None:
    alike = [replace(inspection(20), question=name, answer=f"answer {name}") for name in ("one", "two")]
    facts = replace(FACTS, details=[{"prompt tokens": 9001}, {"prompt tokens": 9002}])
    for stories, drawn in ((alike, 1), ([alike[0], replace(alike[1], selection=choose(20, seed=1))], 2)):
        text = render_page(stories, facts)
        assert text.count("data-first=") == text.count('class="chart"') == text.count("<details>") == drawn
        assert ("For every question: " in text) == (drawn == 1)
        assert ('class="lanes"' in text) == (drawn == 2)
        places = [text.index(words) for words in (">one<", "answer one", "9001", ">two<", "answer two", "9002")]
        assert places == sorted(places)


def test_frames_and_events_are_counted_from_0_as_scripts_are_told() -> None:
    text = render_page([inspection(20)], FACTS)
    rows = re.findall(r"<tr><td>(\d+)</td><td>(\d+)</td><td>[^<]*</td><td>(\d+)</td>", text)
    assert [tuple(map(int, row)) for row in rows] == list(zip(range(20), range(20), choose(20).nearest, strict=True))
    assert all(f">{event}</text>" in text for event in range(8))
    assert "numbered from 0" in text


def test_one_kept_frame_has_no_rank() -> None:
    one = Inspection(choose(20, settings=replace(SETTINGS, events=1)), plain_frames(20))
    text = render_page([one], FACTS)
    assert "<h3>The kept frame</h3>" in text
    assert "score s</h3>" not in text
    several = render_page([inspection(20)], FACTS)
    assert "; numbered from the highest score s</h3>" in several
    assert 'class="rank"' not in text
    assert 'class="rank"' in several


def test_a_strip_of_frames_that_are_all_alike_says_how_many_these_are() -> None:
    for frames, name in ((1, "The frame"), (20, "All frames, treated alike"), (OTHERS + 1, "Some of the frames; all")):
        alike = Selection(tuple(map(float, range(frames))), (), 16 * frames, 0)
        assert f"<h3>{name}" in render_page([Inspection(alike, plain_frames(frames))], FACTS)


def test_a_smaller_encoder_is_told_beside_the_papers() -> None:
    small = replace(FACTS, settings={"patches": 36})
    assert "this model's own has 36" in render_page([inspection(20)], small)
    assert "this model's own" not in render_page([inspection(20)], replace(FACTS, settings={"patches": 256}))


def test_a_page_about_hours_holds_few_frames_and_stays_small() -> None:
    frames, selection = CountedFrames(10_000), choose(10_000, settings=replace(SETTINGS, events=25, keep=0.8))
    text = render_page([Inspection(selection, frames)], FACTS)
    assert set(selection.kept) <= frames.read
    assert text.count("<symbol") == OTHERS
    assert len(frames.read) <= OTHERS + 20  # the checks of annotations look at some too
    assert len(text) < 3_000_000  # of noise, which no format makes small


def test_events_that_alternate_for_hours_make_no_larger_page() -> None:
    """A ribbon of many pieces becomes a picture."""
    alternating = replace(choose(10_000), nearest=tuple(frame % 8 for frame in range(10_000)))
    text = render_page([Inspection(alternating)], FACTS)
    assert 'xlink:href="data:image/png;base64,' in text
    assert len(text) < 1_000_000


def test_the_more_frames_are_kept_the_smaller_each_is() -> None:
    frames, selection = CountedFrames(600), choose(600, settings=replace(SETTINGS, events=600, keep=1.0))
    text = render_page([Inspection(selection, frames)], FACTS)
    assert text.count("<symbol") == 600
    sizes = {int(width) * int(height) for width, height in re.findall(r'<image width="(\d+)" height="(\d+)"', text)}
    assert max(sizes) * 600 <= MANY * 160 * 160
    assert choose_embedded((), 3) == [0, 1, 2]


def test_the_script_is_given_the_same_numbers() -> None:
    selection = choose(20, relevant=((3, 4), (4, 9)))
    selection = replace(selection, peaks=(float("nan"), *selection.peaks[1:]))
    (block,) = re.findall(
        r'<script type="application/json">(.*?)</script>', render_page([Inspection(selection)], FACTS)
    )
    data = json.loads(block)
    assert data["peaks"][0] is None
    assert data["peaks"][1:] == pytest.approx(selection.peaks[1:], rel=1e-3)
    assert data["scores"] == pytest.approx(selection.scores, rel=1e-3)
    assert (tuple(data["kept"]), tuple(data["nearest"])) == (selection.kept, selection.nearest)
    assert data["relevant"] == [3, 4, 9]
    assert len(data["edges"]) == 21


def test_the_budget_counts_what_the_formulas_say() -> None:
    text = render_page([inspection(20)], FACTS)
    for words in ("192 (3.8%)", "40 (0.8%)", "5,120 (100.0%)"):
        assert f">{words}</text>" in text
    cheap = replace(inspection(20), selection=replace(choose(20), cones=0))
    both = render_page([inspection(20), cheap], FACTS)
    assert all(words in both for words in ("this model, question 1", "this model, question 2", "40 (0.8%)"))


def test_a_table_holds_every_frame_and_of_hours_those_that_matter() -> None:
    assert render_page([inspection(20)], FACTS).count("<tr><td>") == 20
    selection = choose(10_000)
    assert render_page([Inspection(selection)], FACTS).count("<tr><td>") == len(
        {*selection.kept, *selection.representatives}
    )
    text = render_page([Inspection(choose(1_200, settings=replace(SETTINGS, events=1_200)))], FACTS)
    assert text.count("<tr><td>") == 1_000
    assert "1,000 of 1,200" in text


REASONS: dict[str, tuple[dict[str, object], bool]] = {
    "with the paper's score net none can": ({}, False),
    "for these questions they did not": ({"score_reads_question": True}, False),
    "so the kept frames may change with it": ({"score_reads_question": True}, True),
    "the selector uniform, not by the paper's score net, and it chose the same": ({"selector": "uniform"}, False),
    "the selector oracle, not by the paper's score net, and for these questions": ({"selector": "oracle"}, True),
    "the settings do not say why": ({}, True),
}


@pytest.mark.parametrize("reason", REASONS)
def test_the_page_says_why_kept_frames_change_or_do_not(reason: str) -> None:
    changed, differ = REASONS[reason]
    stories = [inspection(20), inspection(20, seed=1 if differ else 0)]
    facts = replace(FACTS, settings={**FACTS.settings, **changed})
    assert reason in explain(stories, facts).lower()
    text = render_page(stories, facts)
    assert safe(explain(stories, facts)) in text
    first, second = (set(one.selection.kept) for one in stories)
    assert f"Both questions share {len(first & second)} of {len(first | second)} kept frames" in text
    assert ("none differ" in text) == (not differ)
    assert (f"Kept for question 2, not for all: {len(second - first)}" in text) == differ


def test_where_all_is_kept_or_nothing_is_there_is_nothing_to_change() -> None:
    all_kept = Inspection(choose(20, settings=replace(SETTINGS, keep=1.0)))
    reads = replace(FACTS, settings={"score_reads_question": True})
    assert "every event was kept" in explain([all_kept, all_kept], reads)
    alike = Inspection(Selection((0.0, 1.0), (), 32, 0))
    assert "keeps no frame before others" in explain([alike, alike], FACTS)
    assert "What changes with the question" not in render_page([inspection(20)], FACTS)


@pytest.mark.parametrize("frames", [1, 2, 33])
@pytest.mark.parametrize("bare", [True, False])
def test_poor_selections_have_pages_too(frames: int, bare: bool) -> None:
    seconds = tuple(map(float, range(frames)))
    for selection in (Selection(seconds, (), 16, 0), Selection(seconds, (0,), 38, 2), choose(frames)):
        page = ParsedPage(render_page([Inspection(selection, () if bare else plain_frames(frames))], PageFacts("")))
        assert [tag for tag, _ in page.tags].count("section") == 3


def test_the_template_the_style_and_the_script_are_installed() -> None:
    """A wheel is made of what setuptools finds by setup.cfg."""
    code = (
        "from setuptools import Distribution\n"
        "built = Distribution()\n"
        "built.parse_config_files()\n"
        "command = built.get_command_obj('build_py')\n"
        "command.ensure_finalized()\n"
        "print({package: names for package, *_, names in command.data_files}['dynfocus.inspection'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == ["page.css", "page.html.j2", "page.js"]


def test_questions_about_several_videos_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 questions about 2 videos"):
        render_page([inspection(3), inspection(4)], FACTS)
    with pytest.raises(ConfigError, match="0 questions"):
        render_page([], FACTS)
    with pytest.raises(ConfigError, match="2 frames and 3 time stamps"):
        render_page([Inspection(choose(3), plain_frames(2))], FACTS)
