"""Video language models of seven families with random weights, and their real processors, built without a network."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>", "<image>", "<video>", "<img>", "</img>", "<IMG_CONTEXT>"),
    *("<fake_token_around_image>", "<end_of_utterance>", "<global-img>"),
]
NAMED = {
    "image_token": "<image>",
    "video_token": "<video>",
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
}
TEXT = {
    **{"vocab_size": 512, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 65536},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
TOWER = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
CHAT = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{% for part in turn.content %}{% if part.type == 'video' %}"
    "TAG{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(named: bool = True) -> PreTrainedTokenizerFast:
    """Trained on two lines; ``named``: with the names that LLaVA's and InternVL's processors read tokens by."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(["what color is the star?", "Frame 1: time 12.5 seconds"], trainer)
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "padding_side": "left"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, extra_special_tokens=NAMED if named else {}, **ends)


def vision_ids(words: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    return {name: words.convert_tokens_to_ids(token) for name, token in names.items()}


def qwen_tower(**more: Any) -> dict[str, Any]:
    return TOWER | {"depth": 2, "num_heads": 2, "spatial_merge_size": 2, "temporal_patch_size": 2} | more


def rotary(**more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3], **more}}


def qwen25vl() -> tuple[Any, Any]:
    words = tokenizer(named=False)
    config = transformers.Qwen2_5_VLConfig(
        text_config=TEXT | rotary(),
        vision_config=qwen_tower(
            patch_size=14, window_size=112, out_hidden_size=64, fullatt_block_indexes=[1], tokens_per_second=2
        ),
        **vision_ids(words),
    )
    size = {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 16}
    images, videos = transformers.Qwen2VLImageProcessor(size=size), transformers.Qwen2VLVideoProcessor(size=size)
    processor = transformers.Qwen2_5_VLProcessor(images, words, videos)
    return transformers.Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3vl() -> tuple[Any, Any]:
    words = tokenizer(named=False)
    config = transformers.Qwen3VLConfig(
        text_config=TEXT | {"head_dim": 16} | rotary(mrope_interleaved=True),
        vision_config=qwen_tower(
            patch_size=16, out_hidden_size=64, num_position_embeddings=64, deepstack_visual_indexes=[0]
        ),
        **vision_ids(words),
    )
    size = {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 16 * 8}
    images, videos = (
        transformers.Qwen2VLImageProcessor(patch_size=16, size=size),
        transformers.Qwen3VLVideoProcessor(size=size),
    )
    return transformers.Qwen3VLForConditionalGeneration(config), transformers.Qwen3VLProcessor(images, words, videos)


def llava_onevision() -> tuple[Any, Any]:
    words, pinpoints, size = tokenizer(), [[56, 56], [112, 112]], {"height": 56, "width": 56}
    tower = TOWER | {"num_hidden_layers": 2, "image_size": 56, "patch_size": 14, "vision_use_head": False}
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**tower),
        text_config=transformers.Qwen2Config(**TEXT),
        image_token_index=words.image_token_id,
        video_token_index=words.video_token_id,
        image_grid_pinpoints=pinpoints,
    )
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        words,
        transformers.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config), processor


