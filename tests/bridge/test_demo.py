"""The page for people: a real server process in a real Chromium, hostile requests to it, and what stands behind it."""

import base64
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_hosts
from browser import chromium, complaints, requests
from make_videos import write_video
from serving import KEY, PATIENCE, Served, head, start

from dynfocus import cli
from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule
from dynfocus.bridge.serve.demo import Demo, open_choosers
from dynfocus.bridge.serve.media import MediaShelf
from dynfocus.bridge.serve.service import Limits
from dynfocus.inspection.answerer import Answerer
from dynfocus.inspection.wording import format_time
from dynfocus.records.selections import Selection

QUESTION, OTHER, TOKENS, BODY = "what color is the star ${1 + 1} <b>{{2}}</b>", "how many circles", 8, 1 << 20
CLEAR = '#video button[aria-label="Clear"], #video button[aria-label="Remove this file"]'
needs_gradio = pytest.mark.skipif(
    find_spec("gradio") is None and "CI" not in os.environ,  # CI must not skip
    reason="the page needs the extra demo, which make install brings",
)


@dataclass
class Page:
    """The page in a browser, and the file in which its server notes the runs of the vision tower."""

    browser: Any
    served: Served
    runs: Path

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def until(self, ready: Callable[[], Any]) -> Any:
        """What ``ready`` gives once it gives something."""
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if value := ready():
                    return value
            except WebDriverException:
                pass  # Gradio draws it anew just now
            time.sleep(0.1)
        raise AssertionError(f"nothing to see: {complaints(self.browser)}")

    def drop(self, path: Path) -> None:
        """Give the page a file, in place of one that is there."""
        if self.browser.find_elements("css selector", CLEAR):
            self.one(CLEAR).click()
        self.until(lambda: self.one("#video input[type=file]")).send_keys(str(path))
        self.until(lambda: path.name in self.one("#preview video").get_attribute("src"))

    def ask(self, question: str) -> str:
        """Ask, and wait for what comes; returns the sentence where something is wrong."""
        field, before = self.one("#question textarea, #question input"), self.state()
        field.clear()
        field.send_keys(question)
        self.one("#ask").click()
        self.until(lambda: (now := self.state()) != before and (time.sleep(0.3) or self.state() == now))
        return self.state()[0]

    def state(self) -> tuple[str, list[str]]:
        """The sentence, and which answers are drawn."""
        said = self.browser.find_elements("css selector", "#said [role=alert]")
        return (said[0].text if said else ""), self.frames()

    def frames(self) -> list[str]:
        found = self.browser.find_elements("css selector", ".answer iframe")
        return [frame.id for frame in found if frame.is_displayed()]

    def choose(self, field: str, name: str) -> None:
        """Choose from a list, again where the page was just drawn anew and lost the click."""

        def is_chosen() -> bool:
            box = self.one(f"#{field} input")
            if box.get_attribute("value") != name:
                box.click()
                self.one(f'#{field} [role="option"][aria-label="{name}"]').click()
            return bool(box.get_attribute("value") == name)

        self.until(is_chosen)

    def count_runs(self) -> int:
        return len(self.runs.read_text().splitlines())

    def check_answer(self, number: int, selector: str, question: str, answer: str, chosen: Selection) -> None:
        """One of the answers on the page against one of this process."""
        place = self.until(lambda: self.one(f"#page{number} iframe"))
        assert self.one(f"#page{number} h3").text == f"Frames kept by {selector}"
        self.browser.switch_to.frame(place)
        try:
            assert self.one("h2").text == f"Question 1 {question}"
            assert self.one(".answer").text.removeprefix("Answer: ") == answer
            times = [one.text for one in self.browser.find_elements("css selector", "figcaption")]
            kept = [format_time(chosen.seconds[frame]) for frame in chosen.kept]
            assert [time in text for time, text in zip(kept, times, strict=True)] == [True] * len(kept)
            assert f"this model: {chosen.visual_tokens} tokens" in self.one(".bars").get_attribute("aria-label")
            assert selector in self.one(".tables").text
            assert self.browser.execute_script("return document.querySelectorAll('figure use').length") == len(kept)
        finally:
            self.browser.switch_to.default_content()


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    runs = tmp_path_factory.mktemp("demo") / "runs.txt"
    words = ["--max-new-tokens", str(TOKENS), "--max-body", str(BODY / 2**20), "--max-duration", "30"]
    with start(folder, *words, "--client-seconds", "30", verb="demo", runs=runs) as served, chromium() as browser:
        # As somebody who has typed the key: an address that holds it is one that Gradio's page cannot ask at.
        browser.get(f"http://somebody:{KEY.replace(' ', '%20')}@127.0.0.1:{served.port}/robots.txt")
        requests(browser)
        browser.get(f"http://127.0.0.1:{served.port}/")
        shown = Page(browser, served, runs)
        shown.until(lambda: shown.one("#ask").is_displayed())
        yield shown


