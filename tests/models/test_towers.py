"""The towers against transformers' own, and checkpoint folders that are not what they should be."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
)

from dynfocus.errors import CheckpointError, FeatureError
from dynfocus.models.model import DynFocusModel
from dynfocus.models.towers import (
    InstructionTower,
    VisionTower,
    load_instruction,
    load_language_model,
    load_tokenizer,
    open_instruction,
    open_vision,
)


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


def test_patches_are_the_last_stored_blocks_without_class_token() -> None:
    config = InstructBlipVisionConfig(**tiny.configs()["vision_config"])
    torch.manual_seed(0)
    tower = VisionTower(config, [0.5, 0.4, 0.3], [0.5, 0.6, 0.7])
    frames = tiny.frames(3)
    pixels = (frames.float() / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.5, 0.6, 0.7])
    with torch.no_grad():
        states = tower.encoder(pixels.permute(0, 3, 1, 2), output_hidden_states=True).hidden_states
        result = tower(frames)
    assert result.shape == (3, tower.patches, tiny.WIDTH) == (3, 36, tiny.WIDTH)
    torch.testing.assert_close(result, states[-1][:, 1:])
    assert (result[0] - result[1]).abs().max() > 0.1  # frames are told apart


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
    assert open_vision(made / "encoders").image_std == [0.5, 0.6, 0.7]
    with torch.no_grad():
        assert net.eval()(tiny.batch([3, 0], answers=True))[0].isfinite()


@pytest.fixture(scope="module")
def sharded(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, InstructBlipForConditionalGeneration]:
    """A whole checkpoint, its language model inside, in many files and with an index."""
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(3)
    whole = InstructBlipForConditionalGeneration(InstructBlipConfig(**tiny.configs()))
    whole.query_tokens.data.normal_()
    whole.save_pretrained(folder, max_shard_size="20KB")
    shutil.copy(made / "encoders" / "preprocessor_config.json", folder)
    assert len(list(folder.glob("*.safetensors"))) > 5
    return folder, whole


def same_weights(own: torch.nn.Module, inputs: torch.nn.Module) -> bool:
    both = own.state_dict(), inputs.state_dict()
    return both[0].keys() == both[1].keys() and all(
        torch.equal(both[0][name], value) for name, value in both[1].items()
    )


def test_a_whole_instructblip_checkpoint_serves(sharded: tuple[Path, Any], tmp_path: Path) -> None:
    folder, whole = sharded
    copy = shutil.copytree(folder, tmp_path / "copy")
    for file in copy.glob("*.safetensors"):  # a buffer that older versions wrote among the weights
        state = load_file(file)
        if any(name.startswith("qformer.") for name in state):
            save_file(state | {"qformer.embeddings.position_ids": torch.arange(4)}, file)
    for place in (folder, copy):
        assert same_weights(open_vision(place).tower().encoder, whole.vision_model)
        text = load_instruction(place, "frame")
        assert same_weights(text.encoder, whole.qformer)
        assert torch.equal(text.query_tokens.tokens, whole.query_tokens)
        everything = (*text.named_parameters(), *text.named_buffers(), *open_vision(place).tower().named_buffers())
        assert not [name for name, tensor in everything if tensor.is_meta]
        assert torch.equal(text.encoder.embeddings.position_ids, whole.qformer.embeddings.position_ids)


def test_only_the_files_that_the_index_names_are_opened(sharded: tuple[Path, Any], tmp_path: Path) -> None:
    folder = shutil.copytree(sharded[0], tmp_path / "copy")
    (folder / "old.safetensors").write_bytes(b"of another download")
    listed = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    needed = {file for name, file in listed.items() if name.startswith("vision_model.")}
    for file in set(listed.values()) - needed:
        (folder / file).unlink()
    files = open_vision(folder)
    assert same_weights(files.tower().encoder, sharded[1].vision_model)
    configs = {"config.json", "preprocessor_config.json", "model.safetensors.index.json"}
    assert {file.name for file in files.files} == needed | configs
    with pytest.raises(CheckpointError, match=r"model-000.*\.safetensors, where nothing is"):
        load_instruction(folder)
    (folder / min(needed)).unlink()
    with pytest.raises(CheckpointError, match=f"{min(needed)}, where nothing is"):
        open_vision(folder)


def test_an_index_that_does_not_match_its_files_is_refused(sharded: tuple[Path, Any], tmp_path: Path) -> None:
    folder = shutil.copytree(sharded[0], tmp_path / "copy")
    name = "vision_model.post_layernorm.bias"
    file = folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][name]
    save_file({key: value for key, value in load_file(file).items() if key != name}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"post_layernorm\.bias is not in the file"):
        open_vision(folder).tower()
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="weight_map"):
        open_vision(folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_are_read_straight_into_another_precision(made: Path, dtype: torch.dtype) -> None:
    tower = open_vision(made / "encoders").tower(dtype)
    exact = tiny.model().vision
    assert not tower.training
    assert not [parameter for parameter in tower.parameters() if parameter.requires_grad]
    for (_, own), value in zip(tower.named_parameters(), exact.parameters(), strict=True):
        assert torch.equal(own, value.to(dtype))


def test_whole_numbers_are_no_weights(folders: tuple[Path, Path]) -> None:
    file = folders[0] / "model.safetensors"
    state = load_file(file)
    name = "vision_model.post_layernorm.bias"
    save_file(state | {name: state[name].to(torch.int64)}, file)
    with pytest.raises(CheckpointError, match=r"post_layernorm\.bias holds torch\.int64"):
        open_vision(folders[0]).tower()


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
    for read in (load_tokenizer, load_language_model, open_vision, open_instruction):
        with pytest.raises(CheckpointError, match="nowhere"):
            read(folders[1] / "nowhere")


def test_a_tokenizer_without_placeholder_gets_it(folders: tuple[Path, Path]) -> None:
    words = tiny.words().save_pretrained(folders[1]) and json.loads((folders[1] / "tokenizer.json").read_text())
    words["added_tokens"] = [token for token in words["added_tokens"] if token["content"] != "<image>"]
    old = words["model"]["vocab"].pop("<image>")
    (folders[1] / "tokenizer.json").write_text(json.dumps(words))
    settings = folders[1] / "tokenizer_config.json"
    options = {key: value for key, value in json.loads(settings.read_text()).items() if "special_tokens" not in key}
    settings.write_text(json.dumps(options))
    known = load_tokenizer(folders[1])
    new = known.convert_tokens_to_ids("<image>")
    assert new not in (old, None, known.unk_token_id)
    assert known("star <image> star<image>")["input_ids"].count(new) == 2
    assert known.decode([new], skip_special_tokens=True) == ""
    net = DynFocusModel.from_towers(*folders, tiny.SETTINGS)
    assert net.config.image_token_id == new
