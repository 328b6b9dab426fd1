"""Settings are refused where they cannot be meant, and K' is an exact ceiling."""

from dataclasses import asdict
from typing import Any

import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynfocus.errors import ConfigError
from dynfocus.settings import ConnectorSettings, FrameRule, count_kept, prototypes


def test_defaults_are_the_papers() -> None:
    s = ConnectorSettings()
    assert (s.events, s.keep, s.patches, s.pooled, s.grains, s.cones, s.kept_rods) == (25, 0.8, 256, 16, 22, 38, 2)


@pytest.mark.parametrize(("tokens", "cones", "rods"), [(0, 0, 0), (2, 0, 2), (38, 38, 0), (40, 38, 2), (256, 256, 2)])
def test_kept_tokens_by_the_papers_numbers(tokens: Any, cones: int, rods: int) -> None:
    s = ConnectorSettings(kept_tokens=tokens)
    assert (s.cones, s.kept_rods) == (cones, rods)


@pytest.mark.parametrize(
    "wrong",
    [
        {"patches": 255},
        {"patches": 0},
        {"pooled": 15},
        {"pooled": 25},
        {"pooled": 1024},
        {"keep": 0.0},
        {"keep": 1.2},
        {"keep": float("nan")},
        {"sigma": -0.1},
        {"sigma": float("nan")},
        {"sigma": float("inf")},
        {"events": 0},
        {"neighbours": 0},
        {"samples": 0},
        {"spatial_prototypes": (16, 17)},
        {"spatial_prototypes": (300, 6)},
        {"spatial_prototypes": (16, 0)},
        {"spatial_neighbours": (8,)},
        {"spatial_neighbours": (8, 0)},
    ],
    ids=str,
)
def test_impossible_settings_name_what_to_change(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))) as caught:
        ConnectorSettings(**wrong)
    assert caught.value.needed
    assert caught.value.do


@pytest.mark.parametrize(("name", "value"), [("patches", 255), ("patches", -4), ("pooled", 20)])
def test_grids_are_square(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name} = {value}.*square number"):
        ConnectorSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redundant_tokens", 1),
        ("kept_tokens", 39),
        ("neighbourhood", "clusters"),
        ("encoder", "average"),
        ("sketch_dtype", "float8"),
    ],
)
def test_unknown_switches_are_refused_whoever_sets_them(name: str, value: Any) -> None:
    """Without the tests' own type checks: a saved config.json is read in a plain process."""
    plain = object.__new__(ConnectorSettings)
    for key, usual in asdict(ConnectorSettings()).items():
        object.__setattr__(plain, key, value if key == name else usual)
    with pytest.raises(ConfigError, match=f"{name} = {value}"):
        plain.__post_init__()


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 1000))
def test_kept_is_the_exact_ceiling(frames: int, events: int, thousandths: int) -> None:
    keep = thousandths / 1000
    s = ConnectorSettings(events=events, keep=keep)
    assert count_kept(frames, s) == oracles.count_kept(frames, events, str(keep))
    assert 1 <= count_kept(frames, s) <= prototypes(frames, s) == min(frames, events)


def test_floating_point_does_not_add_a_frame() -> None:
    assert count_kept(100, ConnectorSettings(events=25, keep=0.28)) == 7


@pytest.mark.parametrize(
    "wrong",
    [{"size": 0}, {"frames": 0}, {"fps": 0.0}, {"fps": -1.0}, {"fps": float("inf")}, {"fps": float("nan")}],
    ids=str,
)
def test_impossible_frame_rules_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FrameRule(**wrong)
