"""Tabulate what a run trains, for the time before the first step."""

from collections.abc import Iterator

from torch import nn

from dynfocus.models.model import DynFocusModel

NAMES = {
    "connector.select": "DPE: score net U",
    "connector.cones": "CCE: F_fine",
    "connector.rods": "CCE: f_q, f_k, F_coarse",
    "connector.fine": "projector of the baseline",
}

NOTHING = "the score net U gets no gradient"


def overview(model: DynFocusModel, rates: dict[str, float]) -> str:
    """Tabulate modules, parameters, how many are trained, precision, learning rate; say what gets no gradient.

    Args:
        model: as the stage has frozen it.
        rates: the learning rate of each child that is trained.
    """
    rows = [("module", "parameters", "trainable", "dtype", "lr")]
    for name, part, rate in _parts(model, rates):
        weights = list(part.parameters())
        trained = sum(weight.numel() for weight in weights if weight.requires_grad)
        kinds = sorted({str(weight.dtype).removeprefix("torch.") for weight in weights})
        total = sum(_size(weight) for weight in weights)
        rows.append((name, f"{total:,}", f"{trained:,}", ", ".join(kinds), f"{rate:g}" if trained else "-"))
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:{widths[3]}}  {row[4]}"
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, *_without_gradient(model)])


def _parts(model: DynFocusModel, rates: dict[str, float]) -> Iterator[tuple[str, nn.Module, float]]:
    for child, module in model.named_children():
        inner = [(f"{child}.{name}", part) for name, part in module.named_children()] if child == "connector" else []
        for name, part in inner or [(child, module)]:
            if any(True for _ in part.parameters()):
                shown = f"{name} ({NAMES[name]})" if name in NAMES else name
                yield shown, part, rates.get(child, 0.0)


def _size(weight: nn.Parameter) -> int:
    """Numbers in a weight; two of them lie in a byte where it is packed into 4 bits."""
    packed = getattr(weight, "quant_state", None)
    return weight.numel() if packed is None else packed.shape.numel()


def _without_gradient(model: DynFocusModel) -> Iterator[str]:
    settings = model.settings
    if settings.encoder != "dynfocus" or not settings.scores_events:
        return
    if settings.selector_name == "dpe_frozen":
        yield f"{NOTHING}: the selector dpe_frozen leaves it as it was drawn"
    elif settings.keep == 1:
        yield f"{NOTHING}: with K/L = 1 every event prototype is kept"
    elif settings.kept_tokens in (0, 2):
        yield f"{NOTHING}: with kept_tokens = {settings.kept_tokens} a kept frame has no cones"
    elif settings.sigma == 0:
        yield f"{NOTHING}: with sigma = 0 nothing is perturbed"
    else:
        yield "where all event prototypes are kept, as of an image, the score net U gets no gradient"
