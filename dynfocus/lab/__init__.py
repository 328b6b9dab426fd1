"""Repeat and compare experiments."""
