"""Put a plan together: a video, a way to train on it and to answer about it, from configs and options (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dynfocus.budget import Budget, budget
from dynfocus.errors import ConfigError
from dynfocus.plan.cards import CardName
from dynfocus.plan.sizes import Sizes, read_sizes
from dynfocus.plan.training import Optimizer, Strategy, Train, Training, count_prompt_tokens
from dynfocus.settings import ConnectorSettings

GPUS = (1, 2, 4, 8, 16, 32, 64)
FOLDERS = ("encoders", "language_model", "vision")


@dataclass(frozen=True)
class Plan:
    """One video, and what is done with it.

    Attributes:
        frames: T.
        settings: the connector's.
        training: how a run trains on such videos; it answers about them with the same prompt, one row at a time.
        sizes: of the encoders and the language model, as far as tokens depend on them.
        folders: of the encoders, the language model and another vision encoder; the paper's where none is given.
        new: tokens of an answer that is asked for.
        global_batch: rows an optimizer step learns from, over all GPUs; None where ``training`` says all of it.
        epoch_rows: rows whose hours are counted; None where none are.
        utilisation: the share of a card's peak that training is assumed to reach.
        card: the graphics card that hours are counted for.
        notes: what was left open or is not counted, a sentence each.

    Raises:
        ConfigError: if a number cannot be, or settings and towers do not fit.
        VideoError: if there is no frame.
    """

    frames: int
    settings: ConnectorSettings = field(default_factory=ConnectorSettings)
    training: Training = field(default_factory=Training)
    sizes: Sizes = field(default_factory=Sizes)
    folders: tuple[Path | None, ...] = (None, None, None)
    new: int = 16
    global_batch: int | None = None
    epoch_rows: int | None = None
    utilisation: float = 0.4
    card: CardName = "h100"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = {"max_new_tokens": self.new, "global_batch": self.global_batch, "epoch_rows": self.epoch_rows}
        for name, value in names.items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} = {value}", "at least 1", "Raise it.")
        if not 0 < self.utilisation <= 1:
            raise ConfigError(f"utilisation = {self.utilisation}", "a share of the peak in (0, 1]", "Set it.")
        if self.epoch_rows is not None and self.training.precision == "32":
            raise ConfigError(
                "hours of training in fp32",
                "a precision whose peak is known, which is bf16-mixed",
                "Set trainer.precision, or leave out --epoch-rows.",
            )
        budget(self.frames, self.settings)  # refuses a video without frames
        if self.settings.patches != self.sizes.patches:
            absent = [f" ({note[:-1]})" for note in self.notes if note.startswith(("model.encoders", "model.vision"))]
            problem = f"connector.patches = {self.settings.patches} with a vision encoder of {self.sizes.patches}"
            raise ConfigError(
                problem + "".join(absent),
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
        return self.prompt(self.asked) + max(self.training.answer, self.new)

    def prompt(self, training: Training) -> int:
        """Tokens of a row."""
        return count_prompt_tokens(self.frames, self.settings, training)

    def on(self, gpus: int, **changed: Any) -> Training:
        """The same on another number of GPUs: as many batches are accumulated as the global batch then needs."""
        other = replace(self.training, gpus=gpus, **changed)
        if self.global_batch is None:
            return other
        return replace(other, accumulate=-(-self.global_batch // (other.rows * gpus)))

    @property
    def step_rows(self) -> int:
        """Rows an optimizer step learns from."""
        return self.global_batch or self.training.rows * self.training.gpus * self.training.accumulate


def make_plan(
    configs: Sequence[Path] = (),
    *,
    frames: int | None = None,
    events: int | None = None,
    keep: float | None = None,
    turns: int | None = None,
    text: int | None = None,
    answer: int | None = None,
    new: int | None = None,
    train: Train | None = None,
    gpus: int | None = None,
    strategy: Strategy | None = None,
    rows: int | None = None,
    global_batch: int | None = None,
    checkpointing: bool | None = None,
    optimizer: Optimizer | None = None,
    encoders: Path | None = None,
    vision: Path | None = None,
    language_model: Path | None = None,
    epoch_rows: int | None = None,
    utilisation: float | None = None,
    card: CardName | None = None,
) -> Plan:
    """Make a plan from configs of `dynfocus fit` and from options, which win over them.

    Args:
        configs: settings of `dynfocus fit`, where a plan reads its own from; one or more, the last one on top.
        frames: T, frames of the video; by default a config's frame_rule.frames.
        events: L, event prototypes (25).
        keep: K/L, the share of them that is kept (0.8).
        turns: questions of a row; each shows the video, unless slots is first (1).
        text: prompt tokens of a row that are not visual (64).
        answer: answer tokens of a row that are learned (32).
        new: most tokens of an answer that is asked for: max_new_tokens (16).
        train: the way to train that is shown in detail (stage2).
        gpus: over all machines (1).
        strategy: ddp replicates, fsdp shards (ddp).
        rows: rows a GPU reads at once: batch_size (1).
        global_batch: rows an optimizer step learns from, over all GPUs.
        checkpointing: of activations (yes).
        optimizer: AdamW with its states in fp32, or in 8 bits (adamw).
        encoders: folder with a config.json (EVA ViT-G and its Q-Former).
        vision: folder of another vision encoder, with a config.json.
        language_model: folder with a config.json (Vicuna-7B v1.5).
        epoch_rows: count the hours that training on so many rows takes.
        utilisation: the share of the card's peak that training is assumed to reach (0.4).
        card: the graphics card that hours are counted for (h100).

    Raises:
        CheckpointError: if a folder has no config.json of a family that transformers knows.
        ConfigError: if a config or an option cannot be, or no number of frames is given.
        VideoError: if there is no frame.
    """
    options = {name: value for name, value in locals().items() if name != "configs" and value is not None}
    if configs:
        from dynfocus.plan.configs import read_options  # reads as `dynfocus fit` does, which takes seconds to import

        options = read_options(configs, instead=options) | options
    if "frames" not in options:
        needed = "T, the frames of a video: its seconds at 1 frame a second"
        raise ConfigError("no number of frames", needed, "Give --frames, such as 60.")
    if options.setdefault("turns", 1) < 1:
        raise ConfigError(f"turns = {turns}", "at least 1", "Raise --turns.")
    options["slots"] = 1 if options.get("slots") == "first" else options["turns"]
    options["folders"] = tuple(options.get(name) for name in FOLDERS)
    options["sizes"] = read_sizes(*options["folders"])
    settings = options.get("settings") or ConnectorSettings(patches=options["sizes"].patches)
    options["settings"] = replace(settings, **{name: options[name] for name in ("events", "keep") if name in options})
    options["training"] = Training(**_pick(options, Training))
    plan = Plan(**_pick(options, Plan))
    batch, notes = plan.training.rows, plan.notes
    uneven = [count for count in sorted({*GPUS, plan.training.gpus}) if plan.step_rows % (batch * count)]
    if plan.global_batch is not None and uneven:  # which `dynfocus fit` refuses
        step = f"{plan.global_batch} rows a step are no whole batches of {batch}"
        notes += (f"{step} on {', '.join(map(str, uneven))} GPUs: lower batch_size there.",)
    return replace(plan, training=plan.on(plan.training.gpus), notes=notes)


def _pick(options: dict[str, Any], kind: type) -> dict[str, Any]:
    return {one.name: options[one.name] for one in fields(kind) if one.name in options}
