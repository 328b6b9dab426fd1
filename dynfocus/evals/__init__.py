"""Scores and tables over predictions (no torch)."""
