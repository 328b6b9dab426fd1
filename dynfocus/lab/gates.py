"""Check whether a run on the embedded world reaches what a working method must reach."""

from typing import Any

ARMS = ("learned", "uniform", "random", "blind")


def find_failed_gates(metrics: dict[str, Any]) -> list[str]:
    """Find every gate that a tested run fails, as a sentence; a run that lacks an arm fails as a whole."""
    arms = metrics["arms"]
    if absent := [arm for arm in ARMS if arm not in arms]:
        return [f"the run was not tested with the arms {', '.join(absent)}"]
    scores = {name: {column: one["value"] for column, one in arm["columns"].items()} for name, arm in arms.items()}
    learned, detail = scores["learned"], {name: columns["detail"] for name, columns in scores.items()}
    gates = {
        "balanced accuracy": (learned["balanced"], 0.75),
        "accuracy on detail": (detail["learned"], 0.85),
        "accuracy on temporal": (learned["temporal"], 0.62),
        "hit rate": (arms["learned"]["hit_rate"], 0.95),
        "what uniform frames lose on detail": (detail["learned"] - detail["uniform"], 0.3),
        "what random frames lose on detail": (detail["learned"] - detail["random"], 0.3),
        "how far blind stays below 1 in balanced accuracy": (1 - scores["blind"]["balanced"], 0.6),
    }
    return [f"{name} is {value:.3f}, below {bar}" for name, (value, bar) in gates.items() if value < bar]
