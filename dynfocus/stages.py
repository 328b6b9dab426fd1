"""The stages of training as a small table."""

from dataclasses import dataclass
from typing import Literal

StageName = Literal["stage1", "stage2", "posttune"]
TemplateName = Literal["vicuna_v1", "chat"]


@dataclass(frozen=True)
class Stage:
    """What one stage trains (`connector`, `language_model`), the paper's learning rate, and the prompt it learns on."""

    trains: tuple[str, ...]
    lr: float
    prompt: str

    def written(self, template: TemplateName) -> str:
        """The prompt that rows are learned on where the model's is ``template``, which a plain stage does not read."""
        return self.prompt if self.prompt == "plain" else template


STAGES: dict[str, Stage] = {
    "stage1": Stage(("connector",), 1e-3, "plain"),
    "stage2": Stage(("connector", "language_model"), 2e-5, "vicuna_v1"),
    "posttune": Stage(("connector", "language_model"), 1.5e-5, "vicuna_v1"),
}
