"""Train the towers of the embedded world, both at once, and write their folders."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from tqdm import tqdm

from dynfocus.data.processes import follow_parent
from dynfocus.device import one_thread
from dynfocus.errors import ConfigError
from dynfocus.world.recipes import read_settings
from dynfocus.world.towers.folders import save_encoders, save_language_model, write_folder
from dynfocus.world.towers.frames import read_labelled
from dynfocus.world.towers.reading_quality import reading_quality
from dynfocus.world.towers.record import FOLDERS, list_unfinished, read_world, wanted_record, write_records
from dynfocus.world.towers.tokenizer import train_tokenizer, world_text
from dynfocus.world.towers.tower_settings import LAYOUTS, TowerSettings, choose_tower_settings
from dynfocus.world.towers.train_language import language_config, shares, train_language
from dynfocus.world.towers.train_vision import instruction_quality, train_vision, vision_quality

CORPUS_SEED = 800_000  # the same words and ids whatever the seed
INSTRUCTIONS = 400


def train_towers(
    data: Path | str,
    out: Path | str,
    seed: int = 0,
    settings: TowerSettings | None = None,
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Train the vision, instruction and language towers on a written world; a finished tower is kept.

    Args:
        data: a folder of `dynfocus.world.dataset.write_world`; its training videos and images are read.
        out: gets ``instructblip`` (the vision and instruction towers, a checkpoint of the InstructBLIP format),
            ``llm`` (a Llama with its tokenizer) and ``towers.json`` (see `dynfocus.world.towers.quality.read_quality`).
        seed: of all first weights and batches.
        settings: sizes and steps; those that the world of ``data`` needs unless given.
        workers: processes, of one thread each; 2 train both at once, 0 trains in this one. They are spawned: a script
            that calls this needs ``if __name__ == "__main__":``.
        progress: whether to show bars.

    Returns:
        ``out``.

    Raises:
        ConfigError: if a folder holds towers made with other settings, or a number is out of range.
        DataError: if ``data`` is no written world.
    """
    data, out = Path(data), Path(out)
    settings = settings or choose_tower_settings(read_settings(read_world(data)))
    _check(settings, seed, workers)
    todo = list_unfinished(data, out, seed, settings)
    jobs = [partial(_train, name, data, out, seed, settings, progress, place) for place, name in enumerate(todo)]
    if workers == 0 or len(jobs) == 0:
        for job in jobs:
            with one_thread():  # matrices this small gain nothing by more, and the numbers must not depend on it
                job()
    else:
        _in_parallel(jobs, workers)
    write_records(out)
    return out


def _check(settings: TowerSettings, seed: int, workers: int) -> None:
    least = {"seed": 0, "workers": 0, "vision.images": 0, "vision.plain": 0}
    numbers = {f"{part}.{name}": n for part, fields in asdict(settings).items() for name, n in fields.items()}
    layouts = numbers.pop("language.layouts")
    if layouts not in LAYOUTS:
        raise ConfigError(f"language.layouts={layouts}", f"one of {', '.join(LAYOUTS)}", "Correct language.layouts.")
    for name, number in (numbers | {"seed": seed, "workers": workers}).items():
        lowest = least.get(name, 1 if isinstance(number, int) else 0)
        if number < lowest:
            raise ConfigError(f"{name}={number}", f"at least {lowest}", f"Raise {name}.")
    easy, later = shares(settings.language)
    if min(*easy.values(), *later.values()) < 0:
        raise ConfigError(
            "shares of the language model's rows over 1", "shares whose sum is under 1", "Lower one of them."
        )


def _in_parallel(jobs: list, workers: int) -> None:
    # Threads of the parent make forked children hang: spawn. One lock keeps the bars of both apart.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _prepare_worker, (context.RLock(),))
    try:
        for future in [pool.submit(job) for job in jobs]:
            future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker(lock: Any) -> None:
    follow_parent()
    tqdm.set_lock(lock)
    torch.set_num_threads(1)


def _train(name: str, data: Path, out: Path, seed: int, settings: TowerSettings, progress: bool, position: int) -> None:
    """Train, measure and write one tower."""
    began = time.perf_counter()
    make = _vision if name == "vision" else _language
    fill, quality, losses = make(data, seed, settings, progress, position)
    record = {
        **wanted_record(name, data, seed, settings),
        "seconds": round(time.perf_counter() - began, 1),
        "loss": {"first": fmean(losses[:5]), "last": fmean(losses[-20:])},
        "quality": quality,
    }
    write_folder(out / FOLDERS[name], record, fill)


def _vision(data: Path, seed: int, settings: TowerSettings, progress: bool, position: int) -> tuple:
    tokenizer = train_tokenizer(CORPUS_SEED, opening=False)
    vision = settings.vision
    frames = read_labelled(data, "stage1", vision.videos, vision.images, vision.plain, progress, position)
    texts = list(islice(world_text(CORPUS_SEED), INSTRUCTIONS))
    model, losses = train_vision(vision, tokenizer, frames, texts, seed, progress, position)
    quality = vision_quality(model, read_labelled(data, "val", 100, 0, vision.plain, progress, position))
    quality["words"] = instruction_quality(model, tokenizer, list(islice(world_text(CORPUS_SEED + 1), INSTRUCTIONS)))
    text_config = language_config(settings.language, tokenizer)
    return partial(save_encoders, model=model, text_config=text_config, tokenizer=tokenizer), quality, losses


def _language(data: Path, seed: int, settings: TowerSettings, progress: bool, position: int) -> tuple:
    tokenizer = train_tokenizer(CORPUS_SEED)
    world = read_settings(read_world(data))
    model, losses = train_language(settings.language, tokenizer, seed, progress, position, world)
    quality = reading_quality(model, tokenizer, settings.language, world)
    return partial(save_language_model, model=model, tokenizer=tokenizer), quality, losses
