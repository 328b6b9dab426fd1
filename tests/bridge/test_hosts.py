"""Frames handed to tiny random models of seven families, as pixels and as features of their own towers."""

import ast
import inspect
import os
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_hosts
import torch
import transformers
from make_videos import write_video

from dynfocus.bridge.hosts import families, make_inputs
from dynfocus.bridge.hosts.families import FAMILIES, find_family
from dynfocus.bridge.hosts.features import RODS, HostFeatures
from dynfocus.bridge.hosts.host import Host
from dynfocus.bridge.hosts.processor_calls import correct_times, list_arguments, pair_frames
from dynfocus.bridge.picked import pick
from dynfocus.budget import most_kept
from dynfocus.errors import ConfigError, PromptError
from dynfocus.video.numbered import NumberedFrames

if find_spec("torchvision") is None and "CI" not in os.environ:  # CI must not skip
    pytest.skip("video processors need torchvision, which make install brings", allow_module_level=True)
FRAMES, DURATION, SIDE = 12, 20.0, 112
SECONDS = [0.5, 1.4, 3.0, 4.12, 7.4, 8.2, 10.0, 10.166, 11.0, 13.7, 16.0, 19.033]  # as uneven as a VFR file's
KEPT = [0, 1, 6, 7, 8, 11]
TIMES = [SECONDS[frame] for frame in KEPT]
QUESTION = "what color is the star?"
VIDEO = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8))
every_host = pytest.mark.parametrize("name", tiny_hosts.BUILDERS)


@dataclass
class Case:
    """A host, with the frames of the video as it has encoded them once."""

    host: Host
    features: HostFeatures

    @property
    def pixels(self) -> dict[str, Any]:
        return self.host.pixel_inputs(VIDEO[KEPT], TIMES, DURATION, QUESTION)

    def tokens(self, kept: list[int] = KEPT, seconds: list[float] = SECONDS, rods: int = 0, ask: str = QUESTION) -> Any:
        return self.host.feature_inputs(self.host.show(self.features, seconds, kept, rods), DURATION, ask)


@cache
def case(name: str) -> Case:
    host = Host(*tiny_hosts.build(name))
    return Case(host, host.encode(VIDEO, len(KEPT)))


@torch.no_grad()
def logits(host: Host, inputs: dict[str, Any]) -> torch.Tensor:
    return host.model(**inputs).logits


def read_times(host: Host, inputs: dict[str, Any]) -> list[float]:
    """The time of every frame as the model is given it: in words, or in the positions of its tokens."""
    text = host.processor.tokenizer.decode(inputs["input_ids"][0])
    if host.family.clock == "positions":
        is_video, rate = (
            inputs["input_ids"][0] == host.processor.video_token_id,
            host.model.config.vision_config.tokens_per_second,
        )
        places = inputs["position_ids"] if "position_ids" in inputs else guess_positions(host, inputs)
        steps, rows, columns = places[-3:, 0, is_video]
        first = (rows == rows.min()) & (columns == columns.min())  # the token in the corner of each frame
        return [TIMES[0] + float(step - steps[0]) / rate for step in steps[first]]
    if found := re.findall(r"Frame from (\d+):(\d+):", text):
        return [60.0 * int(minutes) + int(seconds) for minutes, seconds in found]
    sentence = re.findall(r"frames are at (.*) s\.\n", text)
    return [
        float(time)
        for time in re.findall(r"(?:<|Time )(\d+\.\d) ?s", text) or (sentence[:1] and sentence[0].split(" s, "))
    ]


def guess_positions(host: Host, inputs: dict[str, Any]) -> torch.Tensor:
    """The positions that transformers finds by itself."""
    names = ("mm_token_type_ids", "video_grid_thw", "second_per_grid_ts", "attention_mask")
    return host.model.model.get_rope_index(
        inputs["input_ids"], **{name: torch.as_tensor(inputs[name]) for name in names}
    )[0]


def count_calls(host: Host, calls: list[int]) -> Any:
    base = host.model.model
    tower = next(getattr(base, name) for name in ("visual", "vision_tower", "vision_model") if hasattr(base, name))
    return tower.register_forward_hook(lambda *_: calls.append(1))


