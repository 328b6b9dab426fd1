"""Language models of several families, their ways of attention, 4 bits, and tokenizers that cannot serve."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import LANGUAGES, SMALL
from transformers import AutoModelForCausalLM, CTRLTokenizer, PreTrainedModel

from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.models.model import DynFocusModel
from dynfocus.models.towers import language, load_language_model, load_tokenizer

CAPPED = ("gemma2",)  # caps its attention scores, which only the eager way does


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A language model of each family, and the encoders."""
    place = tmp_path_factory.mktemp("families")
    made = {"encoders": tiny.towers(place)[0]}
    for family, config in LANGUAGES.items():
        torch.manual_seed(4)
        AutoModelForCausalLM.from_config(config(**SMALL, vocab_size=len(tiny.tokenizer()))).save_pretrained(
            place / family
        )
        tiny.tokenizer().save_pretrained(place / family)
        made[family] = place / family
    return made


def built(folders: dict[str, Path], family: str, **options: Any) -> DynFocusModel:
    torch.manual_seed(0)
    attention = "eager" if family in CAPPED else "sdpa"
    return DynFocusModel.from_towers(
        folders["encoders"], folders[family], tiny.SETTINGS, attention=attention, **options
    ).eval()


@torch.no_grad()
@pytest.mark.parametrize("family", LANGUAGES)
def test_text_reads_the_same_by_our_road(folders: dict[str, Path], family: str) -> None:
    """Embeddings that we look up and hand over, against ids: some families scale what they look up."""
    net = built(folders, family)
    batch = tiny.batch([0, 0], answers=True)
    embeds, _ = net.embed(batch)
    places = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
    own = net.language_model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=places).logits
    ours = net.language_model(inputs_embeds=embeds, attention_mask=batch.attention_mask, position_ids=places).logits
    real = batch.attention_mask.bool()
    torch.testing.assert_close(ours[real], own[real], atol=1e-5, rtol=1e-5)
    assert own[real].std() > 0.1
    loss = torch.nn.functional.cross_entropy(own[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten())
    torch.testing.assert_close(net(batch)[0], loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", LANGUAGES)
def test_rows_together_answer_as_alone(folders: dict[str, Path], family: str) -> None:
    net = built(folders, family)
    counts = [3, 1, 6]
    examples = [tiny.example(n, count) for n, count in enumerate(counts)]
    ask = tiny.processor(answers=False)
    options = {"max_new_tokens": 6, "min_new_tokens": 6}
    together, _ = net.answer(ask(examples), **options)
    assert together.shape == (3, 6)
    assert len({tuple(row) for row in together.tolist()}) > 1
    for row, example in enumerate(examples):
        assert net.answer(ask([example]), **options)[0].tolist() == together[row : row + 1].tolist()


@torch.no_grad()
@pytest.mark.parametrize("family", [family for family in LANGUAGES if family not in CAPPED])
def test_ways_of_attention_agree(folders: dict[str, Path], family: str) -> None:
    ids = torch.randint(5, 20, (2, 9))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    result = []
    ways: tuple[Any, ...] = ("sdpa", "eager")
    for attention in ways:
        model: Any = load_language_model(folders[family], attention)
        assert model.config._attn_implementation == attention
        result.append(model(input_ids=ids, attention_mask=mask).logits[mask.bool()])
    torch.testing.assert_close(*result, atol=2e-4, rtol=1e-4)
    assert load_language_model(folders[family]).config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", LANGUAGES)
def test_every_family_is_loaded_to_the_bit(folders: dict[str, Path], family: str) -> None:
    model = load_language_model(folders[family], "eager", dtype=torch.bfloat16)
    own = model.state_dict()
    for name, value in load_file(folders[family] / "model.safetensors").items():
        assert torch.equal(own[name], value.to(torch.bfloat16))
    assert not [name for name, tensor in model.named_buffers() if tensor.is_meta]


def sharded(folder: Path, place: Path) -> Path:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(place, max_shard_size="5KB")
    assert len(list(place.glob("*.safetensors"))) > 2
    return place


@pytest.mark.parametrize("damage", ["absent", "surplus", "file"])
def test_shards_are_all_or_nothing(folders: dict[str, Path], tmp_path: Path, damage: str) -> None:
    place = sharded(folders["llama"], tmp_path / "it")
    whole = load_language_model(place).state_dict()
    assert all(
        torch.equal(whole[name], value) for name, value in load_language_model(folders["llama"]).state_dict().items()
    )
    index = json.loads((place / "model.safetensors.index.json").read_text())
    name = "model.layers.1.mlp.up_proj.weight"
    file = place / index["weight_map"][name]
    state = load_file(file)
    if damage == "file":
        file.unlink()
    elif damage == "absent":
        save_file({key: value for key, value in state.items() if key != name}, file, {"format": "pt"})
        del index["weight_map"][name]
    else:
        save_file(state | {name + "x": torch.zeros(1)}, file, {"format": "pt"})
        index["weight_map"][name + "x"] = file.name
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    named = file.name if damage == "file" else rf"up_proj\.weightx? is {damage}"
    with pytest.raises(CheckpointError, match=named):
        load_language_model(place)


def test_flash_attention_that_is_not_there_is_said(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "is_flash_attn_2_available", lambda: False)
    with pytest.raises(ConfigError, match=r"flash_attention_2, which.*pip install flash-attn.*set attention to sdpa"):
        load_language_model(folders["llama"], "flash_attention_2")


def test_attention_that_a_model_cannot_do_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"gemma2.*scaled_dot_product.*Set attention to eager"):
        load_language_model(folders["gemma2"], "sdpa")


def test_models_that_are_no_language_models_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="causal language model"):
        load_language_model(folders["encoders"])


