"""Run fit, validate, test and predict: LightningCLI over the configs, with runs that go on where they stopped."""

import shutil
import warnings
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from logging import getLogger
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers.utils import logging

from dynfocus.errors import CheckpointError, ConfigError, DynFocusError, Stopped
from dynfocus.records.atomic import write_text
from dynfocus.records.skipped import QUARANTINE
from dynfocus.train.checkpoint_files import LAST, AtomicCheckpoint, check_checkpoint, find_checkpoint
from dynfocus.train.finished import (
    OPTIONS,
    Record,
    Request,
    digest_files,
    digest_text,
    find_config_files,
    is_complete,
    read_environment,
    read_record,
    write_record,
)
from dynfocus.train.module import DynFocusModule
from dynfocus.train.old_paths import accept_old_paths
from dynfocus.train.parser import Parser
from dynfocus.train.ranks import Ranks
from dynfocus.train.stop import RewindEvents, StopAtSignal

LINKED = (
    *("encoders", "vision", "language_model", "connector", "frame_rule", "system_prompt", "slots", "stage"),
    *("template", "max_new_tokens"),
)
BUILT_ON = ("encoders", "language_model", "vision", "init_from")
CONFIG, DONE, CHECKPOINTS, MODEL = "config.yaml", "fit.json", "checkpoints", "model"
UNNAMED = "unnamed"  # a folder that a config leaves to the command line
NOISE = ("litlogger", "TPU available", "Loading `train_dataloader`")  # an advertisement, and what says nothing here
EXPECTED = (  # said by Lightning about what is meant to be so
    ".*does not have many workers.*",
    ".*module\\(s\\) in eval mode at the start of training.*",
    ".*Total length of `list` across ranks is zero.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
    ".*Checkpoint directory .* exists and is not empty.*",
    "`is_gradient_checkpointing` is deprecated.*",  # peft's call of transformers
    "LightningCLI's args parameter.*",  # which the verbs that only read data are called by
    ".*returned a view tensor.*",  # which nothing changes in place
)


