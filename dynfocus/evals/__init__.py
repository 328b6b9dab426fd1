"""Compute scores and tables over predictions (no torch)."""
