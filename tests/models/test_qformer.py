"""The Q-Former in both modes, and its tokenizer."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny_checkpoints import BERT_WORDS, bert_tokenizer
from torch import Tensor
from transformers import InstructBlipQFormerConfig

from dynfocus.errors import CheckpointError, FeatureError
from dynfocus.models.towers import InstructionTower, load_instruction, load_instruction_tokenizer, open_instruction


def sizes(**changes: Any) -> InstructBlipQFormerConfig:
    return InstructBlipQFormerConfig(**tiny.configs()["qformer_config"] | {"num_hidden_layers": 4} | changes)


def tower(mode: Any = "frame", **changes: Any) -> InstructionTower:
    torch.manual_seed(0)
    made = InstructionTower(sizes(**changes), mode, 3)
    if mode == "frame":
        made.query_tokens.tokens.data.normal_()
    return made.eval()


@pytest.fixture
def asked() -> tuple[Tensor, Tensor]:
    ids, mask = torch.randint(5, 20, (2, 7), generator=tiny.generator(1)), torch.ones(2, 7, dtype=torch.bool)
    mask[0, :4] = False
    return ids, mask


def rows(frames: int = 3, width: int = tiny.WIDTH) -> Tensor:
    return torch.randn(frames, 37, width, generator=tiny.generator(2))


@torch.no_grad()
def test_looking_is_the_q_formers_own_reading_of_each_frame(asked: tuple[Tensor, Tensor]) -> None:
    net, (ids, mask), patches = tower(), asked, rows()
    result = net.look(patches, ids, mask)
    assert result.shape == (2, 3, 3, tiny.TEXT_WIDTH)
    for i in range(2):
        for t in range(3):
            expected = net.encoder(
                input_ids=ids[i : i + 1],
                attention_mask=torch.cat([torch.ones(1, 3), mask[i : i + 1]], 1),
                query_embeds=net.query_tokens.tokens,
                encoder_hidden_states=patches[t : t + 1],
                encoder_attention_mask=torch.ones(1, 37),
            ).last_hidden_state[0, :3]
            torch.testing.assert_close(result[i, t], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_frame_is_looked_at_by_itself(asked: tuple[Tensor, Tensor]) -> None:
    net, patches = tower(), rows()
    result = net.look(patches, *asked)
    for t in range(3):
        torch.testing.assert_close(net.look(patches[t : t + 1], *asked)[:, 0], result[:, t], atol=1e-6, rtol=1e-5)
    other = patches.clone()
    other[2] = 5.0
    torch.testing.assert_close(net.look(other, *asked)[:, :2], result[:, :2], atol=1e-6, rtol=1e-5)
    assert (net.look(other, *asked)[:, 2] - result[:, 2]).abs().max() > 0.01
    assert (result[:, 0] - result[:, 1]).abs().max() > 0.01
    assert (result[0] - result[1]).abs().max() > 0.01  # the instruction is read too


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_masked_text_is_ignored(asked: tuple[Tensor, Tensor], attention: str) -> None:
    net, (ids, mask) = tower(), asked
    net.encoder.set_attn_implementation(attention)
    other = ids.masked_fill(~mask, 9)
    assert (other != ids).any()
    torch.testing.assert_close(net.look(rows(), other, mask), net.look(rows(), ids, mask))
    torch.testing.assert_close(net(other, mask)[mask], net(ids, mask)[mask])
    changed = ids.clone()
    changed[0, 6] = 19 if ids[0, 6] != 19 else 18
    assert (net.look(rows(), changed, mask)[0] - net.look(rows(), ids, mask)[0]).abs().max() > 1e-3


@torch.no_grad()
def test_ways_of_attention_agree(asked: tuple[Tensor, Tensor]) -> None:
    net, (ids, mask) = tower(), asked
    result = []
    for attention in ("sdpa", "eager"):
        net.encoder.set_attn_implementation(attention)
        assert net.encoder.config._attn_implementation == attention
        result.append((net.look(rows(), ids, mask), net(ids, mask)[mask]))
    for one, other in zip(*result, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["instruction", "frame"])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_used_are_the_parameters_that_reach_q(asked: tuple[Tensor, Tensor], mode: Any, every: int) -> None:
    net = tower(mode, cross_attention_frequency=every)
    result = net(*asked) if mode == "instruction" else net.look(rows(), *asked)
    (result * torch.randn(result.shape)).sum().backward()
    used = {id(parameter) for parameter in net.used()}
    for name, parameter in net.named_parameters():
        if name.endswith(("key.bias", ".key.bias")):
            assert (id(parameter) in used) == (parameter.grad is not None), name  # softmax: of value nearly zero
        else:
            assert (id(parameter) in used) == (parameter.grad is not None and bool(parameter.grad.any())), name
    assert len(used) == len(list(net.used()))


def test_query_tokens_exist_in_frame_mode_alone() -> None:
    plain, looking = tower("instruction").state_dict(), tower("frame").state_dict()
    assert looking.keys() - plain.keys() == {"query_tokens.tokens"}
    assert not plain.keys() - looking.keys()
    torch.manual_seed(0)
    fresh = InstructionTower(sizes(), "frame", 32).query_tokens.tokens
    assert fresh.shape == (1, 32, tiny.TEXT_WIDTH)
    assert 0.015 < fresh.std() < 0.025


def test_rows_of_another_encoder_are_refused(asked: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(FeatureError, match=r"width 12 for a Q-Former that reads width 16.*instruction_mode"):
        tower().look(rows(width=12), *asked)


def test_query_tokens_that_are_absent_are_refused(tmp_path: Path) -> None:
    encoders, _ = tiny.towers(tmp_path)
    assert load_instruction(encoders, "frame").queries == 32
    tiny.model().save_pretrained(tmp_path / "trained")
    assert load_instruction(tmp_path / "trained").mode == "instruction"
    with pytest.raises(CheckpointError, match=r"no query tokens.*instruction_mode"):
        load_instruction(tmp_path / "trained", "frame")


def test_a_trained_models_folder_holds_the_same(tmp_path: Path, asked: tuple[Tensor, Tensor]) -> None:
    encoders, _ = tiny.towers(tmp_path)
    inputs = load_instruction(encoders)
    tiny.model().save_pretrained(tmp_path / "trained")
    assert open_instruction(tmp_path / "trained").hidden_size == tiny.TEXT_WIDTH
    (tmp_path / "apart").mkdir()
    parts = {"model_type": "dynfocus", "qformer_config": inputs.encoder.config.to_dict()}
    (tmp_path / "apart" / "config.json").write_text(json.dumps(parts | {"towers": {"encoders": str(encoders)}}))
    with torch.no_grad():
        for folder in ("trained", "apart"):
            assert torch.equal(load_instruction(tmp_path / folder)(*asked), inputs(*asked))


def test_folders_without_a_q_former_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointError, match=r"'clip'.*a Q-Former.*given apart"):
        open_instruction(tmp_path)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """An InstructBLIP folder with room for [DEC], and a BERT tokenizer that does not have it yet."""
    encoders, _ = tiny.towers(tmp_path)
    shutil.rmtree(encoders / "qformer_tokenizer")
    bert_tokenizer(encoders / "qformer_tokenizer")
    return room(encoders, len(BERT_WORDS) + 1)


def room(encoders: Path, words: int) -> Path:
    config = json.loads((encoders / "config.json").read_text())
    config["qformer_config"]["vocab_size"] = words
    (encoders / "config.json").write_text(json.dumps(config))
    return encoders


def test_a_bert_tokenizer_gets_its_last_token(bert: Path) -> None:
    tokenizer = load_instruction_tokenizer(bert)
    assert tokenizer.bos_token == "[DEC]"
    assert tokenizer.bos_token_id == len(BERT_WORDS) == len(tokenizer) - 1
    ids = tokenizer("what star?")["input_ids"]
    assert [BERT_WORDS[n] for n in ids] == ["[CLS]", "what", "star", "?", "[SEP]"]
    assert tokenizer("[DEC]", add_special_tokens=False)["input_ids"] == [len(BERT_WORDS)]
    tokenizer.save_pretrained(bert / "qformer_tokenizer")
    assert len(load_instruction_tokenizer(bert)) == len(tokenizer)  # and keeps the one it has


def test_long_questions_keep_their_end(bert: Path) -> None:
    tokenizer = load_instruction_tokenizer(bert)
    text = "a " * 300 + "what star?"
    ids = tokenizer(text, truncation=True, max_length=256)["input_ids"]
    assert len(ids) == 256
    assert [BERT_WORDS[n] for n in ids[-4:]] == ["what", "star", "?", "[SEP]"]
    assert BERT_WORDS[ids[0]] == "[CLS]"


def test_more_ids_than_embeddings_are_refused(bert: Path) -> None:
    words = len(BERT_WORDS)
    with pytest.raises(CheckpointError, match=f"{words + 1} ids and the Q-Former {words} embeddings"):
        load_instruction_tokenizer(room(bert, words))


def test_another_tokenizer_stays_as_it_is(tmp_path: Path) -> None:
    tokenizer = load_instruction_tokenizer(tiny.towers(tmp_path)[0])
    assert tokenizer.bos_token == "<s>"
    assert len(tokenizer) == len(tiny.tokenizer())
    assert tokenizer.truncation_side == "left"
