"""What the service counts, for Prometheus, and whether it is well: `/metrics` and `/health` on the loopback address.

No label and no word of either names a patient, a study or an instance.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dtvit_edge.errors import ConfigError

LOOPBACK = "127.0.0.1"
log = logging.getLogger(__name__)
_SECONDS = (0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The service's counters, in a registry of their own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        registered = {"registry": self.registry}
        self._incoming = Counter(
            "dtvit_incoming", "Objects and associations that came, by outcome.", ["outcome"], **registered
        )
        self._results = Counter("dtvit_results", "Results that were made, by flag.", ["flagged"], **registered)
        self._failures = Counter("dtvit_send_failures", "Why something was not sent.", ["reason"], **registered)
        self._stored = Counter("dtvit_objects_stored", "Objects that the PACS has.", **registered)
        self._studies = Counter("dtvit_studies_scored", "How often a study was scored.", **registered)
        self._seconds = Histogram(
            "dtvit_seconds_to_stored", "From a study that is due to its SR in the PACS.", buckets=_SECONDS, **registered
        )
        self._gauge = Gauge
        for flag in ("1", "0", ""):
            self._results.labels(flag)

    def watch(self, name: str, words: str, value: Callable[[], float]) -> None:
        """A value that is asked for when it is read."""
        self._gauge(f"dtvit_{name}", words, registry=self.registry).set_function(value)

    def incoming(self, outcome: str) -> None:
        """An object or association came."""
        self._incoming.labels(outcome).inc()

    def scored(self) -> None:
        """A study was scored."""
        self._studies.inc()

    def result(self, flagged: bool | None) -> None:
        """A new result was made."""
        self._results.labels("" if flagged is None else str(int(flagged))).inc()

    def failed(self, reason: str) -> None:
        """Something was not sent."""
        self._failures.labels(reason).inc()

    def stored(self, seconds: float | None) -> None:
        """The PACS has an object, so long after its study was due."""
        self._stored.inc()
        if seconds is not None:
            self._seconds.observe(seconds)


class _Server(ThreadingHTTPServer):
    """Of an asker that goes before its answer nothing is said, and of an error of ours its kind."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Instead of a traceback on the terminal."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            log.error("a status page could not be made: %s", type(error).__name__)


class StatusPages:
    """Serves both pages while it is entered.

    Args:
        port: on the loopback address; 0 takes any.
        health: what `/health` says; its `status` is `ok` or `red`.
    """

    def __init__(self, port: int, metrics: Metrics, health: Callable[[], dict[str, Any]]) -> None:
        self._asked = port
        self._metrics = metrics
        self._health = health
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """Where they are."""
        assert self._server is not None, "entered"
        return int(self._server.server_address[1])

    def __enter__(self) -> StatusPages:
        """Listen.

        Raises:
            ConfigError: the port cannot be listened at.
        """
        pages = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                pages._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: what is asked for is no news."""

        try:
            self._server = _Server((LOOPBACK, self._asked), Handler)
        except OSError as error:
            raise ConfigError(f"{LOOPBACK} port {self._asked} cannot be listened at: {error.strerror}") from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="status pages", daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/metrics":
            from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

            status, kind, body = 200, CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry)
        elif handler.path == "/health":
            said = self._health()
            status, kind = 200 if said["status"] == "ok" else 503, "application/json"
            body = json.dumps(said, indent=1).encode() + b"\n"
        else:
            status, kind, body = 404, "text/plain", b"/health or /metrics\n"
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
