"""Check every row before training: what is wrong with it, and what it costs."""
