"""Show one example as the language model is taught it: what stands in its prompt, and which part of it is learned."""

from dataclasses import replace
from itertools import groupby

from dynfocus.errors import PromptError
from dynfocus.models.collate import Collator, Example
from dynfocus.models.prompts import IGNORED

HEADING = "an example as the language model reads it; what it learns to write stands between ⟦ and ⟧:"


def audit(processor: Collator, example: Example) -> str:
    """Write the row's prompt in words, what is learned of it between ⟦ and ⟧, visual tokens folded, and their counts.

    Beginning and end tokens are shown as they are called; ``<image x 526>`` stands for 526 visual tokens.

    Raises:
        PromptError: if nothing is learned from it.
    """
    row = example.row
    if example.skipped is not None or not processor.answers:
        why = example.skipped.cause if example.skipped is not None else "its answer is left open"
        raise PromptError(f"row {row.id!r}, of which nothing is learned: {why}", "a row to learn from", "Take another.")
    batch = replace(processor, skip_invalid=False)([example])
    ids, labels = batch.input_ids[0].tolist(), batch.labels[0].tolist()
    kinds = [(label != IGNORED, token == processor.image_id) for token, label in zip(ids, labels, strict=True)]
    text, slots = "", int((batch.slot_row == 0).sum())
    for (learned, visual), run in groupby(zip(kinds, ids, strict=True), lambda pair: pair[0]):
        tokens = [token for _, token in run]
        words = processor.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        text += f"<image x {len(tokens)}>" if visual else f"⟦{words}⟧" if learned else words
    answers = sum(turn.answer is not None for turn in row.turns)
    targets, shown = int(batch.targets), sum(visual for _, visual in kinds)
    return (
        f"{HEADING}\n{text}\n"
        f"row {row.id!r}{f' of {row.source}' if row.source else ''}: {len(ids)} tokens, {shown} of them visual "
        f"(in {slots} slots), {targets} learned (in {answers} answers)"
    )
