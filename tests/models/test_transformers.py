"""A trained model's folder as transformers' own classes use any model: auto classes, chats, pipeline, Trainer, hub."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from local_hub import serve_hub
from PIL import Image
from saved_models import QUESTION, RULE, save_model
from torch.utils.data import Dataset
from transformers import (
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    GenerationConfig,
    TextIteratorStreamer,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.dynamic_module_utils import get_imports

from dynfocus.errors import CheckpointError, ConfigError, DynFocusError, PromptError
from dynfocus.models.hub import AUTO_MAP, MODULE
from dynfocus.models.model import DynFocusModel
from dynfocus.models.model_card import Training, write_card
from dynfocus.models.processor import DynFocusProcessor
from dynfocus.types import Batch

ROOT = Path(__file__).parents[2]
FRAMES = tiny.frames(6)
ANSWER = "star red"


@pytest.fixture(scope="module")
def net(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder)


@pytest.fixture(scope="module")
def read(folder: Path) -> Any:
    return AutoProcessor.from_pretrained(folder)


def ask(video: Any, question: str = QUESTION) -> list[dict[str, Any]]:
    return ask_about({"type": "video", "video": video}, question)


def ask_about(part: dict[str, Any], question: str = QUESTION) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [part, {"type": "text", "text": question}]}]


def answered(video: Any, answer: str = ANSWER) -> list[dict[str, Any]]:
    return [*ask(video), {"role": "assistant", "content": [{"type": "text", "text": answer}]}]


def test_the_page_as_it_stands(folder: Path, video: Path, capsys: Any) -> None:
    """Every block of it, one after the other."""
    page = (ROOT / "docs/transformers.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.S))
    code = code.replace("runs/world/stage2/model", str(folder)).replace("my_video.mp4", str(video))
    exec(compile(code, "docs/transformers.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 4


def run_alone(code: str, *words: Any, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, without network, and with nobody to answer its questions."""
    settings = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(cwd / "modules")}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, words)],
        **{"cwd": cwd, "env": os.environ | settings | environment, "stdin": subprocess.DEVNULL},
        **{"capture_output": True, "text": True, "check": False},
    )


PLAIN = """
import sys
from transformers import AutoProcessor
try:
    print(type(AutoProcessor.from_pretrained(sys.argv[1])).__name__)
except ValueError as error:
    print("refused:", "trust_remote_code=True" in str(error))
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
from transformers import AutoModelForImageTextToText
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True)
print(type(processor).__name__, type(model).__name__)
inputs = processor(videos=sys.argv[2], text=sys.argv[3], return_tensors="pt")
print(processor.decode(model.generate(**inputs, max_new_tokens=6)[0]))
processor.save_pretrained(sys.argv[4])
model.save_pretrained(sys.argv[4])
"""


