"""Chat templates in the forms of well-known families of language models, written anew."""

from dataclasses import dataclass
from typing import Any

import tiny
from tokenizers import AddedToken


@dataclass(frozen=True)
class Family:
    """A chat template, the marks that its tokenizer knows, what begins and ends texts, and what ends an answer."""

    chat: str
    marks: tuple[str, ...]
    end: str
    bos: str | None = "<s>"
    eos: str = "</s>"
    swallows: bool = False
    system: bool = True


ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}{% endfor %}"
)
CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
LLAMA3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
PHI3 = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>")
FAMILIES = {
    "Llama 3": Family(
        "{% set loop_messages = messages %}{% for m in loop_messages %}{% set content = '<|start_header_id|>' + "
        "m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
        "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        LLAMA3,
        "<|eot_id|>",
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "Qwen 2": Family(
        "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        CHATML,
        "<|im_end|>",
        None,
        "<|im_end|>",
    ),
    "Qwen 3": Family(
        "{%- set ns = namespace(last=messages | length - 1) %}"
        "{%- for m in messages %}{%- if m['role'] == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
        "{%- for m in messages %}{%- if m['role'] != 'assistant' %}"
        "{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{%- else %}"
        "{%- set thought = '' %}{%- set content = m['content'] %}{%- if '</think>' in content %}"
        "{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
        "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
        "{%- if loop.index0 > ns.last and (loop.last or thought) %}{{- '<|im_start|>assistant\n<think>\n' "
        "+ thought + '\n</think>\n\n' + content }}{%- else %}{{- '<|im_start|>assistant\n' + content }}{%- endif %}"
        "{{- '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
        "{%- endif %}",
        (*CHATML, "<think>", "</think>"),
        "<|im_end|>",
        None,
        "<|im_end|>",
    ),
    "Gemma": Family(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}" + ALTERNATE + "{% for m in messages %}{% if m['role'] == 'assistant' %}{% set role = 'model' %}"
        "{% else %}{% set role = m['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        "<bos>",
        "<eos>",
        system=False,
    ),
    "Mistral v0.1": Family(
        "{{ bos_token }}" + ALTERNATE + "{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token + ' ' }}{% endif %}"
        "{% endfor %}",
        (),
        "</s>",
        system=False,
    ),
    "Mistral v0.3": Family(
        "{{ bos_token }}" + ALTERNATE + "{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + '[/INST]' }}{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}"
        "{% endfor %}",
        ("[INST]", "[/INST]"),
        "</s>",
        system=False,
    ),
    "Mistral v0.3, later": Family(
        "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}"
        "{%- set told = messages[1:] %}{%- else %}{%- set told = messages %}{%- endif %}{{- bos_token }}"
        "{%- for m in told %}{%- if m['role'] == 'user' %}{%- if loop.index0 >= told | length - 2 and "
        "(loop.last or loop.index0 == told | length - 2) and system is defined %}"
        "{{- '[INST] ' + system + '\n\n' + m['content'] + '[/INST]' }}{%- else %}"
        "{{- '[INST] ' + m['content'] + '[/INST]' }}{%- endif %}{%- else %}{{- ' ' + m['content'] + eos_token }}"
        "{%- endif %}{%- endfor %}",
        ("[INST]", "[/INST]"),
        "</s>",
        system=False,
    ),
    "Phi 3": Family(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ '<|system|>\n' + m['content'] + '<|end|>\n' }}"
        "{% elif m['role'] == 'user' %}{{ '<|user|>\n' + m['content'] + '<|end|>\n' }}"
        "{% elif m['role'] == 'assistant' %}{{ '<|assistant|>\n' + m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        PHI3,
        "<|end|>",
        "<s>",
        "<|endoftext|>",
        swallows=True,
    ),
    "Llama 2": Family(
        "{% if messages[0]['role'] == 'system' %}{% set told = messages[1:] %}{% set system = messages[0]['content'] %}"
        "{% else %}{% set told = messages %}{% set system = false %}{% endif %}"
        "{% for m in told %}{% if loop.index0 == 0 and system %}"
        "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m['content'] %}{% else %}"
        "{% set content = m['content'] %}{% endif %}{% if m['role'] == 'user' %}"
        "{{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}{% else %}"
        "{{ ' ' + content | trim + ' ' + eos_token }}{% endif %}{% endfor %}",
        (),
        "</s>",
    ),
}


def tokenizer(family: Family) -> Any:
    """Byte-level BPE that knows a family's marks and brings its template."""
    made = tiny.byte_pairs()
    # Those of Phi 3 swallow the white space behind them.
    made.add_tokens([AddedToken(mark, rstrip=family.swallows, special=mark[1:2] != "t") for mark in family.marks])
    made.bos_token, made.eos_token, made.chat_template = family.bos, family.eos, family.chat
    return made
