"""InstructBLIP's features against transformers' own model, whose files hold all blocks but the published last one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from tiny_checkpoints import CLIP_MEAN, CLIP_STD, lavis_pair, lavis_sizes, other_encoder
from torch import Tensor
from transformers import InstructBlipConfig, InstructBlipForConditionalGeneration

from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.errors import CheckpointError
from dynfocus.models.frame_instruction import build_instructed_encoder
from dynfocus.models.model import DynFocusModel
from dynfocus.models.towers import load_instruction, open_vision

Made = tuple[Path, InstructBlipForConditionalGeneration]


def whole(config: InstructBlipConfig) -> InstructBlipForConditionalGeneration:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = InstructBlipForConditionalGeneration(config).eval()
        for name, parameter in made.named_parameters():  # a norm that does nothing would hide its absence
            if parameter.ndim == 1 or "query_tokens" in name:
                parameter.data.normal_(std=0.3)
    return made


def of_transformers(folder: Path) -> Made:
    made = whole(InstructBlipConfig(**tiny.configs()))
    made.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(f'{{"image_mean": {CLIP_MEAN}, "image_std": {CLIP_STD}}}')
    return folder, made


def of_lavis(folder: Path) -> Made:
    """A ViT of 40 blocks beside the Q-Former, and transformers' model with its first 39."""
    lavis_pair(folder / "huggingface", folder / "lavis")
    config = lavis_sizes()
    config.num_query_tokens = 5
    made = whole(config)
    made.vision_model.load_state_dict(open_vision(folder / "huggingface").tower().encoder.state_dict())
    instruction = load_instruction(folder / "huggingface", "frame")
    made.qformer.load_state_dict(instruction.encoder.state_dict())
    made.query_tokens.data = instruction.query_tokens.tokens.data
    return folder / "lavis", made


@pytest.fixture(params=[of_transformers, of_lavis])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    make: Callable[[Path], Made] = request.param
    return make(tmp_path)


def pixels(frames: Tensor) -> Tensor:
    return ((frames / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)).permute(0, 3, 1, 2)


@torch.no_grad()
def test_patches_are_the_output_of_all_blocks_before_the_norm(made: Made) -> None:
    folder, reference = made
    frames, blocks = tiny.frames(3), []
    for block in reference.vision_model.encoder.layers:
        block.register_forward_hook(lambda _, inputs, output: blocks.append(output))
    reference.vision_model(pixels(frames))
    assert len(blocks) == reference.config.vision_config.num_hidden_layers
    torch.testing.assert_close(open_vision(folder).tower()(frames), blocks[-1][:, 1:], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_query_tokens_read_frames_as_in_transformers(made: Made) -> None:
    folder, reference = made
    frames, outputs = tiny.frames(3), []
    ids, mask = torch.randint(5, 20, (1, 7), generator=tiny.generator(1)), torch.ones(1, 7, dtype=torch.bool)
    mask[0, 5:] = False
    vision, instruction = open_vision(folder).tower(), load_instruction(folder, "frame")
    patches = build_instructed_encoder(vision, instruction, ids, mask, outputs)(frames)
    assert torch.equal(patches, vision(frames))  # the norm is the Q-Former's alone
    theirs = reference.get_image_features(pixels(frames), ids.expand(3, -1), mask.long().expand(3, -1))
    expected = theirs.qformer_outputs[0][:, : instruction.queries]
    torch.testing.assert_close(outputs[0][0], expected, atol=1e-5, rtol=1e-4)


def test_sketches_of_one_block_fewer_are_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(folder: Path) -> tuple[str, str]:
        before = EncoderFolder(folder).identity()
        with monkeypatch.context() as patch:
            patch.setattr("dynfocus.data.sketches.encoder_folder.unused_blocks", lambda _: 1)  # as it was
            return before, EncoderFolder(folder).identity()

    now, earlier = identity(of_transformers(tmp_path / "it")[0])
    assert now != earlier
    other_encoder(tmp_path / "clip", "clip")
    now, earlier = identity(tmp_path / "clip")
    assert now == earlier


@pytest.mark.parametrize("family", [None, "clip"])
def test_a_model_trained_on_one_block_fewer_is_refused(tmp_path: Path, family: str | None) -> None:
    encoders, language = tiny.towers(tmp_path)
    if family:
        other_encoder(tmp_path / "it", family)
    net = DynFocusModel.from_towers(encoders, language, tiny.SETTINGS, vision=tmp_path / "it" if family else None)
    net.save(tmp_path / "trained")
    file = tmp_path / "trained" / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("vision_blocks") == (tiny.LAYERS - 1 if family else tiny.LAYERS)
    assert DynFocusModel.from_folder(tmp_path / "trained").settings == tiny.SETTINGS
    file.write_text(json.dumps(config))  # as it was written before
    if family:
        assert DynFocusModel.from_folder(tmp_path / "trained").settings == tiny.SETTINGS
    else:
        with pytest.raises(CheckpointError, match=r"trained on the output of 2 blocks.*3.*stage 1, then stage 2"):
            DynFocusModel.from_folder(tmp_path / "trained")
