"""The connector's settings, under the paper's symbols (no torch: `plan` reads them too)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cache
from itertools import pairwise
from math import isqrt
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from dynfocus.errors import ConfigError, UsageError, suggest

# Beside this package, in a checkout and where it is installed.
RECIPES = Path(__file__).parents[1] / "lightning_configs"
QUESTION_READERS = ("dpe_question", "dpe_question_time")  # selectors whose scores of events read the question
CHUNK = 16  # frames that are encoded and sketched at once
UNKNOWN_SHARE = 0.1  # of a question's words, or of learned tokens, that no token stands for: from here on it is said


Settings = TypeVar("Settings")


SelectorChoice = str | dict[str, Any]  # a name or a dotted path, or {class_path: either of them, init_args: {...}}


annotated: Callable[[Any], dict[str, Any]] = cache(get_type_hints)  # where a value is searched, dozens are made


@dataclass(frozen=True)
class ConnectorSettings:
    """Everything DPE and CCE can be told; the defaults are the paper's.

    Attributes:
        patches: N, patch tokens a frame, a square number; fixed by the vision encoder.
        pooled: P, pooled patches a frame, a square number whose root divides that of N.
        events: L, event prototypes a video.
        keep: K/L, the share of the prototypes that is kept.
        neighbours: C of Eq. 1 over time.
        distance_scale: what distances between frames are divided by: ``width``, the numbers of a frame's sketch, or
            ``video``, their mean over the video too, which makes the events independent of the features' scale.
        event_window: in longer videos Eq. 1-2 compare only frames within windows of at most so many frames, which takes
            time that grows with T and not with its square; None compares all frames, as in the paper.
        spatial_prototypes: prototypes of each spatial clustering layer; their sum is G.
        spatial_neighbours: C of Eq. 1 in each spatial layer.
        neighbourhood: how Eq. 3 reads N(l) over time: the members of the cluster, or the C nearest frames.
        spatial_neighbourhood: the same, in each spatial layer.
        score_reads_question: an extension, off in the paper: the question adds a term to the scores of Eq. 4.
        sigma: standard deviation of the noise of Eq. 5.
        samples: n, noise samples of Eq. 6.
        straight_through: an extension, off in the paper: in training too each slot holds the event that is kept, and
            the gradient is that of the noise's mixture.
        redundant_tokens: |U_b=0|, 0 or 2 tokens for each frame that is not kept.
        kept_tokens: |U_b=1|, by the paper's numbers at its own sizes: 0 none, 2 the rods alone, 40 cones and
            rods, 256 every patch and the rods. 38, the cones without rods, is the released code's and not the paper's.
        patch_frames: where kept frames give every patch, whose patches a sketch holds: those of the event
            ``representatives``, which are all that DPE reads, or those of ``all`` frames, for other selectors.
        merge_kept: for selectors that keep frames as they are: a kept frame becomes the mean over its neighbourhood, as
            Eq. 3 makes it of a representative. DPE does so in any case.
        cone_rows: what the cones of a kept frame are made of: its ``prototypes``, as in the paper, or as many patches
            at ``random`` places of it, a baseline for the choice of tokens inside a frame.
        selector: which frames are kept: a name in `dynfocus.method.selectors.SELECTORS`, one that an installed package
            gives to the entry-point group ``dynfocus.selectors``, or the dotted path of a class of your own, such as
            ``my_module.MySelector``. A selector with settings of its own is ``{class_path: my_module.MySelector,
            init_args: {scale: 2}}``.
        encoder: ``dynfocus``, or ``average_pooling``: the baseline that gives P averaged tokens for every frame.
        sketch_dtype: the precision sketches are rounded to before anything reads them.
        instruction_mode: ``instruction``: the question's own tokens are Q, the same for every frame; ``frame``: query
            tokens read each frame under the question, so a video is encoded anew for every question.
    """

    patches: int = 256
    pooled: int = 16
    events: int = 25
    keep: float = 0.8
    neighbours: int = 5
    distance_scale: Literal["width", "video"] = "width"
    event_window: int | None = None
    spatial_prototypes: tuple[int, ...] = (16, 6)
    spatial_neighbours: tuple[int, ...] = (8, 3)
    neighbourhood: Literal["cluster", "nearest"] = "cluster"
    spatial_neighbourhood: Literal["cluster", "nearest"] = "cluster"
    score_reads_question: bool = False
    sigma: float = 0.1
    samples: int = 500
    straight_through: bool = False
    redundant_tokens: Literal[0, 2] = 2
    kept_tokens: Literal[0, 2, 38, 40, 256] = 40
    patch_frames: Literal["representatives", "all"] = "representatives"
    merge_kept: bool = False
    cone_rows: Literal["prototypes", "random"] = "prototypes"
    selector: SelectorChoice = "dpe"
    encoder: Literal["dynfocus", "average_pooling"] = "dynfocus"
    sketch_dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    instruction_mode: Literal["instruction", "frame"] = "instruction"

    def __post_init__(self) -> None:
        for name in ("patches", "pooled"):
            count = getattr(self, name)
            if count < 1 or isqrt(count) ** 2 != count:
                raise ConfigError(f"{name} = {count}", "a square number", f"Set {name} to 1, 4, 9, 16 ...")
        if isqrt(self.patches) % isqrt(self.pooled):
            raise ConfigError(
                f"a grid of {isqrt(self.patches)} x {isqrt(self.patches)} patches pooled to {self.pooled}",
                "a pooled grid whose side divides the patch grid's",
                "Set pooled to another square number.",
            )
        for name, hint in annotated(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                value, allowed = getattr(self, name), ", ".join(map(str, get_args(hint)))
                raise ConfigError(f"{name} = {value}", f"one of {allowed}", f"Correct {name}.")
        if not 0 < self.keep <= 1:
            raise ConfigError(f"keep = {self.keep}", "a share K/L in (0, 1]", "Set keep, such as 0.8.")
        if not 0 <= self.sigma < float("inf"):
            raise ConfigError(f"sigma = {self.sigma}", "a standard deviation of at least 0", "Set sigma, such as 0.1.")
        for name in ("events", "neighbours", "samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}", "at least 1", f"Raise {name}.")
        if self.event_window is not None and self.event_window < 2:
            raise ConfigError(
                f"event_window = {self.event_window}", "at least 2 frames, or none", "Raise event_window."
            )
        selector_parts(self.selector)
        reader = "score_reads_question" if self.score_reads_question else f"the selector {self.selector_name}"
        if (self.score_reads_question or self.scores_read_question) and self.instruction_mode == "frame":
            raise ConfigError(
                f"{reader} with instruction_mode = frame",
                "the question's own tokens, which a score can read before any frame is chosen",
                "Set instruction_mode to instruction, or score_reads_question to false and selector to dpe.",
            )
        if self.cone_rows == "random" and self.pooled + self.grains > self.patches:
            raise ConfigError(
                f"cone_rows = random with {self.pooled} + {self.grains} cones of a frame of {self.patches} patches",
                "at least as many patches as cones",
                "Set cone_rows to prototypes, or lower pooled or spatial_prototypes.",
            )
        layers = (self.patches, *self.spatial_prototypes)
        if any(after > before or after < 1 for before, after in pairwise(layers)):
            raise ConfigError(
                f"spatial_prototypes = {self.spatial_prototypes} on {self.patches} patches",
                "layers that each hold at least 1 and no more than the layer before",
                "Lower spatial_prototypes.",
            )
        if len(self.spatial_neighbours) != len(self.spatial_prototypes):
            raise ConfigError(
                f"{len(self.spatial_neighbours)} spatial_neighbours for {len(self.spatial_prototypes)} layers",
                "one number of neighbours for each spatial layer",
                "Make both lists equally long.",
            )
        if any(count < 1 for count in self.spatial_neighbours):
            raise ConfigError(f"spatial_neighbours = {self.spatial_neighbours}", "at least 1 each", "Raise them.")

    @property
    def selector_name(self) -> str:
        """The name or the dotted path of the selector, without its settings."""
        return selector_parts(self.selector)[0]

    @property
    def scores_events(self) -> bool:
        """Whether frames are kept by scores of event prototypes, as the paper does."""
        return self.selector_name in ("dpe", "dpe_frozen", *QUESTION_READERS)

    @property
    def scores_read_question(self) -> bool:
        """Whether the question adds a term to these scores."""
        return self.scores_events and (self.score_reads_question or self.selector_name in QUESTION_READERS)

    @property
    def grains(self) -> int:
        """G, the multi-grained prototypes of one frame."""
        return sum(self.spatial_prototypes)

    @property
    def cones(self) -> int:
        """Cone tokens of one kept frame."""
        cones = self.pooled + self.grains
        return {0: 0, 2: 0, 38: cones, 40: cones, 256: self.patches}[self.kept_tokens]

    @property
    def reads_patches(self) -> bool:
        """Whether cones are made of single patches, so that sketches must hold those of frames that may be kept."""
        return self.kept_tokens == 256 or (self.cone_rows == "random" and self.cones > 0)

    @property
    def kept_rods(self) -> int:
        """Rod tokens of one kept frame."""
        return 0 if self.kept_tokens in (0, 38) else 2


def selector_parts(choice: SelectorChoice) -> tuple[str, dict[str, Any]]:
    """A selector's name or dotted path, and its own settings; raises ConfigError if ``choice`` holds anything else."""
    if isinstance(choice, str):
        return choice, {}
    name, init_args = choice.get("class_path"), choice.get("init_args") or {}
    if set(choice) - {"class_path", "init_args"} or not isinstance(name, str) or not isinstance(init_args, dict):
        raise ConfigError(
            f"selector {choice}",
            "a name, a dotted path, or class_path with either of them and init_args with settings by their names",
            "Write it as {class_path: my_module.MySelector, init_args: {scale: 2}}.",
        )
    return name, init_args


