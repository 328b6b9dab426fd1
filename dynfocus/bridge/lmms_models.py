"""Answer lmms-eval's questions with a trained model or a host; its entry point ``lmms_eval.models`` leads here."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from tqdm import tqdm

from dynfocus.errors import ConfigError
from dynfocus.models.conversations import read_conversation
from dynfocus.models.prompts import IMAGE
from dynfocus.settings import read_choice

GREEDY = {"do_sample": (False, None), "num_beams": (1, None), "temperature": (0, 0.0, None)}
MAX_NEW_TOKENS = 16
OF_BOTH = ("device", "batch_size", "frames", "cache")
OF_TRAINED = ("pretrained", "trust_selector")
OF_HOST = ("host", "selector", "keep", "rods", "budget", "pair", "fps")
NUMBERS = {"frames": int, "keep": int, "rods": int, "budget": int, "fps": int | float}


class LmmsModel(lmms):
    """A trained model, or a host with a selector, under lmms-eval's simple interface: a text, and what is seen with it.

    A video is read and encoded once for the questions about it that follow each other; answers are greedy.

    Args:
        pretrained: folder of the trained model.
        device: ``cpu``, ``cuda`` or ``auto``.
        batch_size: taken and not used; questions are asked one by one.
        frames: of a video at most so many are looked at.
        cache: folder where sketches, or a host's features, are kept for the next run.
        trust_selector: whether a selector that the folder names by a dotted path may be imported.
        host: folder of another video language model of transformers, which answers in place of a trained one.
        selector: how frames are chosen for the host: a name, a dotted path, or JSON with settings; else ``uniform``.
        shown: ``keep``, ``rods``, ``budget``, ``pair`` and ``fps`` of `HostRule`; an ``fps`` of 0 takes every frame.

    Raises:
        ConfigError: if an argument is unknown, of the wrong kind, or not for this kind of model.
        CheckpointError: if there is no such model.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str | None = None,
        device: str = "auto",
        batch_size: int | str = 1,
        frames: int | None = None,
        cache: str | None = None,
        trust_selector: bool = False,
        host: str | None = None,
        selector: str | None = None,
        **shown: Any,
    ) -> None:
        super().__init__()
        given = {"pretrained": pretrained, "trust_selector": trust_selector or None, "host": host, "selector": selector}
        check_arguments(given | {"frames": frames} | shown)
        place = None if cache is None else Path(cache)
        self.answerer: Any
        self.has_host = host is not None
        if self.has_host:
            from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule

            rule = shown | ({"fps": shown["fps"] or None} if "fps" in shown else {})
            rule |= {} if frames is None else {"frames": frames}
            choice = None if selector is None else read_choice(selector)
            self.answerer = HostAnswerer(Path(str(host)), choice, HostRule(**rule), place, device=device)
        else:
            from dynfocus.inspection.answerer import Answerer

            self.answerer = Answerer(Path(str(pretrained)), place, 4, device, frames, trust_selector)

    def generate_until(self, requests: Sequence[Any]) -> list[GenerationResult]:
        """The answers to requests, in their order.

        Raises:
            ConfigError: if a task asks for anything but the most likely answer.
            PromptError: if a question does not fit.
            VideoError: if a file cannot be read.
        """
        return [self.answer(*self.read_request(request.args)) for request in tqdm(requests, desc="DynFocus")]

    def read_request(self, arguments: Sequence[Any]) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
        """What a request of this interface asks: messages in transformers' form, and how to generate."""
        text, options, list_visuals, number, task, split = arguments
        visuals = list_visuals(self.task_dict[task][split][number])
        parts = [{"type": _name_kind(one), _name_kind(one): one} for one in _flatten(visuals)]
        return _ask([*parts, {"type": "text", "text": text}]), options

    def answer(self, messages: list[dict[str, Any]], options: Mapping[str, Any]) -> GenerationResult:
        """The answer to a conversation that ends with a question, and how many tokens its prompt has."""
        for name, greedy in GREEDY.items():
            if options.get(name) not in greedy:
                raise ConfigError(
                    f"{name} = {options[name]}, which the task asks for", "the most likely answer", f"Leave out {name}."
                )
        new_tokens = int(options.get("max_new_tokens") or MAX_NEW_TOKENS)
        row, shown = read_conversation(messages, 0)
        if shown and isinstance(shown.content, str | Path) and len(row.turns) == 1 and row.system is None:
            reply = self.answerer.ask(Path(shown.content), row.turns[0].question, new_tokens)
            return _make_result(reply.answer, reply.prompt_tokens, options)
        if self.has_host:
            with TemporaryDirectory(prefix="dynfocus-pictures-") as folder:
                reply = self.answerer.answer(row, None if shown is None else shown.save(Path(folder)), new_tokens)
            return _make_result(reply.answer, reply.prompt_tokens, options)
        processor, model = self.answerer.processor, self.answerer.model
        inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, new_tokens=new_tokens)
        ids = model.generate(**inputs.to(model.device), max_new_tokens=new_tokens)
        text = processor.decode(ids[0], skip_special_tokens=True).strip()
        return _make_result(text, inputs["input_ids"].shape[1], options)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not there; raises ConfigError."""
        raise ConfigError(
            "a task that compares likelihoods", "a task whose answers are generated", "Choose another one."
        )

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not there; raises ConfigError."""
        raise ConfigError("a task of several rounds", "a task whose questions stand alone", "Choose another one.")


