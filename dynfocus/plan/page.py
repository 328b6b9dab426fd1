"""Write a plan for people: its numbers in a few lines, and a table of ways to train."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dynfocus.plan.cards import GIB, MEMORIES
from dynfocus.plan.numbers import list_numbers, list_tokens
from dynfocus.plan.plan import GPUS, Plan

UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
LANGUAGE = ("layers", "adapters", "attention", "head")
CERTAINTY = "exact: tokens, FLOPs of products, weights, gradients, optimizer, KV cache; estimated: all else in memory"


def write_page(plan: Plan, details: bool = False) -> Iterator[str]:
    """What `list_numbers` says in short, a part after the other; tokens come at once, the rest takes seconds.

    Args:
        plan: what is planned.
        details: show too what makes up the memory of the plan's own way to train.
    """
    yield "\n".join([*_tokens(numbers := list_tokens(plan)), ""])
    numbers = list_numbers(plan)
    training, memory = numbers["training"], numbers["memory"]
    parts = [_flops(numbers), _hours(numbers["hours"]), _list_answer_lines(numbers), _ways(numbers)]
    own = f"{training['train']} {training['strategy']} on {_count(training['gpus'], 'GPU')}"
    parts.append([f"{own}: {_gib(memory['total'])} GiB on each; {_cards(memory['fits'])}"])
    parts += [_memory(memory)] if details else []
    parts.append([CERTAINTY, *(f"note: {note}" for note in numbers["notes"])])
    yield "\n\n".join("\n".join(lines) for lines in parts if lines)


def _tokens(numbers: Mapping[str, Any]) -> list[str]:
    prompt, visual, whole = numbers["prompt"], numbers["visual_tokens"], numbers["every_patch"]
    shown = "" if prompt["slots"] == 1 else f", shown {prompt['slots']} times"
    if numbers["encoder"] == "average_pooling":
        chosen, kinds = "each averaged, none chosen", ""
    else:
        chosen = f"{_count(numbers['prototypes'], 'event prototype')}, {numbers['kept']} of them kept"
        kinds = f" = {numbers['cones']} cones + {numbers['rods']} rods"
    cache = numbers["kv_cache"]
    half = f"; {_gib(cache['exported'])} GiB where exported in bfloat16" if cache["exported"] < cache["bytes"] else ""
    return [
        f"video          {_count(numbers['frames'], 'frame')}, {chosen}",
        f"visual tokens  {visual}{kinds}{shown}: {visual / whole:.1%} of the {whole} at 256 a frame",
        f"prompt         {prompt['asked']} = visual tokens + {prompt['text']} of text; an answer adds "
        f"{prompt['answer']} in training, at most {prompt['new']} when asked",
        f"context        {_context(numbers['context'])}",
        f"KV cache       {_gib(cache['bytes'])} GiB, {cache['bytes_a_token'] / 2**20:.3g} MiB a token{half}",
    ]


def _context(context: Mapping[str, Any]) -> str:
    needed, tokens, frames = context["needed"], context["tokens"], context["frames"]
    if context["fits"]:
        most = "any number of frames does" if frames is None else f"up to {frames} frames do"
        return f"{needed} of {tokens} tokens: fits; {most}"
    able = [f"--{name} {context[name]}" for name in ("frames", "events", "keep") if context[name]]
    advice = f"each of these alone makes it fit: {', '.join(able)}" if able else "no T, L or K/L alone makes it fit"
    return f"{needed} of {tokens} tokens: {needed - tokens} too many; {advice}"


def _flops(numbers: Mapping[str, Any]) -> list[str]:
    flops, named = numbers["flops"], {"vision": "vision encoder", "instruction": "instruction encoder"}
    learned, answered = flops["learned"], flops["answered"]
    rows = {named.get(name, name): (answered[name], learned[name]) for name in ("vision", "instruction", "connector")}
    spoken = answered["prefill"] + answered["generation"]
    rows["language model"] = spoken, sum(learned[name] for name in LANGUAGE)
    rows["total"] = answered["total"], learned["total"]
    lines = [f"{'FLOPs of one row':20} {'answering':>10} {numbers['training']['train']:>10}"]
    lines += [f"{name:20} {_short(one):>10} {_short(two):>10}" for name, (one, two) in rows.items()]
    prompt, token = _short(answered["prefill"]), _short(answered["new_token"])
    lines.append(f"of the language model's answer, the prompt takes {prompt}, each new token {token}")
    if flops["global_batch"] is not None:
        lines.append(f"an optimizer step learns from {flops['step_rows']} rows: {_short(flops['step'])}")
    return lines


def _hours(hours: Mapping[str, Any] | None) -> list[str]:
    if hours is None:
        return []
    rows, cards = _count(hours["rows"], "row"), f"{hours['gpus']} x {hours['card']}"
    speed = f"{hours['utilisation']:.0%} of {_short(hours['peak_flops'])}FLOP/s, its data sheet's dense bf16 peak"
    return [f"training on {rows} with {cards}: {hours['hours']:.1f} hours", f"if each reaches {speed} (assumed)"]


def _list_answer_lines(numbers: Mapping[str, Any]) -> list[str]:
    """What an answer needs of the model as the run leaves it, and exported where that needs less."""
    lines = [f"answering one row: {_parts(numbers['answering'])}"]
    if numbers["exported"]["total"] < numbers["answering"]["total"]:
        lines.append(f"the same, exported in bfloat16: {_parts(numbers['exported'])}")
    return lines


def _parts(memory: Mapping[str, Any]) -> str:
    sizes = {name: row["bytes"] for name, row in memory["rows"].items() if memory["worst"] in row["moments"]}
    weights, cache = sum(size for name, size in sizes.items() if name.startswith("weights")), sizes.get("KV cache", 0)
    rest = memory["total"] - weights - cache
    return (
        f"{_gib(memory['total'])} GiB = {_gib(weights)} of weights + {_gib(cache)} of KV cache + "
        f"{_gib(rest)} at work; {_cards(memory['fits'])}"
    )


def _ways(numbers: Mapping[str, Any]) -> list[str]:
    ways, training, whole = numbers["ways"], numbers["training"], numbers["flops"]["global_batch"]
    rows, kept = training["rows"], "activation checkpointing" if training["checkpointing"] else "every activation kept"
    precision = {"32": "fp32"}.get(training["precision"], training["precision"])
    step = f"{_count(training['accumulate'], 'batch', 'es')} a step" if whole is None else f"{whole} rows a step"
    how = ", ".join([f"{_count(rows, 'row')} a GPU", step, kept, training["optimizer"], precision])
    barred = "; -: cannot be sharded" if any(way["size"] is None for way in ways) else ""
    lines = [
        f"training, {how}:",
        f"GiB on each of so many GPUs (and the smallest card for it, of {', '.join(map(str, MEMORIES))} GB){barred}",
        " " * 11 + "".join(f"{count:>13}" for count in GPUS),
    ]
    for start in range(0, len(ways), len(GPUS)):
        row = ways[start : start + len(GPUS)]
        lines.append(f"{row[0]['train']} {row[0]['strategy']}".ljust(11) + "".join(f"{_cell(way):>13}" for way in row))
    return lines


def _cell(way: Mapping[str, Any]) -> str:
    if way["size"] is None:
        return "-"
    return f"{_gib(way['size'])} ({way['fits'][0] if way['fits'] else f'>{MEMORIES[-1]}'})"


def _memory(memory: Mapping[str, Any]) -> list[str]:
    """A line for each thing held; a star marks what is there at the worst moment and makes the total."""

    def line(name: str, size: int, there: bool) -> str:
        return f"{name:44} {size / GIB:7.2f}{' *' if there else ''}"

    rows = [line(name, row["bytes"], memory["worst"] in row["moments"]) for name, row in memory["rows"].items()]
    total = line(f"total, at its worst ({memory['worst']})", memory["total"], True)
    return [f"{'GiB on one GPU':44} {'size':>7}", "-" * 53, *rows, "-" * 53, total]


def _cards(fits: Sequence[int]) -> str:
    return f"fits a card of {fits[0]} GB" if fits else f"fits no card up to {MEMORIES[-1]} GB"


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _short(count: float) -> str:
    """Three digits and a letter, such as 123 G."""
    unit, letter = next(((unit, letter) for unit, letter in UNITS if count >= unit), (1, ""))
    return f"{count / unit:.3g} {letter}".strip() if count < 999.5 * unit else f"{count / unit:.0f} {letter}"