def packed(model: PreTrainedModel) -> list[str]:
    return [name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide enough that rounding to 4 bits leaves what is said recognisable."""
    place = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    sizes = SMALL | {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 40, "initializer_range": 0.1}
    AutoModelForCausalLM.from_config(LANGUAGES["llama"](**sizes)).save_pretrained(place)
    return place


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_four_bits_are_in_every_linear_layer_but_the_head(wide: Path, dtype: torch.dtype) -> None:
    plain = load_language_model(wide)
    small: Any = load_language_model(wide, quantize="nf4", dtype=dtype)
    assert len(packed(small)) == 2 * 7
    assert not packed(plain)
    assert "lm_head" not in packed(small)
    layer = small.model.layers[0].mlp.up_proj
    assert layer.weight.dtype == torch.uint8
    assert layer.weight.quant_state.quant_type == "nf4"
    assert layer.weight.quant_state.nested
    assert layer.compute_dtype == dtype
    assert {str(parameter.device) for parameter in small.parameters()} == {"cpu"}
    ids = torch.randint(5, 40, (1, 9))
    with torch.no_grad():
        one, other = plain(input_ids=ids).logits, small(input_ids=ids).logits.float()
    assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.9
    assert not torch.equal(one, other)


@pytest.mark.parametrize("width", [24, 64])
def test_every_cpu_computes_with_four_bits_alike(tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one with avx512_bf16, too, where bitsandbytes reorders weights at the first answer, if it can at all."""
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "vocab_size": 40}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(LANGUAGES["llama"](**(SMALL | sizes))).save_pretrained(tmp_path)
    ids, logits, weights = torch.randint(5, 40, (1, 9)), [], []
    for there in (False, True):
        monkeypatch.setattr(bnb.nn.modules, "has_avx512bf16", lambda there=there: there)
        model: Any = load_language_model(tmp_path, quantize="nf4").eval()
        with torch.no_grad():
            logits.append(model(input_ids=ids).logits)
        layers = [part for part in model.modules() if isinstance(part, bnb.nn.Linear4bit)]
        assert len(layers) == 2 * 7
        weights.append([bnb.functional.dequantize_4bit(part.weight.data, part.weight.quant_state) for part in layers])
    assert torch.equal(*logits)
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_four_bits_need_all_weights_too(wide: Path, tmp_path: Path) -> None:
    place = sharded(wide, tmp_path / "it")
    file = max(place.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    file.unlink()
    with pytest.raises(CheckpointError, match=str(file.name)):
        load_language_model(place, quantize="nf4")


def test_four_bits_without_the_library_are_refused(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"bitsandbytes does not import.*pip install bitsandbytes.*quantize to null"):
        load_language_model(wide, quantize="nf4")


def test_a_place_may_be_given(wide: Path) -> None:
    model = load_language_model(wide, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert {(str(p.device), p.dtype) for p in model.parameters()} == {("cpu", torch.bfloat16)}
    assert importlib.util.find_spec("bitsandbytes") is not None


def test_slow_tokenizers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "<unk>": 1, "b</w>": 2}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    CTRLTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path / "slow")
    with pytest.raises(CheckpointError, match="CTRLTokenizer cannot tell which characters"):
        load_tokenizer(tmp_path / "slow")


@pytest.mark.parametrize("kind", [tiny.words, tiny.byte_pairs, tiny.pieces])
def test_a_known_placeholder_stays_as_it_is(tmp_path: Path, kind: Any) -> None:
    kind().save_pretrained(tmp_path)
    assert len(load_tokenizer(tmp_path)) == len(kind())
    assert load_tokenizer(tmp_path).convert_tokens_to_ids("<image>") == kind().convert_tokens_to_ids("<image>")
