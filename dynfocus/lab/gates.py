"""What a run on the embedded world must reach before it counts as working."""

from typing import Any

ARMS = ("learned", "uniform", "random", "blind")


def missed(metrics: dict[str, Any]) -> list[str]:
    """Every bar that a tested run does not reach, as a sentence; a run without the arms it needs reaches none."""
    arms = metrics["arms"]
    if absent := [arm for arm in ARMS if arm not in arms]:
        return [f"the run was not tested with the arms {', '.join(absent)}"]
    detail = {name: arm["accuracy_by_kind"]["detail"] for name, arm in arms.items()}
    reached = {
        "balanced accuracy": (metrics["balanced"], 0.75),
        "accuracy on detail": (detail["learned"], 0.85),
        "accuracy on temporal": (metrics["accuracy_by_kind"]["temporal"], 0.62),
        "hit rate": (metrics["hit_rate"], 0.95),
        "what uniform frames lose on detail": (detail["learned"] - detail["uniform"], 0.3),
        "what random frames lose on detail": (detail["learned"] - detail["random"], 0.3),
        "how far blind stays below 1 in balanced accuracy": (1 - arms["blind"]["balanced"], 0.6),
    }
    return [f"{name} is {value:.3f}, below {bar}" for name, (value, bar) in reached.items() if value < bar]
