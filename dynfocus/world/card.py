"""Format the data card that lies beside the embedded world's rows."""

from dataclasses import asdict
from textwrap import fill

from dynfocus.world.build_rows import SPLIT_SEEDS, split_seed
from dynfocus.world.pixels import SIZE
from dynfocus.world.questions import REPEATED_TYPES, THING_TYPES
from dynfocus.world.recipes import EASY, WorldSettings, find_recipe
from dynfocus.world.videos import CELLS, COLORS, PLACES, SHAPES
from dynfocus.world.world_record import World


def format_card(world: World, rows: dict[str, int]) -> str:
    """Format the data card, in Markdown, of a world with these numbers of rows."""
    settings = world.settings
    types = REPEATED_TYPES if settings.words_repeat else THING_TYPES
    counts = "\n".join(f"| `{name}.json` | {count} | {_ROLES[name]} |" for name, count in rows.items())
    sizes = {name: value for name, value in asdict(world).items() if name != "settings"}
    return _CARD.format(
        about=_describe(settings),
        detail=", ".join(name for name in types if name != "place"),
        counts=counts.replace("EACH", str(len(types) + 4)),
        side=2 * SIZE,
        size=SIZE,
        shown=", ".join(f"{key} {value}" for key, value in sizes.items()),
        settings=", ".join(f"{key} {value}" for key, value in asdict(settings).items()),
        command=f"dynfocus world OUT_DIR --videos {world.videos} --seed {world.seed}{_options(settings)}",
        **{split: split_seed(world.seed, split) for split in SPLIT_SEEDS},
    )


def _describe(settings: WorldSettings) -> str:
    most = settings.longest_event
    some = "one frame" if most == 1 else f"1 to {most} frames"
    lines = [
        f"Rendered videos of {settings.frames} seconds at one frame a second, with questions. Each video is a run of",
        f"{settings.scenes} scenes, each one of {len(PLACES)} textured places, of at least {settings.shortest_scene}",
        f"near-identical frames. In {settings.events} scenes a brief event of {some} shows {settings.things} things of",
        f"{len(COLORS)} colors and {len(SHAPES)} shapes in a grid of {len(CELLS)} cells.",
    ]
    if settings.words_repeat:
        lines += ["Colors and shapes come back in other events, but the word that a question asks by is shown once, or"]
        lines += ["the question says whether the first or the last thing is meant."]
    else:
        lines += ["No color and no shape repeats within a video."]
    if settings.decoys:
        lines += [f"In {settings.decoys} further scenes a decoy looks like an event, and nothing is asked about it."]
    if settings.glitches:
        lines += [f"{settings.glitches} frames are glitches of coloured noise, which no question asks about."]
    if settings.look == "foreign":
        lines += ["Places and things are drawn with colors, textures and forms that the shipped towers never saw."]
    return fill(" ".join(lines), 120)


def _options(settings: WorldSettings) -> str:
    name = find_recipe(settings)
    if name is not None:
        return "" if settings == EASY else f" --recipe {name}"
    other = {key: value for key, value in asdict(settings).items() if value != getattr(EASY, key)}
    return "".join(
        f" --{key.replace('_', '-')}" + ("" if value is True else f" {value}") for key, value in other.items()
    )


_ROLES = {
    "stage1": "captions of images and videos",
    "stage2": "conversations about videos (80 %), about images (12 %), text only (8 %)",
    "val": "EACH questions about each validation video, one a row",
    "test": "EACH questions about each test video, one a row",
}
_CARD = """# A small world of video questions that know their relevant frames

{about}

| file | rows | what |
|---|---|---|
{counts}

Videos: `videos/SPLIT_INDEX.mp4`, H.264, {side} x {side} pixels (each rendered pixel doubled; average 2 x 2 to have
the {size} x {size} that were rendered). Images: `images/train_INDEX.png`, the same size.

## A row

```json
{{"id": "...", "video": "videos/train_000001.mp4", "seed": {train}, "index": 1,
 "conversations": [{{"from": "human", "value": "<image>\\nwhat color is the star"}},
                   {{"from": "gpt", "value": "star red"}}],
 "questions": [{{"text": "what color is the star", "answer": "star red", "options": [],
                "group": "color", "segments": [[7, 8]], "meta": {{"key": "star", "word": "red"}}}}]}}
```

Rows about an image have `image` in place of `video`; text-only rows have neither. `<image>` marks where the image or
video stands. Captions have no `questions`. `questions` has one entry for each answer: `segments` lists the frames (from
0) that show what is asked; empty where all frames matter. `meta.word` decides whether an answer is right. Groups of
questions: `detail` ({detail}), `correspondence` (place), `temporal` (first, last, after, count).

## How it was made

`{command}`, that is: {shown}; settings of its videos: {settings}.
All follows from (seed, index) of a row. Seeds of the splits share nothing: train {train}, val {val}, test {test},
images {image}, scenes told in text-only rows {text}.

License: Apache-2.0.
"""
