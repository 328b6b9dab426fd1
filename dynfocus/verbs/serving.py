"""Answer other programs over HTTP."""

from pathlib import Path
from typing import Any

from dynfocus.errors import ConfigError, MissingFileError
from dynfocus.verbs.answerers import open_answerer

KEY = "DYNFOCUS_SERVE_KEY"


def serve(
    media: Path | None = None,
    address: str = "127.0.0.1",
    port: int = 8000,
    name: str = "dynfocus",
    remember: int = 16,
    max_new_tokens: int = 128,
    requests: int = 64,
    max_body: float = 64,
    max_duration: float = 3600,
    client_seconds: float = 60,
    stop_seconds: float = 60,
    allow_remote: bool = False,
    **options: Any,
) -> None:
    """Answer programs that speak OpenAI's chat completions, at http://ADDRESS:PORT/v1, until it is stopped.

    Every request has to bring the key of the environment's DYNFOCUS_SERVE_KEY, where that is set.

    Example: dynfocus serve --media my_videos --port 8000

    Args:
        media: folder whose files may be asked about, by their paths; without it only data that a request brings.
        address: of this machine; 0.0.0.0 for all of its addresses.
        port: where to listen; 0 for any free one, which is printed.
        name: under which the model is served.
        remember: videos whose sketches, and files that came with requests, are kept for further questions.
        max_new_tokens: most tokens of an answer, and so many where a request does not say it.
        requests: taken at a time, those that wait included; one more is refused with status 429.
        max_body: most MiB of a request, and of a file at a web address.
        max_duration: most seconds of a video.
        client_seconds: a client has so long to send its request.
        stop_seconds: what runs has so long to be finished after SIGTERM or Ctrl-C.
        allow_remote: fetch http and https addresses, which may also lie inside your own network.
    """
    import os
    from importlib.util import find_spec
    from tempfile import TemporaryDirectory

    if missing := [library for library in ("fastapi", "uvicorn") if find_spec(library) is None]:
        raise ConfigError(f"dynfocus serve without {missing[0]}", missing[0], 'pip install "dynfocus[serve]"')
    limits = {"remember": remember, "max-duration": max_duration, "stop-seconds": stop_seconds}
    if wrong := [option for option, value in limits.items() if not value > 0]:
        raise ConfigError(f"--{wrong[0]} {limits[wrong[0]]}", "a number above 0", "Raise it.")
    if media is not None and not media.is_dir():
        raise MissingFileError(f"there is no folder {media}", "a folder with videos or images", "Check --media.")
    from dynfocus.bridge.serve.media import MediaShelf
    from dynfocus.bridge.serve.server import open_socket, run_server
    from dynfocus.bridge.serve.service import Limits, Service

    taken = Limits(requests, round(max_body * 2**20), client_seconds, max_new_tokens)
    with open_socket(address, port) as opened, TemporaryDirectory(prefix="dynfocus-serve-") as received:
        answerer = open_answerer(remember, **options)
        shelf = MediaShelf(media, Path(received), remember, taken.body, max_duration, client_seconds, allow_remote)
        service = Service(answerer, shelf, taken, name, os.environ.get(KEY, "").strip() or None)
        shown_address = f"[{address}]" if ":" in address else address
        print(f"{name} answers at http://{shown_address}:{opened.getsockname()[1]}/v1", flush=True)
        run_server(service, opened, stop_seconds)
    print(f"stopped after {service.answered} answers", flush=True)
