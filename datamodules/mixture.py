"""Define data modules of the published data sets, alone and mixed."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from datamodules.conversations import ConversationDataModule, Split
from dynfocus.data.annotations.sources import SETS, Source
from dynfocus.errors import ConfigError

Subset = Literal["nextqa", "clevrer_qa", "clevrer_mc", "webvid_qa", "videochat2_videochatgpt"]


class Mixture(ConversationDataModule):
    """Published data sets, and data sets of one's own, mixed by weight.

    Args:
        root: folder that holds the data sets.
        sets: names in `dynfocus.data.annotations.sources.SETS`, which says where each lies under ``root``.
        sources: data sets of one's own, as `Source` describes them.
        weights: how often an epoch reads each row of a set: 1 if not given; 0.5 reads the other half in the epoch
            after, 2 reads every row twice.
        folders: where a set lies instead: relative to ``root``, or absolute.
        media: where its videos and images lie instead: relative to the set's folder, or absolute.
        kwargs: as in `ConversationDataModule`.

    Raises:
        ConfigError: if a name is unknown, or two sets share one.
    """

    def __init__(
        self,
        root: Path,
        sets: tuple[str, ...] = (),
        sources: tuple[Source, ...] = (),
        weights: dict[str, float] | None = None,
        folders: dict[str, str] | None = None,
        media: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        if unknown := [name for name in sets if name not in SETS]:
            raise ConfigError(f"the data set {unknown[0]!r}", f"one of {', '.join(SETS)}", "Correct sets.")
        all_sources = [*(SETS[name] for name in sets), *sources]
        names = [source.name for source in all_sources]
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                f"the data sets {', '.join(names) or 'none'}",
                "at least one, and a name of its own for each",
                "Correct data.init_args.sets and data.init_args.sources.",
            )
        folders, media = folders or {}, media or {}
        for setting, values in (("weights", weights or {}), ("folders", folders), ("media", media)):
            if unknown := [name for name in values if name not in names]:
                raise ConfigError(
                    f"{setting} of {unknown[0]!r}, which is not among the data sets {', '.join(names)}",
                    "names of data sets that are mixed",
                    f"Correct data.init_args.{setting}.",
                )
        if "train" in self.files:
            raise ConfigError(
                f"data.init_args.files with train = {self.files['train']} beside data sets to mix",
                "a file of one's own as one of data.init_args.sources",
                "Write sources: [{name: mine, file: " + self.files["train"] + "}], and sets: [] to read nothing else.",
            )
        self.training_sources = [
            replace(source, folder=folders.get(source.name, source.folder), media=media.get(source.name, source.media))
            for source in all_sources
        ]
        self.weights = weights or {}

    def sources(self, split: Split) -> list[Source]:
        return self.training_sources if split == "train" else super().sources(split)


class CC3M(Mixture):
    """LLaVA's 595K captioned images of CC3M."""

    def __init__(self, root: Path, **kwargs: Any) -> None:
        super().__init__(root, sets=("cc3m",), **kwargs)


class WebVid(Mixture):
    """WebVid-2.5M: captioned video clips."""

    def __init__(self, root: Path, **kwargs: Any) -> None:
        super().__init__(root, sets=("webvid",), **kwargs)


class LLaVA665K(Mixture):
    """LLaVA-1.5's instructions about images, and its conversations of text alone."""

    def __init__(self, root: Path, **kwargs: Any) -> None:
        super().__init__(root, sets=("llava665k",), **kwargs)


class VideoChat2(Mixture):
    """The part of VideoChat2-IT that DynFocus is tuned on.

    Args:
        root: folder that holds the data sets.
        subsets: which of its parts.
        kwargs: as in `Mixture`.
    """

    def __init__(self, root: Path, subsets: tuple[Subset, ...] = get_args(Subset), **kwargs: Any) -> None:
        super().__init__(root, sets=subsets, **kwargs)
