"""Compare ways to keep frames on one trained model: the arms of a test, by the names that results carry."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from dynfocus.errors import ConfigError
from dynfocus.method.selectors import ControlSelector, build_selector, check_selector
from dynfocus.models.model import DynFocusModel
from dynfocus.records.predictions import BLIND, LEARNED, UNTRAINED
from dynfocus.settings import ConnectorSettings, SelectorChoice, selector_label


class Arms:
    """What a test compares.

    Args:
        choices: ``learned`` (the selector that the model runs with), ``blind`` (no video), or any selector.
        connector: the settings that the model runs with.

    Raises:
        ConfigError: if a choice is no selector, or the encoder has none.
    """

    def __init__(self, choices: Sequence[SelectorChoice], connector: ConnectorSettings) -> None:
        self.connector = connector
        self.choices = {selector_label(choice): choice for choice in choices}
        self.trained: SelectorChoice = connector.selector
        self.selectors: dict[str, nn.Module] = {}
        for label in self.choices.keys() - {LEARNED, BLIND}:
            if connector.encoder != "dynfocus":
                raise ConfigError(
                    f"the arm {label!r} with the encoder {connector.encoder}, which has no selector",
                    f"{LEARNED} or {BLIND}",
                    "Correct model.arms.",
                )
            check_selector(self.choices[label], "model.arms", (LEARNED, BLIND))

    def names(self, model: DynFocusModel) -> dict[str, str]:
        """The name in results of each arm; arms of the same name keep the same frames, and one of them stands here."""
        names: dict[str, str] = {}
        for arm in self.choices:
            names.setdefault(self.name(arm, model), arm)
        return names

    def name(self, arm: str, model: DynFocusModel) -> str:
        """The name of an arm in results.

        ``learned`` is only what the model was trained with: another selector on its weights goes by its own name. One
        that has weights, and was not trained with this model, is called untrained.
        """
        if arm == LEARNED and self.connector.encoder == "dynfocus":
            own = selector_label(self.connector.selector)
            return LEARNED if own == selector_label(self.trained) else own
        if arm in (LEARNED, BLIND):
            return arm
        return arm + UNTRAINED if self.has_new_weights(arm, model) else arm

    def has_new_weights(self, arm: str, model: DynFocusModel) -> bool:
        """Whether an arm's selector has weights that are not the model's."""
        own = {id(weight) for weight in model.connector.parameters()}
        return any(id(weight) not in own for weight in self.selector(arm, model).parameters())

    def selector(self, arm: str, model: DynFocusModel) -> nn.Module:
        """The selector of an arm, made once; initial weights follow from the run's seed alone."""
        if arm not in self.selectors:
            settings = replace(self.connector, selector=self.choices[arm])
            widths = model.vision.width, model.config.qformer_config.hidden_size
            with torch.random.fork_rng(devices=[]):  # it is made on the CPU
                torch.default_generator.manual_seed(torch.initial_seed())
                made = build_selector(settings, *widths).to(model.device).eval()
            # The control of the model's own selector spoils that one's choice, and not an untrained one's.
            if isinstance(made, ControlSelector) and selector_label(made.of) == selector_label(self.connector.selector):
                made.inner = model.connector.get_submodule("select")
            self.selectors[arm] = made
        return self.selectors[arm]

    @contextmanager
    def use(self, arm: str, model: DynFocusModel) -> Iterator[None]:
        """Let the selector of an arm keep the frames of the model, for the time of a `with` block."""
        if arm in (LEARNED, BLIND):
            yield
            return
        connector = model.connector
        own = connector.select
        connector.select = self.selector(arm, model)
        try:
            yield
        finally:
            connector.select = own
