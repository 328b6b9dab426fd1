"""What watching costs: tensor operations and waits of the host, counted, not seconds."""

from collections import Counter
from functools import cache
from pathlib import Path

import tiny
from tensorboard_events import Logging
from training_ranks import NOISY, learn

from callbacks.health import SelectorHealth
from callbacks.throughput import Throughput
from callbacks.tokens import TokenCounts
from perf.counting import Counts, count_operations

STEPS = [[tiny.example(4 * n + row, 9, NOISY) for row in range(4)] for n in range(6)]
OPERATIONS = 170  # of a batch; the connector alone takes up to 350


@cache
def cost(towers: Path, steps: int, watched: bool, every: int) -> Counts:
    observers = [SelectorHealth(), TokenCounts(), Throughput()] if watched else []
    with count_operations() as counts:
        learn(towers, "one", STEPS[:steps], callbacks=[*observers, Logging(every)])
    return counts


def test_the_host_waits_for_what_is_logged_and_for_nothing_else(towers: Path) -> None:
    def waits(every: int) -> Counter[str]:
        plain, with_observers = (cost(towers, 6, watched, every).syncs for watched in (False, True))
        assert not plain - with_observers
        return with_observers - plain

    assert waits(every=100) == Counter()
    once, often = waits(every=6), waits(every=2)
    assert 0 < once.total() <= 4  # an observer reads its numbers in one go
    assert often.total() == 3 * once.total()


def test_a_batch_takes_few_operations_more(towers: Path) -> None:
    operations = [cost(towers, steps, watched, 100).operations.total() for steps in (2, 6) for watched in (False, True)]
    more = ((operations[3] - operations[1]) - (operations[2] - operations[0])) / 4
    assert 0 < more <= OPERATIONS