def llava_next_video() -> tuple[Any, Any]:
    words, pinpoints, crop = tokenizer(), [[56, 56], [112, 112]], {"height": 56, "width": 56}
    tower = TOWER | {"num_hidden_layers": 3, "image_size": 56, "patch_size": 14}
    config = transformers.LlavaNextVideoConfig(
        vision_config=transformers.CLIPVisionConfig(**tower),
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=words.image_token_id,
        video_token_index=words.video_token_id,
        image_grid_pinpoints=pinpoints,
        image_seq_length=16,
        video_seq_length=4,
    )
    sizes: dict[str, Any] = {"size": {"shortest_edge": 56}, "crop_size": crop}
    processor = transformers.LlavaNextVideoProcessor(
        transformers.LlavaNextVideoVideoProcessor(**sizes),
        transformers.LlavaNextImageProcessor(**sizes, image_grid_pinpoints=pinpoints),
        words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return transformers.LlavaNextVideoForConditionalGeneration(config), processor


def internvl() -> tuple[Any, Any]:
    words, size = tokenizer(), {"height": 56, "width": 56}
    config = transformers.InternVLConfig(
        vision_config=TOWER | {"num_hidden_layers": 2, "image_size": [56, 56], "patch_size": [14, 14]},
        text_config=transformers.Qwen2Config(**TEXT),
        image_token_id=words.context_image_token_id,
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    images, videos = transformers.GotOcr2ImageProcessor(size=size), transformers.InternVLVideoProcessor(size=size)
    processor = transformers.InternVLProcessor(images, words, videos, image_seq_length=4)
    return transformers.InternVLForConditionalGeneration(config), processor


def smolvlm() -> tuple[Any, Any]:
    words, edge = tokenizer(), {"longest_edge": 56}
    config = transformers.SmolVLMConfig(
        vision_config=TOWER | {"num_hidden_layers": 2, "image_size": 56, "patch_size": 14},
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_id=words.image_token_id,
        scale_factor=2,
    )
    images = transformers.SmolVLMImageProcessor(size=edge, max_image_size=edge)
    videos = transformers.SmolVLMVideoProcessor(size={"longest_edge": 112}, max_image_size=edge, num_frames=8, fps=1)
    processor = transformers.SmolVLMProcessor(images, words, videos, image_seq_len=4)
    return transformers.SmolVLMForConditionalGeneration(config), processor


def video_llama3() -> tuple[Any, Any]:
    words = tokenizer(named=False)
    ids = {name: number for name, number in vision_ids(words).items() if not name.startswith("vision")}
    config = transformers.VideoLlama3Config(
        vision_config=TOWER | {"num_hidden_layers": 2, "patch_size": 14},
        text_config=transformers.Qwen2Config(**TEXT),
        **ids,
    )
    size = {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 16 * 8}
    images, videos = (
        transformers.VideoLlama3ImageProcessor(size=size),
        transformers.VideoLlama3VideoProcessor(size=size),
    )
    processor = transformers.VideoLlama3Processor(images, words, videos)
    return transformers.VideoLlama3ForConditionalGeneration(config), processor


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_5_vl": qwen25vl,
    "qwen3_vl": qwen3vl,
    "llava_onevision": llava_onevision,
    "llava_next_video": llava_next_video,
    "internvl": internvl,
    "smolvlm": smolvlm,
    "video_llama_3": video_llama3,
}
TAGS = {
    "qwen2_5_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "qwen3_vl": "<|video_pad|>",
    "video_llama_3": "<|video_pad|>",
}


def build(name: str, chat: bool = True) -> tuple[Any, Any]:
    """A model of that family and its processor, the same weights each time; ``chat``: with a chat template."""
    torch.manual_seed(0)
    model, processor = BUILDERS[name]()
    if chat:
        processor.chat_template = CHAT.replace("TAG", TAGS.get(name, "<video>"))
    return model.eval(), processor


def save(name: str, folder: Path) -> Path:
    """A folder as a hub would hold it."""
    model, processor = build(name)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def teach_letters(host: Any, ask: Callable[[Any], Any], groups: Sequence[Sequence[Any]]) -> None:
    """Make a host answer A, B, C or D to what ``ask`` asks it, by what differs between the questions of each group.

    A host of random weights says the same nonsense to all. Each letter's row of the head becomes a random one without
    the parts that the questions of a group share, so that frames and words decide; all other rows point away from them.
    """
    head, letters = host.model.get_output_embeddings(), host.processor.tokenizer("ABCD")["input_ids"]
    states: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0][0, -1].clone()))
    means = []
    for group in groups:
        states.clear()
        for asked in group:
            ask(asked)
        means.append(torch.stack(states).mean(0))
    handle.remove()
    shared = torch.linalg.qr(torch.stack(means).T).Q
    rows = torch.randn(len(letters), len(shared), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        head.weight.copy_(-torch.stack(means).sum(0).expand_as(head.weight))
        head.weight[letters] = rows - rows @ shared @ shared.T
