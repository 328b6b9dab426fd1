"""Make torchvision importable beside a build of torch that its compiled half does not fit.

Video processors of transformers need torchvision's Python half alone. Where the compiled half cannot be loaded, the
import fails for want of its operators: here they are declared without kernels, so that calling one still fails. Such a
torchvision is put outside of site-packages by `make install`: inside, Lightning and transformers could not be imported.

As a program it runs a module after that: ``python tests/support/torchvision_beside_torch.py dynfocus serve ...``.
"""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

ASIDE = Path(sys.prefix) / "torchvision"  # where `make install` puts one that does not fit
POOLING = ("roi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d")
OPERATORS = ("nms", "qnms", *POOLING, *(f"_{name}_backward" for name in POOLING))


def import_torchvision() -> None:
    """Import torchvision, from beside site-packages if it lies there; nothing happens where there is none."""
    if find_spec("torchvision") is None and ASIDE.is_dir():
        import torch

        sys.path.append(str(ASIDE))
        library = torch.library.Library("torchvision", "DEF")
        for name in OPERATORS:
            library.define(f"{name}(Tensor input) -> Tensor")
        kept.append(library)
        import torchvision  # noqa: F401
        from transformers.utils.import_utils import is_torchvision_available, is_torchvision_v2_available

        # transformers remembers the answers. Processes that tests start inherit sys.path but not the operators, so they
        # must not see this torchvision.
        is_torchvision_available(), is_torchvision_v2_available()
        sys.path.remove(str(ASIDE))


kept: list[object] = []  # a library that nobody holds takes its operators with it

if __name__ == "__main__":
    import_torchvision()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
