"""Find the selector that a setting names: one of ours, one that a package installed, or a class at a dotted path."""

import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from torch import nn

from dynfocus.errors import ConfigError, DynFocusError
from dynfocus.method.dpe import EventPrototypeSelector
from dynfocus.method.events import find_events, frame_vectors
from dynfocus.method.relevance import measure_relevance
from dynfocus.method.selectors.base import FrameSelector
from dynfocus.method.selectors.changes import FrameDifferenceSelector, RedundancyDropSelector, SceneChangeSelector
from dynfocus.method.selectors.choice import choose
from dynfocus.method.selectors.controls import ControlSelector, InvertedSelector, OracleSelector, ShuffledSelector
from dynfocus.method.selectors.coverage import (
    FacilityLocationSelector,
    FarthestFirstSelector,
    KMeansSelector,
    KMedoidsSelector,
)
from dynfocus.method.selectors.diversity import DPPSelector, EventMMRSelector, MDP3Selector, MMRSelector
from dynfocus.method.selectors.peaks import DensityPeakSelector, GrainSpreadSelector
from dynfocus.method.selectors.positions import (
    CappedRateSelector,
    FirstSelector,
    LastSelector,
    MiddleSelector,
    RandomSelector,
    UniformSelector,
)
from dynfocus.method.selectors.question import AKSSelector, BOLTSelector, QFrameSelector, TextTopKSelector
from dynfocus.method.selectors.sets import SetSelector
from dynfocus.method.selectors.variants import FrozenEventSelector, QuestionEventSelector, QuestionTimeSelector
from dynfocus.method.topk import draw_keyed_noise
from dynfocus.settings import ConnectorSettings, SelectorChoice, selector_label, selector_parts

__all__ = [
    "SELECTORS",
    "ControlSelector",
    "EventPrototypeSelector",
    "FrameSelector",
    "OracleSelector",
    "RandomSelector",
    "SetSelector",
    "UniformSelector",
    "build_selector",
    "check_selector",
    "choose",
    "draw_keyed_noise",
    "find_events",
    "frame_vectors",
    "measure_relevance",
    "refuse_foreign_selector",
]

OLD, NEW = (
    "dynfocus.nn.selectors.",
    "dynfocus.method.selectors.",
)  # named by folders of one release ago
SHIPPED = "dynfocus.method."
GROUP = "dynfocus.selectors"  # the entry points by which an installed package names its own
SELECTORS: dict[str, type[nn.Module]] = {
    "dpe": EventPrototypeSelector,
    "dpe_question": QuestionEventSelector,
    "dpe_question_time": QuestionTimeSelector,
    "dpe_frozen": FrozenEventSelector,
    "dpc_knn": DensityPeakSelector,
    "grain_spread": GrainSpreadSelector,
    "uniform": UniformSelector,
    "capped_rate": CappedRateSelector,
    "first": FirstSelector,
    "middle": MiddleSelector,
    "last": LastSelector,
    "random": RandomSelector,
    "k_means": KMeansSelector,
    "k_medoids": KMedoidsSelector,
    "farthest_first": FarthestFirstSelector,
    "facility_location": FacilityLocationSelector,
    "frame_difference": FrameDifferenceSelector,
    "scene_change": SceneChangeSelector,
    "redundancy_drop": RedundancyDropSelector,
    "text_top_k": TextTopKSelector,
    "aks": AKSSelector,
    "bolt": BOLTSelector,
    "q_frame": QFrameSelector,
    "mmr": MMRSelector,
    "event_mmr": EventMMRSelector,
    "dpp": DPPSelector,
    "mdp3": MDP3Selector,
    "oracle": OracleSelector,
    "inverted": InvertedSelector,
    "shuffled": ShuffledSelector,
}


def build_selector(settings: ConnectorSettings, width: int, text_width: int) -> nn.Module:
    """Make the selector that ``settings.selector`` names, for sketches and instructions of these widths.

    Raises:
        ConfigError: as `check_selector`, or if the class refuses its settings.
    """
    selector = check_selector(settings.selector)
    try:
        return selector(settings, width, text_width, **selector_parts(settings.selector)[1])
    except DynFocusError:
        raise
    except Exception as error:
        raise ConfigError(
            f"selector {selector_label(settings.selector)} cannot be made ({type(error).__name__}: {error})",
            "settings that its class takes",
            "Correct init_args, or the class.",
        ) from error


