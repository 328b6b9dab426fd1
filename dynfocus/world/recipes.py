"""Define the settings of an embedded world, and the recipes that name whole sets of them."""

from dataclasses import dataclass, fields, replace
from typing import Any

from dynfocus.errors import ConfigError

CELLS_A_FRAME = 9  # a frame is 3 x 3 cells, one thing in each at most
WORDS = 8  # colors, and shapes
UNIQUE_SHAPES = 3  # where words repeat: shapes that one thing of the video alone has
REPEATED_SHAPES = 1  # whose first and last thing is asked about, and which no decoy shows; the others fill up
UNIQUE_COLORS = 2
LARGEST_THING = 14  # pixels; with its outline it fills a cell


@dataclass(frozen=True)
class WorldSettings:
    """What the videos of a world are like; the defaults are the recipe ``easy``.

    Attributes:
        frames: T, frames of a video, one a second.
        scenes: scenes of a video, one after another.
        shortest_scene: frames of the shortest scene.
        returns: share of the videos in which a place returns, where a video has at most 8 scenes.
        events: scenes with an event that questions are asked about.
        things: things in an event, in a decoy and in an image.
        longest_event: frames of the longest event; all lengths from 1 are equally frequent.
        glitches: frames of coloured noise.
        decoys: further scenes with what looks like an event, but shows nothing that a question asks about.
        words_repeat: whether colors and shapes come back in other events. The word that a question asks by is still
            shown once, or the question asks for the first or the last thing that has it.
        thing_size: the larger of the two sizes of things, in pixels of 48 a side; the other is one pixel smaller.
        look: the colors, textures and forms that things and places are drawn with: ``own``, those of the towers'
            training, or ``foreign`` ones under the same words, which no shipped tower has seen.
    """

    frames: int = 20
    scenes: int = 4
    shortest_scene: int = 4
    returns: float = 0.6
    events: int = 2
    things: int = 4
    longest_event: int = 2
    glitches: int = 2
    decoys: int = 0
    words_repeat: bool = False
    thing_size: int = LARGEST_THING
    look: str = "own"

    def __post_init__(self) -> None:
        least = {"scenes": 2, "glitches": 0, "decoys": 0, "thing_size": 8, "returns": 0.0}
        most = {"returns": 1.0, "thing_size": LARGEST_THING, "things": CELLS_A_FRAME}
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            low, high = least.get(name, 1), most.get(name, 10_000)
            _require(low <= value <= high, f"{name}={value}", f"{name} from {low} to {high}", f"Change {name}.")
        _require(self.look in ("own", "foreign"), f"look={self.look}", "look=own or look=foreign", "Correct look.")
        self._check_time()
        self._check_words()

    def _check_time(self) -> None:
        needed = self.scenes * self.shortest_scene
        _require(
            self.frames >= needed,
            f"{self.scenes} scenes of at least {self.shortest_scene} in {self.frames} frames",
            f"frames={needed} at least",
            "Raise frames, or lower scenes or shortest_scene.",
        )
        shows = self.events + self.decoys
        _require(
            shows <= self.scenes,
            f"{self.events} events and {self.decoys} decoys in {self.scenes} scenes",
            "a scene of its own for each of them",
            "Raise scenes, or lower events or decoys.",
        )
        _require(
            self.longest_event <= self.shortest_scene,
            f"longest_event={self.longest_event} in scenes of {self.shortest_scene}",
            "events that fit into the shortest scene",
            "Lower longest_event, or raise shortest_scene.",
        )
        free = self.frames - shows * self.longest_event
        _require(
            self.glitches <= free,
            f"{self.glitches} glitches beside events and decoys of up to {self.frames - free} of {self.frames} frames",
            f"at most {free} glitches, which cover no event",
            "Lower glitches, or raise frames.",
        )

    def _check_words(self) -> None:
        shown = self.events * self.things
        if self.words_repeat:
            filling = WORDS - UNIQUE_SHAPES - REPEATED_SHAPES
            room = self.things - -(-UNIQUE_SHAPES // self.events) - REPEATED_SHAPES
            _require(
                self.events >= 2 and room >= 1 and self.things <= filling,
                f"words_repeat with {self.events} events of {self.things} things",
                f"2 events of 4 things, or 3 events of 3, at least, and at most {filling} things an event: "
                f"{UNIQUE_SHAPES} shapes are shown once and {REPEATED_SHAPES} in two events at least",
                "Change events or things, or set words_repeat to false.",
            )
            return
        _require(
            4 <= shown <= WORDS,
            f"{self.events} events of {self.things} things whose words do not repeat",
            f"4 to {WORDS} things in all, because there are {WORDS} colors and {WORDS} shapes",
            "Change events or things, or set words_repeat to true.",
        )
        _require(
            self.decoys == 0,
            f"{self.decoys} decoys in a world whose words do not repeat",
            "words_repeat=true: decoys show words that events show too",
            "Set words_repeat to true, or decoys to 0.",
        )


def _require(is_met: bool, given: str, needed: str, advice: str) -> None:
    if not is_met:
        raise ConfigError(f"a world of {given}", needed, advice)


NAMES = tuple(field.name for field in fields(WorldSettings))
EASY = WorldSettings()
STANDARD = WorldSettings(
    frames=24, scenes=7, shortest_scene=2, events=4, things=4, decoys=2, words_repeat=True, thing_size=12
)
RECIPES: dict[str, WorldSettings] = {
    "easy": EASY,
    "standard": STANDARD,
    "long": replace(STANDARD, frames=64, scenes=12),
    "long-200": replace(STANDARD, frames=200, scenes=30),
    "long-600": replace(STANDARD, frames=600, scenes=60),
    "foreign": replace(STANDARD, look="foreign"),
}


def make_settings(recipe: str = "easy", **overrides: Any) -> WorldSettings:
    """Make the settings of a recipe, with single ones overridden; an override of None changes nothing.

    Raises:
        ConfigError: if there is no such recipe or setting, or if the settings cannot be met together.
    """
    _require(recipe in RECIPES, f"the recipe {recipe}", f"one of {', '.join(RECIPES)}", "Correct the recipe.")
    unknown = [name for name in overrides if name not in NAMES]
    _require(not unknown, f"the settings {', '.join(unknown)}", f"some of {', '.join(NAMES)}", "Correct the names.")
    return replace(RECIPES[recipe], **{name: value for name, value in overrides.items() if value is not None})


def read_settings(record: dict[str, Any]) -> WorldSettings:
    """Read the settings out of what `world.json` holds; a world of before it held any is ``easy``."""
    return WorldSettings(**record.get("settings", {}))


def find_recipe(settings: WorldSettings) -> str | None:
    """Find the name of the recipe that has these settings; None if none has."""
    return next((name for name, recipe in RECIPES.items() if recipe == settings), None)
