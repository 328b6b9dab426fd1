"""Graphics cards: the memory they are sold with, what they compute in a second, and the hours of an epoch on them."""

from typing import Literal, get_args

GIB = 2**30
# 48 and 80: as torch names an L40's and an A100's in reports of others; 24: an A10's, whose driver says 22.5. The other
# two are estimates. None was measured here.
SHOWN = {12: 11.7, 24: 22.0, 48: 44.4, 80: 79.1, 141: 139.7}  # GB sold: GiB the least of them have; ECC takes some
MEMORIES = tuple(SHOWN)
USABLE = 0.95  # of what is shown; fragments of the allocator take the rest

CardName = Literal["h200-nvl", "h200", "h100-nvl", "h100-pcie", "h100", "a100", "l40s", "rtx-4090"]
# FLOP/s of dense products of bf16 numbers that are summed in fp32, as NVIDIA's data sheets have them (where a sheet
# names only the doubled rate of sparse products, half of it). Of names that begin alike the longer comes first.
PEAKS: dict[CardName, float] = dict(
    zip(get_args(CardName), (835e12, 989e12, 835e12, 756e12, 989e12, 312e12, 362e12, 165e12), strict=True)
)


def list_fitting(size: int) -> tuple[int, ...]:
    """The cards, by the gigabytes they are sold with, that hold ``size`` bytes with a twentieth left over."""
    return tuple(card for card, shown in SHOWN.items() if size <= USABLE * shown * GIB)


def data_sheet(name: str) -> float | None:
    """FLOP/s of a GPU that torch names so, or None where it is none of ``PEAKS``."""
    return next((peak for card, peak in PEAKS.items() if card.replace("-", " ") in name.lower()), None)


def count_hours(flops: int, gpus: int, card: CardName, utilisation: float) -> float:
    """Hours that so many operations take where each GPU reaches this share of its peak."""
    return flops / (gpus * utilisation * PEAKS[card]) / 3600
