"""Describe where a data set lies on disk, and list every published set in the layout it is usually unpacked in."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dynfocus.errors import DataError

FormatName = Literal[
    "conversations",
    "jsonl",
    "query_response",
    "webvid",
    "videochatgpt",
    "scienceqa",
    "videochat2",
    "nextqa",
    "clevrer",
    "sharegpt4video",
]
FINETUNE = "LLaMA-VID-Finetune"
VIDEOCHAT2 = "VideoChat2-IT/video"


@dataclass(frozen=True)
class Source:
    """One data set: its annotation file or files, their format, and the folders of what its rows show.

    Attributes:
        name: stands for the data set in messages and in lists of skipped rows.
        file: the annotation file, relative to ``folder``; may be a pattern such as ``parts/*.csv``, and packed: gzip,
            parquet, a WebDataset tar, or a folder that Hugging Face's `datasets` has written.
        format: how its rows are written: a name in `dynfocus.data.annotations.formats.FORMATS`.
        folder: relative to the data root, or absolute.
        media: the folder of videos and images, relative to ``folder`` or absolute; or several, by the row's ``class``,
            by how its path begins (``coco/train2017``; the folder stands for that part), or by ``<image>`` and
            ``<video>``. A key of ``""`` is for all other rows.
        rounds: conversations of more turns are cut into rows of at most so many; None leaves them whole.
        split: which part of ScienceQA's ``problems.json``, or of a folder of `datasets`.
        instructions: whether VideoChat2's task instruction stands before the first question of a row.
        lectures: whether ScienceQA's lecture and solution stand before the answer.
    """

    name: str
    file: str
    format: FormatName = "conversations"
    folder: str = "."
    media: str | dict[str, str] = "."
    rounds: int | None = None
    split: str = "train"
    instructions: bool = True
    lectures: bool = True

    def __post_init__(self) -> None:
        if self.rounds is not None and self.rounds < 1:
            raise DataError(f"rounds = {self.rounds} of {self.name}", "at least 1 turn in a row", "Raise it, or null.")

    def files(self, root: Path) -> list[Path]:
        """List the annotation files that exist, numbered parts in the order of their numbers.

        Raises:
            DataError: if there is none.
        """
        folder = Path(root) / self.folder
        if (folder / self.file).is_file():
            return [folder / self.file]
        if (folder / self.file).is_dir() and (files := list_dataset_files(folder / self.file, self.split)):
            return files
        # glob takes no absolute pattern, and a name without wildcards is no pattern.
        matches = [] if Path(self.file).is_absolute() or not set("*?[") & set(self.file) else folder.glob(self.file)
        if files := sorted((path for path in matches if path.is_file()), key=sort_by_number):
            return files
        raise DataError(
            f"no annotation file at {folder / self.file}",
            f"the annotation file of {self.name}",
            "Check the data root, and the set's folder and file below it.",
        )

    def expected_files(self, root: Path) -> list[Path]:
        """The annotation files that are there; where none is yet, the one that it will be."""
        try:
            return self.files(root)
        except DataError:
            return [Path(root) / self.folder / self.file]


def list_dataset_files(folder: Path, split: str) -> list[Path]:
    """List the files of a split in a folder that Hugging Face's `datasets` has saved, or that was downloaded as one."""
    for place in (folder, folder / split):
        with suppress(OSError, ValueError, KeyError, TypeError):
            return [place / file["filename"] for file in json.loads((place / "state.json").read_text())["_data_files"]]
    for pattern in (
        f"data/{split}-*.parquet",
        f"{split}-*.parquet",
        f"{split}/*.parquet",
        f"{split}*.parquet",
        "*.parquet",
    ):
        if files := sorted(folder.glob(pattern), key=sort_by_number):
            return files
    return []


def sort_by_number(path: Path | str) -> list[tuple[int, str]]:
    """Return a key to sort names by, the numbers in them by their size."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", str(path))]


def _sets(*sources: Source) -> dict[str, Source]:
    return {source.name: source for source in sources}


# Every published set by name. Where a set lies elsewhere, the config can give its folders.
SETS = _sets(
    Source("cc3m", "chat.json", folder="LLaVA-CC3M-Pretrain-595K", media="images"),
    Source("lcs558k", "blip_laion_cc_sbu_558k.json", folder="LLaVA-Pretrain", media="images"),
    Source("webvid", "results_2M_train.csv", "webvid", folder="WebVid", media="videos"),
    # LLaMA-VID learned from five of fifty parts.
    Source("webvid_parts", "results_2M_train_50/[0-4].csv", "webvid", folder="WebVid", media="videos"),
    Source(
        "llama_vid_pretrain",
        "llava_558k_with_webvid.json",
        folder="LLaMA-VID-Pretrain",
        media={"<image>": "images", "<video>": "videos"},
    ),
    Source("llava665k", "llava_v1_5_mix665k.json", folder=FINETUNE),
    Source("llava665k_rounds6", "llava_v1_5_mix665k_maxround_6_total_921k.json", folder=FINETUNE),
    Source("llava665k_rounds12", "llava_v1_5_mix665k_maxround_12_total_714k.json", folder=FINETUNE),
    Source("llama_vid", "llava_v1_5_mix665k_with_video_chatgpt.json", folder=FINETUNE),
    Source("llama_vid_5min", "llava_v1_5_mix665k_with_video_chatgpt_maxtime_5min.json", folder=FINETUNE),
    Source("scienceqa", "data/scienceqa/problems.json", "scienceqa", folder="ScienceQA", media="images"),
    Source("scienceqa_llava", "llava_train_QCM-LEA.json", folder="ScienceQA", media="images/train"),
    Source("videochatgpt", "VideoInstruct100K.json", "videochatgpt", folder="VideoChatGPT", media="videos"),
    Source("videochatgpt_converted", "video_chatgpt_training.json", folder="VideoChatGPT", media="videos"),
    Source("nextqa", f"{VIDEOCHAT2}/reasoning/next_qa/train.json", "videochat2", media="NExTVideo", rounds=1),
    Source(
        "clevrer_qa",
        f"{VIDEOCHAT2}/reasoning/clevrer_qa/train.json",
        "videochat2",
        media="CLEVRER/video_train",
        rounds=1,
    ),
    Source(
        "clevrer_mc",
        f"{VIDEOCHAT2}/reasoning/clevrer_mc/train.json",
        "videochat2",
        media="CLEVRER/video_train",
        rounds=1,
    ),
    Source("webvid_qa", f"{VIDEOCHAT2}/vqa/webvid_qa/train.json", "videochat2", media="WebVid/videos", rounds=1),
    Source(
        "webvid_qa_30k", f"{VIDEOCHAT2}/vqa/webvid_qa/train_30k.json", "videochat2", media="WebVid/videos", rounds=1
    ),
    Source(
        "videochat2_videochatgpt",
        f"{VIDEOCHAT2}/conversation/videochatgpt/train.json",
        "videochat2",
        media="VideoChatGPT/videos",
        rounds=1,
        instructions=False,
    ),
    Source("clevrer", "CLEVRER/train.json", "clevrer", media="CLEVRER/video_train", rounds=1),
    Source("sharegpt4video", "sharegpt4video_40k.jsonl", "sharegpt4video", folder="ShareGPT4Video", media="videos"),
    Source("nextqa_mc_csv", "NExT-QA/dataset/nextqa/train.csv", "nextqa", media="NExTVideo"),
    Source("nextqa_oe_csv", "NExT-OE/dataset/nextqa/train.csv", "nextqa", media="NExTVideo"),
)
