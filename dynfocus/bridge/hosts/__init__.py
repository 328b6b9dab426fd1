"""Let video language models of transformers answer from frames that were chosen here.

`FAMILIES` is their table. Frames go in as pixels through the model's own processor (`make_inputs`), or as features
of its own tower, encoded once for any choice and any question (`Host.encode`, `Host.show`, `Host.feature_inputs`).
"""

from dynfocus.bridge.hosts.families import FAMILIES
from dynfocus.bridge.hosts.host import Host
from dynfocus.bridge.hosts.pixels import make_arguments, make_inputs
from dynfocus.bridge.hosts.processor_calls import correct_times, write_times

__all__ = ["FAMILIES", "Host", "correct_times", "make_arguments", "make_inputs", "write_times"]
