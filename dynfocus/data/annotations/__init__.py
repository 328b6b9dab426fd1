"""Annotation files of data sets -> rows."""
