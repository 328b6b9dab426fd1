"""Lightning's view of data: rows of annotation files, their sketches, and batches."""
