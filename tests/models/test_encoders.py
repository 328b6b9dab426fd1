"""CLIP, SigLIP and DINOv2 in EVA's place, and what tells one encoder from another."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import FAMILIES, MEAN, STD, TEXT, VISION, other_encoder
from transformers import (
    AutoModel,
    BertConfig,
    CLIPConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    SiglipVisionConfig,
    SwinConfig,
    VideoMAEConfig,
)

from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.models.model import DynFocusModel
from dynfocus.models.towers import VisionTower, open_vision

KINDS = [
    (family, alone) for family, (whole, *_) in FAMILIES.items() for alone in (None, "prefix", "bare") if alone or whole
]
ENDS = (".layers.2.mlp.fc1.bias", ".layer.2.mlp.fc1.bias")


@pytest.mark.parametrize(("family", "alone"), KINDS)
def test_patches_are_the_second_last_blocks_of_each_family(tmp_path: Path, family: str, alone: str | None) -> None:
    inputs = other_encoder(tmp_path / "it", family, alone)
    files = open_vision(tmp_path / "it")
    tower = files.tower()
    frames = tiny.frames(3)
    pixels = (frames.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        states = inputs(pixels.permute(0, 3, 1, 2), output_hidden_states=True).hidden_states
        result, (rows, normed) = tower(frames), tower.rows(frames)
    assert len(states) == tiny.LAYERS + 1
    assert torch.equal(rows, states[-2])
    assert torch.equal(normed, rows)  # these have no norm that a Q-Former was trained on
    assert rows.shape[1] == 36 + {"clip": 1, "siglip": 0, "dinov2": 5}[family]  # a class token and four registers
    assert torch.equal(result, states[-2][:, -36:])
    assert torch.equal(
        tower.encoder(pixels.permute(0, 3, 1, 2)).last_hidden_state, inputs(pixels.permute(0, 3, 1, 2))[0]
    )
    assert result.shape == (3, tower.patches, tower.width) == (3, 36, tiny.WIDTH)
    assert tower.size == tiny.SIDE
    assert (result[0] - result[1]).abs().max() > 0.1
    if family != "dinov2":  # which transformers renames
        assert {name: tensor.shape for name, tensor in files.tensors()} == {
            name: tensor.shape for name, tensor in sorted(inputs.state_dict().items())
        }
    assert not [name for name, tensor in (*tower.named_buffers(), *tower.named_parameters()) if tensor.is_meta]


@pytest.mark.parametrize(("family", "alone"), KINDS)
@pytest.mark.parametrize("damage", ["absent", "surplus", "another shape"])
def test_other_encoders_that_are_not_whole_are_refused(tmp_path: Path, family: str, alone: Any, damage: str) -> None:
    other_encoder(tmp_path / "it", family, alone)
    file = tmp_path / "it" / "model.safetensors"
    state = load_file(file)
    name = next(name for name in state if name.endswith(ENDS) and "text_model" not in name)
    if damage == "surplus":
        state[name + "x"] = torch.zeros(1)
    elif damage == "absent":
        del state[name]
    else:
        state[name] = torch.zeros(2, 3)
    save_file(state, file)
    model = FAMILIES[family][3].__name__
    problem = rf"layers\.2\.mlp\.fc1\.bias.*every tensor of {model}"
    if family == "dinov2":
        problem = {"surplus": "unexpected", "absent": "missing", "another shape": "mismatched"}[damage]
        problem = rf"{problem}.*layer\.2\.mlp\.fc1\.bias"
    with pytest.raises(CheckpointError, match=problem):
        open_vision(tmp_path / "it").tower()


@pytest.mark.parametrize("kind", ["no_such", None])
def test_other_architectures_are_refused_by_name(tmp_path: Path, kind: str | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind} if kind else {}))
    with pytest.raises(CheckpointError, match=rf"architecture {kind!r}.*InstructBLIP, CLIP or SigLIP.*LAVIS"):
        open_vision(tmp_path)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (BertConfig(**TEXT), "'bert' of None pixels"),
        (ConvNextConfig(hidden_sizes=[4] * 4, depths=[1] * 4), "'convnext' of 224 pixels .* of width None"),
        (
            SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4),
            r"'swin' that gives .* instead of patches \(1, 3136, 64\)",
        ),
        (VideoMAEConfig(**VISION), r"'videomae' that gives .* instead of patches \(1, 36, 16\)"),
    ],
)
def test_models_that_are_no_encoders_of_frames_are_refused(tmp_path: Path, config: Any, problem: str) -> None:
    AutoModel.from_config(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    with pytest.raises(CheckpointError, match=problem):
        open_vision(tmp_path).tower()


@pytest.mark.parametrize("text", ["no json", "[1, 2]"])
def test_configs_that_do_not_read_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_vision(tmp_path)


@pytest.mark.parametrize("change", [{"hidden_size": "wide"}, {"hidden_size": 17}])
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    other_encoder(tmp_path, "clip")
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json: .*hidden.size"):
        open_vision(tmp_path)


def test_pixels_must_be_known(tmp_path: Path) -> None:
    other_encoder(tmp_path, "clip")
    for text in ('{"image_mean": [0, 0, 0]}', '{"image_mean": 1, "image_std": 1}'):
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"preprocessor_config\.json without"):
            open_vision(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        open_vision(tmp_path)


@pytest.mark.parametrize("sizes", [{"image_size": [24, 32]}, {"patch_size": [4, 6]}])
def test_a_grid_that_is_no_square_is_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="square grid"):
        VisionTower(CLIPVisionConfig(**VISION | sizes), MEAN, STD)


def test_a_grid_may_leave_pixels_over() -> None:
    """As SigLIP's 384 pixels in patches of 14 do."""
    tower = VisionTower(CLIPVisionConfig(**VISION | {"image_size": 26}), MEAN, STD)
    assert tower(torch.zeros(1, 26, 26, 3, dtype=torch.uint8)).shape == (1, 36, tiny.WIDTH)


