"""The page in a real Chromium: nothing leaves it, nothing of a user's runs, and the mouse finds the numbers."""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium, complaints, emulate_window, requests, visit
from PIL import Image, ImageColor
from sample_selections import choose, color, inspection
from test_report_page import FACTS, HOSTILE, hostile

from dynfocus.inspection.charts import COLORS
from dynfocus.inspection.page import render_page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


def open_page(browser: Any, text: str, folder: Path) -> list[str]:
    """Open a page from disk; returns what it asked for beyond itself, and what the console says."""
    file = folder / "page.html"
    file.write_text(text, encoding="utf-8")
    requests(browser)
    complaints(browser)
    visit(browser, file)
    beyond = [url for url in requests(browser) if url != file.as_uri()]
    entries = "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
    return [*beyond, *browser.execute_script(entries), *complaints(browser)]


def pixels_of(browser: Any, element: Any) -> np.ndarray:
    """The pixels of an element."""
    return np.asarray(Image.open(BytesIO(element.screenshot_as_png)).convert("RGB"))


def one(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def over(browser: Any, element: Any, x: float, y: float) -> None:
    """Move the mouse to a place within an element, as shares of its width and height."""
    from selenium.webdriver import ActionChains

    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    size = element.rect
    aside = (round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"]))
    ActionChains(browser).move_to_element_with_offset(element, *aside).perform()


def test_hostile_words_run_nothing_and_ask_for_nothing(browser: Any, tmp_path: Path) -> None:
    for words in HOSTILE:
        assert open_page(browser, hostile(words), tmp_path) == []
        assert browser.execute_script("return document.querySelectorAll('section').length") == 4
        assert not browser.execute_script("return document.querySelector('img, iframe, a, [onload], [onerror]')")
        with pytest.raises(Exception, match="no such alert"):
            _ = browser.switch_to.alert.text
    assert "<img src=x onerror=alert(1)>" in hostile_title(browser, tmp_path)


def hostile_title(browser: Any, folder: Path) -> str:
    open_page(browser, hostile(HOSTILE[2]), folder)
    return str(browser.title)


def test_what_a_page_is_not_allowed_it_cannot_do(browser: Any, tmp_path: Path) -> None:
    breach = render_page([inspection(20)], FACTS).replace(
        "</main>", '<script>window.ran = 1</script><img src="http://127.0.0.1:9/x.png" onerror="window.ran = 2"></main>'
    )
    messages = open_page(browser, breach, tmp_path)
    assert sum("Content Security Policy" in line for line in messages) >= 2
    assert browser.execute_script("return window.ran === undefined")


def test_the_mouse_finds_the_numbers_of_each_frame(browser: Any, tmp_path: Path) -> None:
    story = inspection(20)
    selection = replace(story.selection, relevant=((3,),))
    assert open_page(browser, render_page([replace(story, selection=selection)], FACTS), tmp_path) == []
    chart, tip = one(browser, ".chart"), one(browser, "#tip")
    assert not tip.is_displayed()
    for frame in (0, 3, 11, 19):
        x = (116 + (frame + 0.5) * (1000 - 20 - 116) / 20) / 1000
        over(browser, chart, x, 0.4)
        words, event = tip.text, selection.nearest[frame]
        assert f"frame {frame}, at {frame} s" in words
        assert f"rho*delta = {selection.peaks[frame]:.4g}" in words
        assert f"event {event}, its representative at {selection.representatives[event]} s" in words
        assert f"s of its event = {selection.scores[event]:.4g}" in words
        assert ("kept (b = 1): cones and rods" in words) == (frame in selection.kept)
        assert ("not kept (b = 0): rods alone" in words) == (frame not in selection.kept)
        assert ("the question needs this frame" in words) == (frame == 3)
        assert (pixels_of(browser, tip) == color(frame)).all(-1).sum() > 100
    over(browser, one(browser, "h1"), 0.5, 0.5)
    assert not tip.is_displayed()
    over(browser, one(browser, f'figure[data-frame="{selection.kept[1]}"]'), 0.5, 0.5)
    assert f"frame {selection.kept[1]}, at" in tip.text
    assert complaints(browser) == []


def test_the_keyboard_finds_them_too(browser: Any, tmp_path: Path) -> None:
    open_page(browser, render_page([inspection(20)], FACTS), tmp_path)
    chart, tip = one(browser, ".chart"), one(browser, "#tip")
    for key, frame in (("End", 19), ("ArrowLeft", 18), ("Home", 0), ("ArrowLeft", 0), ("ArrowRight", 1)):
        chart.send_keys(getattr(keys(), {"ArrowLeft": "LEFT", "ArrowRight": "RIGHT"}.get(key, key.upper())))
        assert f"frame {frame}, at" in tip.text
    assert (pixels_of(browser, chart)[:2, 9:99] == ImageColor.getrgb(COLORS["peak"])).all(), (
        "where the focus is can be seen"
    )
    for away in (keys().ESCAPE, keys().TAB):
        chart.send_keys(keys().HOME)
        assert tip.is_displayed()
        chart.send_keys(away)
        assert not tip.is_displayed()


def keys() -> Any:
    from selenium.webdriver.common.keys import Keys

    return Keys


def test_frames_are_shown_in_their_shape(browser: Any, tmp_path: Path) -> None:
    from sample_selections import plain_frames

    wide = replace(inspection(20), frames=plain_frames(20, 90, 160))
    open_page(browser, render_page([wide], FACTS), tmp_path)
    frame = wide.selection.kept[0]
    picture = one(browser, f'figure[data-frame="{frame}"] svg')
    assert picture.rect["width"] / picture.rect["height"] == pytest.approx(160 / 90, rel=0.02)
    near = np.abs(pixels_of(browser, picture).astype(int) - color(frame)).max(-1) <= 6  # a JPEG
    assert near.mean() > 0.95


@pytest.mark.parametrize("dark", [False, True])
def test_narrow_and_dark_windows_show_it_whole(dark: bool, browser: Any, tmp_path: Path) -> None:
    with emulate_window(browser, width=380, height=700, dark=dark):
        assert open_page(browser, render_page([inspection(20), inspection(20, seed=1)], FACTS), tmp_path) == []
        assert browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [380, 380]
        ground = pixels_of(browser, one(browser, "h1"))[0, 0].mean()
        assert ground < 60 if dark else ground > 240
        over(browser, one(browser, "figure[data-frame]:nth-child(2)"), 0.5, 0.5)
        box = one(browser, "#tip").rect
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 380


def test_a_finger_finds_the_numbers_and_may_be_lifted(browser: Any, tmp_path: Path) -> None:
    story = inspection(20)
    assert open_page(browser, render_page([story], FACTS), tmp_path) == []
    tip, frame = one(browser, "#tip"), story.selection.kept[1]
    tap(browser, one(browser, ".chart"))
    assert "frame 8, at" in tip.text
    assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "none"
    tap(browser, one(browser, f'figure[data-frame="{frame}"]'))
    assert f"frame {frame}, at" in tip.text
    tap(browser, one(browser, "h1"))
    assert not tip.is_displayed()


def tap(browser: Any, element: Any) -> None:
    """Touch the middle of an element, and lift the finger."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    box = browser.execute_script("return arguments[0].getBoundingClientRect().toJSON()", element)
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    for kind, points in (("touchStart", [point]), ("touchEnd", [])):
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_without_scripts_the_story_is_there(browser: Any, tmp_path: Path) -> None:
    story = inspection(20)
    (tmp_path / "page.html").write_text(render_page([story], FACTS))
    with emulate_window(browser, script=False):
        visit(browser, tmp_path / "page.html")
        frame = story.selection.kept[0]
        assert (pixels_of(browser, one(browser, f'figure[data-frame="{frame}"] svg')) == color(frame)).all(
            -1
        ).mean() > 0.9
        assert one(browser, ".chart").rect["height"] > 200
        assert not browser.find_elements("css selector", ".cursor"), "no script has drawn anything"
        assert "star red" in one(browser, ".answer").text
        over(browser, one(browser, ".chart"), 0.5, 0.5)
        assert not one(browser, "#tip").is_displayed()


def test_a_video_of_hours_opens(browser: Any, tmp_path: Path) -> None:
    story = replace(inspection(1), selection=choose(10_000), frames=())
    assert open_page(browser, render_page([story], FACTS), tmp_path) == []
    over(browser, one(browser, ".chart"), (116 + 0.25 * 864) / 1000, 0.3)
    assert int(one(browser, "#tip").text.split()[1].rstrip(",")) == pytest.approx(2500, abs=10)
