"""How a selector is named: in settings, by installed packages, in a trained folder, as an arm; and its own settings."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

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


def test_selectors_of_sets_and_controls_are_arms_of_one_test(tmp_path: Path) -> None:
    arms: list[Any] = ["learned", "k_medoids", "dpe_frozen", "dpe", "dpe_question", {"class_path": "random"}]
    arms += [{"class_path": name, "init_args": {"of": "dpe"}} for name in ("inverted", "shuffled")]
    arms += [{"class_path": "dpp", "init_args": {"weight": 0}}, {"class_path": "random", "init_args": {"draw": 1}}]
    arms += [{"class_path": "inverted", "init_args": {"of": "dpe_question"}}]
    module = DynFocusModule(*tiny.towers(tmp_path / "towers"), tiny.SETTINGS, arms=tuple(arms), max_new_tokens=2)
    module.configure_model()
    module.model.eval()
    with torch.no_grad():  # a trained score net: another than the one that an arm would draw
        for weight in module.model.connector.select.parameters():
            weight.neg_()
    row = tiny.row(0, segments=((1,),))
    result = module.test_step(tiny.processor()([Example(row, sketch=tiny.sketch(12, seed=100))]), 0)
    kept = {one.arm: one.kept for one in result}
    assert [*kept] == [
        "learned",
        "k_medoids",
        "dpe_frozen",
        "dpe (untrained)",
        "dpe_question (untrained)",
        "random",
        "inverted(of='dpe')",
        "shuffled(of='dpe')",
        "dpp(weight=0)",
        "random(draw=1)",
        "inverted(of='dpe_question') (untrained)",
    ]
    assert {len(frames) for frames in kept.values()} == {3}
    assert {one.visual_tokens for one in result} == {result[0].visual_tokens}
    others = [place for place in range(12) if place not in kept["learned"]]
    assert kept["inverted(of='dpe')"] == tuple(others[n] for n in (1, 4, 7))  # the middles of thirds of nine
    assert kept["dpe (untrained)"] != kept["learned"]
    gaps = {
        tuple(sorted((b - a) % 12 for a in frames for b in frames))
        for frames in (kept["learned"], kept["shuffled(of='dpe')"])
    }
    assert len(gaps) == 1  # the same frames, moved around the video
    assert kept["shuffled(of='dpe')"] != kept["learned"]


def test_a_frozen_net_trains_nothing_and_is_kept_in_the_folder(tmp_path: Path) -> None:
    model = tiny.model(replace(tiny.SETTINGS, selector="dpe_frozen"), seed=3)
    assert list(model.connector.select.parameters()) == []
    assert len(list(model.connector.select.buffers())) == len(list(build("dpe").parameters()))
    model.train()
    loss, video = model(tiny.batch([9, 12], model.settings, answers=True), step=1)
    loss.backward()
    assert video.focus.mixture is not None
    assert not video.focus.mixture.requires_grad
    model.eval().save(tmp_path / "model")
    for again in (DynFocusModel.from_folder(tmp_path / "model"), DynFocusModel.from_pretrained(tmp_path / "model")):
        own = dict(again.connector.select.named_buffers())
        for name, weight in model.connector.select.named_buffers():
            assert torch.equal(own[name], weight)
    half = tiny.model(replace(tiny.SETTINGS, selector="dpe_frozen")).bfloat16()
    scores = half.connector.select(tiny.sketch(9), tiny.inputs(tiny.sketch(9), [3])).scores
    assert scores.dtype == torch.float32


def test_dpe_with_the_question_is_the_setting_by_a_name() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        named = build("dpe_question").eval()
        torch.manual_seed(1)
        other = build_selector(replace(tiny.SETTINGS, score_reads_question=True), tiny.WIDTH, tiny.TEXT_WIDTH).eval()
    one = tiny.sketch(12)
    inputs = tiny.inputs(one, [3])
    assert torch.equal(named(one, inputs).scores, other(one, inputs).scores)
    assert named.score_question is not None
    with pytest.raises(ConfigError, match="the selector dpe_question with instruction_mode = frame"):
        replace(tiny.SETTINGS, selector="dpe_question", instruction_mode="frame")


def test_the_path_of_the_release_before_is_found_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match=r"is now dynfocus\.method\.selectors\.UniformSelector"):
        assert check_selector("dynfocus.nn.selectors.UniformSelector") is UniformSelector
