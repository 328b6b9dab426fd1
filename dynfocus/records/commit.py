"""Find out which version of the code runs."""

import subprocess
from pathlib import Path


def read_commit() -> str:
    """Read the git commit of the code that runs, or ``unknown`` where it is no git checkout, or there is no git."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return result.stdout.strip() or "unknown"
