"""`python -m export`: the `export` command by itself."""

import sys

from dtvit_edge.cli.commands import main

sys.exit(main(["export", *sys.argv[1:]]))
