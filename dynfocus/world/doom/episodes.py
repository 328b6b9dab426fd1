"""Walk through the levels that ship with ViZDoom: a small agent of our own, whose every step follows from a seed."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynfocus.errors import ConfigError, DataError
from dynfocus.world.doom.things import NAMES, Sighting
from dynfocus.world.videos import generator

TICS = 35  # steps of the engine a second
FPS = 2  # recorded frames a second
WIDTH, HEIGHT = 320, 240
GAME = "freedoom2.wad"
# A scenario or "", and a map of it or of the game: those in which a minute's walk shows at least six kinds of things.
PLACES = (
    ("deathmatch.wad", "map01"),
    *(("", f"map{number:02d}") for number in (2, 4, 9, 10, 11, 12, 17, 18, 19, 23, 25, 32)),
)
LEAD = 60 * FPS  # most steps that are walked before the recording begins, so that walks begin in many spots
TURN_TICS = 6  # of each step, in which it turns; in the others it walks
STUCK = 30.0  # units of the map; a step in the open is about 140 long
BEND, KEPT_BEND = 12.0, 0.7  # degrees: how much the walk's bend changes in a step, and how much of it stays
PUSH = 0.5  # how often it pushes what it is stuck at, which may be a door
# Nothing but the level and its things is drawn, and nothing can end the walk.
SHOWN = {"corpses": False, "crosshair": False, "decals": False, "hud": False, "messages": False, "particles": False}
SHOWN |= {"screen_flashes": False, "weapon": False}
CHEATS = ("god", "notarget")

Frame = NDArray[np.uint8]


def find_version() -> str:
    """The version of ViZDoom that is installed; raises ConfigError if none is."""
    try:
        return version("vizdoom")
    except PackageNotFoundError as error:
        raise ConfigError(
            "no ViZDoom, which plays the episodes", "the package vizdoom", 'Install it: pip install "dynfocus[doom]".'
        ) from error


def play(seed: int, index: int, seconds: int) -> Iterator[tuple[Frame, list[Sighting]]]:
    """Walk through a level, and yield every frame ``[240, 320, 3]`` with what it shows.

    Args:
        seed, index: what the walk follows from; ``index`` says in which level.
        seconds: how long it is recorded.

    Raises:
        ConfigError: if ViZDoom is not installed.
        DataError: if its engine ends before the walk does.
    """
    find_version()
    import vizdoom

    rng = generator(seed, index, 0)
    scenario, level = PLACES[index % len(PLACES)]
    try:
        with _open_engine(vizdoom, scenario, level, int(rng.integers(2**31))) as game:
            walk = _Walk(game, vizdoom.GameVariable, rng)
            for _ in range(int(rng.integers(LEAD))):
                walk.step()
            for number in range(FPS * seconds):
                if number:
                    walk.step()
                state = game.get_state()
                yield state.screen_buffer.copy(), list_sightings(state.labels, state.labels_buffer)
    except (vizdoom.ViZDoomErrorException, vizdoom.ViZDoomUnexpectedExitException) as error:
        raise DataError(
            f"walk {index} of seed {seed} through {scenario or GAME} {level}, at which ViZDoom ended ({error})",
            "an engine that plays on to the end",
            "Call it again; if it ends there again, take another seed.",
        ) from error


@contextmanager
def _open_engine(vizdoom: Any, scenario: str, level: str, seed: int) -> Iterator[Any]:
    """Start the engine in a folder of its own: it leaves files where it works."""
    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(Path(vizdoom.__file__).parent / GAME))
    if scenario:
        game.set_doom_scenario_path(str(Path(vizdoom.scenarios_path) / scenario))
    game.set_doom_map(level)
    game.set_seed(seed)
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, f"RES_{WIDTH}X{HEIGHT}"))
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    for name, is_shown in SHOWN.items():
        getattr(game, f"set_render_{name}")(is_shown)
    game.set_labels_buffer_enabled(True)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    buttons = vizdoom.Button
    game.set_available_buttons([buttons.MOVE_FORWARD, buttons.TURN_LEFT_RIGHT_DELTA, buttons.USE])
    game.set_episode_timeout(0)
    game.add_game_args("+sv_cheats 1")
    before = os.getcwd()
    with TemporaryDirectory() as folder:
        game.set_doom_config_path(str(Path(folder) / "engine.ini"))
        os.chdir(folder)
        try:
            game.init()
        finally:
            os.chdir(before)
        try:
            yield game
        finally:
            game.close()


class _Walk:
    """A random walk: ahead in bends, and another way where something is in the way."""

    def __init__(self, game: Any, variables: Any, rng: np.random.Generator) -> None:
        self.game, self.rng, self.steps, self.bend = game, rng, 0, 0.0
        self.coordinates = (variables.POSITION_X, variables.POSITION_Y)
        self._begin()

    def _begin(self) -> None:
        for cheat in CHEATS:
            self.game.send_game_command(cheat)
        self.before: Any = None

    def step(self) -> None:
        """Walk until the next frame is due; where the level's exit was reached, begin it again."""
        here = np.array([self.game.get_game_variable(name) for name in self.coordinates])
        is_stuck = self.before is not None and bool(np.hypot(*(here - self.before)) < STUCK)
        self.before = here
        chance, push = self.rng.random(2)
        self.bend = 0.0 if is_stuck else KEPT_BEND * self.bend + BEND * float(self.rng.standard_normal())
        turn = (60 + 120 * chance) * (1 if self.rng.random() < 0.5 else -1) if is_stuck else self.bend
        due = [(number * TICS) // FPS for number in (self.steps, self.steps + 1)]
        self.steps += 1
        self._act([0, turn / TURN_TICS, int(is_stuck and push < PUSH)], TURN_TICS)
        self._act([1, 0, 0], due[1] - due[0] - TURN_TICS)
        if self.game.is_episode_finished():
            self.game.new_episode()
            self._begin()

    def _act(self, buttons: list[float], tics: int) -> None:
        if not self.game.is_episode_finished():
            self.game.make_action(buttons, tics)


def list_sightings(labels: Any, buffer: NDArray[np.uint8]) -> list[Sighting]:
    """List what a frame shows, from the engine's labels of things and the label of every pixel ``[240, 320]``."""
    pixels = np.bincount(buffer.ravel(), minlength=256)
    found: dict[str, list[Any]] = defaultdict(list)
    for label in labels:
        found[NAMES.get(label.object_name, label.object_name)].append(label)
    height, width = buffer.shape
    return [
        Sighting(
            name,
            round(int(sum(pixels[label.value] for label in of)) / buffer.size, 6),
            tuple(
                (
                    round(label.x / width, 4),
                    round(label.y / height, 4),
                    round(label.width / width, 4),
                    round(label.height / height, 4),
                )
                for label in of
            ),
        )
        for name, of in sorted(found.items())
    ]
