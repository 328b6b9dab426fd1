"""Plan what a model costs, and write it for others."""

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any, Literal

from dynfocus.verbs.screen import quiet


def plan(config: Sequence[Path] = (), json: bool = False, recipes: Path | None = None, **options: Any) -> None:
    """Count what a video, an answer and a training run cost, before anything runs: tokens, FLOPs and memory.

    Example: dynfocus plan --frames 32 --rows 8 --train stage2 --gpus 8 --strategy fsdp

    Args:
        config: settings of `dynfocus fit`, over which options win; one or more, the last one on top.
        json: print everything as one JSON object.
        recipes: print the memory of every recipe in this folder, as a Markdown table.
    """
    from dynfocus.plan import list_numbers, make_plan, write_page

    if recipes is not None:
        from dynfocus.plan.ways import recipe_table

        return print(recipe_table(recipes, options["frames"] or 32))
    made = make_plan(config, **options)
    parts = [dumps(list_numbers(made), allow_nan=False)] if json else write_page(made, options["train"] is not None)
    for part in parts:
        print(part, flush=True)


def export(
    model: Path,
    out: Path,
    merge: bool = False,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    trust_selector: bool = False,
    license: str | None = None,
) -> None:
    """Write a trained model as one plain checkpoint of transformers, with its processor and its card.

    Example: dynfocus export runs/world/stage2/model my_model --merge --dtype bfloat16

    Args:
        model: folder of a trained model.
        out: folder to write; it must be empty or absent.
        merge: add adapters to the weights that they adapt.
        dtype: precision of the towers, instead of what they have.
        trust_selector: import the selector that the model's folder names by a dotted path.
        license: licence of the weights for the model's card, such as apache-2.0.
    """
    quiet()
    from dynfocus.models.export import export as write_model

    write_model(model, out, merge, dtype, trust_selector, license)
    print(f"the model is in {out}")
