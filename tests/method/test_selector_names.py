"""How a selector is named: in settings, by installed packages, in a trained folder, as an arm; and its own settings."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from dynfocus.errors import ConfigError
from dynfocus.method.selectors import UniformSelector, build_selector, check_selector
from dynfocus.models.collate import Example
from dynfocus.models.model import DynFocusModel
from dynfocus.train.module import DynFocusModule

SCALED = "scaled_selectors.Scaled"
MODULE = """
from dynfocus.method.selectors import FrameSelector


class Scaled(FrameSelector):
    def __init__(self, settings, width, text_width, scale=1.0, last=False):
        super().__init__(settings, width, text_width)
        if scale == 0:
            raise ValueError("a scale of 0 ranks nothing")
        self.scale, self.last = scale, last

    def rank(self, sketch, inputs):
        time = sketch.mask.cumsum(-1).float()
        return self.scale * (time if self.last else -time)


class Scales:
    pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package of selectors under entry points, as pip leaves it on the disk."""
    (tmp_path / "scaled_selectors.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "scaled_selectors", raising=False)

    def install(name: str, **points: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{point} = {value}" for point, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[dynfocus.selectors]", *lines, ""]))
        monkeypatch.syspath_prepend(tmp_path / name)  # another path: nothing that was read before counts

    return install


def build(choice: Any) -> Any:
    return build_selector(replace(tiny.SETTINGS, selector=choice), tiny.WIDTH, tiny.TEXT_WIDTH)


def test_selectors_are_found_by_dotted_path() -> None:
    assert isinstance(build("dynfocus.method.selectors.UniformSelector"), UniformSelector)
    assert isinstance(build({"class_path": "uniform"}), UniformSelector)


@pytest.mark.parametrize("name", ["best", "no_such_module.Selector", "dynfocus.method.selectors.NoSuch", ""])
def test_unknown_selectors_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"selector .*one of dpe, dpe_question"):
        build(name)


def test_a_selector_has_settings_of_its_own(package: Callable[..., None]) -> None:
    first, last = build(SCALED), build({"class_path": SCALED, "init_args": {"last": True, "scale": 2.0}})
    assert (first.scale, first.last, last.scale, last.last) == (1.0, False, 2.0, True)
    one = tiny.sketch(9)
    assert [made(one, tiny.inputs(one, [2])).frames[0].tolist() for made in (first, last)] == [[0, 1], [7, 8]]


def test_an_installed_package_names_its_selectors(package: Callable[..., None]) -> None:
    package("acme", scaled="scaled_selectors:Scaled", uniform="scaled_selectors:Scaled")
    assert type(build({"class_path": "scaled", "init_args": {"scale": 3.0}})).__name__ == "Scaled"
    assert isinstance(build("uniform"), UniformSelector)  # our own names stay ours
    with pytest.raises(ConfigError, match=r"one of dpe, dpe_question, .*shuffled, scaled, or.*Did you mean scaled\?"):
        build("scaeld")
    package("other", scaled="scaled_selectors:Scales")
    with pytest.raises(ConfigError, match=r"'scaled', which 2 installed packages name .*scaled_selectors\.Scaled"):
        build("scaled")


@pytest.mark.parametrize(
    ("choice", "output"),
    [
        ("unifrom", r"'unifrom' \(no selector has this name\).*Did you mean uniform\? Correct connector.selector"),
        ("scaled_selectors.Scaeld", r"no attribute 'Scaeld'.*Did you mean scaled_selectors\.Scaled\?"),
        ("scaled_selectors.Scales", r"no subclass of FrameSelector or torch\.nn\.Module"),
        ({"class_path": SCALED, "init_args": {"scael": 2}}, r"'scael'.*are scale, last\. Did you mean scale\?"),
        ({"class_path": SCALED, "init_args": {"settings": 2}}, r"'settings'.*are scale, last\. Correct init_args"),
        ({"class_path": SCALED, "init_args": {"scale": 0}}, r"Scaled\(scale=0\) cannot be made .*ranks nothing"),
        ({"class_path": "uniform", "init_args": {"scale": 2}}, r"uniform\(scale=2\).*it has no settings"),
        ({"class_path": SCALED, "scale": 2}, r"selector \{.*'scale': 2\}\. Needed.*Write it as \{class_path"),
        ({"init_args": {"scale": 2}}, r"Write it as \{class_path"),
        ({"class_path": SCALED, "init_args": [2]}, r"Write it as \{class_path"),
    ],
)
def test_what_cannot_be_chosen_is_named(package: Callable[..., None], choice: Any, output: str) -> None:
    with pytest.raises(ConfigError, match=output):
        build(choice)


def test_a_folder_keeps_a_selector_with_its_settings(package: Callable[..., None], tmp_path: Path) -> None:
    choice = {"class_path": SCALED, "init_args": {"last": True}}
    tiny.model(replace(tiny.SETTINGS, selector=choice)).save(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["connector"]["selector"] == choice
    for read in (DynFocusModel.from_folder, DynFocusModel.from_pretrained):
        again = read(tmp_path / "model", trust_selector=True)
        assert again.connector.select.last
        _, video = again.embed(tiny.batch([9]))
        assert video.focus.frames[0].tolist() == [6, 7, 8]


def test_arms_take_whatever_names_a_selector(package: Callable[..., None], tmp_path: Path) -> None:
    package("acme", scaled="scaled_selectors:Scaled")
    arms = ("learned", "scaled", {"class_path": "scaled", "init_args": {"last": True}}, "blind")
    module = DynFocusModule(*tiny.towers(tmp_path / "towers"), tiny.SETTINGS, arms=arms, max_new_tokens=2)
    module.configure_model()
    row = tiny.row(0, segments=((1,),))
    result = module.test_step(tiny.processor()([Example(row, sketch=tiny.sketch(9, seed=100))]), 0)
    assert {one.arm: one.kept for one in result[1:]} == {
        "scaled": (0, 1, 2),
        "scaled(last=True)": (6, 7, 8),
        "blind": (),
    }
    assert module.hparams["arms"] == list(arms)
    with pytest.raises(ConfigError, match=r"one of dpe, .*scaled, learned, blind.*mean scaled\? Correct model\.arms"):
        DynFocusModule(*tiny.towers(tmp_path / "towers"), tiny.SETTINGS, arms=("scaeld",))


def test_the_path_of_the_release_before_is_found_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match=r"is now dynfocus\.method\.selectors\.UniformSelector"):
        assert check_selector("dynfocus.nn.selectors.UniformSelector") is UniformSelector