def selector_label(choice: SelectorChoice) -> str:
    """A selector in one word, such as ``my_module.MySelector(scale=2)``."""
    name, init_args = selector_parts(choice)
    settings = ", ".join(f"{key}={value!r}" for key, value in init_args.items())
    return f"{name}({settings})" if settings else name


def read_choice(text: str) -> SelectorChoice:
    """Read a selector from a word of a command line: a name, a dotted path, or JSON with ``class_path``.

    Raises:
        ConfigError: if it begins as JSON, and is no choice.
    """
    if not text.lstrip().startswith("{"):
        return text
    try:
        choice: SelectorChoice = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"selector {text} ({error})",
            "a name, or JSON with class_path and init_args",
            """Write it as '{"class_path": "capped_rate", "init_args": {"fps": 0.25}}'.""",
        ) from error
    selector_parts(choice)
    return choice


def restore_settings(kind: type[Settings], values: dict[str, Any]) -> Settings:
    """Settings from the plain dict that files hold them as."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def sketch_settings(settings: ConnectorSettings) -> dict[str, object]:
    """The settings that shape a sketch: two that agree in these make the same one of every video."""
    names = ["patches", "pooled", "spatial_prototypes", "spatial_neighbours", "spatial_neighbourhood", "sketch_dtype"]
    if settings.reads_patches:
        names += ["kept_tokens", "patch_frames"]
        if settings.patch_frames == "representatives":
            names += ["events", "neighbours"] + ["distance_scale"] * (settings.distance_scale != "width")
            names += ["event_window"] * (settings.event_window is not None)
    values = {name: getattr(settings, name) for name in names}
    if settings.reads_patches:
        values["kept_tokens"] = 256  # the mark of sketches that hold patches, whatever cones take them
    # Sketches of before this reading made equal prototypes tie are other ones.
    return values | ({"ties": "copies"} if settings.spatial_neighbourhood == "nearest" else {})


@dataclass(frozen=True)
class FrameRule:
    """Which frames are taken from a video and how they are resized.

    Attributes:
        size: height and width of the frames, in pixels.
        fit: how a frame that is no square becomes one. ``squeeze``: as a whole, as InstructBLIP's processor does, so
            nothing at the borders is lost and shapes change. ``crop``: the square in its middle, as wide as its shorter
            side. ``pad``: as a whole and in its shape, between two grey borders.
        frames: at most this many, from the middles of equal shares of those that ``fps`` takes; None for all.
        fps: frames per second, each the first at or after its time; None for every frame of the file.
        interpolation: ``bicubic`` (antialiased) or ``box``, the mean over each target pixel's area.
        max_pixels: larger pictures are refused before they are decoded; None for no limit. By default where Pillow
            begins to warn: a picture of that size takes 0.9 GB while it is read.
    """

    size: int = 224
    frames: int | None = None
    fps: float | None = 1.0
    interpolation: Literal["bicubic", "box"] = "bicubic"
    max_pixels: int | None = 89_478_485
    fit: Literal["squeeze", "crop", "pad"] = "squeeze"

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("frames", self.frames), ("max_pixels", self.max_pixels)):
            if value is not None and value < 1:
                raise ConfigError(f"frame rule with {name}={value}", "at least 1", f"Change {name}.")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ConfigError(f"frame rule with fps={self.fps}", "a number above 0, or null", "Change fps.")
        if self.interpolation not in ("bicubic", "box"):
            raise ConfigError(f"interpolation={self.interpolation}", "bicubic or box", "Change interpolation.")
        if self.fit not in ("squeeze", "crop", "pad"):
            raise ConfigError(f"frame rule with fit = {self.fit}", "one of squeeze, crop, pad", "Correct fit.")


def prototypes(frames: int, settings: ConnectorSettings) -> int:
    """L' = min(L, T): the event prototypes of a video of ``frames`` frames."""
    return min(settings.events, frames)


