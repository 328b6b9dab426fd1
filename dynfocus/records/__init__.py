"""Define what lives on disk as JSON lines, and write it whole or not at all."""
