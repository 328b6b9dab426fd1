"""The embedded world: a small video-QA universe that needs no download and knows its relevant frames."""
