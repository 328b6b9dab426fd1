"""LAVIS files against a folder of transformers with the same weights."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny_checkpoints import CLIP_MEAN, CLIP_STD, LAVIS_TEXT, LAVIS_WIDTH, eva_names, lavis_pair, lavis_sizes

from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.errors import CheckpointError
from dynfocus.models.model import DynFocusModel
from dynfocus.models.towers import load_instruction, load_instruction_tokenizer, open_instruction, open_vision

EVA, TRIMMED = "eva_vit_g.pth", "instruct_blip_vicuna7b_trimmed.pth"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    lavis_pair(folder / "huggingface", folder / "lavis")
    return folder / "huggingface", folder / "lavis"


@pytest.fixture
def lavis(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """LAVIS files of one's own, to damage."""
    return shutil.copytree(pair[1], tmp_path / "lavis")


def change(file: Path, damage: Any) -> None:
    content = torch.load(file, weights_only=True)
    damage(content)
    torch.save(content, file)


def test_patches_are_those_of_the_same_weights_to_the_bit(pair: tuple[Path, Path]) -> None:
    one, other = (open_vision(folder).tower() for folder in pair)
    frames = tiny.frames(3)
    with torch.no_grad():
        expected, result = one(frames), other(frames)
    assert torch.equal(result, expected)
    assert (result[0] - result[1]).abs().max() > 0.01
    assert result.shape == (3, 36, LAVIS_WIDTH)
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert EncoderFolder(pair[0]).identity() == EncoderFolder(pair[1]).identity()


def test_sizes_are_read_off_the_tensors(pair: tuple[Path, Path]) -> None:
    sizes, files = lavis_sizes(), open_vision(pair[1])
    assert files.config.to_dict() == sizes.vision_config.to_dict()
    assert (files.config.num_hidden_layers, files.config.num_attention_heads, files.config.image_size) == (39, 1, 24)
    assert open_instruction(pair[1]).to_dict() == sizes.qformer_config.to_dict()
    assert (files.image_mean, files.image_std) == (CLIP_MEAN, CLIP_STD)
    assert [file.name for file in files.files] == [EVA, TRIMMED]


@pytest.mark.parametrize("every", [1, 3, 4])
def test_how_often_the_query_tokens_see_is_read_off_too(lavis: Path, every: int) -> None:
    def move(content: dict) -> None:
        crossing = {name: content["model"].pop(name) for name in list(content["model"]) if ".crossattention." in name}
        for layer in range(0, 4, every):
            content["model"] |= {name.replace("layer.0.", f"layer.{layer}."): t for name, t in crossing.items()}
        content["model"] = {n: t for n, t in content["model"].items() if "layer.2.cross" not in n or every == 1}

    change(lavis / TRIMMED, move)
    assert open_instruction(lavis).cross_attention_frequency == every
    assert load_instruction(lavis).encoder.encoder.layer[3].has_cross_attention == (every in (1, 3))


@pytest.mark.parametrize("mode", ["instruction", "frame"])
def test_the_q_former_and_its_query_tokens_are_the_same(pair: tuple[Path, Path], mode: Any) -> None:
    one, other = (load_instruction(folder, mode) for folder in pair)
    ids, mask = torch.randint(5, 20, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    mask[1, :3] = False
    rows = torch.randn(3, 37, LAVIS_WIDTH)
    with torch.no_grad():
        assert torch.equal(one(ids, mask), other(ids, mask))
        if mode == "frame":
            assert torch.equal(one.look(rows, ids, mask), other.look(rows, ids, mask))
            assert other.look(rows, ids, mask).shape == (2, 3, 5, LAVIS_TEXT)
    assert one.state_dict().keys() == other.state_dict().keys()
    assert ("query_tokens.tokens" in other.state_dict()) == (mode == "frame")


def test_half_precision_is_read_as_what_it_holds(tmp_path: Path) -> None:
    lavis_pair(tmp_path / "a", tmp_path / "b", torch.float16)
    assert torch.load(tmp_path / "b" / EVA, weights_only=True)["cls_token"].dtype == torch.float16
    frames = tiny.frames(2)
    with torch.no_grad():
        assert torch.equal(open_vision(tmp_path / "a").tower()(frames), open_vision(tmp_path / "b").tower()(frames))


def test_a_vit_in_the_trimmed_file_counts(pair: tuple[Path, Path], lavis: Path) -> None:
    state = {name: tensor + 0.01 for name, tensor in open_vision(pair[0]).tower().encoder.state_dict().items()}
    moved = {f"visual_encoder.{name}": tensor for name, tensor in eva_names(state, more=False).items()}
    change(lavis / TRIMMED, lambda content: content["model"].update(moved))
    result = open_vision(lavis).tower().encoder.state_dict()
    name = "encoder.layers.38.mlp.fc1.bias"
    assert torch.equal(result[name], state[name])
    (lavis / EVA).unlink()
    assert open_vision(lavis).tower().encoder.state_dict()[name].equal(state[name])
    assert [file.name for file in open_vision(lavis).files] == [TRIMMED]


def test_the_older_format_of_torch_is_read(pair: tuple[Path, Path], lavis: Path) -> None:
    content = torch.load(lavis / EVA, weights_only=True)
    torch.save(content, lavis / EVA, _use_new_zipfile_serialization=False)
    assert EncoderFolder(lavis).identity() == EncoderFolder(pair[0]).identity()


def test_a_model_on_lavis_files_answers(pair: tuple[Path, Path], tmp_path: Path) -> None:
    _, language = tiny.towers(tmp_path)
    frames = (tiny.frames(3), tiny.frames(2, 1))
    batch = tiny.batch([3, 2], answers=True)
    batch.sketch, batch.frames = None, frames
    losses = []
    for folder in pair:
        torch.manual_seed(0)
        net = DynFocusModel.from_towers(folder, language, tiny.SETTINGS).eval()
        with torch.no_grad():
            losses.append(net(batch)[0])
    assert losses[0] == losses[1] > 0
    assert len(load_instruction_tokenizer(pair[1])) == open_instruction(pair[1]).vocab_size


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("cls_token", "class_embedding"),
        ("pos_embed", "position_embedding"),
        ("patch_embed.proj.bias", "patch_embedding"),
        ("patch_embed.proj.weight", "patch_embedding"),
        ("blocks.38.norm2.weight", "layers.38.layer_norm2.weight"),
        ("blocks.3.attn.q_bias", "q_bias"),
        ("blocks.3.attn.v_bias", "v_bias"),
        ("blocks.0.attn.qkv.weight", "qkv.weight"),
        ("blocks.0.mlp.fc1.bias", "fc1.bias"),
    ],
)
def test_a_vit_that_lacks_a_tensor_is_refused(lavis: Path, name: str, named: str) -> None:
    change(lavis / EVA, lambda content: content.pop(name))
    with pytest.raises(CheckpointError, match=named.replace(".", r"\.")):
        open_vision(lavis).tower()


