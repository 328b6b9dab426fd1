"""Run the ablations and write their tables."""

from collections.abc import Callable, Sequence
from pathlib import Path

from dynfocus.errors import UsageError
from dynfocus.lab.ablations.formats import write_tables
from dynfocus.lab.ablations.planning import (
    TIMES,
    Settings,
    Times,
    count_cores,
    find_folders,
    format_plan,
    plan_runs,
)
from dynfocus.lab.ablations.queue import IsFinished, Queue
from dynfocus.lab.ablations.studies import Study
from dynfocus.lab.ablations.tables import Answers, build_table, list_facts


def run_ablations(
    settings: Settings,
    studies: Sequence[Study],
    is_finished: IsFinished,
    show: Callable[[str], None],
    workers: int | None = None,
    dry_run: bool = False,
) -> dict[str, str]:
    """Plan, run what is not finished, and write the tables of all that is.

    Args:
        settings: how runs are made.
        studies: what is to be compared.
        is_finished: whether a command is done already, with the same settings.
        show: prints a text.
        workers: processes at once; as many as there are cores where none is given.
        dry_run: whether to plan alone.

    Returns:
        why each failed run failed, by its name.

    Raises:
        UsageError: if no process or step is allowed.
        ConfigError: if the world's configs are not there.
    """
    for name, number in (("--workers", workers), ("--steps", settings.steps)):
        if number is not None and number < 1:
            raise UsageError(f"{name} {number}", "at least 1", "Correct it.")
    runs = plan_runs(settings, studies)
    times, workers = Times(settings.out / TIMES), workers or count_cores()
    show(format_plan(runs, is_finished, times, workers))
    if dry_run:
        return {}
    queue = Queue(settings.out, runs, is_finished, times, workers)
    queue.work()
    known: dict[Path, Answers] = {}
    folders = find_folders(studies, settings)
    usable = {
        name: {seed: folder for seed, folder in by_seed.items() if f"runs/{name}/seed-{seed}" not in queue.failed}
        for name, by_seed in folders.items()
    }
    tables = [build_table(study, usable, known) for study in studies]
    files = write_tables(settings.out / "tables", tables, list_facts(settings.recipe, settings.seeds, settings.steps))
    show("\n".join(["", *(note for table in tables for note in table.list_notes()), *map(str, files)]))
    return queue.failed


def read_names(words: Sequence[str]) -> tuple[str, ...]:
    """Read names with commas or spaces between them."""
    return tuple(dict.fromkeys(name for word in words for name in word.split(",") if name))
