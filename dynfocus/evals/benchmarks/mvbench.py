"""Read and count MVBench: choices about short videos, 20 tasks from as many sources.

A row of ``json/action_sequence.json``, in our own words; some tasks alone have ``start`` and ``end``, in seconds::

    {"video": "abc.mp4", "question": "What comes next?", "candidates": ["Eating.", "Reading.", "Leaving."],
     "answer": "Reading.", "start": 3.5, "end": 9.0}

Read as well: ``test.json`` of the newer revision, whose videos are cut already. Different videos have the same name, so
that each is found in its own source's folder alone. Of candidates alike the last one counts, as upstream.

Departs: an answer that chooses nothing is wrong, where upstream's match takes an empty one for right
(``--protocol upstream``). The average is over tasks, and once more over the 19 without fine-grained poses, whose videos
are not published any more.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Mean
from dynfocus.evals.rules import check_choice, find_letter, format_options, make_choice
from dynfocus.evals.upstream import check_mvbench
from dynfocus.records.rows import Question

# The folder of each task's videos, as the first revision has it.
STAR, CLEVRER, PERCEPTION = "star/Charades_v1_480", "clevrer/video_validation", "perception/videos"
FRAMES, FPS = "tvqa/frames_fps3_hq", 3.0
TASKS = {
    **{"action_sequence": STAR, "action_prediction": STAR, "object_interaction": STAR},
    **{"action_localization": "sta/sta_video", "episodic_reasoning": FRAMES, "action_antonym": "ssv2_video"},
    **{"fine_grained_action": "Moments_in_Time_Raw/videos", "unexpected_action": "FunQA_test/test"},
    **{"object_existence": CLEVRER, "moving_direction": CLEVRER, "moving_count": CLEVRER, "moving_attribute": CLEVRER},
    **{"counterfactual_inference": CLEVRER, "object_shuffle": PERCEPTION, "action_count": PERCEPTION},
    **{"state_change": PERCEPTION, "character_order": PERCEPTION, "scene_transition": "scene_qa/video"},
    **{"fine_grained_pose": "nturgbd", "egocentric_navigation": "vlnqa"},
}
GONE = "fine_grained_pose"


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read the questions of all tasks."""
    whole = {task: (f"json/{task}.json", f"{task}.json") for task in TASKS}
    cut = None
    if files.find(*whole["action_sequence"], "test.json").name == "test.json":
        cut = files.read_json("test.json")
    files.require(*(whole.values() if cut is None else ()))
    for task in TASKS:
        rows = cut["meta"][task] if cut else files.read_json(*whole[task])
        folder = cut["root"][task].removeprefix("./").strip("/") if cut else TASKS[task]
        for number, row in enumerate(rows):
            question = make_choice(
                row["question"], row["candidates"], find_letter(row["candidates"], row["answer"]), task
            )
            fps = FPS if folder == FRAMES else None
            span = None if cut else read_span(row)
            yield Item(f"{task}_{number}", f"{folder}/{row['video']}", question, span, exact=True, fps=fps)


def read_span(row: dict[str, Any]) -> tuple[float, float] | None:
    """Read the segment that a row is about; one of no length, in a row of the first revision, has a better one."""
    start, end = row.get("start"), row.get("end")
    if start is not None and start == end:
        start, end = row.get("accurate_start"), row.get("accurate_end")
    return None if start is None or end is None else (float(start), float(end))


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask for the best option."""
    return f"Question: {question.text}\nOptions:\n{format_options(question.options)}\nOnly give the best option."


MVBENCH = Benchmark(
    name="mvbench",
    read=read,
    prompt=prompt,
    check=check_choice,
    upstream={"check": check_mvbench},
    columns={
        "Avg": Mean(tuple((task,) for task in TASKS), 100),
        "Avg of 19": Mean(tuple((task,) for task in TASKS if task != GONE), 100),
        **{f"type/{task}": Mean(((task,),), 100) for task in TASKS},
    },
)