def check_selector(
    choice: SelectorChoice, setting: str = "connector.selector", others: tuple[str, ...] = ()
) -> type[nn.Module]:
    """Find the class that a choice names, and check that it takes the settings that are chosen with it.

    Our own names come first, then those of installed packages, then dotted paths.

    Args:
        choice: a name, a dotted path, or either with settings.
        setting: where the choice stands, for the error.
        others: names that ``setting`` takes beside those of selectors, for the error.

    Raises:
        ConfigError: if there is no such class, it is no module of torch, or does not take these settings.
    """
    name, init_args = selector_parts(choice)
    selector = _find(name, setting, others)
    own = list(signature(selector).parameters.values())[3:]
    try:
        signature(selector).bind(None, None, None, **init_args)
    except TypeError as error:
        names = [parameter.name for parameter in own if parameter.kind is not Parameter.VAR_KEYWORD]
        raise ConfigError(
            f"selector {selector_label(choice)} ({error})",
            f"settings of its own, which are {', '.join(names)}" if names else "no init_args: it has no settings",
            f"{_nearest(set(init_args) - set(names), names)}Correct init_args in {setting}.",
        ) from error
    return selector


def refuse_foreign_selector(choice: SelectorChoice, folder: Path) -> None:
    """Refuse a selector that a model's folder names, unless it is one of ours or an installed package registers it.

    A dotted path names any code that can be imported: it is for a user's own settings, not for a folder of others.

    Raises:
        ConfigError: if importing it would run code that nobody chose who runs this.
    """
    name, given = selector_parts(choice)
    init_args = dict(given)
    is_own = name in SELECTORS or name.startswith((OLD, SHIPPED))
    if is_own and "of" in init_args:  # a control names the selector whose choice it spoils
        refuse_foreign_selector(init_args.pop("of"), folder)
    is_known = is_own or name in _find_installed(tuple(sys.path))
    if is_known and not any(isinstance(value, dict) for value in init_args.values()):  # which may name a class too
        return
    raise ConfigError(
        f"the model in {folder}, whose config.json names the selector {selector_label(choice)!r}",
        f"one of {', '.join(SELECTORS)}, or one that an installed package registers, with plain settings",
        "Add --trust-selector (in Python trust_selector=True) if you know that code and choose to run it.",
    )


def _find(name: str, setting: str, others: tuple[str, ...]) -> type[nn.Module]:
    if name.startswith(OLD):
        new = NEW + name.removeprefix(OLD)
        warnings.warn(f"{name} is now {new}; the next release knows the new path only", FutureWarning, 2)
        name = new
    if name in SELECTORS:
        return SELECTORS[name]
    installed, near = _find_installed(tuple(sys.path)), [*SELECTORS]
    try:
        if name in installed:
            result = _only(name, installed[name]).load()
        elif "." not in name:
            raise LookupError("no selector has this name")
        else:
            module_name, _, attribute = name.rpartition(".")
            module = import_module(module_name)
            near += [f"{module_name}.{word}" for word in vars(module)]
            result = getattr(module, attribute)
        if not (isinstance(result, type) and issubclass(result, nn.Module)):
            raise TypeError("it is no subclass of FrameSelector or torch.nn.Module")
    except ConfigError:
        raise
    except Exception as error:  # whatever a module dies of as it is imported
        known = dict.fromkeys((*SELECTORS, *installed, *others))
        raise ConfigError(
            f"selector {name!r} ({error if str(error) else type(error).__name__})",
            f"one of {', '.join(known)}, or the dotted path of a class",
            f"{_nearest([name], [*near, *installed, *others])}"
            f"Correct {setting}; a path such as my_module.MySelector must be importable from here.",
        ) from error
    return result


@cache  # reading what is installed takes a tenth of a second
def _find_installed(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """What each name stands for that packages on ``path``, which is `sys.path`, register as a selector."""
    points = entry_points(group=GROUP)
    return {name: tuple(points.select(name=name)) for name in sorted(points.names)}


def _only(name: str, points: Sequence[EntryPoint]) -> EntryPoint:
    values = sorted({point.value for point in points})
    if len(values) > 1:
        raise ConfigError(
            f"selector {name!r}, which {len(values)} installed packages name ({', '.join(values)})",
            "a name that one package uses",
            f"Give the dotted path instead, such as {values[0].replace(':', '.')}.",
        )
    return points[0]


def _nearest(names: Any, known: list[str]) -> str:
    near = [match for name in names for match in get_close_matches(name, known, 1)]
    return f"Did you mean {near[0]}? " if near else ""
