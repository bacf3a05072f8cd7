"""``python -m cardiojax``: the command line."""

import sys

from cardiojax.cli import main

if __name__ == "__main__":
    sys.exit(main())
