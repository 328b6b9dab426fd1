"""Run the command line: find the verb, read its options from its function, and say mistakes in one sentence.

fit, validate, test and predict are LightningCLI's; the other verbs are the functions of `verbs`.
"""

import os
import re
import select
import signal
import sys
from argparse import BooleanOptionalAction, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from inspect import getdoc, signature
from io import TextIOWrapper
from itertools import islice
from logging import getLogger
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_loader

from dynfocus import verbs
from dynfocus.errors import DiskError, DynFocusError, Stopped, UsageError, catch_signals, suggest
from dynfocus.verbs.screen import pause_collection

RECIPE = "dynfocus:"  # before the name of a recipe that comes with the project
LIGHTNING = {
    "fit": "Train a model by configs: --config FILE|dynfocus:NAME [--config ...] [any setting].",
    "validate": "Measure a trained model on the validation rows of its configs.",
    "test": "Measure a trained model on the test rows of its configs.",
    "predict": "Write a run's own model's answers to the test rows of its configs; `answer` reads any questions.",
}
VERBS: dict[str, Callable[..., None]] = {
    **{
        verb.__name__: verb
        for verb in (
            *(verbs.ask, verbs.answer, verbs.serve, verbs.demo, verbs.select, verbs.evaluate),
            *(verbs.judge, verbs.plan, verbs.doctor, verbs.sketch),
        )
    },
    "sketch --config": verbs.sketch_data,
    **{
        verb.__name__: verb
        for verb in (
            verbs.configs,
            verbs.export,
            verbs.world,
            verbs.doom,
            verbs.towers,
            verbs.smol,
            verbs.table,
            verbs.compare,
            verbs.seeds,
            verbs.ablations,
        )
    },
    **{"report-card": verbs.report_card},
    **{"write-samples": verbs.write_samples, "read-samples": verbs.read_samples},
    **{"figure 1a": verbs.figure_1a, "figure 4": verbs.figure_4, "figure 5": verbs.figure_5},
}
set_loader("text", lambda text: text)  # the words of a command line as they are, where jsonargparse would read YAML


def main(args: list[str] | None = None) -> int:
    """Run one verb; returns the exit code.

    Returns:
        0: done; 1: a mistake, said in one sentence; 2: a command line that cannot be read, said alike; 130: stopped by
        Ctrl-C, 129, 138 or 143: by SIGHUP, SIGUSR1 or SIGTERM; 141: nobody reads what is printed any more.
    """
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text, nor a terminal know it
    # On CPUs with fast 16-bit products it warns of a package that nothing here needs, whatever loads it.
    getLogger("bitsandbytes").setLevel("ERROR")
    if args is None:  # the processes that this one starts import nothing from the folder that one works in either
        os.environ.setdefault("PYTHONSAFEPATH", "1")
        catch_signals()
    try:
        try:
            return catch(sys.argv[1:] if args is None else args)
        finally:
            print(end="", flush=True)  # else the interpreter finds out that a pipe broke, and complains as it ends
    except BrokenPipeError:
        if not is_reader_gone():
            raise
        return 141


def is_reader_gone() -> bool:
    """Whether nobody reads stdout any more; then what is still printed goes nowhere."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def catch(command: list[str]) -> int:
    """Run a command, and print a mistake as one sentence; returns the exit code."""
    try:
        command = find_recipes(command)
        if os.getcwd() not in sys.path and names_own_code(command):
            sys.path.append(os.getcwd())  # behind, so that it hides nothing
        run_verb(command)
    except DynFocusError as error:
        print(f"dynfocus: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except PermissionError as error:
        given = f"{error.filename or 'a file'}, which this user may not read or write ({error.strerror})"
        mistake = DiskError(given, "that permission", "Choose another place, or ask its owner.")
        print(f"dynfocus: {mistake}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:  # no file is to blame
            raise
        given = f"{error.filename}, which cannot be read or written ({error.strerror})"
        mistake = DiskError(given, "a file or folder that can be used so", "Choose another place.")
        print(f"dynfocus: {mistake}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        print(f"dynfocus: stopped{by}; called again, long work goes on from here", file=sys.stderr)
        return 128 + number
    return 0


def find_recipes(command: Sequence[str]) -> list[str]:
    """A command with the file of a recipe in place of each ``--config dynfocus:NAME``; raises UsageError."""
    from dynfocus.settings import find_recipe

    words = []
    for before, word in zip(["", *command], command, strict=False):
        option, _, value = word.rpartition("=")
        if value.startswith(RECIPE) and {option, before} & {"--config", "-c"}:
            word = word.removesuffix(value) + str(find_recipe(value.removeprefix(RECIPE)))
        words.append(word)
    return words


def names_own_code(command: Sequence[str]) -> bool:
    """Whether a command or one of its configs names, by a dotted path, code in the folder that one works in.

    Only then that folder can be imported from: elsewhere its files would run although nobody asked for them.
    """
    if "--trust-selector" in command:
        return True
    from dynfocus.train.finished import find_config_files

    try:
        files = [Path(file) for file in find_config_files(command)]
        texts = [*command, *(file.read_text() for file in files if file.is_file())]
    except (OSError, ValueError):  # the verb that reads that config says what is wrong with it
        texts = [*command]
    names = {name for text in texts for name in re.findall(r"(?<![\w./])([^\W\d]\w*)\.\w", text)}
    return any(os.path.isfile(f"{name}.py") or os.path.isdir(name) for name in names)


def run_verb(command: list[str]) -> None:
    """Run one verb, or print help or the version; raises UsageError where there is no such verb or option."""
    verb, words = split_command(command)
    if verb in LIGHTNING:
        run_lightning(command)
    elif verb in VERBS:
        VERBS[verb](**read_options(verb, words))
    elif verb == "--version":
        print(f"dynfocus {version('dynfocus')}")
    elif verb.endswith(("-h", "--help")):
        abouts = LIGHTNING | {verb: (getdoc(function) or "").partition("\n")[0] for verb, function in VERBS.items()}
        print("usage: dynfocus VERB ...\n", *(f"  {verb:16} {about}" for verb, about in abouts.items()), sep="\n")
        print("\n`dynfocus VERB --help` lists the options of a verb, `dynfocus --version` prints the version.")
    else:
        known = [*LIGHTNING, *VERBS]
        meant = suggest(verb, known) or "See `dynfocus --help`."
        raise UsageError(f"the verb {verb!r}" if verb else "no verb", f"one of {', '.join(known)}", meant)


def run_lightning(command: list[str]) -> None:
    """Run one of LightningCLI's verbs, if what it asks for is not finished already; after a test print its table."""
    from dynfocus.train.finished import find_finished_run, format_results_page, is_first_process, read_request

    request = read_request(command)
    folder = find_finished_run(request)
    if folder is None:
        if request.heading and is_first_process():
            print(f"\n{request.heading}", flush=True)
        if request.keep:
            sys.argv[1:] = request.command  # which Lightning starts further processes by
        with pause_collection():
            from dynfocus.train.fit import run

        folder = Path(run(request.command, again=request.again).trainer.default_root_dir)
    elif request.keep:
        return
    elif request.verb == "fit" and is_first_process():
        print(f"{folder} is trained with these settings already (--again, AGAIN=1 of make, trains it anew)")
    if request.verb == "test" and is_first_process():
        print(format_results_page(folder), end="")


