"""What a run trains, as a table: printed before the first step."""

from collections.abc import Iterator

from torch import nn

from dynfocus.models.model import DynFocusModel

NAMES = {
    "connector.select": "DPE: score net U",
    "connector.cones": "CCE: F_fine",
    "connector.rods": "CCE: f_q, f_k, F_coarse",
    "connector.fine": "projector of the baseline",
}


def overview(model: DynFocusModel, rates: dict[str, float]) -> str:
    """Module, parameters, those of them that are trained, precision, learning rate; and who waits for a gradient.

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
    if settings.encoder != "dynfocus" or settings.selector_name != "dpe":
        return
    if settings.keep == 1:
        yield "no gradient reaches U: with K/L = 1 every prototype is kept"
    elif settings.kept_tokens in (0, 2):
        yield f"no gradient reaches U: with kept_tokens = {settings.kept_tokens} a kept frame has no cones"
    elif settings.sigma == 0:
        yield "no gradient reaches U: with sigma = 0 nothing is perturbed"
    else:
        yield "a video whose prototypes are all kept (such as an image) gives U no gradient"
