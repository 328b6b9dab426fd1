"""`python -m dynfocus` is the command `dynfocus`."""

import sys

from dynfocus.cli import main

if __name__ == "__main__":
    sys.exit(main())
