"""Keep the features of videos on disk, in the sketch cache, under the identity of the host that made them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from logging import getLogger
from pathlib import Path
from typing import Any

from dynfocus.bridge.hosts.features import HostFeatures, from_tensors, to_tensors
from dynfocus.bridge.hosts.folder import identify
from dynfocus.data.sketches.digests import Digests, hash_files
from dynfocus.data.sketches.entries import DamagedEntryError, read_entry, write_entry
from dynfocus.settings import FrameRule

FORMAT = 1  # of entries; those of another number are not read
log = getLogger(__name__)


class FeatureStore:
    """Features on disk, one entry for a video, a host, and what else they depend on.

    Args:
        folder: where entries lie; sketches of other encoders may lie there too.
        host: folder of the host.
    """

    def __init__(self, folder: Path, host: Path) -> None:
        self.folder, self.digests = Path(folder), Digests(Path(folder) / "digests")
        self.identity = identify(host, self.digests)

    def key(self, files: Sequence[Path], rule: FrameRule, **further: Any) -> str:
        """All that the features of a video depend on; ``files`` are the video, or the images that are its frames.

        Raises:
            OSError: if a file cannot be read.
        """
        content = self.digests.get(files, lambda: hash_files(files))
        facts = {"features": FORMAT, "host": self.identity, "media": content, "rule": asdict(rule), **further}
        return json.dumps(facts, sort_keys=True)

    def read(self, key: str, compute: Callable[[], HostFeatures]) -> HostFeatures:
        """The features under a key; computed and written where there are none, or they are damaged."""
        name = hashlib.sha256(key.encode()).hexdigest()
        path = self.folder / name[:2] / f"{name}.safetensors"
        try:
            tensors = read_entry(path, key)
        except DamagedEntryError as error:
            log.warning("the features in %s are damaged (%s) and are computed again", path, error)
            tensors = None
        if tensors is not None:
            return from_tensors(tensors)
        features = compute().to("cpu")
        write_entry(path, to_tensors(features), key)
        return features
