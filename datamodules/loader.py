"""Load batches for a trainer that may resume where a run stopped."""

from typing import Any

from torch.utils.data import DataLoader

from dynfocus.data.loading import load_all


class ResumableLoader(DataLoader):
    """A loader whose sampler knows where to resume. Lightning requires the two state methods for that.

    A row whose reading crashes a process becomes what the dataset's ``lose`` returns.

    It keeps no count of its own: batches are fetched ahead, so only the trainer knows how many were learned from.
    """

    def __iter__(self) -> Any:
        # Lightning asks for iterators before it knows where the run resumes, and workers would fetch at once.
        yield from load_all(self)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