class SaveRunConfig(SaveConfigCallback):
    """Write the resolved config beside the run's results."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            write_text(Path(trainer.default_root_dir) / CONFIG, self.parser.dump(self.config, skip_none=False))


class Experiment(LightningCLI):
    """LightningCLI whose data read the model's own settings, and whose runs resume and know when they are finished."""

    def __init__(self, request: Request, **options: Any) -> None:
        self.request = request
        self.ranks = Ranks()
        options["trainer_defaults"] = {"callbacks": [RewindEvents(), StopAtSignal(), self.ranks]}
        super().__init__(DynFocusModule, LightningDataModule, args=request.command, **options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name, text in OPTIONS.items():  # `read_request` has taken them: they stand here for --help alone
            flag: dict[str, Any] = {"type": str} if name == "heading" else {"action": "store_true"}
            parser.add_argument(f"--{name}", default=SUPPRESS, help=text, **flag)
        for name in LINKED:
            change = _by_name if name == "connector" else None
            parser.link_arguments(f"model.{name}", f"data.init_args.{name}", change)
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def instantiate_trainer(self, **options: Any) -> Trainer:
        plugins = self.config_init[self.subcommand].trainer.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        # The data modules share rows out themselves, so that a step's rows do not hang on the number of processes.
        options |= {"plugins": [*plugins, AtomicCheckpoint()], "use_distributed_sampler": False}
        try:
            return super().instantiate_trainer(**options)
        except (ValueError, TypeError, MisconfigurationException) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise ConfigError(
                reason, "settings of trainer that fit this machine and each other", "Correct them."
            ) from error

    def _parse_ckpt_path(self) -> None:
        """Lightning would put the checkpoint's settings over those of configs and command line, without a word."""

    def before_instantiate_classes(self) -> None:
        """validate, test and predict read the model that the run's own fit has left, or a given checkpoint."""
        config = self.config[self.subcommand]
        self.ranks.settings = config.as_dict()
        if self.subcommand != "fit" and config.ckpt_path is None:
            config.model.init_from = Path(config.trainer.default_root_dir or ".") / MODEL
            if not config.model.init_from.exists():
                raise CheckpointError(
                    f"no {config.model.init_from}",
                    "the model that this run's own `dynfocus fit` leaves",
                    "Train it first, with the same configs and trainer.default_root_dir.",
                )

    def fit(self, **options: Any) -> None:
        """Go on with an unfinished run of the same settings, or begin one; an earlier run is moved aside, not lost."""
        folder = Path(self.trainer.default_root_dir)
        with self._record_when_finished(folder) as finished:
            if finished:
                return rank_zero_info(f"{folder} is trained with these settings already (--again trains it anew)")
            if options.get("ckpt_path") is not None:
                check_checkpoint(Path(options["ckpt_path"]))
            elif self._is_unfinished(folder) and (last := find_checkpoint(folder / CHECKPOINTS)) is not None:
                rank_zero_info(last[1] or f"going on with the unfinished run in {folder}")
                options["ckpt_path"] = str(last[0])
            if options.get("ckpt_path") is not None or not self.trainer.is_global_zero:
                return self._train(options)
            with a_new_run(folder):
                self._train(options)

    def test(self, **options: Any) -> None:
        """As Lightning's; a data set without a test split is no mistake, as a recipe trains first and tests then."""
        if "test" not in getattr(self.datamodule, "files", {"test": None}):
            return rank_zero_info("the data name no file for a test: nothing is tested")
        with self._record_when_finished(Path(self.trainer.default_root_dir)) as finished:
            if not finished:
                with self._end_as_asked():
                    self.trainer.test(**options)

    @contextmanager
    def _record_when_finished(self, folder: Path) -> Iterator[bool]:
        """Say whether this verb is finished with these settings; if not, record it when the block has ended well."""
        verb = self.request.verb
        config, configs = self.config[verb], find_config_files(self.request.args)
        text = self._parser(verb).dump(config, skip_none=False)
        files = digest_files(self._files(config))
        known = None if self.request.again else read_record(folder, verb)
        finished = known is not None and known.settings == digest_text(text) and is_complete(folder, known)
        record = Record(self.request.args, digest_text(text), read_environment(configs), digest_files(configs), files)
        yield finished
        # What was not there before is what the data module itself has written.
        files |= digest_files(path for path in self._files(config) if files.get(str(path)) is None)
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_record(folder, verb, record)

    def _files(self, config: Any) -> list[Path]:
        """Weights and annotations that the run reads."""
        named = [*(config.model.get(name) for name in BUILT_ON), config.ckpt_path]
        read: Any = getattr(self.datamodule, "sources", lambda split: [])
        sources = [source for split in ("train", "val", "test") for source in read(split)]
        annotations: list[Path] = [file for source in sources for file in source.expected_files(self.datamodule.root)]
        return [*(Path(path) for path in named if path is not None), *annotations]

    def _train(self, options: dict[str, Any]) -> None:
        with self._end_as_asked():
            self.trainer.fit(**options)

    @contextmanager
    def _end_as_asked(self) -> Iterator[None]:
        """End with all other processes, and at Ctrl-C or another signal as such."""
        try:
            with self.ranks.watch():
                yield
        except SystemExit as error:  # Lightning's way to end after Ctrl-C
            if self.trainer.interrupted:
                raise error.__context__ if isinstance(error.__context__, Stopped) else KeyboardInterrupt from error
            raise

    def _is_unfinished(self, folder: Path) -> bool:
        if not (folder / CONFIG).exists() or (folder / DONE).exists():
            return False
        return (folder / CONFIG).read_text() == self._parser("fit").dump(self.config.fit, skip_none=False)


def _by_name(connector: Any) -> Any:
    """The connector's settings with the selector's name alone: data do not depend on the selector's own settings.

    jsonargparse takes every class_path inside the data's own class for one that it may make itself.
    """
    if isinstance(connector.selector, str):
        return connector
    named = connector.clone()
    named.selector = str(connector.selector.get("class_path"))
    return named


class Ready(Experiment):
    """All that ``fit`` makes ready before training; nothing is trained."""

    def fit(self, **options: Any) -> None:
        self.datamodule.trainer = self.trainer
        self.trainer.strategy.connect(self.model)


class Reader(Experiment):
    """The settings that ``fit`` would run with; nothing is built, and data and towers need not be named."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.set_defaults({"model.encoders": UNNAMED, "model.language_model": UNNAMED, "seed_everything": 0})
        world = {"class_path": "datamodules.world.WorldDataModule", "init_args": {"root": UNNAMED}}
        parser.set_defaults({"data": world})

    def _set_seed(self) -> None:
        """Nothing is drawn."""

    def instantiate_classes(self) -> None:
        """Nothing is built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


def read_settings(configs: Sequence[Path]) -> dict[str, Any]:
    """What ``fit`` with these configs runs with; raises ConfigError as ``fit`` does."""
    args = [part for path in configs for part in ("--config", str(path))]
    settings = run(["fit", *args], Reader).config["fit"].as_dict()
    if not isinstance(settings["trainer"], dict):
        raise ConfigError(f"trainer = {settings['trainer']}", "settings of Lightning's Trainer", "Correct it.")
    return settings


def load_datamodule(args: list[str], able: str) -> Any:
    """The data module of a ``fit`` with these arguments; raises ConfigError if it has no method ``able``."""
    data = run(["fit", *args], Ready).datamodule
    if not hasattr(data, able):
        raise ConfigError(
            f"the data module {type(data).__name__}, which has no method {able}",
            "one that has, such as datamodules.conversations.ConversationDataModule",
            "Set data.class_path.",
        )
    return data


@contextmanager
def a_new_run(folder: Path) -> Iterator[None]:
    """Rename an earlier run to ``NAME.1``, ``NAME.2`` ...; failing before the first checkpoint undoes that.

    What has to be read after a failure, a list of skipped rows, stays.
    """
    fresh = not folder.exists()
    aside = None
    if (folder / CONFIG).exists():
        aside = next(name for n in count(1) if not (name := folder.with_name(f"{folder.name}.{n}")).exists())
        folder.rename(aside)
        rank_zero_info(f"the earlier run in {folder} now lies in {aside}")
    try:
        yield
    except BaseException:
        if (fresh or aside) and not any((folder / left).exists() for left in (f"{CHECKPOINTS}/{LAST}", QUARANTINE)):
            shutil.rmtree(folder, ignore_errors=True)
            if aside:
                aside.rename(folder)
        raise


def run(command: list[str], verbs: type[Experiment] = Experiment, again: bool = False) -> Experiment:
    """Run one of LightningCLI's verbs; raises ConfigError for settings that do not parse or lead nowhere."""
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    accept_old_paths()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    messages = getLogger("lightning.pytorch.utilities.rank_zero")
    messages.addFilter(lambda record: not any(word in record.getMessage() for word in NOISE))
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message)
    try:
        with logging_redirect_tqdm([getLogger("lightning.pytorch")]):  # a message does not cut a bar in two
            return verbs(
                Request(command[0], tuple(command[1:]), again),
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                save_config_callback=SaveRunConfig,
                save_config_kwargs={"save_to_log_dir": False},
                parser_kwargs={"parser_mode": "omegaconf+"},
                parser_class=Parser,
            )
    except OmegaConfBaseException as error:
        raise ConfigError(f"a config with {error}", "references to settings that exist", "Correct it.") from error
    except (ValueError, TypeError) as error:
        if (mistake := find_mistake(error, command)) is None:
            raise
        raise mistake from None


def find_mistake(error: Exception, command: list[str]) -> DynFocusError | None:
    """The mistake behind an error of jsonargparse, which wraps what a class says of its settings; None for others."""
    if isinstance(error, UnicodeDecodeError):
        for file in filter(Path.is_file, map(Path, find_config_files(command))):
            try:
                file.read_text(encoding="utf-8")
            except UnicodeDecodeError as reason:
                given = f"{file}, which is no text in UTF-8 (byte {reason.start}: {reason.reason})"
                return ConfigError(given, "YAML", "Name such a file.")
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, DynFocusError) and str(inner) in str(error):
            return inner
        inner = inner.__cause__ or inner.__context__
    return None
