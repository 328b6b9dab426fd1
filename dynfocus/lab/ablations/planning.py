"""Plan the runs of studies before any of them begins: their commands, what each waits for, and how long it takes."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from dynfocus.errors import ConfigError, UsageError, suggest
from dynfocus.lab.ablations.studies import LEARNED, MAIN, Study, Variant, list_studies
from dynfocus.records.atomic import write_text

CONFIGS = Path("lightning_configs")
TIMES = "times.json"
# Seconds of one process on 2 shared cores, until the first run of each kind is timed.
STAGE_1, BEGINNING, STEP, TEST, ARM, NEW_SKETCHES = 70, 12, 0.3, 8, 4.3, 100
EPOCH = 312  # steps of stage 2 on `easy`


@dataclass(frozen=True)
class Settings:
    """What `dynfocus ablations` is told.

    Attributes:
        out: folder of all runs and tables.
        recipe: the world's.
        seeds: one run of each variant for each.
        only: names of studies; the main four where there is none.
        full: whether all studies are meant where none is named.
        steps: most steps of stage 2; None takes the whole epoch.
        configs: further configs, laid over those of the world.
    """

    out: Path
    recipe: str = "easy"
    seeds: tuple[int, ...] = (0, 1, 2)
    only: tuple[str, ...] = ()
    full: bool = False
    steps: int | None = None
    configs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Run:
    """The work of one folder.

    Attributes:
        name: the variant and the seed.
        kind: runs of one kind take equally long.
        commands: the words behind `dynfocus` of each command, in their order.
        guess: seconds that it takes, until a run of its kind is timed.
        needs: names of runs whose results it reads.
        follows: names of runs that it waits for, because they compute sketches that it reads too.
    """

    name: str
    kind: str
    commands: tuple[tuple[str, ...], ...]
    guess: float
    needs: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()


@dataclass
class Times:
    """How long runs took, by their names, kept in a file from call to call."""

    file: Path
    known: dict[str, tuple[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file.is_file():
            self.known = {name: (kind, seconds) for name, (kind, seconds) in json.loads(self.file.read_text()).items()}

    def add(self, run: Run, seconds: float) -> None:
        """Keep the time of a run."""
        self.known[run.name] = (run.kind, round(seconds, 1))
        write_text(self.file, json.dumps(self.known, indent=1) + "\n")

    def estimate(self, run: Run) -> float:
        """Estimate the seconds of a run: the mean of its kind, or a guess where no run of its kind is timed."""
        same = [seconds for kind, seconds in self.known.values() if kind == run.kind]
        return mean(same) if same else run.guess


def choose_studies(settings: Settings) -> list[Study]:
    """Choose the studies that are meant.

    Raises:
        UsageError: if a study is unknown.
    """
    studies = list_studies(settings.recipe)
    for name in settings.only:
        if name not in studies:
            raise UsageError(
                f"--only {name}", f"one of {', '.join(studies)}", suggest(name, list(studies)) or "Correct it."
            )
    names = settings.only or tuple(name for name in studies if settings.full or name in MAIN)
    return [studies[name] for name in names]


def plan_runs(settings: Settings, studies: Iterable[Study]) -> list[Run]:
    """Plan every run: of each seed stage 1 once, and each variant once from there.

    The first run that needs a kind of sketches comes before the others of that kind, which then read them.

    Raises:
        ConfigError: if the configs of the world are not there.
    """
    if not CONFIGS.is_dir():
        raise ConfigError(f"no folder {CONFIGS}", "this project's folder", "Call the command from there.")
    variants = list({row.variant.name: row.variant for study in studies for row in study.rows}.values())
    runs: dict[str, Run] = {}
    first: dict[str, str] = {}  # of each kind of sketches, the run that computes them
    for seed in settings.seeds:
        for variant in variants:
            start = name_start(variant, seed)
            if start not in runs:
                computes = tuple(filter(None, [first.get("stage1")]))
                command = _build_command(settings, "fit", "stage1", start, seed, variant.start)
                runs[start] = Run(start, "stage 1", (command,), STAGE_1, follows=computes)
                first.setdefault("stage1", start)
            run = _plan_variant(settings, variant, seed, start, first.get(variant.sketches))
            if variant.sketches != "prototypes":  # which stage 1 computes
                first.setdefault(variant.sketches, run.name)
            runs[run.name] = run
    return list(runs.values())


def _plan_variant(settings: Settings, variant: Variant, seed: int, start: str, before: str | None) -> Run:
    name = name_run(variant, seed)
    projectors = settings.out / start / "projectors.safetensors"
    arms = ", ".join((LEARNED, *variant.arms))
    options = ("--model.init_from", str(projectors), *variant.options, "--model.arms", f"[{arms}]")
    if variant.epochs > 1:
        options += ("--trainer.max_epochs", str(variant.epochs))
    if settings.steps is not None:
        options += ("--trainer.max_steps", str(settings.steps))
    # What validation would say stands in no table.
    options += ("--trainer.limit_val_batches", "0")
    commands = tuple(_build_command(settings, verb, "stage2", name, seed, options) for verb in ("fit", "test"))
    new = NEW_SKETCHES if before is None and variant.sketches != "prototypes" else 0
    guess = BEGINNING + STEP * (settings.steps or EPOCH * variant.epochs) + TEST + ARM * (1 + len(variant.arms)) + new
    steps = (
        f"{settings.steps} steps"
        if settings.steps
        else f"{variant.epochs} epochs"
        if variant.epochs > 1
        else "all steps"
    )
    kind = f"{variant.sketches}{', new' if new else ''}, {1 + len(variant.arms)} arms, {steps}"
    return Run(name, kind, commands, guess, (start,), () if before is None else (before,))


def _build_command(
    settings: Settings, verb: str, stage: str, name: str, seed: int, options: Sequence[str]
) -> tuple[str, ...]:
    world = () if settings.recipe == "easy" else (CONFIGS / "worlds" / f"{settings.recipe}.yaml",)
    configs = (CONFIGS / f"{stage}.yaml", CONFIGS / "world.yaml", *world, *settings.configs)
    own = ("--trainer.default_root_dir", str(settings.out / name), "--seed_everything", str(seed))
    return (verb, *(word for file in configs for word in ("--config", str(file))), *own, *options)


def name_run(variant: Variant, seed: int) -> str:
    """The folder of a run in that of all."""
    return f"runs/{variant.name}/seed-{seed}"


def name_start(variant: Variant, seed: int) -> str:
    """The folder of the stage 1 that a run begins from."""
    own = "_".join(Path(word).stem for word in variant.start if not word.startswith("--"))
    return f"runs/stage1{'_' + own if own else ''}/seed-{seed}"


def count_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def estimate_left(runs: Iterable[Run], times: Times, workers: int) -> float:
    """Estimate the seconds that some runs take with so many processes at once."""
    return sum(times.estimate(run) for run in runs) / workers


def format_plan(runs: Sequence[Run], is_finished: Callable[[tuple[str, ...]], bool], times: Times, workers: int) -> str:
    """Format the plan: how many runs of each kind there are, what is done already, and how long the rest takes."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.kind, []).append(run)
    done = {run.name for run in runs if all(is_finished(command) for command in run.commands)}
    lines = []
    for kind, group in groups.items():
        timed = any(one == kind for one, _ in times.known.values())
        names = list(dict.fromkeys(run.name.split("/")[1] for run in group))
        finished = sum(run.name in done for run in group)
        lines.append(
            f"{len(group):3} runs of {kind}: {finished} finished, {times.estimate(group[0]):.0f} s each "
            f"({'timed' if timed else 'estimated'}): {', '.join(names)}"
        )
    left = estimate_left([run for run in runs if run.name not in done], times, workers) / 60
    together = f"{len(runs)} runs, {len(done)} finished; about {left:.0f} minutes left on {workers} idle cores"
    return "\n".join([*lines, f"{together} (the first run of each kind is timed, then this is known better)"])


def find_folders(studies: Iterable[Study], settings: Settings) -> Mapping[str, Mapping[int, Path]]:
    """Find the folders of each variant's tested runs, by seed."""
    variants = {row.variant.name: row.variant for study in studies for row in study.rows}
    return {
        name: {seed: folder for seed in settings.seeds if (folder := settings.out / name_run(variant, seed)).is_dir()}
        for name, variant in variants.items()
    }