@every_host
def test_features_and_pixels_give_the_same_prompt_and_the_same_logits_to_the_bit(name: str) -> None:
    host, pixels, tokens = case(name).host, case(name).pixels, case(name).tokens()
    processor, times = host.processor, "" if host.family.clock != "sentence" else None
    if times is None:
        listed = ", ".join(f"{time:.1f} s" for time in TIMES)
        times = f"The video lasts {DURATION:.1f} s. Its {len(KEPT)} frames are at {listed}.\n"
    twice = 2 if name.startswith("qwen") else 1
    clock = {"fps": 1.0, "total_num_frames": 20, "duration": DURATION}
    clock["frames_indices"] = [time for time in TIMES for _ in range(twice)]  # type: ignore[assignment]
    plain = processor(  # as transformers' own documentation calls it
        text=[host.prompt(times + QUESTION)],
        videos=[VIDEO[KEPT].repeat_interleave(twice, 0)],
        video_metadata=[clock],
        do_sample_frames=False,
        return_tensors="pt",
        **({"use_token_compression": False} if name == "video_llama_3" else {}),
    )
    assert torch.equal(tokens["input_ids"], plain["input_ids"])
    assert torch.equal(pixels["input_ids"], plain["input_ids"])
    assert torch.equal(logits(host, tokens), logits(host, pixels))
    assert torch.equal(host.generate(case(name).tokens(), 5), host.generate(case(name).pixels, 5))


@every_host
def test_a_second_question_runs_no_tower(name: str) -> None:
    calls: list[int] = []
    hook = count_calls(case(name).host, calls)
    try:
        for question in (QUESTION, "where is the circle?"):
            case(name).host.generate(case(name).tokens(ask=question, rods=1), 2)
        assert not calls
        case(name).host.encode(VIDEO, len(KEPT))
        assert len(calls) == 2  # twelve frames, six at once
    finally:
        hook.remove()


@every_host
def test_the_model_is_told_the_file_s_own_times(name: str) -> None:
    host = case(name).host
    bound = {"qwen2_5_vl": 0.5, "smolvlm": 0.5}.get(name, 0.05)  # half a second a step; whole seconds
    assert bound == host.family.time_error
    for inputs in (case(name).pixels, case(name).tokens()):
        assert np.allclose(read_times(host, inputs), TIMES, atol=bound + 1e-9, rtol=0)
    with_rods = read_times(host, case(name).tokens(rods=2))
    assert np.allclose(with_rods, SECONDS, atol=bound + 1e-9, rtol=0)


@every_host
def test_without_a_video_the_host_reads_the_question_alone(name: str) -> None:
    calls: list[int] = []
    host = case(name).host
    hook = count_calls(host, calls)
    try:
        inputs = host.text_inputs(QUESTION)
        text = host.processor.tokenizer.decode(inputs["input_ids"][0])
        assert QUESTION in text
        assert not any(tag in text for tag in (host.processor.video_token, host.processor.image_token))
        assert host.generate(inputs, 3).shape == (3,)
        assert not calls
    finally:
        hook.remove()
    with pytest.raises(PromptError, match="Leave it out"):
        host.prompt(f"what is {host.processor.image_token}?")


@every_host
def test_the_naive_way_gives_wrong_times_or_none(name: str) -> None:
    host = case(name).host
    naive = dict(host.processor(text=[host.prompt(QUESTION)], videos=[VIDEO[KEPT]], return_tensors="pt"))
    told = read_times(host, naive)
    assert len(told) != len(TIMES) or np.abs(np.subtract(told, TIMES)).max() > 1


@every_host
def test_another_frame_or_order_or_time_changes_what_the_model_says(name: str) -> None:
    own, host = case(name), case(name).host
    before = logits(host, own.tokens())[0, -1]
    shown = host.show(own.features, SECONDS, KEPT)
    other_times = [0.5, 1.4, 5.0, 10.166, 11.0, 19.033]
    for changed in (
        host.show(own.features, SECONDS, [2, *KEPT[1:]]),
        [type(part)(shown[~place].features, part.second) for place, part in enumerate(shown)],
        [type(part)(part.features, second) for part, second in zip(shown, other_times, strict=True)],
    ):
        after = logits(host, host.feature_inputs(changed, DURATION, QUESTION))[0, -1]
        assert (after - before).abs().max() > 1e-5


