"""Define the LightningDataModule of the embedded world, which is rendered where it does not exist yet."""

import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from datamodules.conversations import ConversationDataModule, Split
from dynfocus.records.rows import Question
from dynfocus.world.dataset import write_world
from dynfocus.world.recipes import find_recipe, make_settings
from dynfocus.world.towers.quality import check_learned, check_towers


class WorldDataModule(ConversationDataModule):
    """The embedded world; stage 1 reads captions of images and videos, stage 2 conversations, image QA and text.

    Args:
        root: folder of the data set; written on first use.
        videos: training videos.
        world_seed: the world's seed; its splits are disjoint.
        val: validation videos.
        test: test videos.
        recipe: what its videos are like: a name in `dynfocus.world.recipes.RECIPES`.
        settings: single settings that override the recipe's, such as ``{glitches: 3}``.
        tested: the split that a test asks about: ``test``, or ``val`` while settings are still being chosen.
        check: refuse towers that an earlier version or another world made, or whose language model reads symbols too
            badly.
        kwargs: as in `ConversationDataModule`; the annotation files are the world's own.
    """

    def __init__(
        self,
        root: Path,
        videos: int = 1600,
        world_seed: int = 0,
        val: int = 100,
        test: int = 200,
        recipe: str = "easy",
        settings: dict[str, Any] | None = None,
        tested: Literal["test", "val"] = "test",
        check: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, files={"val": "val.json", "test": f"{tested}.json"}, **kwargs)
        self.settings = make_settings(recipe, **(settings or {}))
        self.files["train"] = "stage1.json" if self.stage == "stage1" else "stage2.json"
        self.check = check
        sizes: dict[str, Any] = {"videos": videos, "seed": world_seed, "val": val, "test": test}
        self.write = partial(write_world, self.root, **sizes, settings=self.settings)

    @property
    def recipe(self) -> str:
        """The recipe with these settings, or ``own settings``."""
        return find_recipe(self.settings) or "own settings"

    def prepare_data(self) -> None:
        self.write()
        super().prepare_data()
        if self.check:
            check_towers(self.encoders.parent, self.settings)

    def setup(self, stage: str) -> None:
        if stage != "fit" and self.check and self.trainer is not None:
            self._check_run(Path(self.trainer.default_root_dir) / "config.yaml")
        super().setup(stage)

    def _check_run(self, config: Path) -> None:
        """Refuse a run that was trained on a world of another kind; how it was trained, its config says."""
        if not config.is_file():
            return
        fitted: Any = OmegaConf.load(config)
        data: Any = fitted.get("data") or {}
        if data.get("class_path", "").endswith(type(self).__name__):
            known = {name: value for name, value in data.init_args.items() if name in ("recipe", "settings")}
            learned = make_settings(known.get("recipe", "easy"), **(known.get("settings") or {}))
            check_learned(
                f"a run in {config.parent}",
                learned,
                self.settings,
                "Test it with the recipe that it was trained with, or train another run (trainer.default_root_dir).",
            )

    def training_questions(self) -> list[Question]:
        """Read the questions about videos that stage 2 learns from, for the prior of their texts."""
        rows = json.loads((self.root / "stage2.json").read_text())
        known = [fields for row in rows if "video" in row for fields in row["questions"]]
        return [Question(one["text"], one["answer"], group=one["group"]) for one in known]

    def splits(self, stage: str) -> tuple[Split, ...]:
        return ("train",) if stage == "fit" and self.stage == "stage1" else super().splits(stage)
