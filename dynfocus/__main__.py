"""`python -m dynfocus` is the command `dynfocus`."""

import os
import sys

# Where -m looks first: a json.py that lies there must not stand in for Python's. A checkout stays, behind all others.
if sys.path[0] in ("", os.getcwd()):
    here = sys.path.pop(0)
    if os.path.samefile(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.getcwd()):
        sys.path.append(here)

from dynfocus.cli import main

if __name__ == "__main__":
    sys.exit(main())
