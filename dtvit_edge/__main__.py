"""`python -m dtvit_edge`, and the console script: nothing is imported before an interrupt has somebody to catch it."""

from __future__ import annotations

import sys


def entry() -> None:
    """Run the command line; interrupted while it is still being loaded, it ends with 130 as later."""
    try:
        from dtvit_edge.cli.commands import main

        status = main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    entry()
