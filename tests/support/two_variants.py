"""Ablate the miniature world with two variants and two seeds; a program, so that a test can kill it."""

import sys
from pathlib import Path

from dynfocus.lab.ablations.planning import Settings
from dynfocus.lab.ablations.run import run_ablations
from dynfocus.lab.ablations.studies import Row, Study, Variant
from dynfocus.train.finished import find_finished_run, read_request

CONFIG = """
model:
  encoders: {place}/towers/encoders
  language_model: {place}/towers/language
  max_new_tokens: 1
  connector: {{events: 5, keep: 0.6, neighbours: 3, spatial_prototypes: [6, 3], spatial_neighbours: [4, 2]}}
  frame_rule: {{size: 24}}
data:
  init_args:
    root: {place}/data
    sketch_cache: {place}/sketches
    index: {place}/index
    videos: 8
    val: 2
    test: 2
    batch_size: 4
    check: false
trainer:
  enable_progress_bar: false
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        dirpath: ${{trainer.default_root_dir}}/checkpoints
        save_last: true
        save_top_k: 0
        every_n_train_steps: 2
    - class_path: callbacks.export.Export
    - class_path: callbacks.predictions.Predictions
"""
FULL = Variant("full", arms=("uniform",))
FEW = Variant("few", ("--model.connector.keep", "0.2"))
ROWS = (Row("K = 3", FULL, place=0.6), Row("K = 1", FEW, place=0.2), Row("uniform", FULL, "uniform", 0.7))
STUDY = Study("two", "Two <variants>", ROWS, axis="K/L", ranked=True)


def main(place: Path, out: Path) -> int:
    """Run both variants with the seeds 0 and 1; returns the number of failed runs."""
    config = out / "miniature.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG.format(place=place))
    settings = Settings(out, seeds=(0, 1), steps=3, configs=(config,))
    failed = run_ablations(
        settings,
        [STUDY],
        lambda command: find_finished_run(read_request([*command])) is not None,
        lambda text: print(text, flush=True),  # noqa: T201
        workers=2,
    )
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
