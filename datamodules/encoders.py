"""Choose the vision encoder that makes the sketches of a run, and check whether they may be kept."""

from os.path import normpath
from pathlib import Path

from lightning import Trainer

from dynfocus.data.sketches.cache import SketchCache
from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.device import half_precision
from dynfocus.errors import ConfigError
from dynfocus.settings import ConnectorSettings


def open_run_encoder(encoders: Path, vision: Path | None, trainer: Trainer | None) -> EncoderFolder:
    """Open the vision encoder of the model that a run trains or tests, in the run's precision.

    Args:
        encoders: folder of the vision encoder and the instruction tokenizer.
        vision: folder of another vision encoder.
        trainer: the run's, where there is one.
    """
    folder, is_trained = vision or encoders, False
    # A model that starts from a whole model's folder has that one's vision encoder. Its path may lead through the
    # run's own folder, which does not exist yet.
    settings = getattr(trainer and trainer.lightning_module, "building", None)
    init_from = getattr(settings, "init_from", None)
    for path in (init_from, normpath(init_from)) if init_from else ():
        folder, is_trained = (Path(path), True) if Path(path).is_dir() else (folder, is_trained)
    run_precision = "32-true" if trainer is None else str(trainer.precision)
    precision = (
        None if is_trained and not run_precision.endswith("true") else half_precision(run_precision)
    )  # None: as the folder says
    return EncoderFolder(folder, precision)


def check_sketch_settings(cache: Path | None, shards: str | None, connector: ConnectorSettings) -> None:
    """Raises ConfigError if sketches are to be kept where they depend on the question, or in shards alone."""
    if (cache or shards) and connector.instruction_mode == "frame":
        raise ConfigError(
            "a sketch cache with connector.instruction_mode = frame",
            "no cache: in that mode the question is read beside every frame, so a video is encoded for each anew",
            "Set data.init_args.sketch_cache to null.",
        )
    if shards and not cache:
        raise ConfigError(
            "data.init_args.sketch_shards without data.init_args.sketch_cache",
            "a folder of its own for what no shard holds, such as the blank frame of text-only rows",
            "Set data.init_args.sketch_cache.",
        )


def require_cache(cache: SketchCache | None) -> SketchCache:
    """Return the cache; raises ConfigError if the config has none."""
    if cache is None:
        raise ConfigError(
            "a config whose data.init_args.sketch_cache is not set",
            "a folder for the sketches",
            "Set it in the config, or add --data.init_args.sketch_cache FOLDER.",
        )
    return cache
