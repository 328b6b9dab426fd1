"""Pictures and pages of what the model looked at (no torch)."""
