"""A language model on this machine judges a run: through its folder, its chat template and the real command line."""

import json
from pathlib import Path
from threading import Event

import pytest
import tiny
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dynfocus.cli import main
from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.summary import write_results
from dynfocus.models.local_judge import LocalJudge
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction, Verdict

REPLY = '{"correct": "yes", "score": 4}'
CHAT = "{% for message in messages %}USER: {{ message['content'] }} {% endfor %}ASSISTANT:"


def save_judge(folder: Path, reply: str = REPLY, chat: str | None = CHAT) -> Path:
    """A real model whose weights make it say one thing to everything: a token for the whole reply, then the end."""
    tokenizer = tiny.words()
    tokenizer.add_tokens([reply])
    tokenizer.chat_template = chat
    config = LlamaConfig(**tiny.configs()["text_config"])
    model = LlamaForCausalLM(config)
    model.resize_token_embeddings(len(tokenizer))
    said, end = tokenizer.convert_tokens_to_ids([reply, tokenizer.eos_token])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "embed_tokens.weight", "lm_head.weight")):
                weight.zero_()  # the blocks add nothing: what follows depends on the last token alone
        model.model.embed_tokens.weight[:, 0] = 1.0
        model.model.embed_tokens.weight[said] = torch.eye(tiny.OUT)[1]
        model.lm_head.weight[said, 0] = model.lm_head.weight[end, 1] = 1.0
    model.generation_config.do_sample, model.generation_config.temperature = True, 0.7  # as published folders have it
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_it_replies_in_its_chat_template(tmp_path: Path) -> None:
    judge = LocalJudge(save_judge(tmp_path / "judge"), "abc")
    assert judge.ask("what color is the star", Event()) == REPLY
    assert (judge.kind, judge.model, judge.settings["weights"]) == ("local", "judge", "abc")
    with pytest.raises(ValueError, match=r"a prompt of \d+ tokens for a context of 512"):
        judge.ask("star " * 600, Event())


def test_it_judges_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = Prediction("a", "a.mp4", "learned", "what color", "red", "blue", "", (), None, 85)
    write_results(tmp_path / "run", [one], find_benchmark("msvd-qa"), {})
    save_judge(tmp_path / "judge")
    assert main(["judge", str(tmp_path / "run"), "--judge", "local", "--model", str(tmp_path / "judge")]) == 0
    assert "100.000" in capsys.readouterr().out
    [verdict] = read_jsonl(tmp_path / "run" / "verdicts.local-judge.jsonl", Verdict)
    assert (verdict.scores, verdict.model) == ({"f1": 0.0, "correct": 1.0, "score": 4.0}, "judge")
    save_judge(tmp_path / "judge", '{"correct": "perhaps"}')
    assert main(["judge", str(tmp_path / "run"), "--judge", "local", "--model", str(tmp_path / "judge")]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.local-judge.json").read_text())
    assert (metrics["failed"], metrics["columns"]) == (1, {}), "other weights are another judge"


def test_a_folder_that_cannot_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="whose tokenizer has no chat template"):
        LocalJudge(save_judge(tmp_path / "plain", chat=None), "abc")
    with pytest.raises(CheckpointError, match="absent"):
        LocalJudge(tmp_path / "absent", "abc")
