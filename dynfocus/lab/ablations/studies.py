"""List what is compared: the variants of the method, and the studies whose rows they are."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

OVERLAYS = "lightning_configs/ablations"
LEARNED = "learned"
SELECTORS = (
    *("oracle", "text_top_k", "mmr", "event_mmr", "aks", "bolt", "q_frame", "dpp", "mdp3", "farthest_first"),
    *("facility_location", "grain_spread", "frame_difference", "scene_change", "k_means", "k_medoids", "dpc_knn"),
    *("dpe_frozen", "uniform", "random", "inverted", "blind"),
)
Sketches = Literal["prototypes", "patches", "nearest"]


@dataclass(frozen=True)
class Centre:
    """What figure 3 sweeps around, as the recipe's own config has it.

    Attributes:
        frames: T.
        events: L.
        kept: K.
        sweep_events: the values of L of figure 3a, at the same K/L; on ``long`` at the same K, so at as many tokens.
        sweep_kept: the values of K of figure 3b, at the same L.
    """

    frames: int
    events: int
    kept: int
    sweep_events: tuple[int, ...]
    sweep_kept: tuple[int, ...] = ()

    @property
    def share(self) -> str:
        """K/L as an exact decimal."""
        return divide(self.kept, self.events)


STANDARD = Centre(24, 16, 3, (8, 12, 16, 20, 24), (1, 2, 3, 6, 16))
CENTRES = {
    "easy": Centre(20, 8, 3, (4, 6, 8, 12, 16), (1, 2, 3, 5, 8)),
    "standard": STANDARD,
    "foreign": STANDARD,
    "long": Centre(64, 32, 4, (4, 8, 16, 32, 40, 64)),
}


@dataclass(frozen=True)
class Variant:
    """One way to train the model.

    Attributes:
        name: of its folder.
        options: what it changes, as options of `dynfocus fit`.
        arms: selectors that its test compares beside its own.
        start: options that its stage 1 needs; all variants with the same ones start from the same stage 1.
        sketches: which kind of sketches it reads; the first run of a kind computes them.
        epochs: of stage 2.
    """

    name: str
    options: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    sketches: Sketches = "prototypes"
    epochs: int = 1


@dataclass(frozen=True)
class Row:
    """One row of a study: an arm of a variant; ``place`` is where it lies on the x axis of a figure."""

    label: str
    variant: Variant
    arm: str = LEARNED
    place: float | None = None


@dataclass(frozen=True)
class Study:
    """One table.

    Attributes:
        name: what ``--only`` calls it.
        title: what stands above it.
        rows: in the order of the paper, from the best, or of the x axis.
        column: the number that pairs of rows are compared by.
        axis: the name of the x axis, where it is a figure.
        ranked: whether the paper ranks the rows, in the order in which they stand here.
        against: the place of the row that all others are compared with; None compares neighbours.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    column: str = "balanced"
    axis: str | None = None
    ranked: bool = False
    against: int | None = None

    @property
    def pairs(self) -> list[tuple[Row, Row]]:
        """The pairs of rows that are compared."""
        if self.against is None:
            return list(zip(self.rows, self.rows[1:], strict=False))
        base = self.rows[self.against]
        return [(base, row) for row in self.rows if row is not base]


FULL = Variant("full", arms=SELECTORS)
MAIN = ("table6", "figure3a", "figure3b", "figure3_budget", "selectors")


def list_studies(recipe: str) -> dict[str, Study]:
    """List every study on a recipe of the world; those of `MAIN` come first."""
    centre = CENTRES[recipe]
    if recipe == "long":  # gives no tokens to frames that are not kept, so that most other studies have no sense
        return {study.name: study for study in (_list_budget(centre), _list_selectors())}
    studies = [_list_table_6(), *_list_figure_3(centre), _list_selectors(), _list_switches(centre.frames)]
    question = [_list_question(centre, "question", (1, 3)), _list_question(centre, "question_sweep", range(1, 6))]
    return {study.name: study for study in [*studies, *question, _list_trained_selectors()]}


def divide(kept: int, events: int) -> str:
    """K/L as an exact decimal, so that its product with L is K and not a little more."""
    return str(Decimal(kept) / Decimal(events))


def overlay(*names: str) -> tuple[str, ...]:
    """The options that lay overlays over the configs."""
    return tuple(word for name in names for word in ("--config", f"{OVERLAYS}/{name}.yaml"))


