"""`python -m dtvit_edge`."""

from dtvit_edge.cli import entry

entry()
