"""Open what answers questions, a trained model or a host, and refuse options that it would pass over."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dynfocus.errors import UsageError
from dynfocus.verbs.screen import pause_collection, quiet

MODEL = Path("runs/world/stage2/model")


def open_answerer(
    remember: int,
    model: Path | None = None,
    cache: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    frames: int | None = None,
    trust_selector: bool = False,
    host: Path | None = None,
    selector: str | None = None,
    keep: int | None = None,
    rods: int | None = None,
    budget: int | None = None,
    pair: Literal["same", "next"] | None = None,
    threads: int | None = None,
) -> Any:
    """Open an `Answerer` of a trained model, or a `HostAnswerer`.

    Args:
        remember: videos that are kept in memory for further questions.
        model: folder of a trained model; runs/world/stage2/model where neither this nor --host is given.
        cache: folder to keep what is computed of a video in, for the next time.
        device: where to compute; auto takes a GPU where there is one.
        frames: most frames of a video to look at, evenly over it; as many as the model's frame_rule says, or 128 of a
            host.
        trust_selector: import the selector that the trained model's folder names by a dotted path.
        host: folder of another video language model of transformers, which answers instead of a trained model.
        selector: with --host: how frames are chosen, by the host's own features; uniform by default. A name, a dotted
            path, or JSON with settings such as '{"class_path": "mmr", "init_args": {"balance": 0.7}}'.
        keep: with --host: frames that are shown in full, 8 by default.
        rods: with --host: averaged tokens of every other frame: 0, 1, 2 or 4; 0 by default.
        budget: with --host: visual tokens that the video may cost; fewer frames are kept where more do not fit.
        pair: with --host that reads two frames as one: what goes in beside each frame: the same one or the next one.
        threads: threads that decode a video; by default as many as torch computes with, at most 4. Frames are the same.

    Raises:
        UsageError: if an option is given that would have no effect, or threads are fewer than 1.
    """
    shown = {"keep": keep, "rods": rods, "budget": budget, "pair": pair}
    check_host(host, {"selector": selector, **shown}, {"model": model, "trust_selector": trust_selector})
    if host is None:
        with pause_collection():
            quiet()
            from dynfocus.device import count_decoders
            from dynfocus.inspection.answerer import Answerer

        return Answerer(model or MODEL, cache, remember, device, frames, trust_selector, count_decoders(threads))
    quiet()
    from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule
    from dynfocus.device import count_decoders
    from dynfocus.settings import read_choice

    rule = {name: value for name, value in {**shown, "frames": frames}.items() if value is not None}
    choice = None if selector is None else read_choice(selector)
    return HostAnswerer(host, choice, HostRule(**rule), cache, remember, device, count_decoders(threads))  # type: ignore[arg-type]


def check_host(host: Path | None, own: Mapping[str, object], others: Mapping[str, object]) -> None:
    """Refuse options of a host, ``own``, without one, and those that a host passes over, ``others``, with one.

    Raises:
        UsageError: if one is given.
    """
    if host is None:
        refuse_options(own, "without --host", "a host, whose frames they choose", "Add --host FOLDER, or leave it out.")
    else:
        refuse_options(others, "with --host", "options that a host reads, as --help says")


def refuse_options(
    options: Mapping[str, object], mode: str, needed: str, do: str = "Leave out what has no effect."
) -> None:
    """Refuse options that have no effect in a mode; those that are None or false were not given.

    Raises:
        UsageError: if one is given.
    """
    given = [
        f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None and value is not False
    ]
    if given:
        raise UsageError(f"{' and '.join(given)} {mode}", needed, do)
