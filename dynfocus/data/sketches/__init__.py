"""Compute each video's sketch once and keep it on disk."""
