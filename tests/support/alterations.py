"""Alter a trained model's folder in many ways, with a fixed seed, and ask each one a question within bounds.

It is a program of its own: the bounds on memory and time are those of its process.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MEMORY, SECONDS = 4 << 30, 20  # bytes of anonymous memory beyond what is used already; seconds of one alteration
Alteration = Callable[[Path], None]
VALUES: list[Any] = [None, -1, 0, 10**9, 1e300, "text", [], {}, [1] * 30_000, True]


def change(file: Path, path: tuple[Any, ...], value: Any) -> None:
    whole = json.loads(file.read_text())
    part = whole
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    file.write_text(json.dumps(whole))


def list_places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every entry of a JSON object, those inside others too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from list_places(inner, (*path, name))


def replace(file: Path, other: Callable[[Path], object]) -> None:
    file.unlink()
    other(file)


def cut(file: Path, share: float) -> None:
    os.truncate(file, int(file.stat().st_size * share))


def flip(file: Path, place: float) -> None:
    data = bytearray(file.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0xFF
    file.write_bytes(data)


def index(folder: Path, name: str) -> None:
    """Weights by an index, whose file is this one."""
    weights = folder / "model.safetensors"
    shutil.copy(weights, folder.parent / "outside.safetensors")
    names = json.loads(weights.read_bytes()[8 : 8 + int.from_bytes(weights.read_bytes()[:8], "little")])
    weights.rename(folder / "part.safetensors")
    places = {one: name for one in names if one != "__metadata__"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def tokens(count: int) -> dict[str, Any]:
    return {str(n): {"content": f"<extra{n}>", "special": True} for n in range(100, 100 + count)}


def list_alterations(model: Path) -> Iterator[tuple[str, Alteration]]:
    """All alterations, by names that say what they do."""
    draw = random.Random(7)
    config, words = "config.json", "tokenizer_config.json"
    fixed: dict[str, tuple[str, tuple[Any, ...], Any]] = {
        "a billion layers": (config, ("text_config", "num_hidden_layers"), 10**9),
        "a billion blocks": (config, ("vision_config", "num_hidden_layers"), 10**9),
        "a huge vocabulary": (config, ("text_config", "vocab_size"), 10**12),
        "a huge width": (config, ("text_config", "hidden_size"), 10**9),
        "a huge context": (config, ("text_config", "max_position_embeddings"), 10**13),
        "a huge picture": (config, ("vision_config", "image_size"), 10**9),
        "many samples": (config, ("connector", "samples"), 10**9),
        "many queries": (config, ("queries",), 10**9),
        "another kind": (config, ("text_config", "model_type"), "no_such"),
        "no precision": (config, ("vision_dtype",), "load"),
        "many tokens": (words, ("added_tokens_decoder",), tokens(100_000)),
        "many special tokens": (words, ("additional_special_tokens",), [f"<{n}>" for n in range(100_000)]),
        "wide beams": ("generation_config.json", ("num_beams",), 10**6),
        "frames of a huge size": ("processor_config.json", ("frame_rule", "size"), 10**9),
    }
    for name, (file, path, value) in fixed.items():
        yield name, lambda folder, file=file, path=path, value=value: change(folder / file, path, value)
    for name in ("part.safetensors", "../outside.safetensors", "/dev/zero", "none.safetensors"):
        yield f"an index of {name}", lambda folder, name=name: index(folder, name)
    for name in ("model.safetensors", config, words, "tokenizer.json", "processor_config.json"):
        for kind, other in {
            "a pipe": os.mkfifo,
            "zeros without end": lambda file: file.symlink_to("/dev/zero"),
            "a link outside": lambda file: file.symlink_to("/etc/hostname"),
            "a folder": Path.mkdir,
            "empty": Path.touch,
        }.items():
            if draw.random() < 0.6:
                yield f"{name} is {kind}", lambda folder, name=name, other=other: replace(folder / name, other)
        at, part = draw.random(), draw.random()
        yield f"{name} is cut", lambda folder, name=name, at=at: cut(folder / name, at)
        yield f"{name} has other bits", lambda folder, name=name, at=part: flip(folder / name, at)
    for name in (config, config, words, "processor_config.json", "generation_config.json"):
        places = list(list_places(json.loads((model / name).read_text())))
        for path in draw.sample(places, min(4, len(places))):
            value = draw.choice(VALUES)
            label = f"{name}: {'.'.join(map(str, path))} = {str(value)[:20]}"
            yield label, lambda folder, name=name, path=path, value=value: change(folder / name, path, value)


def say(*parts: str) -> None:
    sys.stdout.write(json.dumps(parts) + "\n")
    sys.stdout.flush()


def stop(*_: object) -> None:
    raise TimeoutError("it takes longer than its bound")


def main(model: Path, video: Path, place: Path) -> None:
    """Print, for each alteration, a line of JSON: its name, the kind of what came, and its text."""
    from dynfocus.errors import DynFocusError
    from dynfocus.inspection.answerer import Answerer

    say("none", "answer", Answerer(model).ask(video, "what color is the star", 4).answer)
    in_use = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (in_use + MEMORY, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, stop)
    for name, alter in list_alterations(model):
        folder = place / "altered" / "model"
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(model, folder)
        alter(folder)
        signal.alarm(SECONDS)
        try:
            result = ("answer", Answerer(folder).ask(video, "what color is the star", 4).answer)
        except DynFocusError as error:
            result = ("named", str(error))
        except Exception:
            result = ("traceback", traceback.format_exc())
        finally:
            signal.alarm(0)
        say(name, *result)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
