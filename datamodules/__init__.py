"""Give data to Lightning: rows of annotation files, their sketches, and batches."""
