"""Ask about a file, and show what was kept and why."""