def _list_table_6() -> Study:
    cells = {
        (2, 256): Variant("redundant_2_kept_256", overlay("kept_256"), sketches="patches"),
        (2, 40): FULL,
        (0, 256): Variant("redundant_0_kept_256", overlay("redundant_0", "kept_256"), sketches="patches"),
        (0, 40): Variant("redundant_0_kept_40", overlay("redundant_0")),
        (2, 2): Variant("redundant_2_kept_2", overlay("kept_2")),
        (2, 0): Variant("redundant_2_kept_0", overlay("kept_0")),
    }
    rows = tuple(Row(f"({redundant}, {kept})", variant) for (redundant, kept), variant in cells.items())
    title = "Table 6: tokens of a redundant frame, tokens of a kept frame (the paper's names of the settings)"
    return Study("table6", title, rows, ranked=True)


def _list_figure_3(centre: Centre) -> tuple[Study, Study]:
    by_events = tuple(
        Row(f"L = {events}", _vary(centre, events=events), place=events) for events in centre.sweep_events
    )
    by_share = tuple(
        Row(f"K/L = {divide(kept, centre.events)} (K = {kept})", _vary(centre, kept=kept), place=kept / centre.events)
        for kept in centre.sweep_kept
    )
    return (
        Study("figure3a", f"Figure 3a: L event prototypes at K/L = {centre.share}", by_events, axis="L"),
        Study("figure3b", f"Figure 3b: the kept share K/L at L = {centre.events}", by_share, axis="K/L"),
    )


def _list_budget(centre: Centre) -> Study:
    rows = []
    for events in centre.sweep_events:
        share = divide(centre.kept, events)
        options = ("--model.connector.events", str(events), "--model.connector.keep", share)
        variant = FULL if events == centre.events else Variant(f"events_{events}_keep_{centre.kept}", options)
        rows.append(Row(f"L = {events} (K/L = {share})", variant, place=events))
    title = f"Figure 3 at one budget: L event prototypes, of which K = {centre.kept} are kept whatever L"
    return Study("figure3_budget", title, tuple(rows), "detail", "L")


def _vary(centre: Centre, events: int | None = None, kept: int | None = None) -> Variant:
    if events == centre.events or kept == centre.kept:
        return FULL
    if events is not None:
        return Variant(f"events_{events}", ("--model.connector.events", str(events)))
    return Variant(f"keep_{kept}", ("--model.connector.keep", divide(kept or 0, centre.events)))


def _list_selectors() -> Study:
    rows = tuple(Row(arm, FULL, arm) for arm in (LEARNED, *SELECTORS))
    title = "Selectors at test time: the same trained model, other frames at as many tokens"
    return Study("selectors", title, rows, "detail", against=0)


def _list_switches(frames: int) -> Study:
    names = ("nearest_in_time", "distance_scale", "sigma", "samples", "straight_through", "score_reads_question")
    pooled = overlay("average_pooling")
    every = ("--model.connector.events", str(frames), "--model.connector.keep", "1.0")
    variants = {
        **{name: Variant(name, overlay(name)) for name in names},
        "nearest_in_space": Variant("nearest_in_space", overlay("nearest_in_space"), sketches="nearest"),
        "random_cones": Variant("random_cones", overlay("random_cones"), sketches="patches"),
        "average_pooling": Variant("average_pooling", pooled, start=pooled),
        "average pooling, 4 epochs": Variant("average_pooling_4", pooled, start=pooled, epochs=4),
        "every patch of every frame": Variant("every_patch", (*overlay("kept_256"), *every), sketches="patches"),
        "without stage 1": Variant("no_stage1", ("--model.init_from", "null")),
    }
    rows = (Row("the defaults", FULL), *(Row(label, variant) for label, variant in variants.items()))
    return Study("switches", "Other switches of the method", rows, against=0)


def _list_question(centre: Centre, name: str, sweep: Iterable[int]) -> Study:
    kinds = {
        "the paper's score": ("", ()),
        "with the question term": ("_question", overlay("score_reads_question")),
        "with the question and time terms": ("_time", ("--model.connector.selector", "dpe_question_time")),
        "text Top-K": ("_text", ("--model.connector.selector", "text_top_k")),
    }
    rows = []
    rotated = {"with the question term, its words rotated": ("_rotated", overlay("rotated_question"))}
    for kept in sweep:
        plain = _vary(centre, kept=kept)
        for kind, (suffix, options) in (kinds | rotated if kept == 1 else kinds).items():
            variant = Variant(f"keep_{kept}{suffix}", (*plain.options, *options)) if suffix else plain
            rows.append(Row(f"K = {kept}, {kind}", variant))
    return Study(name, "The question term, each model trained with its own selector", tuple(rows), "detail")


def _list_trained_selectors() -> Study:
    names = ("uniform", "random", "k_means", "dpc_knn", "farthest_first", "text_top_k", "oracle")
    rows = tuple(Row(name, Variant(f"selector_{name}", ("--model.connector.selector", name))) for name in names)
    title = "Selectors that the model is trained with, at equal tokens"
    return Study("trained_selectors", title, (Row("dpe", FULL), *rows), "detail", against=0)
