"""Keep other libraries' messages off the screen."""


def quiet() -> None:
    """Keep transformers' own bars and reports off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