@needs_gradio
def test_a_dropped_video_is_answered_and_two_selectors_stand_side_by_side(
    page: Page, folder: Path, video: Path
) -> None:
    answerer = Answerer(folder)
    page.drop(video)
    assert page.ask(QUESTION) == ""
    once, exact = page.count_runs(), answerer.ask(video, QUESTION, TOKENS)
    assert once > 0
    page.check_answer(1, "dpe", QUESTION, exact.answer, exact.selection)
    assert len(page.frames()) == 1
    page.choose("second", "last")
    assert page.ask(OTHER) == ""
    page.until(lambda: len(page.frames()) == 2)
    last = answerer.ask(video, OTHER, TOKENS, open_choosers(answerer)["last"])
    exact = answerer.ask(video, OTHER, TOKENS)
    assert last.selection.kept != exact.selection.kept
    page.check_answer(1, "dpe", OTHER, exact.answer, exact.selection)
    page.check_answer(2, "last", OTHER, last.answer, last.selection)
    left, right = (page.one(f"#page{number} iframe").rect for number in (1, 2))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    assert page.count_runs() == once, "three answers about one video rest on one sketch"
    page.choose("second", "no other")
    assert page.ask(QUESTION) == ""
    page.until(lambda: len(page.frames()) == 1)
    elsewhere = [url for url in requests(page.browser) if f"127.0.0.1:{page.served.port}/" not in url]
    assert [url for url in elsewhere if not url.startswith(("about:", "blob:"))] == []
    # Gradio's own client says so of each stream that it ends.
    assert [line for line in complaints(page.browser) if "Method not implemented" not in line] == []


@needs_gradio
def test_what_is_wrong_is_a_sentence_on_the_page(page: Page, video: Path, tmp_path: Path) -> None:
    half, long, text = tmp_path / "half.mp4", tmp_path / "long.mp4", tmp_path / "list.mp4"
    half.write_bytes(video.read_bytes()[:900])
    write_video(long, 5, millis=[0, 10_000, 20_000, 30_000, 40_000])
    text.write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    for path, words in ((half, "half.mp4"), (long, "lasts 40 s"), (text, "list.mp4")):
        page.drop(path)
        sentence = page.ask(QUESTION)
        assert words in sentence
        assert " Needed: " in sentence
        assert "Traceback" not in sentence
        assert "/" not in sentence, "where files lie on the server is not said"
        assert page.frames() == []
    page.drop(video)
    assert "some words" in page.ask("  ")
    assert page.ask(OTHER) == "", "after mistakes it answers on"
    page.one(CLEAR).click()
    assert "Drop one on the page" in page.ask(OTHER)