def count_kept(frames: int, settings: ConnectorSettings) -> int:
    """K' = ceil(K/L * L'), with the ratio taken as an exact decimal (0.28 * 25 is 7, not 7.000000000000001)."""
    exact = Decimal(str(settings.keep)) * prototypes(frames, settings)
    return int(exact.to_integral_value(ROUND_CEILING))


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters on every linear layer of the language model but its head.

    Attributes:
        rank: of the two factors.
        alpha: their product is scaled by alpha / rank.
        dropout: share of the adapters' inputs that is dropped in training.
    """

    rank: int = 64
    alpha: int = 128
    dropout: float = 0.05

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"lora.rank = {self.rank}", "at least 1", "Raise lora.rank.")
        if self.alpha < 1:
            raise ConfigError(f"lora.alpha = {self.alpha}", "at least 1, or adapters do nothing", "Raise lora.alpha.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora.dropout = {self.dropout}", "a share in [0, 1)", "Set lora.dropout, such as 0.05.")


@dataclass(frozen=True)
class Sampling:
    """How a model's answers are drawn.

    Attributes:
        temperature: what scores are divided by; 0: the most likely token each time, without a draw.
        top_p: only the most likely tokens whose shares sum up to this are drawn from.
        seed: of the draws.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature = {self.temperature}", "a number of at least 0", "Correct temperature.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p = {self.top_p}", "a share in (0, 1]", "Correct top_p.")
        if self.seed < 0:
            raise ConfigError(f"seed = {self.seed}", "a whole number of at least 0", "Correct seed.")


def list_recipes() -> dict[str, Path]:
    """The recipes that come with the project, by their names: ``stage2``, ``worlds/long``."""
    files = sorted(RECIPES.rglob("*.yaml"), key=lambda file: (len(file.parts), file))
    return {file.relative_to(RECIPES).with_suffix("").as_posix(): file for file in files}


def find_recipe(name: str) -> Path:
    """The file of a recipe; raises UsageError if there is none of that name."""
    recipes = list_recipes()
    if name not in recipes:
        do = suggest(name, recipes) or "`dynfocus configs` lists them."
        raise UsageError(f"the recipe dynfocus:{name}", "the name of a recipe", do)
    return recipes[name]


def read_config(path: Path) -> Any:
    """The settings of a config; where its ``trainer`` is the name of a file beside it, with what stands in that one."""
    from omegaconf import OmegaConf

    config: Any = OmegaConf.load(path)
    if isinstance(config.get("trainer"), str):
        config.trainer = OmegaConf.load(Path(path).parent / config.trainer)
    return config


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