class LmmsChatModel(LmmsModel):
    """The same under lmms-eval's interface of chats: messages with what is seen in them."""

    is_simple = False

    def read_request(self, arguments: Sequence[Any]) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
        """What a request of this interface asks: messages in transformers' form, and how to generate."""
        _, list_messages, options, number, task, split = arguments
        return list_messages(self.task_dict[task][split][number]), options


def check_arguments(given: Mapping[str, Any]) -> None:
    """Refuse what is unknown, what belongs to the other kind of model, and what is no number; raises ConfigError."""
    named = {name: value for name, value in given.items() if value is not None}
    own = OF_HOST if "host" in named else OF_TRAINED
    if unknown := [name for name in named if name not in own + OF_BOTH]:
        raise ConfigError(
            f"{unknown[0]} in model_args {'with' if 'host' in named else 'without'} host",
            f"names out of {', '.join(own + OF_BOTH)}",
            "Correct it, or leave it out.",
        )
    if not {"host", "pretrained"} & set(named):
        raise ConfigError("model_args without a model", "pretrained=FOLDER or host=FOLDER", "Add one of them.")
    for name, kind in NUMBERS.items():
        value = named.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, kind):
            wanted = "a whole number" if kind is int else "a number"
            raise ConfigError(f"{name}={value} in model_args", wanted, f"Correct {name}.")


def _ask(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One question; places that a task writes for pictures are left out, as the processor has its own."""
    text = parts[-1]["text"].replace(IMAGE, "").replace("<video>", "").strip()
    return [{"role": "user", "content": [*parts[:-1], {"type": "text", "text": text}]}]


def _flatten(visuals: Any) -> Iterable[Any]:
    """What a task gives to be seen, without lists in lists."""
    if isinstance(visuals, list | tuple):
        for one in visuals:
            yield from _flatten(one)
    elif visuals is not None:
        yield visuals


def _name_kind(visual: Any) -> str:
    """A file is a video, whatever it holds, and a picture in memory is an image."""
    return "video" if isinstance(visual, str | Path) else "image"


def _make_result(text: str, prompt_tokens: int, options: Mapping[str, Any]) -> GenerationResult:
    """An answer up to the first of the texts that a task ends answers with."""
    ends = options.get("until") or []
    for end in [ends] if isinstance(ends, str) else ends:
        text = text.partition(end)[0] if end else text
    return GenerationResult(text, TokenCounts(input_tokens=prompt_tokens))


MANIFEST = ModelManifest(
    "dynfocus",
    simple_class_path=f"{LmmsModel.__module__}.{LmmsModel.__name__}",
    chat_class_path=f"{LmmsChatModel.__module__}.{LmmsChatModel.__name__}",
)