@every_host
@pytest.mark.parametrize("rods", RODS)
def test_the_budget_is_what_runs(name: str, rods: int) -> None:
    own, host = case(name), case(name).host
    planned = host.budget(FRAMES, len(KEPT), rods, SIDE, SIDE)
    inputs = own.tokens(rods=rods)
    token = host.processor.image_token_id if host.family.entry == "image" else host.processor.video_token_id
    assert planned.visual_tokens == int((inputs["input_ids"] == token).sum())
    output = inputs["mm_encoder_outputs"][host.family.entry].pooler_output
    assert planned.visual_tokens == sum(part.shape[-2] for part in output)
    assert planned.cones == len(KEPT) * own.features.tokens.shape[1]
    assert planned.rods == (FRAMES - len(KEPT)) * rods
    assert host.generate(inputs, 3).shape == (3,)


def test_rods_are_means_over_equal_parts_of_a_frame() -> None:
    features = HostFeatures(torch.arange(16.0)[None, :, None], (4, 4), (torch.arange(16.0)[None, :, None] + 1,))
    assert features.average(1).tokens.flatten().tolist() == [7.5]
    assert features.average(2).tokens.flatten().tolist() == [6.5, 8.5]
    assert features.average(4).tokens.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert features.average(4).deep[0].flatten().tolist() == [3.5, 5.5, 11.5, 13.5]
    with pytest.raises(ConfigError, match="Lower --rods"):
        HostFeatures(torch.zeros(1, 1, 2), (1, 1)).average(2)


def test_as_many_frames_are_kept_as_a_budget_holds() -> None:
    host = case("video_llama_3").host  # whose frames become smaller as more are shown

    def count(keep: int) -> Any:
        return host.budget(FRAMES, keep, 2, SIDE, SIDE)

    for tokens in (60, 120, 150):
        keep = most_kept(FRAMES, count, tokens)
        assert count(keep).visual_tokens <= tokens
        assert keep == FRAMES or count(keep + 1).visual_tokens > tokens
    with pytest.raises(ConfigError, match="at least"):
        most_kept(FRAMES, count, 20)


def test_qwen2_5_vl_asks_behind_the_latest_frame() -> None:
    host = case("qwen2_5_vl").host
    inputs = case("qwen2_5_vl").pixels
    is_video = inputs["input_ids"][0] == host.processor.video_token_id
    end = int(is_video.nonzero()[-1])
    own, theirs = inputs["position_ids"][1:, 0], guess_positions(host, inputs)[:, 0]
    assert torch.equal(own[:, : end + 1], theirs[:, : end + 1])  # an interval a frame is what transformers reads
    assert own[:, end + 1].tolist() == [int(own[:, is_video].max()) + 1] * 3
    assert theirs[0, end + 1] < theirs[0, end]  # by itself it puts the question before the last frame
    assert torch.equal(inputs["position_ids"][0, 0], torch.arange(len(is_video)))


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_qwen_reads_a_frame_with_itself_or_with_the_next_one_never_with_the_next_chosen_one(name: str) -> None:
    own = case(name).host
    beside = [min(frame + 1, FRAMES - 1) for frame in KEPT]
    paired = pair_frames(own.processor, VIDEO[KEPT], VIDEO[beside])
    assert torch.equal(paired[::2], VIDEO[KEPT])
    assert torch.equal(paired[1::2], VIDEO[beside])
    host = Host(own.model, own.processor, "next")
    features = host.encode(VIDEO, len(KEPT), torch.cat([VIDEO[1:], VIDEO[-1:]]))
    tokens = host.feature_inputs(host.show(features, SECONDS, KEPT), DURATION, QUESTION)
    times = [SECONDS[frame] for frame in beside]
    pixels = host.pixel_inputs(VIDEO[KEPT], TIMES, DURATION, QUESTION, VIDEO[beside], times)
    assert torch.equal(tokens["input_ids"], pixels["input_ids"])
    assert torch.equal(logits(host, tokens), logits(host, pixels))
    assert tokens["input_ids"].shape == case(name).tokens()["input_ids"].shape  # a pair costs what a frame twice costs
    assert not torch.equal(logits(host, tokens), logits(own, case(name).tokens()))
    if name == "qwen3_vl":
        assert np.allclose(read_times(host, tokens), np.add(TIMES, times) / 2, atol=0.051)


