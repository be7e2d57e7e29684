"""``python -m lmstages``: the command line, on which Ctrl-C is one line even while modules are imported."""

import sys

try:
    from lmstages.cli import console

    console()
except KeyboardInterrupt:  # while its modules are imported
    print("lmstages: interrupted; the same command starts again", file=sys.stderr)
    sys.exit(130)
