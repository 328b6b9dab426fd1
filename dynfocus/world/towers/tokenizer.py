"""Train the tokenizer of the embedded world on the world's own text."""

from collections.abc import Iterator

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from dynfocus.models.prompts import IMAGE, VICUNA_SHORT, VICUNA_SYSTEM
from dynfocus.world.questions import (
    IMAGE_REQUESTS,
    VIDEO_REQUESTS,
    caption,
    describe_scene,
    image_questions,
    video_questions,
)
from dynfocus.world.videos import generator, sample_image, sample_video

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", IMAGE)


def world_text(seed: int, videos: int = 200) -> Iterator[str]:
    """Yield captions, questions, answers and prompts about the first ``videos`` videos and images of a seed."""
    asking = VICUNA_SHORT.user + VICUNA_SHORT.assistant
    yield from (VICUNA_SYSTEM, asking, *IMAGE_REQUESTS, *VIDEO_REQUESTS)
    for index in range(videos):
        rng, video, image = generator(seed, index), sample_video(seed, index), sample_image(seed, index)
        yield caption(video)
        questions = image_questions(image, rng)
        for question in [*video_questions(video, rng, things=4, times=4), *questions]:
            yield from (question.text, question.answer)
        yield describe_scene(image, questions[0])


def train_tokenizer(seed: int, opening: bool = True) -> PreTrainedTokenizerFast:
    """Train a word-level tokenizer in lower case, ``<image>`` being one token.

    ``opening`` says that it is the language model's, which puts ``<s>`` first and pads on the left.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(world_text(seed), trainer)
    if opening:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=[IMAGE],
        padding_side="left" if opening else "right",
        model_max_length=2048,
    )
