"""Define the LightningDataModule of the embedded world, which is rendered where it does not exist yet."""

from functools import partial
from pathlib import Path
from typing import Any

from datamodules.conversations import ConversationDataModule, Split
from dynfocus.world.dataset import write_world
from dynfocus.world.towers.quality import check_towers


class WorldDataModule(ConversationDataModule):
    """The embedded world; stage 1 reads captions of images and videos, stage 2 conversations, image QA and text.

    Args:
        root: folder of the data set; written on first use.
        videos: training videos.
        world_seed: the world's seed; its splits are disjoint.
        val: validation videos.
        test: test videos.
        check: refuse towers that an earlier version made, or whose language model reads symbols too badly.
        kwargs: as in `ConversationDataModule`; the annotation files are the world's own.
    """

    def __init__(
        self,
        root: Path,
        videos: int = 1600,
        world_seed: int = 0,
        val: int = 100,
        test: int = 200,
        check: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, files={"val": "val.json", "test": "test.json"}, **kwargs)
        self.files["train"] = "stage1.json" if self.stage == "stage1" else "stage2.json"
        self.check = check
        self.write = partial(write_world, self.root, videos=videos, seed=world_seed, val=val, test=test)

    def prepare_data(self) -> None:
        self.write()
        super().prepare_data()
        if self.check:
            check_towers(self.encoders.parent)

    def splits(self, stage: str) -> tuple[Split, ...]:
        return ("train",) if stage == "fit" and self.stage == "stage1" else super().splits(stage)
