"""Graphics cards by the memory they are sold with."""

CARDS = (12, 24, 48, 80, 141)
USABLE = 0.95
GIB = 2**30


def fitting(size: int) -> tuple[int, ...]:
    """The cards, by their gigabytes, that hold ``size`` bytes in 95 % of their memory: fragments take the rest."""
    return tuple(card for card in CARDS if size <= USABLE * card * GIB)