@pytest.mark.parametrize("name", ["blocks.3.attn.k_bias", "blocks.3.attn.rope", "blocks.2.norm1.scale", "mask_token"])
def test_a_vit_with_a_tensor_more_is_refused(lavis: Path, name: str) -> None:
    change(lavis / EVA, lambda content: content.update({name: torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=name.split(".")[-1]):
        open_vision(lavis).tower()


def test_a_vit_of_other_shapes_is_refused(lavis: Path) -> None:
    change(lavis / EVA, lambda content: content.update({"blocks.3.mlp.fc1.bias": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=r"layers\.3\.mlp\.fc1\.bias"):
        open_vision(lavis).tower()
    change(lavis / EVA, lambda content: content.update(pos_embed=torch.zeros(1, 36, LAVIS_WIDTH)))
    with pytest.raises(CheckpointError, match="35 patches form no square grid"):
        open_vision(lavis)


def test_heads_must_divide_the_width(lavis: Path) -> None:
    change(lavis / EVA, lambda content: content.update({"patch_embed.proj.weight": torch.zeros(100, 3, 4, 4)}))
    with pytest.raises(CheckpointError, match="100 is no multiple of 88"):
        open_vision(lavis)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("Qformer.bert.embeddings.LayerNorm.bias", r"embeddings\.layernorm\.bias"),
        ("Qformer.bert.embeddings.word_embeddings.weight", "word_embeddings"),
        ("Qformer.bert.encoder.layer.3.attention.self.key.bias", r"layer\.3\.attention\.attention\.key\.bias"),
        ("Qformer.bert.encoder.layer.2.crossattention.output.dense.bias", r"2\.crossattention\.output\.dense\.bias"),
        ("Qformer.bert.encoder.layer.1.output_query.LayerNorm.bias", r"1\.output_query\.LayerNorm\.bias"),
        ("query_tokens", "no query tokens"),
    ],
)
def test_a_q_former_that_lacks_a_tensor_is_refused(lavis: Path, name: str, named: str) -> None:
    change(lavis / TRIMMED, lambda content: content["model"].pop(name))
    with pytest.raises(CheckpointError, match=named):
        load_instruction(lavis, "frame")


@pytest.mark.parametrize("name", ["ln_vision.weight", "ln_vision.bias"])
def test_the_norm_after_the_vit_must_be_there(lavis: Path, name: str) -> None:
    change(lavis / TRIMMED, lambda content: content["model"].pop(name))
    with pytest.raises(CheckpointError, match="post_layernorm"):
        open_vision(lavis).tower()


@pytest.mark.parametrize(
    "name", ["Qformer.bert.encoder.layer.1.crossattention.self.key.bias", "Qformer.cls.bias", "t5"]
)
def test_a_q_former_with_a_tensor_more_is_refused(lavis: Path, name: str) -> None:
    change(lavis / TRIMMED, lambda content: content["model"].update({name: torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=r"1\.crossattention\.attention\.key\.bias|holds (Qformer\.cls\.bias|t5)"):
        load_instruction(lavis)


class Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.mkdir, (Path("ran"),)  # type: ignore[return-value]


@pytest.mark.parametrize("file", [EVA, TRIMMED])
def test_code_in_a_file_does_not_run(lavis: Path, file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"query_tokens": Code()}}, lavis / file)
    with pytest.raises(CheckpointError, match=rf"{file}, which does not load as weights"):
        open_vision(lavis).tower()
    (lavis / file).write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(CheckpointError, match=rf"{file}, which does not load as weights"):
        open_vision(lavis).tower()
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [{"model": {"a": 3}}, [torch.zeros(1)], {"model": [1]}])
def test_files_of_something_else_are_refused(lavis: Path, content: Any) -> None:
    torch.save(content, lavis / TRIMMED)
    with pytest.raises(CheckpointError, match="something else than tensors"):
        open_instruction(lavis)


@pytest.mark.parametrize("damage", ["cut off", "empty", "absent"])
@pytest.mark.parametrize("file", [EVA, TRIMMED])
def test_files_that_are_not_whole_are_refused_by_name(lavis: Path, file: str, damage: str) -> None:
    content = (lavis / file).read_bytes()
    (lavis / file).write_bytes(content[:3000] if damage == "cut off" else b"")
    if damage == "absent":
        (lavis / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        open_vision(lavis).tower()
