"""Keep other libraries' messages off the screen, and import them without needless work."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def quiet() -> None:
    """Keep transformers' own bars and reports off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@contextmanager
def pause_collection() -> Iterator[None]:
    """Leave Python's garbage collector off in a block of imports, and what they load out of its later collections.

    It would look through the half million objects of torch and transformers again and again, and free none of them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # once: what a later block leaves may be garbage of a caller
            gc.freeze()
        if was_on:
            gc.enable()
