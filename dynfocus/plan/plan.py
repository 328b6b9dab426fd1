"""What is planned: a video, a way to train on it and to answer about it, from configs and options (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from dynfocus.budget import Budget, budget
from dynfocus.errors import ConfigError
from dynfocus.plan.from_folders import read_towers
from dynfocus.plan.towers import TOWERS, Towers
from dynfocus.plan.training import Training, prompt_tokens
from dynfocus.settings import ConnectorSettings

GPUS = (1, 2, 4, 8, 16, 32, 64)
TRAINING = tuple(one.name for one in fields(Training) if one.name != "slots")


@dataclass(frozen=True)
class Plan:
    """One video, and what is done with it.

    Attributes:
        frames: T.
        settings: the connector's.
        training: how a run trains on such videos; it answers about them with the same prompt, one row at a time.
        towers: sizes of the encoders and the language model.
        new: tokens of an answer that is asked for.
        global_batch: rows an optimizer step learns from, over all GPUs; None where ``training`` says all of it.
        notes: what was left open or is not counted, a sentence each.

    Raises:
        ConfigError: if a number cannot be, or settings and towers do not fit.
        VideoError: if there is no frame.
    """

    frames: int
    settings: ConnectorSettings = field(default_factory=ConnectorSettings)
    training: Training = field(default_factory=Training)
    towers: Towers = TOWERS
    new: int = 16
    global_batch: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.new < 1:
            raise ConfigError(f"max_new_tokens = {self.new}", "at least 1", "Raise it.")
        if self.global_batch is not None and self.global_batch < 1:
            raise ConfigError(f"global_batch = {self.global_batch}", "at least 1", "Raise it.")
        budget(self.frames, self.settings)  # refuses a video without frames
        if self.settings.patches != self.towers.vision.patches:
            absent = [f" ({note[:-1]})" for note in self.notes if note.startswith(("model.encoders", "model.vision"))]
            given = f"connector.patches = {self.settings.patches} with a vision encoder of {self.towers.vision.patches}"
            raise ConfigError(
                given + "".join(absent),
                "the same number in both",
                "Name the vision encoder that is meant (--encoders or --vision), or set connector.patches.",
            )

    @property
    def cost(self) -> Budget:
        """What the video costs each time it is shown."""
        return budget(self.frames, self.settings)

    @property
    def asked(self) -> Training:
        """One row of the same kind, of which the answer is still to come."""
        return replace(self.training, rows=1, answer=0)

    @property
    def exported(self) -> Training:
        """The same, answered by one plain model in bfloat16: nothing but its connector is in fp32 any more."""
        return replace(self.asked, train="stage1", precision="bf16-mixed")

    @property
    def needed(self) -> int:
        """Tokens of the context that the longer prompt takes: the one that is learned, or asked and answered."""
        return prompt_tokens(self.frames, self.settings, self.asked) + max(self.training.answer, self.new)

    def on(self, gpus: int, **changed: Any) -> Training:
        """The same on another number of GPUs: as many batches are accumulated as the global batch then needs."""
        other = replace(self.training, gpus=gpus, **changed)
        if self.global_batch is None:
            return other
        return replace(other, accumulate=-(-self.global_batch // (other.rows * gpus)))

    def even(self, gpus: int) -> bool:
        """Whether the global batch is a whole number of batches of so many GPUs; `dynfocus fit` refuses what is not."""
        return self.global_batch is None or self.global_batch % (self.training.rows * gpus) == 0

    @property
    def step_rows(self) -> int:
        """Rows an optimizer step learns from."""
        return self.global_batch or self.training.rows * self.training.gpus * self.training.accumulate


def planned(
    configs: Sequence[Path] = (),
    *,
    frames: int | None = None,
    events: int | None = None,
    keep: float | None = None,
    turns: int | None = None,
    text: int | None = None,
    answer: int | None = None,
    new: int | None = None,
    train: Literal["stage1", "stage2", "lora", "qlora"] | None = None,
    gpus: int | None = None,
    strategy: Literal["ddp", "fsdp"] | None = None,
    rows: int | None = None,
    global_batch: int | None = None,
    checkpointing: bool | None = None,
    optimizer: Literal["adamw", "adamw8bit"] | None = None,
    encoders: Path | None = None,
    vision: Path | None = None,
    language_model: Path | None = None,
) -> Plan:
    """A plan from configs and options; an option that is not None wins over the configs.

    Args:
        configs: settings of `dynfocus fit`, the last one on top.
        frames: T, frames of the video, else a config's frame_rule.frames.
        events: L, event prototypes, else 25.
        keep: K/L, the share of them that is kept, else 0.8.
        turns: questions of a row, else 1; each shows the video, unless slots is first.
        text: prompt tokens of a row that are not visual, else 64.
        answer: answer tokens of a row that are learned, else 32.
        new: most tokens of an answer that is asked for (max_new_tokens), else 16.
        train: show this training in detail.
        gpus: over all machines, else 1.
        strategy: ddp replicates, fsdp shards, else ddp.
        rows: rows a GPU reads at once (batch_size), else 1.
        global_batch: rows an optimizer step learns from, over all GPUs.
        checkpointing: of activations, else yes.
        optimizer: what trains the weights, else adamw.
        encoders: folder with a config.json, else EVA ViT-G and its Q-Former.
        vision: folder of another vision encoder, with a config.json.
        language_model: folder with a config.json, else Vicuna-7B v1.5.

    Raises:
        CheckpointError: if a folder has no config.json of a known family.
        ConfigError: if a config or an option cannot be, or no number of frames is said.
        VideoError: if there is no frame.
    """
    given = {name: value for name, value in locals().items() if name != "configs" and value is not None}
    told: dict[str, Any] = {"notes": ()}
    if configs:
        from dynfocus.plan.from_configs import described  # omegaconf takes longer to import than a plan to make

        told = described(configs, instead=given)
    told |= given
    if told.get("frames") is None:
        raise ConfigError(
            "no number of frames",
            "T, the frames of a video: its seconds at 1 frame a second",
            "Give --frames, such as 60.",
        )
    towers = read_towers(told.get("encoders"), told.get("language_model"), told.get("vision"))
    settings = told.get("settings") or ConnectorSettings(patches=towers.vision.patches)
    settings = replace(settings, **_named(told, "events", "keep"))
    turns = told.get("turns", 1)
    if turns < 1:
        raise ConfigError(f"turns = {turns}", "at least 1", "Raise --turns.")
    training = Training(**_named(told, *TRAINING), slots=1 if told.get("slots") == "first" else turns)
    plan = Plan(told["frames"], settings, training, towers, **_named(told, "new", "global_batch", "notes"))
    uneven = [gpus for gpus in sorted({*GPUS, training.gpus}) if not plan.even(gpus)]
    notes = plan.notes
    if uneven:
        step = f"{plan.global_batch} rows a step are no whole batches of {training.rows}"
        notes += (f"{step} on {', '.join(map(str, uneven))} GPUs: lower batch_size there.",)
    return replace(plan, training=plan.on(training.gpus), notes=notes)


def _named(told: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: told[name] for name in names if name in told}
