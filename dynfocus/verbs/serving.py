"""Answer other programs over HTTP."""

from pathlib import Path
from typing import Any, Literal

from dynfocus.errors import ConfigError, MissingFileError
from dynfocus.verbs.screen import quiet
from dynfocus.verbs.videos import MODEL, check_host

KEY = "DYNFOCUS_SERVE_KEY"


def serve(
    model: Path = MODEL,
    media: Path | None = None,
    address: str = "127.0.0.1",
    port: int = 8000,
    name: str = "dynfocus",
    cache: Path | None = None,
    remember: int = 16,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    frames: int | None = None,
    max_new_tokens: int = 128,
    requests: int = 64,
    max_body: float = 64,
    max_duration: float = 3600,
    client_seconds: float = 60,
    stop_seconds: float = 60,
    allow_remote: bool = False,
    trust_selector: bool = False,
    host: Path | None = None,
    selector: str | None = None,
    keep: int | None = None,
    rods: int | None = None,
    budget: int | None = None,
    pair: Literal["same", "next"] | None = None,
) -> None:
    """Answer programs that speak OpenAI's chat completions, at http://ADDRESS:PORT/v1, until it is stopped.

    Every request has to bring the key of the environment's DYNFOCUS_SERVE_KEY, where that is set.

    Example: dynfocus serve --media my_videos --port 8000

    Args:
        model: folder of a trained model.
        media: folder whose files may be asked about, by their paths; without it only data that a request brings.
        address: of this machine; 0.0.0.0 for all of its addresses.
        port: where to listen; 0 for any free one, which is printed.
        name: under which the model is served.
        cache: folder to keep sketches in, for the next time.
        remember: videos whose sketches, and files that came with requests, are kept for further questions.
        device: where to compute; auto takes a GPU where there is one.
        frames: most frames of a video to look at, instead of the model's frame_rule.frames.
        max_new_tokens: most tokens of an answer, and so many where a request does not say it.
        requests: taken at a time, those that wait included; one more is refused with status 429.
        max_body: most MiB of a request, and of a file at a web address.
        max_duration: most seconds of a video.
        client_seconds: a client has so long to send its request.
        stop_seconds: what runs has so long to be finished after SIGTERM or Ctrl-C.
        allow_remote: fetch http and https addresses, which may also lie inside your own network.
        trust_selector: import the selector that the model's folder names by a dotted path.
        host: folder of another video language model of transformers, which answers instead of --model.
        selector: with --host: how frames are chosen, by the host's own features; uniform by default.
        keep: with --host: frames that are shown in full, 8 by default.
        rods: with --host: averaged tokens of every other frame: 0, 1, 2 or 4; 0 by default.
        budget: with --host: visual tokens that the video may cost; fewer frames are kept where more do not fit.
        pair: with --host that reads two frames as one: what goes in beside each frame: the same one or the next one.
    """
    import os
    from importlib.util import find_spec
    from tempfile import TemporaryDirectory

    if missing := [library for library in ("fastapi", "uvicorn") if find_spec(library) is None]:
        raise ConfigError(f"dynfocus serve without {missing[0]}", missing[0], 'pip install "dynfocus[serve]"')
    shown = {"keep": keep, "rods": rods, "budget": budget, "pair": pair}
    check_host(host, {"selector": selector, **shown}, trust_selector)
    limits = {"remember": remember, "max-duration": max_duration, "stop-seconds": stop_seconds}
    if wrong := [option for option, value in limits.items() if not value > 0]:
        raise ConfigError(f"--{wrong[0]} {limits[wrong[0]]}", "a number above 0", "Raise it.")
    if media is not None and not media.is_dir():
        raise MissingFileError(f"there is no folder {media}", "a folder with videos or images", "Check --media.")
    from dynfocus.bridge.serve.media import MediaShelf
    from dynfocus.bridge.serve.server import open_socket, run_server
    from dynfocus.bridge.serve.service import Limits, Service

    taken = Limits(requests, round(max_body * 2**20), client_seconds, max_new_tokens)
    opened = open_socket(address, port)
    quiet()
    answerer: Any
    if host is not None:
        from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule

        rule = {option: value for option, value in {**shown, "frames": frames}.items() if value is not None}
        answerer = HostAnswerer(host, selector, HostRule(**rule), cache, remember, device)  # type: ignore[arg-type]
    else:
        from dynfocus.inspection.answerer import Answerer

        answerer = Answerer(model, cache, remember, device, frames, trust_selector)
    with TemporaryDirectory(prefix="dynfocus-serve-") as received:
        shelf = MediaShelf(media, Path(received), remember, taken.body, max_duration, client_seconds, allow_remote)
        service = Service(answerer, shelf, taken, name, os.environ.get(KEY, "").strip() or None)
        shown_address = f"[{address}]" if ":" in address else address
        print(f"{name} answers at http://{shown_address}:{opened.getsockname()[1]}/v1", flush=True)
        run_server(service, opened, stop_seconds)
    print(f"stopped after {service.answered} answers", flush=True)
