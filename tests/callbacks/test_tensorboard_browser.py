"""What a person sees: a real TensorBoard on a run's folder, in a real browser."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium

# TensorBoard's parts lie in shadow roots, which no selector sees through.
DEEP = """
const found = [], walk = root => root.querySelectorAll("*").forEach(one => {
  if (one.matches(arguments[0])) found.push(one);
  if (one.shadowRoot) walk(one.shadowRoot);
});
walk(document);
return found.map(one => [one.textContent.trim(), one.naturalWidth || 0]);
"""


@pytest.fixture(scope="module")
def address(observed_run: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(observed_run), "--host", "127.0.0.1"]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(30)


def until(ready: Callable[[], Any], seconds: float = 90) -> Any:
    """What ``ready`` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if value := ready():
                return value
        except urllib.error.URLError:
            pass  # it has not begun to listen
        time.sleep(0.3)
    raise AssertionError("nothing to see")


def test_pictures_answers_and_settings_are_to_be_seen(address: str, tmp_path: Path) -> None:
    until(lambda: b"final/test/balanced" in urllib.request.urlopen(f"{address}data/plugin/scalars/tags").read())
    with chromium(1400, 1000) as browser:

        def open_tab(tab: str, what: str, enough: Callable[[list[Any]], bool]) -> list[Any]:
            browser.get("about:blank")
            browser.get(f"{address}#{tab}")
            result = until(lambda: (every := browser.execute_script(DEEP, what)) and enough(every) and every)
            browser.save_screenshot(str(tmp_path / f"{tab}.png"))
            return result

        pictures = open_tab("images", "img", lambda every: sum(width == 1200 for _, width in every) == 4)
        assert len([width for _, width in pictures if width]) == 4
        cells = {text for text, _ in open_tab("text", "td, th", lambda every: len(every) > 50)}
        assert {"question", "answer", "truth", "kept frames", "video"} <= cells
        assert any(text.startswith("videos/test_") for text in cells)
        last = "final/val/temporal"
        texts = {
            text for text, _ in open_tab("hparams", "div, span", lambda every: any(text == last for text, _ in every))
        }
        assert {"connector/events", "stage", "final/train/loss", "final/val/hit_rate", "final/test/balanced"} <= texts
