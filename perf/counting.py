"""Count the tensor operations of a piece of code, and the moments at which the host waits for the device."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Views by nature, whatever their schemas say; and those operators that read the device's numbers to know a size or say
# yes or no.
VIEWS = {"aten::_unsafe_view", "aten::_reshape_alias", "aten::detach", "aten::alias", "aten::lift_fresh"}
WAITING = {
    *("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::is_nonzero"),
    *("aten::_unique", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount"),
}
COPIES = {"aten::_to_copy", "aten::copy_"}
READS = (Tensor.tolist, Tensor.numpy, Tensor.cpu)


@dataclass
class Counts:
    """Counts in all and by the operators' names.

    Attributes:
        operations: dispatched tensor operations, views left out.
        syncs: host synchronisations.
    """

    operations: Counter[str] = field(default_factory=Counter)
    syncs: Counter[str] = field(default_factory=Counter)


@contextmanager
def count_operations() -> Iterator[Counts]:
    """Count the operations of a block; give forward and backward a block each to count them separately.

    An *operation* is one call that reaches torch's dispatcher below autograd, such as one matrix product, one copy or
    one allocation that fills. Composite functions count as the operators they are made of. A view is none: an operator
    whose schema gives back an alias of an argument and writes to nothing, or one of ``VIEWS``.

    A *host synchronisation* is a moment at which the host must wait for numbers of the device: reading a scalar
    (`item`, `int`, `float`, `bool`, `if`), `tolist`, `numpy`, `cpu`, sizes that depend on numbers (`nonzero`,
    `masked_select`, indexing with a mask, `unique`, `bincount`, `repeat_interleave` without its length), `equal`, and
    copies from the device to the host. On the CPU, where nothing waits, the same calls count, so that both machines
    give one number; only `to("cpu")` is no copy there and cannot be seen.
    """
    counts, pause = Counts(), _Pause()
    with _Calls(counts, pause), _Operators(counts, pause):
        yield counts


class _Pause:
    """Whether a counted call is running: what it does inside is not another synchronisation."""

    on = False


class _Calls(TorchFunctionMode):
    def __init__(self, counts: Counts, pause: _Pause) -> None:
        super().__init__()
        self.counts, self.pause = counts, pause

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func not in READS or self.pause.on:
            return func(*args, **(kwargs or {}))
        self.counts.syncs[func.__name__] += 1
        self.pause.on = True
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.pause.on = False


class _Operators(TorchDispatchMode):
    def __init__(self, counts: Counts, pause: _Pause) -> None:
        super().__init__()
        self.counts, self.pause = counts, pause

    def __torch_dispatch__(self, func: OpOverload, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = func._schema.name
        if not is_view(func):
            self.counts.operations[name] += 1
        result = func(*args, **(kwargs or {}))
        if not self.pause.on and waits(name, args, kwargs or {}, result):
            self.counts.syncs[name] += 1
        return result


def is_view(func: OpOverload) -> bool:
    """Whether an operator only gives back another view of its argument."""
    if func._schema.name in VIEWS:
        return True
    values = (*func._schema.arguments, *func._schema.returns)
    aliases = [alias for value in values if (alias := value.alias_info) is not None]
    return bool(aliases) and not any(alias.is_write for alias in aliases)


def waits(name: str, args: tuple, kwargs: dict, result: Any) -> bool:
    """Whether the host waits for the device in this call of an operator."""
    if name in WAITING:
        return True
    if name == "aten::repeat_interleave":
        return kwargs.get("output_size") is None
    if name in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"):
        is_fill = name != "aten::index" and args[2].numel() == 1  # runs as masked_fill, which needs no size
        return not is_fill and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    if name in COPIES:
        source = args[1] if name == "aten::copy_" else args[0]
        return source.device.type != "cpu" and result.device.type == "cpu"
    return False
