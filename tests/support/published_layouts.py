"""Every published data set in a folder of its own, a few rows each, around the miniature world's videos and images."""

import csv
import json
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

ROWS = 4  # of each set, and of each kind of row in a set


def write_published_sets(root: Path, world: Path) -> Path:
    """Write small sets under ``root`` as they lie when unpacked, by the names of `SETS`."""
    shown = cycle(sorted((world / "videos").glob("train_*.mp4")))
    pictures = cycle(sorted((world / "images").glob("train_*.png")))

    def video(*path: str) -> None:
        copy_file(root.joinpath(*path), next(shown))

    def image(*path: str) -> None:
        copy_file(root.joinpath(*path), next(pictures))

    for n in range(ROWS):
        image("LLaVA-CC3M-Pretrain-595K", "images", f"GCC_train_{n:09d}.jpg")
        video("WebVid", "videos", "000001_000050", f"{n}.mp4")
        video("VideoChatGPT", "videos", f"v_{n}{('.mp4', '.mkv')[n % 2]}")
        video("NExTVideo", "1001", f"{n}.mp4")
        video("CLEVRER", "video_train", "video_00000-01000", f"video_{n:05d}.mp4")
        image("ScienceQA", "images", "train", str(n), "image.png")
        for folder in LLAVA:
            image("LLaMA-VID-Finetune", folder, f"{n}.jpg")
    texts = list(captions())
    write_json(
        root / "LLaVA-CC3M-Pretrain-595K" / "chat.json",
        [talk(f"GCC_train_{n:09d}", texts[n], image=f"GCC_train_{n:09d}.jpg") for n in range(ROWS)],
    )
    table(
        root / "WebVid" / "results_2M_train.csv",
        ["videoid", "contentUrl", "duration", "page_dir", "name"],
        [[n, "https://example.org", "PT00H00M20S", "000001_000050", texts[n]] for n in range(ROWS)],
    )
    write_json(
        root / "LLaMA-VID-Finetune" / "llava_v1_5_mix665k.json",
        [talk(f"{folder}{n}", texts[n], image=f"{folder}/{n}.jpg") for n in range(ROWS) for folder in LLAVA]
        + [talk(f"text{n}", texts[n]) for n in range(ROWS)],
    )
    science(root / "ScienceQA" / "data" / "scienceqa")
    write_json(
        root / "VideoChatGPT" / "VideoInstruct100K.json",
        [{"q": "what does the video show?", "a": texts[n], "video_id": f"v_{n}"} for n in range(ROWS)],
    )
    chats = root / "VideoChat2-IT" / "video"
    write_json(chats / "reasoning" / "next_qa" / "train.json", [question_row(f"1001/{n}.mp4") for n in range(ROWS)])
    for name in ("clevrer_qa", "clevrer_mc"):
        write_json(chats / "reasoning" / name / "train.json", [question_row(f"video_{n:05d}.mp4") for n in range(ROWS)])
    write_json(
        chats / "vqa" / "webvid_qa" / "train.json",
        [question_row(f"000001_000050/{n}.mp4", start=2.0, end=11.0) for n in range(ROWS)],
    )
    write_json(
        chats / "conversation" / "videochatgpt" / "train.json", [question_row(f"v_{n}.mp4") for n in range(ROWS)]
    )
    return root


LLAVA = ("coco/train2017", "gqa/images", "ocr_vqa/images", "textvqa/train_images", "vg/VG_100K", "vg/VG_100K_2")


def captions() -> Iterator[str]:
    yield from ("a star red", "the circle is two", "a blue square comes after", "green triangle")


def talk(name: str, answer: str, **shown: str) -> dict[str, Any]:
    question = "<image>\nwhat color is the star" if shown else "what comes after the blue square ?"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": name, **shown, "conversations": turns}


def question_row(video: str, **span: float) -> dict[str, Any]:
    pairs = [("what color is the star", "red"), ("how many circles are there", "two")]
    return {"video": video, **span, "QA": [{"i": "Watch the video.", "q": q, "a": a} for q, a in pairs]}


def science(folder: Path) -> None:
    problem = {"question": "what color is the star", "choices": ["red", "blue"], "answer": 0, "hint": ""}
    problem |= {"lecture": "", "solution": "the star is red", "split": "train"}
    pictured = {str(n): problem | {"image": "image.png"} for n in range(ROWS)}
    alone = {str(n + ROWS): problem | {"image": None} for n in range(ROWS)}
    write_json(folder / "problems.json", pictured | alone)
    write_json(folder / "pid_splits.json", {"train": [*pictured, *alone], "val": [], "test": []})


def copy_file(path: Path, source: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, path)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def table(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as opened:
        csv.writer(opened).writerows([columns, *rows])


def data(folder: Path, root: Path, kind: str = "mixture.Mixture", **options: Any) -> tuple[str, ...]:
    """An overlay that puts published sets in the place of the world's."""
    arguments = {"root": str(root), "index": str(folder / "index"), "batch_size": 2, **options}
    file = folder / "data.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"data": {"class_path": f"datamodules.{kind}", "init_args": arguments}}))
    return "--config", str(file), "--trainer.log_every_n_steps", "1"


def copy_broken_set(root: Path, folder: Path) -> Path:
    """A copy of the captioned images of which two cannot be used: one is missing, one is no image."""
    images = folder / "LLaVA-CC3M-Pretrain-595K" / "images"
    images.mkdir(parents=True)
    source = root / "LLaVA-CC3M-Pretrain-595K"
    one = json.loads((source / "chat.json").read_text())[0]
    rows = [one | {"id": str(n), "image": f"{n}.jpg"} for n in range(32)]
    for row in rows:
        (images / row["image"]).write_bytes((source / "images" / "GCC_train_000000000.jpg").read_bytes())
    (images / "3.jpg").unlink()
    (images / "11.jpg").write_bytes(b"no image")
    (images.parent / "chat.json").write_text(json.dumps(rows))
    return folder


def quarantine(limit: float) -> tuple[str, str]:
    return "--trainer.callbacks+", json.dumps(
        {"class_path": "callbacks.quarantine.Quarantine", "init_args": {"limit": limit}}
    )
