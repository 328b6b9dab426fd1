"""Answer other programs over HTTP, and people on a page."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynfocus.errors import ConfigError, MissingFileError
from dynfocus.verbs.answerers import open_answerer

KEY = "DYNFOCUS_SERVE_KEY"


def serve(
    media: Path | None = None, port: int = 8000, name: str = "dynfocus", allow_remote: bool = False, **options: Any
) -> None:
    """Answer programs that speak OpenAI's chat completions, at http://ADDRESS:PORT/v1, until it is stopped.

    Every request has to bring the key of the environment's DYNFOCUS_SERVE_KEY, where that is set.

    Example: dynfocus serve --media my_videos --port 8000

    Args:
        media: folder whose files may be asked about, by their paths; without it only data that a request brings.
        port: where to listen; 0 for any free one, which is printed.
        name: under which the model is served.
        allow_remote: fetch http and https addresses, which may also lie inside your own network.
    """
    check_extra("serve", ("fastapi", "uvicorn"))
    if media is not None and not media.is_dir():
        raise MissingFileError(f"there is no folder {media}", "a folder with videos or images", "Check --media.")
    with open_server(port, **options) as server:
        from dynfocus.bridge.serve.app import build_app
        from dynfocus.bridge.serve.service import Service

        service = Service(server.answerer, server.open_shelf(media, allow_remote), server.limits, name, server.key)
        print(f"{name} answers at {server.url}/v1", flush=True)
        server.run(build_app(service))
        service.thread.shutdown(wait=False, cancel_futures=True)
    print(f"stopped after {service.answered} answers", flush=True)


def demo(port: int = 7860, **options: Any) -> None:
    """Show a page at http://ADDRESS:PORT: drop a video, ask, see which frames were kept, compare two selectors.

    The page asks for the key of the environment's DYNFOCUS_SERVE_KEY as a password, where that is set.

    Example: dynfocus demo --port 7860

    Args:
        port: where to listen; 0 for any free one, which is printed.
    """
    import os

    check_extra("demo", ("gradio",))
    with open_server(port, **options) as server:
        # Gradio reads these: where dropped files lie, and that it tells nobody and keeps nothing.
        switches = dict.fromkeys(("GRADIO_ANALYTICS_ENABLED", "GRADIO_RUN_HISTORY"), "False")
        os.environ |= switches | {"GRADIO_TEMP_DIR": str(server.received)}
        from dynfocus.bridge.serve.demo import Demo, build_demo

        answerer, shelf = server.answerer, server.open_shelf(server.received, allow_remote=False)
        shown = Demo(answerer, answerer.folder.resolve().name, shelf, server.limits, answerer.remembered)
        app = build_demo(shown, server.key)
        print(f"the page is at {server.url}", flush=True)
        server.run(app)
    print(f"stopped after {shown.answered} answers", flush=True)


def check_extra(verb: str, libraries: Sequence[str]) -> None:
    """Raises ConfigError if a library that the verb needs is not installed."""
    from importlib.util import find_spec

    if missing := [library for library in libraries if find_spec(library) is None]:
        raise ConfigError(f"dynfocus {verb} without {missing[0]}", missing[0], f'pip install "dynfocus[{verb}]"')


@dataclass(frozen=True)
class Server:
    """What a server answers with, and where.

    Attributes:
        answerer: an Answerer, or a HostAnswerer.
        limits: what is taken.
        max_duration: seconds of a video, at most.
        received: a folder of its own for what clients send.
        socket: where it listens.
        url: how that is reached.
        stop_seconds: what runs has so long to be finished.
        key: that requests have to bring; None for none.
    """

    answerer: Any
    limits: Any
    max_duration: float
    received: Path
    socket: Any
    url: str
    stop_seconds: float
    key: str | None

    def open_shelf(self, folder: Path | None, allow_remote: bool) -> Any:
        """Where the files of requests are: in ``folder``, and among what was received."""
        from dynfocus.bridge.serve.media import MediaShelf

        limits, remembered = self.limits, self.answerer.remembered
        most = (limits.body, self.max_duration, limits.client_seconds)
        return MediaShelf(folder, self.received, remembered, *most, allow_remote)

    def run(self, app: Any) -> None:
        """Answer until SIGTERM or SIGINT."""
        from dynfocus.bridge.serve.server import run_server

        run_server(app, self.socket, self.limits.client_seconds, self.stop_seconds)


@contextmanager
def open_server(
    port: int,
    address: str = "127.0.0.1",
    remember: int = 16,
    max_new_tokens: int = 128,
    requests: int = 64,
    max_body: float = 64,
    max_duration: float = 3600,
    client_seconds: float = 60,
    stop_seconds: float = 60,
    **options: Any,
) -> Iterator[Server]:
    """Load what answers, and listen; what clients sent is deleted afterwards.

    Args:
        port: where to listen; 0 for any free one.
        address: of this machine; 0.0.0.0 for all of its addresses.
        remember: videos whose sketches, and files that clients sent, are kept for further questions.
        max_new_tokens: most tokens of an answer, and so many where a request does not say it.
        requests: taken at a time, those that wait included; one more is refused with status 429.
        max_body: most MiB of a request, and of a file at a web address.
        max_duration: most seconds of a video.
        client_seconds: a client has so long to send its request.
        stop_seconds: what runs has so long to be finished after SIGTERM or Ctrl-C.
    """
    import os
    from tempfile import TemporaryDirectory

    numbers = {"remember": remember, "max-duration": max_duration, "stop-seconds": stop_seconds}
    if wrong := [option for option, value in numbers.items() if not value > 0]:
        raise ConfigError(f"--{wrong[0]} {numbers[wrong[0]]}", "a number above 0", "Raise it.")
    from dynfocus.bridge.serve.server import open_socket
    from dynfocus.bridge.serve.service import Limits

    limits = Limits(requests, round(max_body * 2**20), client_seconds, max_new_tokens)
    with open_socket(address, port) as opened, TemporaryDirectory(prefix="dynfocus-served-") as received:
        answerer, place = open_answerer(remember, **options), Path(received).resolve()
        url = f"http://{f'[{address}]' if ':' in address else address}:{opened.getsockname()[1]}"
        key = os.environ.get(KEY, "").strip() or None
        yield Server(answerer, limits, max_duration, place, opened, url, stop_seconds, key)
