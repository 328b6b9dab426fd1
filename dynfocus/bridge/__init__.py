"""Hand frames that are chosen here to any video language model, and to programs that read index files."""

from dynfocus.bridge.choose import select
from dynfocus.bridge.picked import Picked

__all__ = ["Picked", "select"]
