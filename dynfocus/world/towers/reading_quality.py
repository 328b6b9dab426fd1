"""Measure how well the language model reads symbolic scenes that are new to it."""

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from dynfocus.evals.benchmarks.world import KINDS
from dynfocus.records.rows import Question, Turn
from dynfocus.world.questions import REPEATED_TYPES, THING_TYPES, video_questions
from dynfocus.world.recipes import EASY, WorldSettings
from dynfocus.world.towers.symbolic_rows import TALK, RowMaker, SymbolicRow
from dynfocus.world.towers.tower_settings import LanguageSettings
from dynfocus.world.towers.train_language import embed
from dynfocus.world.videos import generator, sample_video

HELD_OUT_SEED = 900_000
LONGEST_ANSWER = 4
CHUNK = 40


@torch.no_grad()
def reading_quality(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    settings: LanguageSettings,
    world: WorldSettings = EASY,
) -> dict[str, float]:
    """Measure the greedy accuracy of each type of question, asked alone, and of each kind as the mean over its types.

    An answer is right if it holds the word that decides. Every held-out video is asked color, shape, position and
    place of four things (where words repeat all types of questions about things), and all four questions about the
    order of its places. All videos are shown in DynFocus's own layout.
    """
    maker = RowMaker(tokenizer, settings, world)
    things = len(REPEATED_TYPES if world.words_repeat else THING_TYPES)
    rows, questions = [], []
    for index in range(settings.asked):
        rng, video = generator(HELD_OUT_SEED, index, 3), sample_video(HELD_OUT_SEED, index, world)
        for question in video_questions(video, rng, things, times=4):
            rows.append(maker.row([Turn(question.text, None)], TALK, maker.eye.film(video, rng), before=True))
            questions.append(question)
    parts = [rows[n : n + CHUNK] for n in range(0, len(rows), CHUNK)]
    answers = [text for part in parts for text in _answers(model, tokenizer, maker.image_id, part)]
    return _scores(questions, answers)


def _scores(questions: list[Question], answers: list[str]) -> dict[str, float]:
    right = defaultdict(list)
    for question, answer in zip(questions, answers, strict=True):
        right[question.group].append(question.meta["word"] in answer.split())
    groups = {group: float(np.mean(hits)) for group, hits in right.items()}
    kinds = {kind: [groups[group] for group in names if group in groups] for kind, names in KINDS.items()}
    return {kind: float(np.mean(shares)) for kind, shares in kinds.items() if shares} | groups


def _answers(model: Any, tokenizer: PreTrainedTokenizerBase, image_id: int, rows: list[SymbolicRow]) -> list[str]:
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), int(tokenizer.pad_token_id))
    mask = torch.zeros_like(ids)
    for n, row in enumerate(rows):
        ids[n, longest - len(row.ids) :] = torch.from_numpy(row.ids)
        mask[n, longest - len(row.ids) :] = 1
    weights = torch.from_numpy(np.concatenate([row.weights for row in rows]).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HELD_OUT_SEED)
        inputs = embed(model.model.embed_tokens.weight, ids, image_id, weights, jitter=False)
    generated = model.generate(
        inputs_embeds=inputs, attention_mask=mask, max_new_tokens=LONGEST_ANSWER, do_sample=False
    )
    return tokenizer.batch_decode(generated, skip_special_tokens=True)
