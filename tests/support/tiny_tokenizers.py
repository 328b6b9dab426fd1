"""Tokenizers of every kind, made in code, and chat templates of our own writing in the manner of well-known ones."""

import json
from functools import cache
from typing import Any

import tiny
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

MARKS = ("<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|eot|>")

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ bos_token }}[INST] <<SYS>>\n"
    "{{ m['content'] }}\n<</SYS>>\n\n"
    "{% elif m['role'] == 'user' %}"
    "{% if loop.index0 == 0 or messages[loop.index0 - 1]['role'] != 'system' %}{{ bos_token }}[INST] {% endif %}"
    "{{ m['content'] }} [/INST]{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|im_start|>assistant\n"
    "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}{{ '\n' }}"
    "{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PHI = (
    "{% for m in messages %}{{ '<|start|>' if m['role'] == 'assistant' else '<|im_start|>' }}\n"
    "{{ m['content'] }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>\n{% endif %}"
)
CHATS = {"ChatML": CHATML, "Llama 2": LLAMA2, "Llama 3": LLAMA3, "marked": MARKED}
SHOUTING = CHATML.replace("{{ m['content'] }}", "{{ m['content'] | upper }}")
ESCAPING = CHATML.replace("{{ m['content'] }}", "{{ m['content'] | e }}")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHATML
DEAF = "{% for m in messages if m['role'] != 'system' %}" + CHATML.partition("{% for m in messages %}")[2]
THINKING = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
FORGETFUL = CHATML.replace("<|im_end|>\n{% endfor", "{% if loop.last %} .{% endif %}<|im_end|>\n{% endfor")
ENDLESS = CHATML.replace("<|im_end|>", "\n")
BROKEN = "{{ messages[0]['content'] + 3 }}"


def fallback() -> PreTrainedTokenizerFast:
    """BPE with metaspace and a token for each byte, as Llama's; nothing separates words but what is merged."""
    core = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = [*tiny.SPECIAL, "<image>"]
    # Words are kept apart while merges are found, as SentencePiece does.
    core.pre_tokenizer = pre_tokenizers.Split(Regex("▁[^▁]*"), "isolated")
    bytes_ = [f"<0x{n:02X}>" for n in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=[*special, *bytes_], show_progress=False)
    core.train_from_iterator(tiny.TEXTS, trainer)
    core.pre_tokenizer = None
    settings = json.loads(core.to_str())
    settings["added_tokens"] = [token for token in settings["added_tokens"] if token["content"] not in bytes_]
    return tiny.wrap_tokenizer(Tokenizer.from_str(json.dumps(settings)))


def word_pieces() -> PreTrainedTokenizerFast:
    """WordPiece between [CLS] and [SEP], lower case without accents, as BERT's."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<image>", "</s>"]
    core.train_from_iterator(
        tiny.TEXTS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    )
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **{"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
        eos_token="</s>",
        additional_special_tokens=["<image>"],
    )


def closing_byte_pairs() -> PreTrainedTokenizerFast:
    """Byte-level BPE that puts an end token behind every text by itself."""
    made = tiny.byte_pairs()
    made._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", made.bos_token_id), ("</s>", made.eos_token_id)]
    )
    return made


def merging_byte_pairs() -> PreTrainedTokenizerFast:
    """Byte-level BPE without words, which merges whatever stands side by side often."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [*tiny.SPECIAL, "<image>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    core.train_from_iterator(["x ASSISTANT: star", "y ASSISTANT: star"] * 9, trainer)
    return tiny.wrap_tokenizer(core)


KINDS: dict[str, Any] = {
    "words": tiny.words,
    "words, no opening": lambda: tiny.words(opening=False),
    "byte pairs": tiny.byte_pairs,
    "byte pairs, no opening": lambda: tiny.byte_pairs(opening=False),
    "pieces": tiny.pieces,
    "pieces, no opening": lambda: tiny.pieces(opening=False),
    "byte fallback": fallback,
    "word pieces": word_pieces,
    "closing": closing_byte_pairs,
}
EXACT = ("byte pairs", "byte pairs, no opening", "byte fallback", "closing")


@cache
def tokenizer(kind: str, chat: str | None = None) -> Any:
    """A tokenizer of one kind, with a chat template whose marks it knows where one is given; not to be changed."""
    return add_chat_template(KINDS[kind](), chat)


def add_chat_template(made: Any, chat: str | None) -> Any:
    """The tokenizer with a chat template, given or by its name, and the marks that it writes."""
    if chat is not None:
        made.add_tokens(list(MARKS), special_tokens=True)
        if made.bos_token is None:
            made.bos_token = made.cls_token
        made.chat_template = CHATS.get(chat, chat)
    return made
