"""Read annotations, keep sketches on disk, and examine data sets before training."""
