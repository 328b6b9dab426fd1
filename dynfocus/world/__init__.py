"""Make the embedded world: a small video-QA data set that needs no download and knows its relevant frames."""
