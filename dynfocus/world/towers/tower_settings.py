"""Define the settings of the embedded world's towers."""

from dataclasses import dataclass, field

from dynfocus.world.recipes import EASY, WorldSettings

LAYOUTS = ("dynfocus", "mixed")


@dataclass(frozen=True)
class VisionSettings:
    """Sizes and training of the vision tower and of the instruction tower that shares its space.

    Attributes:
        width: d, of both towers.
        hidden: width inside the blocks' MLPs.
        layers: blocks of the vision tower; as in InstructBLIP's files all of them run.
        heads: attention heads of both towers.
        instruction_layers: blocks of the instruction tower; the first of every two can also read frames.
        queries: query tokens, which only `frame` mode reads; untrained.
        steps, batch, texts: steps, frames in each, half of them with things, and instructions in each.
        rate, matrix_rate: peak learning rates of AdamW, and of Muon for the matrices inside the blocks.
        videos, images: how many of each to decode for training, at most.
        plain: frames taken from each video beside those that show things.
    """

    width: int = 64
    hidden: int = 128
    layers: int = 3
    heads: int = 4
    instruction_layers: int = 2
    queries: int = 32
    steps: int = 500
    batch: int = 48
    texts: int = 16
    rate: float = 3e-3
    matrix_rate: float = 6e-3
    videos: int = 600
    images: int = 400
    plain: int = 3


@dataclass(frozen=True)
class LanguageSettings:
    """Size and training of the language model.

    Attributes:
        width, hidden, layers, heads: sizes of the Llama class.
        init: standard deviation of its first weights; at 0.02 a model of this size looks nothing up for long.
        steps: steps of training, the ``easy`` share of them on images, texts and short streams alone.
        batch: rows in a step, twice as many where rows are short.
        pool: rows to draw from, made beforehand; noise comes afresh each time.
        rate, matrix_rate: peak learning rates of AdamW, and of Muon for the matrices inside the blocks.
        images, texts, captions, orders: shares of the rows after the easy steps; the others are about whole videos.
        easy_orders: share of the easy steps' rows that are about the order of places.
        repeats, easy_repeats: shares, in the later and the easy steps, of rows about a few frames of events alone and
            the last thing of a shape; such questions are asked only where words repeat.
        things, times: questions in a conversation about a video, about its things and about the order of its places.
        asked: held-out videos for measuring, with eight questions each.
        layouts: the streams of visual tokens that rows show: ``dynfocus``, that of its default settings, or ``mixed``:
            any number of kept frames, with cones, every patch or neither, with rods or without, or pooled grids.
    """

    width: int = 64
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    init: float = 0.1
    steps: int = 1200
    easy: float = 0.22
    batch: int = 16
    pool: int = 4000
    rate: float = 3e-3
    matrix_rate: float = 6e-3
    images: float = 0.10
    texts: float = 0.06
    captions: float = 0.10
    orders: float = 0.15
    easy_orders: float = 0.2
    repeats: float = 0.0
    easy_repeats: float = 0.0
    things: int = 4
    times: int = 8
    asked: int = 100
    layouts: str = "dynfocus"


@dataclass(frozen=True)
class TowerSettings:
    """All settings of `train_towers`; the defaults take minutes on a laptop, and are those of the world ``easy``."""

    vision: VisionSettings = field(default_factory=VisionSettings)
    language: LanguageSettings = field(default_factory=LanguageSettings)


def choose_tower_settings(world: WorldSettings) -> TowerSettings:
    """Choose the towers' settings for a world: any but ``easy`` is learned longer, and on mixed layouts."""
    if world == EASY:
        return TowerSettings()
    return TowerSettings(
        VisionSettings(steps=600),
        LanguageSettings(steps=2400, pool=8000, repeats=0.08, easy_repeats=0.15, layouts="mixed"),
    )