def test_sizes_in_the_old_form_count(tmp_path: Path) -> None:
    """CLIP's published configuration says its vision encoder's sizes in two places."""
    other_encoder(tmp_path, "clip")
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config_dict"] = config.pop("vision_config")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert CLIPConfig(vision_config=VISION, text_config=TEXT).vision_config.hidden_size == tiny.WIDTH
    assert open_vision(tmp_path).tower().width == tiny.WIDTH


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_with_another_encoder_answers_and_comes_back(tmp_path: Path, family: str) -> None:
    encoders, language = tiny.towers(tmp_path)
    other_encoder(tmp_path / "it", family)
    net = DynFocusModel.from_towers(encoders, language, tiny.SETTINGS, vision=tmp_path / "it").eval()
    batch = tiny.batch([3, 2], answers=True)
    batch = replace(batch, sketch=None, frames=(tiny.frames(3), tiny.frames(2, 1)))
    with torch.no_grad():
        before = net(batch)[0]
    net.save_pretrained(tmp_path / "trained")
    again = DynFocusModel.from_folder(tmp_path / "trained").eval()
    assert again.vision.state_dict().keys() == net.vision.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(again(batch)[0], before)
    trained, apart = EncoderFolder(tmp_path / "trained"), EncoderFolder(tmp_path / "it")
    assert trained.identity() == apart.identity() != EncoderFolder(encoders).identity()
    assert torch.equal(trained.tower()(tiny.frames(2)), apart.tower()(tiny.frames(2)))
    wrong = replace(tiny.SETTINGS, patches=144)
    with pytest.raises(ConfigError, match=r"Set connector\.patches to 36"):
        DynFocusModel.from_towers(encoders, language, wrong, vision=tmp_path / "it")


def test_a_model_that_holds_its_towers_elsewhere_has_their_encoder(tmp_path: Path) -> None:
    encoders, _ = tiny.towers(tmp_path)
    other_encoder(tmp_path / "it", "siglip")
    plain = {"model_type": "dynfocus", "dtype": "bfloat16", "vision_dtype": "float16"}
    for name, towers, expected in (
        ("a", {"encoders": str(encoders), "vision": None}, encoders),
        ("b", {"encoders": str(encoders), "vision": str(tmp_path / "it")}, tmp_path / "it"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(plain | {"towers": towers}))
        folder = EncoderFolder(tmp_path / name)
        assert folder.dtype == torch.float16
        assert folder.identity() == EncoderFolder(expected, torch.float16).identity()
        assert folder.files == [tmp_path / name / "config.json", *EncoderFolder(expected).files]


def test_the_identity_holds_family_sizes_weights_and_pixels(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    other_encoder(folder, "clip")
    shutil.copytree(folder, tmp_path / "copy")
    assert EncoderFolder(folder).identity() == EncoderFolder(tmp_path / "copy").identity()
    result = {EncoderFolder(folder).identity(), EncoderFolder(folder, torch.float16).identity()}
    other_encoder(tmp_path / "siglip", "siglip")
    result.add(EncoderFolder(tmp_path / "siglip").identity())
    for file, change in (
        ("config.json", lambda content: content["vision_config"].update(num_attention_heads=4)),
        ("config.json", lambda content: content["vision_config"].update(hidden_act="gelu")),
        ("preprocessor_config.json", lambda content: content.update(image_std=[0.5, 0.5, 0.5])),
    ):
        content = json.loads((folder / file).read_text())
        change(content)
        other = shutil.copytree(folder, tmp_path / f"other{len(result)}")
        (other / file).write_text(json.dumps(content))
        result.add(EncoderFolder(other).identity())
    assert len(result) == 6


def test_the_same_numbers_of_another_family_are_another_encoder(tmp_path: Path) -> None:
    other_encoder(tmp_path, "clip")
    folder = EncoderFolder(tmp_path)
    before = folder.identity()
    sizes = {name: getattr(folder.vision, name) for name in (*VISION, "hidden_act", "layer_norm_eps")}
    folder.vision_files = replace(folder.vision_files, config=CLIPVisionConfig(**sizes))
    assert folder.identity() == before
    folder.vision_files = replace(folder.vision_files, config=SiglipVisionConfig(**sizes))
    assert folder.identity() != before


def test_any_setting_of_an_encoder_of_no_known_family_makes_it_another(tmp_path: Path) -> None:
    other_encoder(tmp_path / "a", "dinov2")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    before = EncoderFolder(tmp_path / "a").identity()
    for change, same in (({"transformers_version": "4.0"}, True), ({"attention_probs_dropout_prob": 0.5}, False)):
        (tmp_path / "b" / "config.json").write_text(json.dumps(config | change))
        assert (EncoderFolder(tmp_path / "b").identity() == before) == same
