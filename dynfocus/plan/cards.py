"""Graphics cards by the memory they are sold with."""

GIB = 2**30
# 48 and 80: as torch names an L40's and an A100's in reports of others; 24: an A10's, whose driver says 22.5. The other
# two are estimates. None was measured here.
SHOWN = {12: 11.7, 24: 22.0, 48: 44.4, 80: 79.1, 141: 139.7}  # GB sold: GiB the least of them have; ECC takes some
CARDS = tuple(SHOWN)
USABLE = 0.95  # of what is shown; fragments of the allocator take the rest


def fitting(size: int) -> tuple[int, ...]:
    """The cards, by the gigabytes they are sold with, that hold ``size`` bytes with a twentieth left over."""
    return tuple(card for card, shown in SHOWN.items() if size <= USABLE * shown * GIB)