def split_command(command: Sequence[str]) -> tuple[str, list[str]]:
    """A verb, which may be of two words, and the words that follow it."""
    parts = 2 if command[:1] == ["figure"] else 1
    verb, words = " ".join(command[:parts]), list(command[parts:])
    if verb == "sketch" and any(word.partition("=")[0] == "--config" for word in words):
        return "sketch --config", words
    if verb == "ask" and "--swap" in words:
        print("dynfocus: --swap is --compare now, and goes away with the next release", file=sys.stderr)
        return verb, ["--compare" if word == "--swap" else word for word in words]
    return verb, words


class HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """jsonargparse's help, with an example on one line however long it is."""


class VerbParser(ArgumentParser):
    """jsonargparse's parser, whose options are written as those of other commands.

    Attributes:
        places: names of options that stand in their place, as a required one does, and may be left out.
    """

    places: frozenset[str] = frozenset()

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Add an option: dashes in its name, bare if it is a flag, several values if it is a list."""
        kind = getattr(options.get("action"), "_typehint", options.get("type"))  # where jsonargparse has put it
        if kind is None:  # --help
            return super().add_argument(*names, **options)
        options = {name: value for name, value in options.items() if name not in ("action", "type")}
        name = names[0].replace("_", "-") if names[0].startswith("--") else names[0]
        if NoneType in get_args(kind):  # what may be left out has no word for it
            (kind,) = {*get_args(kind)} - {NoneType}
            if name in self.places:  # whose function leaves no default for it
                name, options = name.removeprefix("--"), options | {"nargs": "?"}
        if kind is bool:
            options["action"] = "store_true" if options["default"] is False else BooleanOptionalAction
        elif get_origin(kind) is Sequence:
            options |= {"type": get_args(kind)[0], "nargs": "+"}
            options |= {"action": "extend", "default": []} if name.startswith("--") else {}
        else:
            options["type"] = kind
        return super().add_argument(name, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Refuse a command line, and name the option that was probably meant."""
        unknown = re.search(r"unrecognized arguments: (--[^\s=]+)", message)
        meant = suggest(unknown[1], self._option_string_actions) if unknown else ""
        needed = f"options as `{self.prog} --help` lists them"
        raise UsageError(" ".join(message.split()).rstrip("."), needed, meant or "Correct the command line.") from ex


def build_parser(verb: str, function: Callable[..., None]) -> VerbParser:
    """The parser of a verb's options; ``settings`` is no option, but what is handed on to `dynfocus fit`."""
    about, _, example = (getdoc(function) or "").partition("\n\nArgs:")[0].partition("\n\nExample: ")
    configs = f"dynfocus {verb.split()[0]} --config FILE [--config FILE ...] [any setting of dynfocus fit] [options]"
    parser = VerbParser(
        f"dynfocus {verb}",
        usage=configs if "settings" in signature(function).parameters else None,
        description=about,
        epilog=f"example: {example}",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
        parser_mode="text",
    )
    hints = get_type_hints(function)
    bare = [one for one in signature(function).parameters.values() if one.default is one.empty]
    parser.places = frozenset(f"--{one.name}" for one in bare if NoneType in get_args(hints.get(one.name)))
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip={"settings"})
    return parser


def read_options(verb: str, words: Sequence[str]) -> dict[str, Any]:
    """What a command line says to a verb, as the parameters of its function; raises UsageError."""
    parser = build_parser(verb, VERBS[verb])
    if "settings" not in signature(VERBS[verb]).parameters:
        return parser.parse_args(words).as_dict()
    own: list[str] = []
    settings: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, _ = word.partition("=")
        option = parser._option_string_actions.get(name)
        if option is None and re.fullmatch("--[^.]+", name) and suggest(name, parser._option_string_actions):
            parser.error(f"unrecognized arguments: {name}")
        (settings if option is None else own).append(word)
        if option is not None and option.nargs != 0 and not equals:
            own.extend(islice(left, 1))
    return {"settings": settings, **parser.parse_args(own).as_dict()}


if __name__ == "__main__":
    sys.exit(main())
