"""Named errors, and how they come out of other processes."""

import pickle
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from dynfocus.errors import ConfigError, ContextLengthError, DynFocusError, VideoError

GIVEN = (
    "video 'a b.mp4' at 1.5 s (Errno 5. Input/output error)",
    "a file that can be read, such as 0.8 of it",
    "Do. Or not!",
)


class Broken(Dataset[Any]):
    def __init__(self, kind: type[DynFocusError]) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        try:
            raise VideoError("another one", "nothing", "Nothing")
        except VideoError as error:
            raise self.kind(*GIVEN) from error


class Other(ContextLengthError):
    """One that a user derives."""


@pytest.mark.parametrize("kind", [VideoError, Other])
def test_named_errors_come_out_of_a_loaders_worker_as_they_were_raised(kind: type[DynFocusError]) -> None:
    with pytest.raises(DynFocusError) as raised:
        list(DataLoader(Broken(kind), num_workers=1))
    error = raised.value
    assert type(error) is kind
    assert str(error) == str(kind(*GIVEN))
    assert (error.given, error.needed, error.do) == GIVEN
    assert "in __getitem__" in str(error.__cause__)  # the worker's traceback, for one who looks for the cause


def test_named_errors_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(ConfigError(*GIVEN)))
    assert (type(again), str(again)) == (ConfigError, str(ConfigError(*GIVEN)))


def test_an_error_needs_its_three_parts() -> None:
    with pytest.raises(TypeError, match="give given, needed and do"):
        ConfigError("something is wrong")
