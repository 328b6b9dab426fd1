"""Choose frames again from stored scores, for another number of frames or by another selector: no video is read."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from dynfocus.bridge.choose import Ranking, choose_repeatably
from dynfocus.bridge.features import PixelFeatures, with_selector
from dynfocus.bridge.requirements import check_keep
from dynfocus.bridge.rows import Chosen, Scored
from dynfocus.errors import ConfigError
from dynfocus.method.selectors import build_selector
from dynfocus.method.selectors.question import AKSSelector, BOLTSelector, QFrameSelector, TextTopKSelector
from dynfocus.settings import SelectorChoice, selector_label
from dynfocus.types import FrameSketch, SelectorInputs

RELEVANCE = "text_top_k"  # the selector whose scores are the relevance itself
BY_RELEVANCE = (TextTopKSelector, AKSSelector, BOLTSelector, QFrameSelector)  # they read nothing but the relevance


def choose_again(rows: Sequence[Scored], keep: int, selector: SelectorChoice | None = None) -> list[Chosen]:
    """Keep ``keep`` frames of each row of stored scores: the best ones, or those that another selector chooses.

    Args:
        rows: a file of scores.
        keep: frames to keep; all, where there are fewer.
        selector: one that reads the relevance of frames and nothing else, on the scores of ``text_top_k``; None for the
            frames with the best scores.

    Raises:
        ConfigError: if ``keep`` is below 1, or the selector reads more than the scores are.
    """
    check_keep(keep)
    made = None
    if selector is not None and any(row.selector != selector_label(selector) for row in rows):
        made = _build(selector, rows)
    return [_choose(row, keep, made, row.selector if selector is None else selector_label(selector)) for row in rows]


def _build(selector: SelectorChoice, rows: Sequence[Scored]) -> nn.Module:
    made = build_selector(with_selector(PixelFeatures.settings, selector), 1, 1)
    stored = next((row.selector for row in rows if row.selector != RELEVANCE), RELEVANCE)
    if not isinstance(made, BY_RELEVANCE) or stored != RELEVANCE:
        raise ConfigError(
            f"selector {selector_label(selector)} on the stored scores of {stored}",
            f"scores of {RELEVANCE}, and one of text_top_k, aks, bolt and q_frame, which read nothing else",
            "Leave --selector out, which keeps the frames with the best scores, or choose from the videos.",
        )
    return made.eval()


def _choose(row: Scored, keep: int, selector: nn.Module | None, label: str) -> Chosen:
    if selector is None:
        kept = Ranking(row.frames, row.scores).cut(keep)
    else:
        kept = tuple(row.frames[place] for place in _places(selector, row, min(keep, len(row.frames))))
    return Chosen.of(row, row.picked(kept), label, row.features, keep)


def _places(selector: nn.Module, row: Scored, keep: int) -> list[int]:
    """The places that a selector keeps of frames with this relevance, and without any content."""
    count = len(row.scores)
    blank = torch.zeros(1, count, 1, 1)
    sketch = FrameSketch(blank, blank, torch.ones(1, count, dtype=torch.bool))
    question, mask, rows = torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    relevance = torch.tensor([row.scores])
    inputs = SelectorInputs((count,), (keep,), rows, 0, question, mask, relevance=relevance)
    focus = choose_repeatably(selector, sketch, inputs, Path(row.video).name, row.question)
    return focus.frames[0][focus.mask[0]].tolist()