def test_a_process_that_never_imported_dynfocus(folder: Path, net: Any, read: Any, video: Path, tmp_path: Path) -> None:
    """A clear error, or our classes; never a plain tokenizer. What it saves is as whole as what it read."""
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    done = run_alone(PLAIN, moved, video, QUESTION, tmp_path / "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    exact = read.decode(net.generate(**read(videos=video, text=QUESTION), max_new_tokens=6)[0])
    lines = [line.rpartition("[y/N] ")[2] for line in done.stdout.splitlines() if line]
    assert lines[-3:] == ["refused: True", "DynFocusProcessor DynFocusModel", exact]
    names = [{file.name for file in place.iterdir()} for place in (folder, tmp_path / "again")]
    assert names[0] == names[1]
    for name in ("processor_config.json", f"{MODULE}.py"):
        assert (tmp_path / "again" / name).read_text() == (folder / name).read_text(), name
    assert json.loads((tmp_path / "again" / "config.json").read_text())["auto_map"] == AUTO_MAP


def test_without_the_package_transformers_names_it(folder: Path) -> None:
    """It looks for what the file imports, and says `pip install dynfocus` where that is absent."""
    assert get_imports(folder / f"{MODULE}.py") == ["dynfocus"]


def test_every_option_that_transformers_passes(folder: Path, tmp_path: Path) -> None:
    options = {
        **{"use_fast": True, "padding_side": "left", "_from_pipeline": "image-text-to-text", "_commit_hash": None},
        **{"code_revision": "main", "proxies": None, "token": None, "revision": "main", "local_files_only": True},
        **{"dtype": "auto", "device_map": None, "trust_remote_code": True, "cache_dir": None},
    }
    shutil.copytree(folder, tmp_path / "inner" / "model")
    assert isinstance(AutoProcessor.from_pretrained(folder, **options), DynFocusProcessor)
    inside = AutoProcessor.from_pretrained(tmp_path / "inner", subfolder="model", **options)
    assert inside.frame_rule == RULE
    with pytest.raises(ConfigError, match="padding_side = 'right'"):
        AutoProcessor.from_pretrained(folder, padding_side="right")


def test_a_repository_of_the_hub_in_the_cache(folder: Path, tmp_path: Path) -> None:
    """As `hf download` leaves it; a name that is in no cache is a clear error."""
    repository, commit = tmp_path / "models--me--tiny", "a" * 40
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    options: dict[str, Any] = {"cache_dir": tmp_path, "local_files_only": True}
    assert AutoProcessor.from_pretrained("me/tiny", **options).frame_rule == RULE
    assert isinstance(AutoModelForImageTextToText.from_pretrained("me/tiny", **options), DynFocusModel)
    with pytest.raises(CheckpointError, match="no folder me/none, and no repository"):
        DynFocusProcessor.from_pretrained("me/none", **options)


PUSH = """
import sys
import dynfocus.models.processor
from transformers import AutoModelForImageTextToText, AutoProcessor
AutoModelForImageTextToText.from_pretrained(sys.argv[1]).push_to_hub("tiny", token="t")
AutoProcessor.from_pretrained(sys.argv[1]).push_to_hub("tiny", token="t")
"""


def test_what_is_pushed_to_a_hub_is_the_folder(folder: Path, tmp_path: Path) -> None:
    """By a process that speaks with a real server over HTTP; the card stays ours."""
    moved = shutil.copytree(folder, tmp_path / "moved")
    write_card(moved, Training(), tiny.SETTINGS)
    with serve_hub() as hub:
        place = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        done = run_alone(PUSH, moved, cwd=tmp_path, **place)
    assert done.returncode == 0, done.stderr
    assert hub.files.keys() == {str(file.relative_to(moved)) for file in moved.rglob("*") if file.is_file()}
    assert hub.files["README.md"].decode() == (moved / "README.md").read_text()
    assert hub.files["model.safetensors"] == (moved / "model.safetensors").read_bytes()


def test_what_auto_classes_say_of_it(folder: Path, net: Any) -> None:
    assert isinstance(AutoModelForMultimodalLM.from_pretrained(folder), DynFocusModel)
    assert set(net.input_modalities) == {"image", "video", "text"}
    state = json.loads((folder / "processor_config.json").read_text())
    assert state["auto_map"] == {"AutoProcessor": f"{MODULE}.DynFocusProcessor"}
    assert (folder / f"{MODULE}.py").is_file()


FORMS: dict[str, Any] = {
    "tensor": FRAMES,
    "array": FRAMES.numpy(),
    "images": [Image.fromarray(frame.numpy()) for frame in FRAMES],
    "arrays": list(FRAMES.numpy()),
    "nested": [FRAMES.numpy()],
}


@pytest.mark.parametrize("form", FORMS)
def test_frames_in_every_form(form: str, net: Any, read: Any) -> None:
    inputs = read(videos=FORMS[form], text=QUESTION, return_tensors="pt")
    exact = read(videos=[FRAMES], text=[QUESTION])
    assert inputs.keys() == exact.keys()
    assert torch.equal(inputs.frames[0], FRAMES)
    assert torch.equal(net.generate(**inputs), net.generate(**exact))


def test_images_of_a_question(read: Any) -> None:
    """One image, or several in a list of their own."""
    picture = Image.fromarray(FRAMES[0].numpy())
    one, several = read(images=picture, text="a"), read(images=[[picture, FRAMES[1]], picture], text=["a", "b"])
    assert [len(clip) for clip in (*one.frames, *several.frames)] == [1, 2, 1]
    assert torch.equal(several.frames[0], FRAMES[:2])


def test_chats_are_the_rows_of_the_same_words(net: Any, read: Any, video: Path) -> None:
    options: dict[str, Any] = {"tokenize": True, "return_dict": True, "add_generation_prompt": True}
    exact = read(videos=video, text=QUESTION)
    parts: list[dict[str, Any]] = [
        {"type": "video", "video": str(video)},
        {"type": "video", "path": str(video)},
        {"type": "video", "url": f"file://{video}"},
        {"type": "video_url", "video_url": {"url": f"file://{video}"}},
    ]
    for part in parts:
        inputs = read.apply_chat_template(ask_about(part), return_tensors="pt", **options)
        assert torch.equal(inputs.input_ids, exact.input_ids)
        assert torch.equal(inputs.frames[0], exact.frames[0])
    turns = [*answered(str(video)), {"role": "user", "content": "how many circles"}]
    both = read.apply_chat_template([turns, ask(FRAMES.numpy())], **options)
    assert both.input_ids.shape[0] == 2
    assert [len(clip) for clip in both.frames] == [9, 6]
    alone = [read.apply_chat_template(chat, **options) for chat in (turns, ask(FRAMES.numpy()))]
    words = [net.generate(**one, max_new_tokens=5, min_new_tokens=5)[0].tolist() for one in alone]
    assert net.generate(**both, max_new_tokens=5, min_new_tokens=5).tolist() == words
    text = read.apply_chat_template(turns)
    assert text.count("<image>") == 2  # this model was trained to see the video in every turn
    assert text.index("how many circles") > text.index(ANSWER) > text.index(QUESTION)
    system = [{"role": "system", "content": "a curious user"}, *ask(FRAMES)]
    assert "a curious user" in read.apply_chat_template(system)
    assert torch.equal(read.apply_chat_template(ask(str(video)), tokenize=True), exact.input_ids)


MISTAKES: dict[str, tuple[type[DynFocusError], str, Any]] = {
    "a prompt": (PromptError, "holds <image>", lambda p: p(text=p.apply_chat_template(ask(FRAMES)), videos=FRAMES)),
    "numpy": (ConfigError, "return_tensors = 'np'", lambda p: p(text="a", videos=FRAMES, return_tensors="np")),
    "unknown": (ConfigError, "the option colour", lambda p: p(text="a", videos=FRAMES, colour=3)),
    "http": (PromptError, "address https://a.b/c.mp4", lambda p: p(text="a", videos="https://a.b/c.mp4")),
    "a number": (PromptError, "videos given as int", lambda p: p(text="a", videos=[3])),
    "two videos": (
        PromptError,
        "message 0 of conversation 0, which shows several",
        lambda p: p.apply_chat_template(
            [{"role": "user", "content": [*ask(FRAMES)[0]["content"], *ask(tiny.frames(3))[0]["content"]]}]
        ),
    ),
    "another later": (
        PromptError,
        "message 2 .* shows something that the first question does not",
        lambda p: p.apply_chat_template([*answered(FRAMES), *ask(tiny.frames(3))]),
    ),
    "no answerer": (
        PromptError,
        "message 0 .* 'assistant' stands out of order",
        lambda p: p.apply_chat_template([{"role": "assistant", "content": "hello"}]),
    ),
    "no words": (PromptError, "without a question", lambda p: p.apply_chat_template(ask(FRAMES, ""))),
    "no video": (
        PromptError,
        "type video without the video",
        lambda p: p.apply_chat_template(ask_about({"type": "video"})),
    ),
    "audio": (PromptError, "type 'audio'", lambda p: p.apply_chat_template(ask_about({"type": "audio"}))),
    "prefill": (
        ConfigError,
        "continue_final_message",
        lambda p: p.apply_chat_template(answered(FRAMES), continue_final_message=True),
    ),
    "answered": (
        PromptError,
        "ends with an answer",
        lambda p: p.apply_chat_template(answered(FRAMES), add_generation_prompt=True),
    ),
    "a mixture": (
        PromptError,
        "beside one that does not",
        lambda p: p.apply_chat_template([answered(FRAMES), ask(FRAMES)]),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name: str, read: Any) -> None:
    kind, words, make = MISTAKES[name]
    with pytest.raises(kind, match=words):
        make(read)


def test_loss_and_logits_by_name(net: Any, read: Any) -> None:
    """What is learned is the answer; the loss is the one that our own trainer takes of the same batch."""
    inputs = read.apply_chat_template([answered(FRAMES), answered(FRAMES[:3], "two")], tokenize=True, return_dict=True)
    learned = [read.decode(row[row != -100]) for row in inputs.labels]
    assert learned == ["star red </s>", "two </s>"]
    output, (exact, _) = net(**inputs), net(Batch(**inputs))
    assert output.logits.shape == (*inputs.input_ids.shape, 44)
    torch.testing.assert_close(output.loss, exact)
    own = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), inputs.labels[:, 1:].flatten())
    torch.testing.assert_close(output.loss, own)
    torch.testing.assert_close(net(**inputs, num_items_in_batch=2).loss, exact * 5 / 2)
    assert net(**inputs, return_dict=False)[0] == output.loss
    without = {name: value for name, value in inputs.items() if name != "labels"}
    assert net(**without).loss is None
    assert torch.equal(net(**without).logits, output.logits)


