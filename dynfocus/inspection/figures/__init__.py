"""The paper's figures 1a, 4 and 5: for each one a PNG to look at and a CSV with its numbers."""
