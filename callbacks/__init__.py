"""Observers of training: they watch, log and write, and change nothing."""