def test_without_a_chat_template_the_tag_and_the_question_stand_alone() -> None:
    for name in tiny_hosts.BUILDERS:
        host = Host(*tiny_hosts.build(name, chat=False))
        if name == "smolvlm":
            continue  # its processor brings a template for videos
        one = host.pixel_inputs(VIDEO[KEPT], TIMES, DURATION, QUESTION)
        two = host.feature_inputs(host.show(host.encode(VIDEO, 6), SECONDS, KEPT), DURATION, QUESTION)
        assert torch.equal(one["input_ids"], two["input_ids"])
        assert host.processor.tokenizer.decode(one["input_ids"][0]).endswith(QUESTION)


def test_a_family_takes_at_most_forty_lines_and_names_a_processor_of_transformers() -> None:
    tree = ast.parse(inspect.getsource(families))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name not in ("Family", "Grids")]
    assert len(classes) == len(FAMILIES) == 7
    assert all(node.end_lineno - node.lineno < 40 for node in classes)  # type: ignore[operator]
    for name, (_, processor) in FAMILIES.items():
        assert hasattr(transformers, processor)
        assert name in transformers.CONFIG_MAPPING


def test_what_no_family_fits_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of qwen2_5_vl, qwen3_vl"):
        find_family("llama")
    with pytest.raises(ConfigError, match="Qwen3VLProcessor"):
        list_arguments(Words(), VIDEO[:1], [0.0], 1.0)
    with pytest.raises(PromptError, match="Leave it out"):
        case("smolvlm").host.prompt("what is <video>?")
    with pytest.raises(ConfigError, match="Correct --keep"):
        case("smolvlm").host.budget(3, 4, 1, SIDE, SIDE)
    with pytest.raises(ConfigError, match="Correct --rods"):
        case("smolvlm").host.show(case("smolvlm").features, SECONDS, KEPT, 3)


class Words:
    """A processor without a video."""

    video_processor = None


def test_times_are_corrected_for_qwen2_5_vl_alone() -> None:
    for name in tiny_hosts.BUILDERS:
        host = case(name).host
        arguments = list_arguments(host.processor, VIDEO[KEPT], TIMES, DURATION)
        inputs = dict(host.processor(text=[host.prompt(QUESTION)], return_tensors="pt", **arguments))
        added = correct_times(host.model, host.processor, inputs, TIMES)
        assert set(added) == ({"second_per_grid_ts", "position_ids"} if name == "qwen2_5_vl" else set())


@every_host
def test_frames_that_were_picked_of_a_file_go_to_a_processor_with_its_times(name: str, tmp_path: Path) -> None:
    millis = [0, 400, 500, 2100, 2600, 7000, 7100, 12_300]
    picked = pick(NumberedFrames(write_video(tmp_path / "a.mkv", len(millis), millis=millis)), [1, 5, 3, 7])
    host = case(name).host
    inputs = make_inputs(picked, host, QUESTION)
    assert np.allclose(picked.seconds, [0.4, 2.1, 7.0, 12.3])
    shift = picked.seconds[0] - TIMES[0] if host.family.clock == "positions" else 0
    assert np.allclose(np.add(read_times(host, inputs), shift), picked.seconds, atol=host.family.time_error + 1e-9)
    arguments = picked.for_transformers(host.processor)
    assert arguments["do_sample_frames"] is False
    plain = host.processor(text=[host.prompt(QUESTION)], return_tensors="pt", **arguments)
    if host.family.clock != "sentence":
        assert torch.equal(plain["input_ids"], inputs["input_ids"])
    pixels = next(key for key in ("pixel_values", "pixel_values_videos") if key in plain)
    assert torch.equal(plain[pixels], inputs[pixels])
    twice = host.frames_per_patch
    images = torch.from_numpy(np.stack(picked.images()))
    assert torch.equal(arguments["videos"][0], images.repeat_interleave(twice, 0))
    [beside] = picked.for_transformers(host.processor, "next")["videos"]
    assert torch.equal(beside[::twice], images)
    if twice == 2:
        following = pick(NumberedFrames(picked.video), [2, 4, 6, 7]).images()
        assert torch.equal(beside[1::2], torch.from_numpy(np.stack(following)))
