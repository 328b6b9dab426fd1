"""Check whether a run on the embedded world reaches what a working method, or a world that parts selectors, must."""

from typing import Any

from dynfocus.errors import ConfigError

ARMS = {
    "easy": ("learned", "uniform", "random", "blind"),
    "standard": ("learned", "text_top_k", "grain_spread", "uniform", "oracle"),
}
Gates = dict[str, tuple[float, float]]  # of each gate the number that is measured, and the least that it must be


def find_failed_gates(metrics: dict[str, Any]) -> list[str]:
    """Find every gate that a tested run fails, as a sentence; a run that lacks an arm fails as a whole.

    The gates of ``easy`` are the method's, those of ``standard`` the world's own: they hold where selectors can be told
    apart.

    Raises:
        ConfigError: if the run was tested on another recipe, which has no gates.
    """
    recipe = metrics.get("recipe", "easy")  # runs of before there were recipes name none
    if recipe not in ARMS:
        raise ConfigError(
            f"a run on the recipe {recipe}",
            f"a recipe that has bars: {', '.join(ARMS)}",
            "Print its table without --bars.",
        )
    arms = metrics["arms"]
    if absent := [arm for arm in ARMS[recipe] if arm not in arms]:
        return [f"the run was not tested with the arms {', '.join(absent)}"]
    gates = list_easy_gates(arms) if recipe == "easy" else list_standard_gates(arms)
    return [f"{name} is {value:.3f}, below {bar}" for name, (value, bar) in gates.items() if value < bar]


def list_easy_gates(arms: dict[str, Any]) -> Gates:
    """List what DynFocus must reach on ``easy``."""
    learned, detail = _columns(arms["learned"]), {name: _columns(arm)["detail"] for name, arm in arms.items()}
    return {
        "balanced accuracy": (learned["balanced"], 0.75),
        "accuracy on detail": (detail["learned"], 0.85),
        "accuracy on temporal": (learned["temporal"], 0.62),
        "hit rate": (arms["learned"]["hit_rate"], 0.95),
        "what uniform frames lose on detail": (detail["learned"] - detail["uniform"], 0.3),
        "what random frames lose on detail": (detail["learned"] - detail["random"], 0.3),
        "how far blind stays below 1 in balanced accuracy": (1 - _columns(arms["blind"])["balanced"], 0.6),
    }


def list_standard_gates(arms: dict[str, Any]) -> Gates:
    """List what must hold on ``standard`` at each K from 1 to 3, the first two with the config's own K alone.

    They were fixed before any run on it, and are to be measured on the validation split.
    """
    learned, detail = _columns(arms["learned"]), {name: _columns(arm)["detail"] for name, arm in arms.items()}
    gates = {
        "balanced accuracy": (learned["balanced"], 0.6),
        "how far balanced accuracy stays below 1": (1 - learned["balanced"], 0.1),
    }
    for arm in ("learned", "grain_spread", "uniform"):
        gates[f"what {arm}, blind to the question, loses on detail to text_top_k"] = (
            detail["text_top_k"] - detail[arm],
            0.2,
        )
    for arm in ("grain_spread", "text_top_k"):
        gates[f"what {arm} loses on detail to the oracle"] = (detail["oracle"] - detail[arm], 0.05)
    return gates


def _columns(arm: dict[str, Any]) -> dict[str, float]:
    return {name: column["value"] for name, column in arm["columns"].items()}
