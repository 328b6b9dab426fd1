"""List the recipes, plan what a model costs, and write it for others."""

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any, Literal

from dynfocus.errors import ConfigError
from dynfocus.verbs.screen import quiet


def configs(copy: Path | None = None) -> None:
    """List the recipes that come with the project, which --config dynfocus:NAME reads, or copy them.

    Example: dynfocus configs --copy my_configs

    Args:
        copy: folder to write the files to, for changes of one's own; files that are there stay.
    """
    import re

    from dynfocus.records.atomic import write_text
    from dynfocus.settings import RECIPES, list_recipes

    recipes = list_recipes()
    if copy is None:
        for name, file in recipes.items():
            about = " ".join(re.findall(r"^# ?(.*)", file.read_text().partition("\n\n")[0], re.M))
            print(f"{name:32} {re.split(r'[.;] (?=[A-Z])', about)[0].rstrip('.')}")
        return print("\n`--config dynfocus:NAME` reads one, `dynfocus configs --copy FOLDER` copies all.")
    places = {file: copy / file.relative_to(RECIPES) for file in recipes.values()}
    texts = {place: file.read_text() for file, place in places.items()}
    if other := [place for place, text in texts.items() if place.exists() and place.read_text() != text]:
        raise ConfigError(
            f"{other[0]}, which is there and not the recipe that would be copied",
            "a folder without such files",
            "Name another folder.",
        )
    for place, text in texts.items():
        write_text(place, text)
    print(f"{len(texts)} recipes are in {copy}")


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
