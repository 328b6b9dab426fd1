"""fit, validate, test and predict: LightningCLI over the configs, with runs that go on where they stopped."""

from pathlib import Path

from jsonargparse import set_parsing_settings
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from omegaconf.errors import OmegaConfBaseException

from dynfocus.errors import ConfigError
from dynfocus.lit import DynFocusModule
from dynfocus.records import write_text

LINKED = ("encoders", "language_model", "connector", "frame_rule", "system_prompt", "slots", "stage")
CONFIG, DONE, LAST = "config.yaml", "fit.json", "checkpoints/last.ckpt"


class SaveRunConfig(SaveConfigCallback):
    """Write the resolved config beside the run's results."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            write_text(Path(trainer.default_root_dir) / CONFIG, self.parser.dump(self.config, skip_none=False))


class Experiment(LightningCLI):
    """LightningCLI whose data read the model's own settings, and whose runs resume."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name in LINKED:
            parser.link_arguments(f"model.{name}", f"data.init_args.{name}")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def before_fit(self) -> None:
        """Go on with an unfinished run of the same settings; move a run of other settings, or a finished one, aside."""
        folder = Path(self.trainer.default_root_dir)
        if self.config_init.fit.ckpt_path is None and (folder / CONFIG).exists():
            same = (folder / CONFIG).read_text() == self._parser("fit").dump(self.config.fit, skip_none=False)
            if same and not (folder / DONE).exists():
                if (folder / LAST).exists():
                    rank_zero_info(f"going on with the unfinished run in {folder}")
                    self.config_init.fit.ckpt_path = str(folder / LAST)
            else:
                set_aside(folder)


@rank_zero_only
def set_aside(folder: Path) -> None:
    """Rename a run's folder to the first free ``NAME.1``, ``NAME.2`` ..., so that nothing is lost."""
    free = next(folder.with_name(f"{folder.name}.{n}") for n in range(1, 10_000) if not folder.with_name(f"{folder.name}.{n}").exists())
    folder.rename(free)
    rank_zero_info(f"the earlier run in {folder} now lies in {free}")


def run(args: list[str]) -> None:
    """Run one of LightningCLI's verbs; raises ConfigError for a reference that leads nowhere."""
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    try:
        Experiment(
            DynFocusModule,
            LightningDataModule,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=SaveRunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={"parser_mode": "omegaconf+"},
            args=args,
        )
    except OmegaConfBaseException as error:
        raise ConfigError(f"a config with {error}", "references to settings that exist", "Correct it.") from error
