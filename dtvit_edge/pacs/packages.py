"""The packages of the extra `pacs`, which nothing else needs: asked for before the first file."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from dtvit_edge.environment import install_line
from dtvit_edge.errors import MissingDependency

INSTALL = install_line("pacs")
OBJECTS = ("highdicom",)
SERVICE = ("highdicom", "pynetdicom", "prometheus_client")


def require(*names: str) -> None:
    """Ask for packages, without loading them.

    Raises:
        MissingDependency: one is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise MissingDependency(f"{name} is not installed, and objects for a PACS need it; {INSTALL}")


def no_log_of_peers() -> None:
    """Let pynetdicom log nothing: it would log identifiers of queries, and a traceback for each peer that hangs up."""
    from pynetdicom import _config

    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
