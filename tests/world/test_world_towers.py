"""The towers' files, their records and their training, in miniature."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    InstructBlipConfig,
    LlamaForCausalLM,
)

from dynfocus.errors import CheckpointError, ConfigError, DataError
from dynfocus.models.prompts import IMAGE
from dynfocus.models.towers import load_instruction, load_instruction_tokenizer, open_vision
from dynfocus.world.build_rows import SPLITS, split_seed
from dynfocus.world.dataset import write_world
from dynfocus.world.recipes import STANDARD, WorldSettings
from dynfocus.world.towers.folders import write_folder
from dynfocus.world.towers.frames import read_labelled
from dynfocus.world.towers.quality import check_towers, read_quality
from dynfocus.world.towers.reading_quality import HELD_OUT_SEED
from dynfocus.world.towers.record import list_unfinished
from dynfocus.world.towers.tokenizer import train_tokenizer
from dynfocus.world.towers.tower_settings import LanguageSettings, TowerSettings, VisionSettings
from dynfocus.world.towers.train import CORPUS_SEED, train_towers
from dynfocus.world.towers.train_language import TRAINING_SEED
from dynfocus.world.videos import sample_video

SMALL = TowerSettings(
    VisionSettings(width=32, hidden=32, layers=3, steps=40, batch=8, texts=4, queries=4),
    LanguageSettings(width=32, hidden=32, layers=2, heads=2, steps=50, batch=4, pool=80, asked=3),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("towers") / "data"
    return write_world(root, videos=8, val=2, test=1, images=4, stage1=16, stage2=4, workers=0, progress=False)


@pytest.fixture(scope="module")
def towers(data: Path) -> Path:
    return train_towers(data, data.parent / "towers", settings=SMALL, workers=0, progress=False)


def test_encoders_are_an_instructblip_checkpoint(towers: Path) -> None:
    folder = towers / "instructblip"
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        names = set(tensors.keys())
        queries = tensors.get_slice("query_tokens").get_shape()
    assert {name.split(".")[0] for name in names} == {"vision_model", "qformer", "query_tokens"}
    assert queries == [1, 4, 32]
    config = AutoConfig.from_pretrained(folder)
    assert isinstance(config, InstructBlipConfig)
    assert config.vision_config.initializer_range == 0.02
    assert config.vision_config.image_size == 48
    assert config.text_config.model_type == "llama"
    pixels = json.loads((folder / "preprocessor_config.json").read_text())
    assert len(pixels["image_mean"]) == len(pixels["image_std"]) == 3
    assert pixels["size"] == {"height": 48, "width": 48}


def test_encoders_load_whole_and_see(towers: Path, data: Path) -> None:
    folder = towers / "instructblip"
    vision = open_vision(folder).tower()
    frames = read_labelled(data, "val", 2, progress=False)
    features = vision(frames.frames).detach()
    assert features.shape == (len(frames), 36, 32)
    assert 0.3 < features.var() < 3
    coded = load_instruction_tokenizer(folder)(["what color is the star"], return_tensors="pt")
    assert coded["input_ids"].shape == (1, 5)
    text_features = load_instruction(folder)(coded["input_ids"], coded["attention_mask"].bool())
    assert text_features.shape == (1, 5, 32)
    assert text_features.isfinite().all()


def test_words_are_padded_on_the_right_and_prompts_on_the_left(towers: Path) -> None:
    assert load_instruction_tokenizer(towers / "instructblip").padding_side == "right"
    assert AutoTokenizer.from_pretrained(towers / "llm").padding_side == "left"


def test_language_model_reloads_the_same(towers: Path) -> None:
    tokenizer = train_tokenizer(CORPUS_SEED)
    folder = towers / "llm"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(model, LlamaForCausalLM)
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        stored = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.state_dict().items())
    again = AutoTokenizer.from_pretrained(folder)
    assert again.is_fast
    text = "USER: <image>\nwhat color is the star ASSISTANT: star red</s>"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again(text)["input_ids"][0] == again.bos_token_id
    assert again(text)["input_ids"].count(again.convert_tokens_to_ids(IMAGE)) == 1
    assert again(text)["input_ids"][-1] == again.eos_token_id == model.config.eos_token_id
    assert again.pad_token_id not in (again.bos_token_id, again.eos_token_id, again.unk_token_id)


def test_records_and_gate(towers: Path, tmp_path: Path) -> None:
    record = read_quality(towers)
    assert record["vision"]["settings"]["steps"] == SMALL.vision.steps
    assert record["language"]["settings"]["pool"] == SMALL.language.pool
    assert record["vision"]["world"]["videos"] == 8
    for tower in record.values():
        assert tower["loss"]["last"] < 0.8 * tower["loss"]["first"]
        assert all(0 <= share <= 1 for share in tower["quality"].values())
    with pytest.raises(CheckpointError, match="accuracy on detail"):
        check_towers(towers)
    for detail, fits in ((0.91, True), (0.89, False), (float("nan"), False)):
        record["language"]["quality"]["detail"] = detail
        (tmp_path / "towers.json").write_text(json.dumps(record))
        if fits:
            check_towers(tmp_path)
        else:
            with pytest.raises(CheckpointError, match=r"at least 0\.9"):
                check_towers(tmp_path)
    record["vision"]["content"] = 1
    (tmp_path / "towers.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"earlier version.*Delete .*make towers"):
        check_towers(tmp_path)
    with pytest.raises(CheckpointError, match="make towers"):
        check_towers(tmp_path / "nowhere")


def test_a_finished_tower_is_kept_and_a_lost_one_comes_back_the_same(towers: Path, data: Path) -> None:
    kept, lost = towers / "instructblip" / "model.safetensors", towers / "llm" / "model.safetensors"
    before, time = lost.read_bytes(), kept.stat().st_mtime_ns
    shutil.rmtree(towers / "llm")
    train_towers(data, towers, settings=SMALL, workers=1, progress=False)
    assert kept.stat().st_mtime_ns == time
    assert lost.read_bytes() == before
    assert sorted(path.name for path in towers.iterdir()) == ["instructblip", "llm", "towers.json"]


def test_other_settings_are_refused(towers: Path, data: Path, tmp_path: Path) -> None:
    other = replace(SMALL, language=replace(SMALL.language, steps=51))
    with pytest.raises(ConfigError, match="llm, made with other settings"):
        train_towers(data, towers, settings=other, workers=0)
    with pytest.raises(ConfigError, match="seed"):
        train_towers(data, towers, seed=1, settings=SMALL, workers=0)
    with pytest.raises(ConfigError, match=r"vision\.steps=0"):
        train_towers(data, tmp_path, settings=TowerSettings(vision=VisionSettings(steps=0)))
    with pytest.raises(ConfigError, match="sum is under 1"):
        train_towers(data, tmp_path, settings=TowerSettings(language=LanguageSettings(images=0.99)))
    with pytest.raises(ConfigError, match=r"layouts=other.*dynfocus, mixed"):
        train_towers(data, tmp_path, settings=TowerSettings(language=LanguageSettings(layouts="other")))
    with pytest.raises(DataError, match="make world"):
        train_towers(tmp_path, tmp_path / "out")
    (tmp_path / "out" / "llm").mkdir(parents=True)
    with pytest.raises(ConfigError, match="no tower"):
        train_towers(data, tmp_path / "out", settings=SMALL)


def test_towers_of_another_world_learn_its_scenes_on_mixed_layouts(tmp_path: Path) -> None:
    data = write_world(tmp_path / "data", 2, val=1, test=1, images=2, settings=STANDARD, workers=0, progress=False)
    mixed = replace(SMALL.language, layouts="mixed", steps=20, pool=30)
    settings = replace(SMALL, vision=replace(SMALL.vision, steps=3), language=mixed)
    record = read_quality(train_towers(data, tmp_path / "towers", settings=settings, workers=0, progress=False))
    for world in (record["vision"]["world"]["settings"], record["language"]["world"]):
        assert WorldSettings(**world) == STANDARD
    assert record["language"]["settings"]["layouts"] == "mixed"
    assert "final" in record["language"]["quality"]
    other = write_world(tmp_path / "easy", 2, val=1, test=1, images=2, workers=0, progress=False)
    with pytest.raises(ConfigError, match="instructblip, made with other world"):
        train_towers(other, tmp_path / "towers", settings=settings, workers=0)


def test_towers_of_before_worlds_had_settings_are_kept(towers: Path, data: Path, tmp_path: Path) -> None:
    """Their records lack the world of the language model and its layouts, and hold the world's record of then."""
    old = shutil.copytree(towers, tmp_path / "towers")
    for folder in ("instructblip", "llm"):
        record = json.loads((old / folder / "tower.json").read_text())
        if folder == "llm":
            del record["world"], record["settings"]["layouts"]
        else:
            world = record["world"]
            names = ("frames", "scenes", "shortest_scene", "returns", "events", "things", "glitches")
            world["constants"] |= {f"videos.{name.upper()}": world["settings"][name] for name in names}
            del world["settings"]
        (old / folder / "tower.json").write_text(json.dumps(record))
    assert list_unfinished(data, old, 0, SMALL) == []


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "llm", {}, fill)
    assert list(tmp_path.iterdir()) == []


def test_seeds_share_nothing_with_the_data() -> None:
    ours = {TRAINING_SEED + seed for seed in range(1000)} | {HELD_OUT_SEED, CORPUS_SEED}
    assert ours.isdisjoint(split_seed(seed, split) for seed in range(1000) for split in (*SPLITS, "image", "text"))


def test_frames_hold_every_event_and_some_others(data: Path) -> None:
    frames = read_labelled(data, "stage1", videos=8, images=4, plain=2, progress=False)
    events = sum(len(s.event.frames) for i in range(8) for s in sample_video(split_seed(0, "train"), i).eventful)
    assert frames.eventful.sum() == events + 4
    assert len(frames) == events + 4 + 8 * 2
