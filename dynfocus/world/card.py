"""Format the data card that lies beside the embedded world's rows."""

from dynfocus.world.build_rows import SPLIT_SEEDS, split_seed


def format_card(settings: dict[str, int], rows: dict[str, int]) -> str:
    """Format the data card, in Markdown, of a world with these settings and numbers of rows."""
    seed = settings["seed"]
    counts = "\n".join(f"| `{name}.json` | {count} | {_ROLES[name]} |" for name, count in rows.items())
    return _CARD.format(
        counts=counts,
        shown=", ".join(f"{key} {value}" for key, value in settings.items()),
        command=f"dynfocus world OUT_DIR --videos {settings['videos']} --seed {seed}",
        **{split: split_seed(seed, split) for split in SPLIT_SEEDS},
    )


_ROLES = {
    "stage1": "captions of images and videos",
    "stage2": "conversations about videos (80 %), about images (12 %), text only (8 %)",
    "val": "8 questions about each validation video, one a row",
    "test": "8 questions about each test video, one a row",
}
_CARD = """# A small world of video questions that know their relevant frames

Rendered videos of 20 seconds at one frame a second, with questions. Each video is a run of four scenes, each one of
eight textured places, of near-identical frames. In two scenes a brief event of one or two frames shows four things of
eight colors and eight shapes in a 3 x 3 grid; no color and no shape repeats within a video. Two frames are glitches of
coloured noise, which no question asks about.

| file | rows | what |
|---|---|---|
{counts}

Videos: `videos/SPLIT_INDEX.mp4`, H.264, 96 x 96 pixels (each rendered pixel doubled; average 2 x 2 to have the 48 x 48
that were rendered). Images: `images/train_INDEX.png`, the same size.

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
questions: `detail` (color, shape, position), `correspondence` (place), `temporal` (first, last, after, count).

## How it was made

`{command}`, that is: {shown}.
All follows from (seed, index) of a row. Seeds of the splits share nothing: train {train}, val {val}, test {test},
images {image}, scenes told in text-only rows {text}.

License: Apache-2.0.
"""
