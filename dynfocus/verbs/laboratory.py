"""Repeat the paper's ablations on the embedded world."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dynfocus.errors import ConfigError


def ablations(
    *,
    out: Path,
    recipe: Literal["easy", "standard", "long", "foreign"] = "easy",
    seeds: str = "0,1,2",
    only: Sequence[str] = (),
    full: bool = False,
    steps: int | None = None,
    config: Sequence[Path] = (),
    workers: int | None = None,
    dry_run: bool = False,
) -> None:
    """Train and test the variants of Table 6 and Figure 3, compare selectors, and write tables with intervals.

    What is finished is not repeated: called again, it goes on where it was stopped. A run that fails stops no other.

    Example: dynfocus ablations --out runs/world/ablations --dry-run

    Args:
        out: folder of all runs, and of tables/ablations.md, .csv, .html and the pictures.
        recipe: the world's.
        seeds: whole numbers with commas between them; each variant is trained once for each.
        only: studies: table6, figure3a, figure3b, selectors (these four where none is named), switches, question,
            question_sweep or trained_selectors; on `long` figure3_budget and selectors.
        full: all studies, where none is named.
        steps: most steps of stage 2, such as 104 for a quick look; without it one epoch.
        config: further configs, laid over those of the world.
        workers: processes at once, of one thread each; as many as there are cores where none is given.
        dry_run: print the plan with an estimate of its time, and run nothing.
    """
    from dynfocus.lab.ablations.planning import Settings, choose_studies
    from dynfocus.lab.ablations.run import read_names, run_ablations
    from dynfocus.lab.seeds import read_seeds
    from dynfocus.train.finished import find_finished_run, read_request

    settings = Settings(out, recipe, read_seeds(seeds), read_names(only), full, steps, tuple(config))
    failed = run_ablations(
        settings,
        choose_studies(settings),
        lambda command: find_finished_run(read_request([*command])) is not None,
        print,
        workers,
        dry_run,
    )
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ConfigError(
            f"{len(failed)} failed runs ({reasons})", "runs that end", "Mend the cause and call it again."
        )
