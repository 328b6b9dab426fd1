"""Every annotation of the library is checked while the tests run, those of tensors with their axes."""

import os

import jaxtyping

# Before anything of ours is imported: the hook sees only what comes after it. An int may stand where a float is asked.
jaxtyping.install_import_hook(
    ["dynfocus", "datamodules", "callbacks"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads cost more than they give
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else data loader workers warn of the fork
os.environ["HF_HUB_OFFLINE"] = "1"  # nothing in the tests may reach for a network