def test_frozen_encoders_stay_without_dropout_and_each_step_has_its_noise(folder: Path, read: Any) -> None:
    net = AutoModelForImageTextToText.from_pretrained(folder).train()
    assert (net.connector.training, net.language_model.training) == (True, True)
    assert not any(module.training for tower in (net.vision, net.instruction) for module in tower.modules())
    inputs = read.apply_chat_template(answered(FRAMES), tokenize=True, return_dict=True)
    losses = [net(**inputs).loss.item() for _ in range(3)]
    assert len(set(losses)) == 3
    assert net(**inputs, step=2).loss.item() == losses[1]
    assert len({net.eval()(**inputs).loss.item() for _ in range(2)}) == 1


class Chats(Dataset):
    """Four conversations about one video."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, n: int) -> dict[str, Any]:
        return {"messages": answered(FRAMES, ("star red", "two", "a triangle", "blue")[n])}


def test_the_trainer_of_transformers_takes_steps(folder: Path, read: Any, tmp_path: Path) -> None:
    """Connector and language model learn, with the loss of our own trainer over all accumulated rows."""
    net = AutoModelForImageTextToText.from_pretrained(folder)
    before = {name: weight.clone() for name, weight in net.state_dict().items()}

    def collate(rows: list[dict[str, Any]]) -> Any:
        return read.apply_chat_template([row["messages"] for row in rows], tokenize=True, return_dict=True)

    settings = TrainingArguments(
        **{"output_dir": str(tmp_path), "max_steps": 2, "logging_steps": 1, "learning_rate": 1e-2, "use_cpu": True},
        **{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "remove_unused_columns": False},
        **{"report_to": [], "save_strategy": "no", "disable_tqdm": True, "per_device_eval_batch_size": 4},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(net, settings, collate, Chats(), Chats(), processing_class=read)
        exact = net(Batch(**collate([Chats()[n] for n in range(4)])))[0].item()
        assert trainer.evaluate()["eval_loss"] == pytest.approx(exact, abs=1e-3)
        trainer.train()
        trainer.save_model(str(tmp_path / "saved"))
    changed = {name.split(".")[0] for name, weight in net.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {"connector", "language_model"}
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(exact, rel=0.2)  # its noise is another one
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved")
    inputs = collate([Chats()[0]])
    assert torch.equal(again(**inputs).loss, net.eval()(**inputs).loss)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path / "saved"), DynFocusProcessor)


def test_the_pipeline_answers_as_the_model_does(folder: Path, net: Any, read: Any, video: Path) -> None:
    pipe = pipeline("image-text-to-text", model=str(folder), dtype="float32")
    for chat in (ask(str(video)), ask(FRAMES.numpy())):
        inputs = read.apply_chat_template(chat, tokenize=True, return_dict=True)
        exact = read.decode(net.generate(**inputs, max_new_tokens=7, min_new_tokens=7)[0], skip_special_tokens=True)
        options: dict[str, Any] = {"max_new_tokens": 7, "generate_kwargs": {"min_new_tokens": 7}}
        assert pipe(text=chat, return_full_text=False, **options)[0]["generated_text"] == exact
        whole = pipe(text=[chat, chat], **options)[1][0]["generated_text"]
        assert whole[-1] == {"role": "assistant", "content": exact}
    picture = Image.fromarray(FRAMES[0].numpy())
    exact = read.decode(net.generate(**read(images=picture, text=QUESTION), max_new_tokens=3, min_new_tokens=3)[0])
    options = {"max_new_tokens": 3, "generate_kwargs": {"min_new_tokens": 3}, "return_full_text": False}
    assert pipe(images=picture, text=QUESTION, **options)[0]["generated_text"] == exact


def test_generate_takes_what_transformers_gives(net: Any, read: Any) -> None:
    inputs = read(videos=FRAMES, text=QUESTION)
    exact = net.generate(**inputs, max_new_tokens=5, min_new_tokens=5)
    config = GenerationConfig(max_new_tokens=5, min_new_tokens=5)
    assert torch.equal(net.generate(**inputs, generation_config=config), exact)
    held = net.generate(**inputs, generation_config=config, return_dict_in_generate=True)
    assert torch.equal(held.sequences, exact)
    streamer = TextIteratorStreamer(read.tokenizer, skip_prompt=True)
    net.generate(**inputs, generation_config=config, streamer=streamer)
    assert "".join(streamer).split() == read.decode(exact[0]).split()


def test_a_saved_model_is_the_same_weights(tmp_path: Path) -> None:
    """What the folder gained beside the weights changes none of their bytes."""
    net = tiny.model()
    save_model(net, tmp_path / "one")
    AutoModelForImageTextToText.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    files = [tmp_path / name / "model.safetensors" for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
