"""`python -m dtvit_edge`."""

from dtvit_edge.cli.commands import entry

entry()
