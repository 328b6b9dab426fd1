"""Do what the command line asks for: the verbs that are not LightningCLI's, as typed functions that `cli` reads.

Parameters are options, behind ``**options`` those of the function that they are handed to, and docstrings are the help.
What is heavy is imported inside, so that help answers at once.
"""

from dynfocus.verbs.datasets import doctor, doom, sketch_data, smol, towers, world
from dynfocus.verbs.figures import figure_1a, figure_4, figure_5
from dynfocus.verbs.frames import select
from dynfocus.verbs.laboratory import ablations
from dynfocus.verbs.models import configs, export, plan
from dynfocus.verbs.results import compare, evaluate, judge, read_samples, report_card, seeds, table, write_samples
from dynfocus.verbs.serving import demo, serve
from dynfocus.verbs.videos import answer, ask, sketch

__all__ = [
    "ablations",
    "answer",
    "ask",
    "compare",
    "configs",
    "demo",
    "doctor",
    "doom",
    "evaluate",
    "export",
    "figure_1a",
    "figure_4",
    "figure_5",
    "judge",
    "plan",
    "read_samples",
    "report_card",
    "seeds",
    "select",
    "serve",
    "sketch",
    "sketch_data",
    "smol",
    "table",
    "towers",
    "world",
    "write_samples",
]
