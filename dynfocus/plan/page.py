"""A plan for people: its numbers in a few lines, and a table of ways to train (no torch)."""

from collections.abc import Mapping, Sequence
from typing import Any

from dynfocus.plan.cards import CARDS, GIB
from dynfocus.plan.plan import GPUS

UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
LANGUAGE = ("layers", "adapters", "attention", "head")
CERTAINTY = "exact: tokens, FLOPs of products, weights, gradients, optimizer, KV cache; estimated: all else in memory"


def page(told: Mapping[str, Any], details: bool = False) -> str:
    """What `numbers` tells in short: tokens, context, FLOPs, memory of an answer, and every way to train.

    Args:
        told: the numbers.
        details: show too what makes up the memory of the plan's own way to train.
    """
    training, memory = told["training"], told["memory"]
    parts = [_tokens(told), _flops(told), _answering(told), _ways(told)]
    own = f"{training['train']} {training['strategy']} on {_count(training['gpus'], 'GPU')}"
    parts.append([f"{own}: {_gib(memory['total'])} GiB on each; {_cards(memory['fits'])}"])
    parts += [_held(memory)] if details else []
    parts.append([CERTAINTY, *(f"note: {note}" for note in told["notes"])])
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _tokens(told: Mapping[str, Any]) -> list[str]:
    prompt, visual, whole = told["prompt"], told["visual_tokens"], told["every_patch"]
    shown = "" if prompt["slots"] == 1 else f", shown {prompt['slots']} times"
    if told["encoder"] == "average_pooling":
        chosen, kinds = "each averaged, none chosen", ""
    else:
        chosen = f"{_count(told['prototypes'], 'event prototype')}, {told['kept']} of them kept"
        kinds = f" = {told['cones']} cones + {told['rods']} rods"
    return [
        f"video          {_count(told['frames'], 'frame')}, {chosen}",
        f"visual tokens  {visual}{kinds}{shown}: {visual / whole:.1%} of the {whole} at 256 a frame",
        f"prompt         {prompt['asked']} = visual tokens + {prompt['text']} of text; an answer adds "
        f"{prompt['answer']} in training, at most {prompt['new']} when asked",
        f"context        {_context(told['context'])}",
    ]


def _context(found: Mapping[str, Any]) -> str:
    if found["fits"]:
        most = "any number of frames does" if found["frames"] is None else f"up to {found['frames']} frames do"
        return f"{found['needed']} of {found['tokens']} tokens: fits; {most}"
    able = [f"--{name} {found[name]}" for name in ("frames", "events", "keep") if found[name]]
    advice = f"each of these alone makes it fit: {', '.join(able)}" if able else "no T, L or K/L alone makes it fit"
    return f"{found['needed']} of {found['tokens']} tokens: {found['needed'] - found['tokens']} too many; {advice}"


def _flops(told: Mapping[str, Any]) -> list[str]:
    flops, named = told["flops"], {"vision": "vision encoder", "instruction": "instruction encoder"}
    learned, answered = flops["learned"], flops["answered"]
    rows = {named.get(name, name): (answered[name], learned[name]) for name in ("vision", "instruction", "connector")}
    spoken = answered["prefill"] + answered["generation"]
    rows["language model"] = spoken, sum(learned[name] for name in LANGUAGE)
    rows["total"] = answered["total"], learned["total"]
    lines = [f"{'FLOPs of one row':20} {'answering':>10} {told['training']['train']:>10}"]
    lines += [f"{name:20} {_short(one):>10} {_short(two):>10}" for name, (one, two) in rows.items()]
    prompt, token = _short(answered["prefill"]), _short(answered["new_token"])
    lines.append(f"of the language model's answer, the prompt takes {prompt}, each new token {token}")
    if flops["global_batch"] is not None:
        lines.append(f"an optimizer step learns from {flops['step_rows']} rows: {_short(flops['step'])}")
    return lines


def _answering(told: Mapping[str, Any]) -> list[str]:
    """What an answer needs of the model as the run leaves it, and exported where that needs less."""
    lines = [f"answering one row: {_parts(told['answering'])}"]
    if told["exported"]["total"] < told["answering"]["total"]:
        lines.append(f"the same, exported in bfloat16: {_parts(told['exported'])}")
    return lines


def _parts(found: Mapping[str, Any]) -> str:
    sizes = {name: row["bytes"] for name, row in found["rows"].items() if found["worst"] in row["moments"]}
    weights, cache = sum(size for name, size in sizes.items() if name.startswith("weights")), sizes.get("KV cache", 0)
    rest = found["total"] - weights - cache
    return (
        f"{_gib(found['total'])} GiB = {_gib(weights)} of weights + {_gib(cache)} of KV cache + "
        f"{_gib(rest)} at work; {_cards(found['fits'])}"
    )


def _ways(told: Mapping[str, Any]) -> list[str]:
    found, training, whole = told["ways"], told["training"], told["flops"]["global_batch"]
    rows, kept = training["rows"], "activation checkpointing" if training["checkpointing"] else "every activation kept"
    precision = {"32": "fp32"}.get(training["precision"], training["precision"])
    step = f"{_count(training['accumulate'], 'batch', 'es')} a step" if whole is None else f"{whole} rows a step"
    how = ", ".join([f"{_count(rows, 'row')} a GPU", step, kept, training["optimizer"], precision])
    barred = "; -: cannot be sharded" if any(way["size"] is None for way in found) else ""
    lines = [
        f"training, {how}:",
        f"GiB on each of so many GPUs (and the smallest card for it, of {', '.join(map(str, CARDS))} GB){barred}",
        " " * 11 + "".join(f"{count:>13}" for count in GPUS),
    ]
    for start in range(0, len(found), len(GPUS)):
        row = found[start : start + len(GPUS)]
        lines.append(f"{row[0]['train']} {row[0]['strategy']}".ljust(11) + "".join(f"{_cell(way):>13}" for way in row))
    return lines


def _cell(way: Mapping[str, Any]) -> str:
    if way["size"] is None:
        return "-"
    return f"{_gib(way['size'])} ({way['fits'][0] if way['fits'] else f'>{CARDS[-1]}'})"


def _held(memory: Mapping[str, Any]) -> list[str]:
    """A line for each thing held; a star marks what is there at the worst moment and makes the total."""

    def line(name: str, size: int, there: bool) -> str:
        return f"{name:44} {size / GIB:7.2f}{' *' if there else ''}"

    rows = [line(name, row["bytes"], memory["worst"] in row["moments"]) for name, row in memory["rows"].items()]
    total = line(f"total, at its worst ({memory['worst']})", memory["total"], True)
    return [f"{'GiB on one GPU':44} {'size':>7}", "-" * 53, *rows, "-" * 53, total]


def _cards(fits: Sequence[int]) -> str:
    return f"fits a card of {fits[0]} GB" if fits else f"fits no card up to {CARDS[-1]} GB"


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _short(count: float) -> str:
    """Three digits and a letter, such as 123 G."""
    unit, letter = next(((unit, letter) for unit, letter in UNITS if count >= unit), (1, ""))
    return f"{count / unit:.3g} {letter}".strip() if count < 999.5 * unit else f"{count / unit:.0f} {letter}"
