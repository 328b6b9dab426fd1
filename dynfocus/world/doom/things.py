"""Name the things that walks through ViZDoom's levels show, and find in which frames each of them is seen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CLEAR = 1 / 250  # share of a frame's pixels from which on a thing counts as shown
GLIMPSE = 1 / 2500  # share below which nobody can tell what it is: 6 x 5 pixels of 320 x 240
# The engine's classes by the name that questions use; classes of one name are not told apart.
NAMES = {
    **{"Medikit": "medikit", "Stimpack": "stimpack", "HealthBonus": "potion", "Backpack": "backpack"},
    **{"ArmorBonus": "helmet", "GreenArmor": "green armor", "BlueArmor": "blue armor"},
    **{"Shotgun": "shotgun", "SuperShotgun": "shotgun", "Chaingun": "chaingun", "Chainsaw": "chainsaw"},
    **{"RocketLauncher": "rocket launcher", "PlasmaRifle": "plasma rifle"},
    **{"Clip": "bullets", "ClipBox": "bullets", "Shell": "shells", "ShellBox": "shells"},
    **{"RocketAmmo": "rockets", "RocketBox": "rockets", "Cell": "cells", "CellPack": "cells"},
    **{"Zombieman": "rifle zombie", "ShotgunGuy": "shotgun zombie", "ChaingunGuy": "chaingun zombie"},
    **{"DoomImp": "imp", "Demon": "demon", "Spectre": "demon", "HellKnight": "hell knight", "Revenant": "revenant"},
    **{"LostSoul": "lost soul", "Cacodemon": "cacodemon", "PainElemental": "pain elemental", "Fatso": "mancubus"},
    **{"Arachnotron": "arachnotron", "MarineChainsawVzd": "marine", "DeadMarine": "dead marine"},
    **{"ExplosiveBarrel": "barrel", "BurningBarrel": "burning barrel", "TechLamp": "lamp", "TechLamp2": "lamp"},
    **{"Column": "column", "TechPillar": "pillar", "Stalagtite": "stalagmite"},
    **{"BigTree": "big tree", "TorchTree": "small tree", "GreenTorch": "green torch", "BlueTorch": "blue torch"},
    **{"RedTorch": "red torch", "ShortGreenTorch": "green torch", "ShortBlueTorch": "blue torch"},
    **{"ShortRedTorch": "red torch"},
}
# What looks too much like a thing to ask for that thing where it is in sight.
LOOKALIKES = {
    **{"DeadZombieMan": "rifle zombie", "DeadShotgunGuy": "shotgun zombie", "DeadDoomImp": "imp", "DeadDemon": "demon"},
    **{"DeadCacodemon": "cacodemon", "DeadLostSoul": "lost soul", "GibbedMarine": "dead marine"},
    **{"GibbedMarineExtra": "dead marine", "DoomPlayer": "marine"},
}
KINDS = tuple(sorted({*NAMES.values()}))


@dataclass(frozen=True)
class Sighting:
    """One kind of thing in one frame.

    Attributes:
        name: of the kind, or of the class of what is no such kind.
        share: of the frame's pixels that show it.
        box: x, y, width and height of each thing of the kind, as shares of the frame's width and height.
    """

    name: str
    share: float
    boxes: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class SeenThings:
    """Which frames of one video show what.

    Attributes:
        frames: T.
        shown: of each kind that is shown the frames that show it clearly, ascending.
        glimpsed: of each kind that is there at all the frames that show any of it, or what looks like it.
    """

    frames: int
    shown: dict[str, tuple[int, ...]]
    glimpsed: dict[str, tuple[int, ...]]


def find_seen(frames: Sequence[Iterable[Sighting]]) -> SeenThings:
    """Find which frames of a video show what, from the sightings of each of its frames."""
    shown: dict[str, list[int]] = {}
    glimpsed: dict[str, list[int]] = {}
    for number, sightings in enumerate(frames):
        for one in sightings:
            name = LOOKALIKES.get(one.name, one.name)
            if name not in KINDS or one.share < GLIMPSE:
                continue
            if not glimpsed.get(name) or glimpsed[name][-1] != number:
                glimpsed.setdefault(name, []).append(number)
            if one.name == name and one.share >= CLEAR:
                shown.setdefault(name, []).append(number)
    return SeenThings(len(frames), *({k: tuple(v) for k, v in sorted(of.items())} for of in (shown, glimpsed)))


def list_runs(frames: Sequence[int]) -> list[tuple[int, ...]]:
    """Split ascending frames into those that follow each other without a gap."""
    starts = [n for n in range(len(frames)) if n == 0 or frames[n] != frames[n - 1] + 1]
    return [tuple(frames[start:stop]) for start, stop in zip(starts, [*starts[1:], len(frames)], strict=True)]
