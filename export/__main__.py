"""`python -m export`: the `export` command by itself."""

import sys

from dtvit_edge.cli import main

sys.exit(main(["export", *sys.argv[1:]]))
