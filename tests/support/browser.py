"""Opens pages in headless Chromium."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

CALM = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--disable-dev-shm-usage"),
)


@contextmanager
def chromium(width: int = 1200, height: int = 1000) -> Iterator[Any]:
    """A fresh Chromium driven by selenium; the test is skipped where none is installed.

    Every request it makes and every line of its console can be read back: `requests`, `complaints`.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs Chromium and chromedriver, which are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with TemporaryDirectory() as profile:
        for argument in (*CALM, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(argument)
        opened = webdriver.Chrome(options, Service(driver))
        try:
            opened.get("about:blank")  # away from the browser's own first tab, which asks for pages of its own
            requests(opened)
            set_window(opened, width, height)
            yield opened
        finally:
            opened.quit()


@contextmanager
def emulate_window(browser: Any, **like: Any) -> Iterator[None]:
    """Within the block pages are told of a window like this (`tell`); after it, of the usual one."""
    try:
        set_window(browser, **like)
        yield
    finally:
        set_window(browser)


def set_window(browser: Any, width: int = 1200, height: int = 1000, dark: bool = False, script: bool = True) -> None:
    """Tell pages so. A headless window is never narrower than 500 pixels; what they are told of it can be."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    colors = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": colors})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})


def visit(browser: Any, path: Path) -> None:
    """Open a file from disk."""
    browser.get(path.resolve().as_uri())


def requests(browser: Any) -> list[str]:
    """Addresses that were asked for since this was last called, but what pages hold and the browser's own pages."""
    messages = (json.loads(line["message"])["message"] for line in browser.get_log("performance"))
    urls = (one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent")
    return [url for url in urls if not url.startswith(("data:", "chrome:", "chrome-untrusted:"))]


def complaints(browser: Any) -> list[str]:
    """Lines of the console since this was last called: errors, warnings, broken policies."""
    return [line["message"] for line in browser.get_log("browser")]


def whole_page(browser: Any, path: Path) -> None:
    """A picture of the whole page, however long."""
    from base64 import b64decode

    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
    path.write_bytes(b64decode(shot["data"]))
