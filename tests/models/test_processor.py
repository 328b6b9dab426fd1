"""A trained model's folder through transformers alone: the same logits, words and readings, wherever it lies."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from saved_models import QUESTION, RULE, contents, logits, processor, save_model
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoProcessor,
    GemmaConfig,
    GenerationConfig,
    LlamaConfig,
)

from dynfocus.budget import budget
from dynfocus.errors import CheckpointError, ConfigError, DynFocusError, PromptError, VideoError
from dynfocus.inspection.answerer import Answerer
from dynfocus.models.collate import Example
from dynfocus.models.config import DynFocusConfig
from dynfocus.models.model import DynFocusModel
from dynfocus.models.processor import DynFocusProcessor
from dynfocus.records.rows import Row, Turn
from dynfocus.settings import FrameRule
from dynfocus.types import Batch
from dynfocus.video import read_media

ROOT = Path(__file__).parents[2]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(tiny.frames(1)[0].numpy()).save(tmp_path / "i.png")
    return tmp_path / "i.png"


def test_ten_lines_of_transformers(folder: Path, video: Path, tmp_path: Path) -> None:
    """As they stand there, on a folder that was moved, in a process of its own."""
    page = (ROOT / "docs/inspect.md").read_text()
    block = re.search(r"## Ten lines of transformers.*?```python\n(.*?)```", page, re.S)
    assert block
    lines = block[1]
    assert len(lines.splitlines()) <= 10
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    exact = Answerer(moved).ask(video, "what color is the star").answer
    assert exact
    for shown, real in (("runs/world/stage2/model", moved), ("my_video.mp4", video)):
        assert shown in lines
        lines = lines.replace(shown, str(real))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "error::UserWarning", "-c", lines]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == exact


def test_the_folder_that_training_leaves(trained_runs: Path, video: Path) -> None:
    folder = trained_runs / "stage2" / "model"
    read, net = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder)
    assert read.frame_rule == FrameRule(size=tiny.SIDE, interpolation="box")
    assert (read.collate.prompt, read.collate.system_prompt, read.collate.slots) == ("vicuna_v1", False, "first")
    inputs = read(text=QUESTION, videos=video)
    assert len(inputs.frames[0]) == 20
    ids = net.generate(**inputs, max_new_tokens=16)
    assert read.decode(ids[0], skip_special_tokens=True).strip() == Answerer(folder).ask(video, QUESTION).answer


@pytest.mark.parametrize("kind", ["whole", "sharded", "half"])
def test_the_auto_classes_give_the_same_logits_and_words(
    kind: str, tmp_path: Path, video: Path, image: Path, folder: Path
) -> None:
    net = tiny.model()
    options: dict[str, Any] = {}
    if kind == "sharded":
        folder = save_model(net, tmp_path / "sharded", max_shard_size="20KB")
        assert len(list(folder.glob("*.safetensors"))) > 2
    if kind == "half":
        options = {"dtype": torch.bfloat16}
        net = DynFocusModel.from_pretrained(folder, **options).eval()
        assert net.language_model.dtype == torch.bfloat16
    again, read = AutoModel.from_pretrained(folder, **options), AutoProcessor.from_pretrained(folder)
    assert isinstance(again, DynFocusModel)
    assert isinstance(read, DynFocusProcessor)
    assert isinstance(AutoConfig.from_pretrained(folder), DynFocusConfig)
    arguments = {
        "text": [QUESTION, "how many circles", QUESTION],
        "videos": [video, None, None],
        "images": [None, None, image],
    }
    exact, inputs = processor(net)(**arguments), read(**arguments)
    assert exact.keys() == inputs.keys()
    assert torch.equal(logits(again, Batch(**inputs)), logits(net, Batch(**exact)))
    words = [net.generate(**exact, max_new_tokens=9), again.generate(**inputs, max_new_tokens=9)]
    assert torch.equal(*words)
    assert len(set(read.batch_decode(words[1], skip_special_tokens=True))) > 1


@pytest.mark.parametrize("kind", [LlamaConfig, GemmaConfig])
def test_what_ends_an_answer_travels_and_no_other_habit_of_the_language_model(
    kind: Any, tmp_path: Path, video: Path
) -> None:
    """Chat models end answers with one of several tokens, and ask for sampling; their head may be the embedding."""
    encoders, language = tiny.towers(tmp_path)
    ends = [tiny.tokenizer().eos_token_id, *range(5, 44)]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        sizes = tiny.configs()["text_config"] | {"tie_word_embeddings": True}
        words = AutoModelForCausalLM.from_config(kind(**{n: v for n, v in sizes.items() if n in TAKEN}))
    words.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=0, do_sample=True, temperature=0.6, repetition_penalty=5.0
    )
    words.save_pretrained(language)
    net = DynFocusModel.from_towers(encoders, language, tiny.SETTINGS).eval()
    again = AutoModel.from_pretrained(save_model(net, tmp_path / "model"))
    inputs = processor(net)(text=[QUESTION, "how many circles"], videos=[video, video])
    assert torch.equal(logits(again, Batch(**inputs)), logits(net, Batch(**inputs)))
    result = net.generate(**inputs, max_new_tokens=12)
    assert torch.equal(again.generate(**inputs, max_new_tokens=12), result)
    plain = words.generate(
        inputs_embeds=net.embed(Batch(**inputs))[0],
        attention_mask=inputs.attention_mask,
        generation_config=GenerationConfig(
            eos_token_id=ends, pad_token_id=0, max_new_tokens=12, repetition_penalty=1.0
        ),
        do_sample=False,
    )
    assert torch.equal(result, plain)
    assert result.shape[1] < 12


TAKEN = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "pad_token_id"),
    *("num_key_value_heads", "max_position_embeddings", "initializer_range", "bos_token_id", "eos_token_id"),
    "tie_word_embeddings",
)


def test_the_processor_travels_and_says_nothing_twice(tmp_path: Path) -> None:
    net = tiny.model(replace(tiny.SETTINGS, keep=0.2))
    made = processor(net, slots="first", system_prompt=False)
    net.save_pretrained(tmp_path / "one")
    made.save_pretrained(tmp_path / "one")
    read = AutoProcessor.from_pretrained(tmp_path / "one")
    assert read.frame_rule == RULE
    again = {"tokenizer": made.collate.tokenizer, "instruction_tokenizer": made.collate.instruction_tokenizer}
    assert replace(read.collate, **again) == made.collate
    state = json.loads((tmp_path / "one" / "processor_config.json").read_text())
    assert state.keys() == {"processor_class", "auto_map", "frame_rule", "prompt", "system_prompt", "slots"}
    assert state["frame_rule"] == vars(RULE)
    assert not {"frame_rule", "reading", "prompt"} & json.loads((tmp_path / "one" / "config.json").read_text()).keys()
    net.save_pretrained(tmp_path / "two")
    read.save_pretrained(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    wide = AutoProcessor.from_pretrained(tmp_path / "one", prompt="plain", frame_rule=FrameRule(size=tiny.SIDE))
    assert (wide.collate.prompt, wide.frame_rule.fps) == ("plain", 1.0)


def test_what_it_gives_is_the_batch_of_the_same_rows(folder: Path, video: Path, image: Path) -> None:
    arguments = [(QUESTION, str(video)), ("how many circles", None), (QUESTION, str(image))]
    frames = [read_media(video, RULE).frames, torch.full((1, tiny.SIDE, tiny.SIDE, 3), 128).byte(), tiny.frames(1)]
    rows = [Row("x", n, medium, (Turn(text, None),)) for n, (text, medium) in enumerate(arguments)]
    exact = tiny.processor()([Example(row, frames=clip) for row, clip in zip(rows, frames, strict=True)])
    inputs = AutoProcessor.from_pretrained(folder)(
        videos=[video, None, None], images=[None, None, str(image)], text=[text for text, _ in arguments]
    )
    assert inputs.keys() == {name for name, value in vars(exact).items() if value is not None} - {
        *("records", "skipped", "seconds")
    }
    for name, value in inputs.to("cpu").items():
        if name == "frames":
            assert all(torch.equal(*pair) for pair in zip(value, exact.frames, strict=True))
        else:
            assert torch.equal(value, getattr(exact, name)), name
    image_id = tiny.tokenizer().convert_tokens_to_ids("<image>")
    assert inputs.input_ids.eq(image_id).sum(1).tolist() == [
        budget(9, tiny.SETTINGS).visual_tokens,
        0,
        budget(1, tiny.SETTINGS).visual_tokens,
    ]
    moved = inputs.to("meta")
    assert {moved.input_ids.device.type, *(clip.device.type for clip in moved.frames)} == {"meta"}


def test_one_question_needs_no_list(folder: Path, video: Path) -> None:
    read, net = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for asked in ({"videos": video}, {"videos": str(video)}, {"images": None}):
        inputs = read(text=QUESTION, **asked)
        ids = net.generate(**inputs, max_new_tokens=4, min_new_tokens=4)
        assert ids.shape == (1, 4)
        assert torch.equal(ids, net.answer(Batch(**inputs), max_new_tokens=4, min_new_tokens=4)[0])
    assert Answerer(folder).ask(video, QUESTION, 4).answer == read.decode(
        net.generate(**read(text=QUESTION, videos=video), max_new_tokens=4)[0], skip_special_tokens=True
    )


MISTAKES: dict[str, tuple[type[DynFocusError], str, Callable[[Any, Path, Path], Any]]] = {
    "fewer videos": (PromptError, "2 questions and 1 videos", lambda p, v, i: p(text=["a", "b"], videos=v)),
    "no text": (PromptError, "0 questions and 1 videos", lambda p, v, i: p(videos=v)),
    "nothing": (PromptError, "0 questions", lambda p, v, i: p()),
    "two files": (
        PromptError,
        "question 0 about a video and an image",
        lambda p, v, i: p(text="a", videos=v, images=i),
    ),
    "no file": (VideoError, "none.mp4", lambda p, v, i: p(text="a", videos="none.mp4")),
    "no room": (
        PromptError,
        r"'text\[0\]' of \d+ tokens.*context of 512 less 490 new tokens.*max_new_tokens \d+",
        lambda p, v, i: p(text=QUESTION, videos=v, new_tokens=490),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name: str, folder: Path, video: Path, image: Path) -> None:
    kind, output, make = MISTAKES[name]
    with pytest.raises(kind, match=output):
        make(AutoProcessor.from_pretrained(folder), video, image)


DAMAGES: dict[str, tuple[type[DynFocusError], str, Callable[[Path], Any]]] = {
    "absent": (CheckpointError, "processor_config.json", lambda file: file.unlink()),
    "cut off": (CheckpointError, "JSONDecodeError", lambda file: file.write_text(file.read_text()[:40])),
    "no rule": (
        CheckpointError,
        "frame_rule",
        lambda file: file.write_text('{"processor_class": "DynFocusProcessor"}'),
    ),
    "foreign": (CheckpointError, "colour", lambda file: edited(file, colour="red")),
    "rule": (CheckpointError, "sise", lambda file: edited(file, frame_rule={"sise": 4})),
    "size": (ConfigError, "size=0", lambda file: edited(file, frame_rule={"size": 0})),
    "prompt": (ConfigError, "prompt = 'alpaca'", lambda file: edited(file, prompt="alpaca")),
    "slots": (ConfigError, "slots = 'last'", lambda file: edited(file, slots="last")),
    "no tokenizer": (
        CheckpointError,
        "qformer_tokenizer",
        lambda file: shutil.rmtree(file.parent / "qformer_tokenizer"),
    ),
    "no model": (CheckpointError, "no trained model", lambda file: (file.parent / "config.json").unlink()),
}


def edited(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    kind, output, damage = DAMAGES[name]
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy / "processor_config.json")
    with pytest.raises(kind, match=output):
        DynFocusProcessor.from_pretrained(copy)


def test_an_option_that_there_is_not_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="the option temperature"):
        AutoProcessor.from_pretrained(folder, temperature=3)
