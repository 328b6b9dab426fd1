"""The towers against transformers' own, and checkpoint folders that are not what they should be."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    InstructBlipForConditionalGeneration,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    InstructBlipVisionModel,
)

from dynfocus.errors import CheckpointError, FeatureError
from dynfocus.nn.backbones import (
    InstructionTower,
    VisionTower,
    load_language_model,
    load_part,
    load_tokenizer,
    read_config,
)
from dynfocus.nn.model import DynFocusModel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers")
    tiny.towers(folder)
    return folder


@pytest.fixture
def folders(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Folders of one's own, to damage."""
    shutil.copytree(made, tmp_path / "towers")
    return tmp_path / "towers" / "encoders", tmp_path / "towers" / "language"


def test_patches_are_the_second_last_blocks_without_class_token() -> None:
    config = InstructBlipVisionConfig(**tiny.configs()["vision_config"])
    torch.manual_seed(0)
    tower = VisionTower(config, [0.5, 0.4, 0.3], [0.5, 0.6, 0.7])
    frames = tiny.frames(3)
    pixels = (frames.float() / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.5, 0.6, 0.7])
    with torch.no_grad():
        states = tower.encoder(pixels.permute(0, 3, 1, 2), output_hidden_states=True).hidden_states
        found = tower(frames)
    assert found.shape == (3, tower.patches, tiny.WIDTH) == (3, 36, tiny.WIDTH)
    torch.testing.assert_close(found, states[-2][:, 1:])
    assert (found[0] - found[1]).abs().max() > 0.1  # frames are told apart


def test_frames_of_another_size_are_refused() -> None:
    tower = VisionTower(InstructBlipVisionConfig(**tiny.configs()["vision_config"]), [0.5] * 3, [0.5] * 3)
    with pytest.raises(FeatureError, match=r"16 x 24 pixels.* Set the frame rule's size to 24"):
        tower(torch.zeros(1, 24, 16, 3, dtype=torch.uint8))


def test_padding_of_an_instruction_changes_no_row() -> None:
    torch.manual_seed(0)
    tower = InstructionTower(InstructBlipQFormerConfig(**tiny.configs()["qformer_config"])).eval()
    ids, mask = torch.randint(5, 20, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    mask[0, 4:] = False
    with torch.no_grad():
        both = tower(ids, mask)
        alone = tower(ids[:1, :4], mask[:1, :4])
    torch.testing.assert_close(both[:1, :4], alone, atol=1e-6, rtol=1e-5)


def test_towers_are_loaded_to_the_bit(made: Path) -> None:
    net = DynFocusModel.from_towers(made / "encoders", made / "language", tiny.SETTINGS)
    exact = tiny.model()
    for name, value in net.vision.state_dict().items():
        assert torch.equal(value, exact.vision.state_dict()[name])
    for name, value in net.instruction.state_dict().items():
        assert torch.equal(value, exact.instruction.state_dict()[name])
    stored = load_file(made / "language" / "model.safetensors")
    own = net.language_model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in stored.items())
    assert net.vision.mean == [0.5, 0.4, 0.3]
    assert net.config.image_token_id == tiny.tokenizer().convert_tokens_to_ids("<image>")
    assert read_config(made / "encoders")["image_std"] == [0.5, 0.6, 0.7]
    with torch.no_grad():
        assert net.eval()(tiny.batch([3, 0], answers=True))[0].isfinite()


def test_a_whole_instructblip_checkpoint_serves(tmp_path: Path) -> None:
    """With its language model inside, in several files, and with a buffer that older versions wrote."""
    config = read_config(tiny.towers(tmp_path)[0])
    parts = tiny.configs()
    from transformers import InstructBlipConfig

    torch.manual_seed(3)
    whole = InstructBlipForConditionalGeneration(InstructBlipConfig(**parts))
    whole.save_pretrained(tmp_path / "whole", max_shard_size="20KB")
    files = sorted((tmp_path / "whole").glob("*.safetensors"))
    assert len(files) > 1
    state = load_file(files[0])
    save_file(state | {"qformer.embeddings.position_ids": torch.arange(4)}, files[0])
    tower = VisionTower(InstructBlipVisionConfig(**config["vision_config"]), [0.5] * 3, [0.5] * 3)
    load_part(tower.encoder, tmp_path / "whole", "vision_model.")
    assert isinstance(tower.encoder, InstructBlipVisionModel)
    assert torch.equal(tower.encoder.post_layernorm.weight, whole.vision_model.post_layernorm.weight)
    text = InstructionTower(InstructBlipQFormerConfig(**config["qformer_config"]))
    load_part(text.encoder, tmp_path / "whole", "qformer.")
    given, own = whole.qformer.state_dict(), text.encoder.state_dict()
    assert all(torch.equal(own[name], value) for name, value in given.items())


def damaged(file: Path, damage: str, name: str) -> None:
    state = load_file(file)
    if damage == "absent":
        del state[name]
    elif damage == "surplus":
        state[name + "x"] = torch.zeros(1)
    elif damage == "another shape":
        state[name] = torch.zeros(2, 3)
    save_file(state, file, {"format": "pt"})
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:2000])
    elif damage == "no file":
        file.unlink()


@pytest.mark.parametrize("damage", ["absent", "surplus", "another shape", "cut off", "no file"])
@pytest.mark.parametrize("name", ["vision_model.post_layernorm.weight", "qformer.embeddings.layernorm.bias"])
def test_encoders_that_are_not_whole_are_refused(folders: tuple[Path, Path], damage: str, name: str) -> None:
    damaged(folders[0] / "model.safetensors", damage, name)
    with pytest.raises(CheckpointError, match="encoders"):
        DynFocusModel.from_towers(*folders, tiny.SETTINGS)


@pytest.mark.parametrize("damage", ["absent", "another shape", "cut off", "no file"])
def test_a_language_model_that_is_not_whole_is_refused(folders: tuple[Path, Path], damage: str) -> None:
    damaged(folders[1] / "model.safetensors", damage, "model.layers.1.mlp.up_proj.weight")
    with pytest.raises(CheckpointError, match="language"):
        DynFocusModel.from_towers(*folders, tiny.SETTINGS)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_absent_files_of_the_encoders_are_named(folders: tuple[Path, Path], file: str) -> None:
    (folders[0] / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        DynFocusModel.from_towers(*folders, tiny.SETTINGS)


def test_absent_files_of_the_language_model_are_named(folders: tuple[Path, Path]) -> None:
    (folders[1] / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"language.*config\.json"):
        DynFocusModel.from_towers(*folders, tiny.SETTINGS)
    (folders[1] / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="language"):
        load_tokenizer(folders[1])
    for read in (load_tokenizer, load_language_model, read_config):
        with pytest.raises(CheckpointError, match="nowhere"):
            read(folders[1] / "nowhere")


def test_a_tokenizer_without_placeholder_is_refused(folders: tuple[Path, Path]) -> None:
    file = folders[1] / "tokenizer.json"
    known = json.loads(file.read_text())
    known["added_tokens"] = [token for token in known["added_tokens"] if token["content"] != "<image>"]
    del known["model"]["vocab"]["<image>"]
    file.write_text(json.dumps(known))
    settings = folders[1] / "tokenizer_config.json"
    options = {key: value for key, value in json.loads(settings.read_text()).items() if "special_tokens" not in key}
    settings.write_text(json.dumps(options))
    with pytest.raises(CheckpointError, match="does not know <image>"):
        DynFocusModel.from_towers(*folders, tiny.SETTINGS)