def send(served: Served, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers of one reply of the page's server."""
    given = {"authorization": "Basic " + base64.b64encode(f"me:{KEY}".encode()).decode(), "connection": "close"}
    lengths = {"content_length": str(len(body))} if method == "POST" else {}
    with served.connect() as raw:
        raw.sendall(head(method, path, **given | lengths | headers) + body)
        with raw.makefile("rb") as lines:
            status = int(lines.readline().split()[1])
            found = dict(line.decode().strip().lower().split(": ", 1) for line in iter(lines.readline, b"\r\n"))
            return status, lines.read(int(found.get("content-length", 1 << 20))).decode("utf-8", "replace"), found


def form(name: str, data: bytes) -> tuple[bytes, str]:
    """A file as browsers send it, and the type of that."""
    before = f'--edge\r\ncontent-disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    return before + data + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"


@needs_gradio
def test_nothing_but_the_page_and_dropped_files_is_shown_taken_or_fetched(page: Page, tmp_path: Path) -> None:
    served, secret = page.served, tmp_path / "secret.mp4"
    secret.write_text("hidden words")
    remote = f"http://127.0.0.1:{served.port}/favicon.ico"
    for path in (str(secret), "/etc/passwd", remote, f"{Path.cwd()}/setup.cfg", f"/tmp/../{secret}", "%00", ""):
        status, text, _ = send(served, "GET", f"/gradio_api/file={path}")
        assert (status, " Needed: " in text, "hidden" in text) == (400, True, False), path
    for method, path in [
        *(("GET", f"/gradio_api/{name}") for name in (f"proxy={remote}", "file/etc/passwd", "openapi.json", "runs")),
        *(("POST", f"/gradio_api/{name}") for name in ("run/show", "call/show", "api/show", "process_recording")),
        *(
            ("POST", f"/gradio_api/{name}")
            for name in ("component_server", "vibe-edit", "stream/1", "run-history/connect")
        ),
        *(
            ("POST", "/login"),
            ("GET", "/monitoring"),
            ("PUT", "/"),
            ("GET", "/docs"),
            ("GET", "/gradio_api/dev/reload"),
        ),
    ]:
        status, text, _ = send(served, method, path)
        assert (status, " Needed: " in text) == (404, True), path
    meta = {"_type": "gradio.FileData"}
    for path in (str(secret), remote, "../x", 5, None, {"path": str(secret)}):
        data = [{"path": path, "meta": meta}, OTHER, "dpe", "no other"]
        body = json.dumps({"data": data, "fn_index": 0, "session_hash": "abc"}).encode()
        status, text, _ = send(served, "POST", "/gradio_api/queue/join", body, content_type="application/json")
        assert (status, " Needed: " in text) == (400, True), path
    for wrong in (b"", b"{", b"[" * 60_000, b"\xff"):
        assert send(served, "POST", "/gradio_api/queue/join", wrong, content_type="application/json")[0] == 400
    status, text, headers = send(served, "GET", "/")
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    for stranger in ("", "Basic", "Basic !", f"Bearer {KEY}", "Basic " + base64.b64encode(b"me:other").decode()):
        for path in ("/", "/gradio_api/upload", "/gradio_api/info"):
            status, text, headers = send(served, "GET", path, authorization=stranger)
            assert (status, headers["www-authenticate"]) == (401, 'basic realm="dynfocus"')


@needs_gradio
def test_files_and_requests_beyond_the_limits_are_refused(page: Page) -> None:
    served = page.served
    body, kind = form("a.mp4", b"x" * (BODY + (1 << 17)))
    for status, text, _ in (
        send(served, "POST", "/gradio_api/upload", body, content_type=kind),
        send(served, "POST", "/gradio_api/upload", content_type=kind, content_length=str(2 << 30)),
        send(served, "POST", "/gradio_api/queue/join", b" " * (1 << 17)),
    ):
        assert (status, " Needed: " in text) == (413, True)
    status, text, _ = send(served, "POST", "/gradio_api/upload", b"--edge", content_type=kind, content_length="100")
    assert (status, " Needed: " in text) == (408, True)
    body, kind = form("../../../up.mp4", b"x")
    status, text, _ = send(served, "POST", "/gradio_api/upload", body, content_type=kind)
    assert status == 200
    assert json.loads(text)[0].endswith("/up.mp4")
    assert ".." not in text


@needs_gradio
def test_a_stop_ends_it_and_leaves_nothing(page: Page) -> None:
    """The last test with this server: it ends."""
    body, kind = form("left.mp4", b"x")
    left = Path(json.loads(send(page.served, "POST", "/gradio_api/upload", body, content_type=kind)[1])[0])
    assert left.is_file()
    page.served.process.terminate()
    out, err = page.served.process.communicate(timeout=PATIENCE)
    assert (page.served.process.returncode, err) == (0, "")
    assert out.startswith("stopped after ")
    assert not left.parent.parent.exists()


@pytest.fixture
def dropped(tmp_path: Path, video: Path) -> Path:
    """A clip where the page's server keeps it."""
    (tmp_path / "received" / "one").mkdir(parents=True)
    return Path(shutil.copy(video, tmp_path / "received" / "one" / "clip.mp4"))


def make_demo(answerer: Any, dropped: Path, **limits: Any) -> Demo:
    root = dropped.parent.parent
    shelf = MediaShelf(root, root, 3, BODY, 30, 60)
    return Demo(answerer, "tiny", shelf, Limits(new_tokens=4, **limits), 3)


@pytest.mark.skipif(find_spec("torchvision") is None and "CI" not in os.environ, reason="a host needs torchvision")
def test_a_host_answers_on_the_page_from_features_that_are_computed_once(dropped: Path, tmp_path: Path) -> None:
    answerer = HostAnswerer(tiny_hosts.save("internvl", tmp_path / "host"), "mmr", HostRule(keep=3, frames=10))
    demo = make_demo(answerer, dropped)
    assert next(iter(demo.choosers)) == "mmr"
    assert {"uniform", "k_means", "text_top_k"} <= set(demo.choosers)
    assert not {"dpe", "oracle", "shuffled"} & set(demo.choosers)
    sentence, pages = demo.show(str(dropped), OTHER, "mmr", "uniform")
    assert sentence == ""
    assert ["Frames kept by mmr" in pages[0], "Frames kept by uniform" in pages[1]] == [True, True]
    assert all("its own processor" in page for page in pages)
    assert len(demo.show(str(dropped), QUESTION, "uniform", "uniform")[1]) == 1
    assert answerer.encoded == 1
    sentence, pages = demo.show(str(dropped), "what is <video> here", "mmr", "no other")
    assert ("a question that holds &lt;video&gt;" in sentence, pages) == (True, [])
    assert "one of mmr" in demo.show(str(dropped), OTHER, "nobody.Knows", "no other")[0]


def test_files_that_nobody_asks_about_make_room(folder: Path, dropped: Path) -> None:
    demo = make_demo(Answerer(folder), dropped)
    others = [dropped.parent / f"{number}.mp4" for number in range(3)]
    for number, other in enumerate(others):
        other.write_bytes(b"x")
        os.utime(other, (number, number))
    os.utime(dropped, (0, 0))
    assert demo.show(str(dropped), OTHER, "dpe", "no other")[0] == ""
    demo.make_room()  # for one more: three stay
    assert sorted(dropped.parent.glob("*")) == [others[2], dropped]
    sentence, _ = demo.show(str(others[0]), OTHER, "dpe", "no other")
    assert "there is no file 0.mp4" in sentence
    assert "does not lie in the folder" in demo.show("/etc/passwd", OTHER, "dpe", "no other")[0]


def test_a_fault_of_ours_is_a_sentence_too(folder: Path, dropped: Path, caplog: pytest.LogCaptureFixture) -> None:
    demo = make_demo(Answerer(folder), dropped)
    demo.choosers["broken"] = 5  # no module
    sentence, pages = demo.show(str(dropped), OTHER, "broken", "no other")
    assert ("the server failed" in sentence, pages) == (True, [])
    assert "Traceback" in caplog.text
    assert demo.show(str(dropped), OTHER, "dpe", "no other")[0] == "", "its own selector is back in its place"


def test_without_gradio_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["demo"]) == 1
    assert 'pip install "dynfocus[demo]"' in capsys.readouterr().err
