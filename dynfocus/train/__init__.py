"""Train with Lightning: the module, its stages, sharding, checkpoints, and the fit command."""
