"""The pages of a run while it goes on and after it: an ASGI application that reads an output folder, and its server.

A page is looked up by the study's name in the table, never by a path: what an address holds leads to no file.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import socket
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dtvit_edge.environment import install_line
from dtvit_edge.errors import ConfigError, DeviceFault, MissingDependency
from dtvit_edge.files import read_regular
from dtvit_edge.report.access import TOKEN, App, Guard, Refusal, unforeseen
from dtvit_edge.report.bounded_connections import bounded_protocol
from dtvit_edge.report.files import FOLDER, INDEX, results_digest, shown_digest
from dtvit_edge.report.scanners import drift_page, scanners_page
from dtvit_edge.report.service_folder import folder_at
from dtvit_edge.report.slice_lookup import study_slices
from dtvit_edge.report.standing import Entry, Stamp, Standing, stamp_of
from dtvit_edge.report.study_page import NO_PICTURES, study_html, table_views
from dtvit_edge.report.templates import page, require, style_digest
from dtvit_edge.report.words import left_out_sentence
from dtvit_edge.report.worklist import Query, worklist_page
from dtvit_edge.scoring.output_folder import RUN, SLICES, STUDIES

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

INSTALL = install_line("view")
FILES_A_PAGE = 100
# A page that `score --report` wrote has a megabyte at most.
_LONGEST_PAGE = 2**21
_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)
MOST_CONNECTIONS = 64
GRACE_SECONDS = 2

log = logging.getLogger(__name__)


class Pages:
    """The pages of an output folder, or of a service's, as text; from any thread.

    Raises:
        ConfigError: as `folder_at`.
    """

    def __init__(self, out: Path) -> None:
        self._folder = folder_at(out)
        self._lock = threading.Lock()
        self._holds: dict[Path, tuple[Stamp, bool]] = {}

    def worklist(self, parameters: dict[str, str]) -> str:
        """The worklist, by the parameters of its address."""
        return worklist_page(self._folder.now(), Query.of(parameters))

    def scanners(self, parameters: dict[str, str]) -> str:
        """What each scanner sends."""
        return scanners_page(self._folder.now())

    def drift(self, parameters: dict[str, str]) -> str:
        """How scores and brain shares drift."""
        return drift_page(self._folder.now())

    def files(self, parameters: dict[str, str]) -> str:
        """The files that belong to no study."""
        number = Query.of(parameters).number
        rows = self._folder.of_no_study((number - 1) * FILES_A_PAGE, FILES_A_PAGE + 1)
        return page(
            "files.html",
            total=sum(row.slices for row in self._folder.now().of_no_study),
            rows=[(row, left_out_sentence(row.reason)) for row in rows[:FILES_A_PAGE]],
            more=len(rows) > FILES_A_PAGE,
            number=number,
            here="files",
        )

    def study(self, name: str) -> str | bytes:
        """The page of a study, as `score --report` wrote it while it shows these results, else from the tables.

        Args:
            name: of the page, from an address.

        Raises:
            Refusal: there is no such study.
        """
        entry = self._folder.now().by_page.get(name)
        if entry is None:
            words = "The results have no study of this name (any more)."
            raise Refusal(404, "No such page", words)
        out, standing = self._folder.of_study(entry)
        written = self._written(out, standing, entry)
        return written if written is not None else self._from_tables(out, standing, entry)

    def _from_tables(self, out: Path, standing: Standing, entry: Entry) -> str:
        rows = study_slices(out, entry.study.uid)
        views, more = table_views(entry.study, rows)
        thresholds = standing.threshold, standing.slice_threshold
        return study_html(
            standing.results, entry.study, rows, views, thresholds=thresholds, more_stacks=more, note=NO_PICTURES,
            here="study",
        )  # fmt: skip

    def _written(self, out: Path, standing: Standing, entry: Entry) -> bytes | None:
        """A page that lies in the report's folder; None where it is another version's, or shows other results."""
        if standing.results is None or not self._report_holds(out):
            return None
        try:
            text = read_regular(out / FOLDER / entry.page, _LONGEST_PAGE, within=out)
        except OSError:
            return None
        style = _STYLE.search(text)
        return text if style is not None and _digest(style[1]) == style_digest() else None

    def _report_holds(self, out: Path) -> bool:
        """Whether the report's index shows these tables; asked once for each state of them."""
        stamp = stamp_of(out, STUDIES, SLICES, RUN, f"{FOLDER}/{INDEX}")
        with self._lock:
            known = self._holds.get(out)
            if known is None or known[0] != stamp:
                try:
                    holds = shown_digest(out) == results_digest(out)
                except OSError:
                    holds = False
                known = self._holds[out] = stamp, holds
            return known[1]


def application(
    pages: Pages, names: Collection[str] = ("localhost",), token: str | None = None, *, only_loopback: bool = True
) -> App:
    """The application: pages behind their guard.

    Args:
        names, token, only_loopback: as of `Guard`.

    Raises:
        MissingDependency: starlette or jinja2 is not installed.
    """
    require()
    try:
        from starlette.applications import Starlette
        from starlette.responses import HTMLResponse
        from starlette.routing import Route
    except ImportError as error:
        raise MissingDependency(f"starlette is not installed, and `view` serves pages with it; {INSTALL}") from error

    def answering(make: Callable[[Request], str | bytes]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            status = 200
            try:
                made = make(request)
            except Exception as error:
                refusal = _refusal(error)
                made, status = refusal.html, refusal.status
            return HTMLResponse(made.encode("utf-8", "backslashreplace") if isinstance(made, str) else made, status)

        return answer

    def of(make: Callable[[dict[str, str]], str]) -> Callable[[Request], Response]:
        return answering(lambda request: make(dict(request.query_params)))

    def missing(request: Request) -> str:
        raise Refusal(404, "No such page", "The worklist leads to every page that there is.")

    routes: list[Any] = [
        Route("/", of(pages.worklist)),
        Route(f"/{INDEX}", of(pages.worklist)),  # where the pages of `score --report` lead back to
        Route("/scanners.html", of(pages.scanners)),
        Route("/drift.html", of(pages.drift)),
        Route("/files.html", of(pages.files)),
        Route("/{name}", answering(lambda request: pages.study(request.path_params["name"]))),
        Route("/{rest:path}", answering(missing)),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return Guard(app, names, token, only_loopback=only_loopback)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, not yet served.

    Raises:
        ConfigError: the name leads nowhere, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"{host} is no address of this machine: {error.strerror}") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(MOST_CONNECTIONS)
    except OSError as error:
        made.close()
        raise ConfigError(f"port {port} of {host} cannot be used: {error.strerror}; --port gives another") from error
    return made


def address_of(listening: socket.socket, host: str, token: str | None) -> str:
    """The address to open."""
    name = f"[{host}]" if ":" in host else host
    query = f"?{TOKEN}={quote(token)}" if token is not None else ""
    return f"http://{name}:{listening.getsockname()[1]}/{query}"


def serve(app: App, listening: socket.socket) -> None:
    """Serve until a signal ends it: what is under way is answered, and the signal is raised again.

    Raises:
        DeviceFault: the server ended by itself.
        KeyboardInterrupt: by SIGINT or SIGTERM.
        MissingDependency: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingDependency(f"uvicorn is not installed, and `view` serves pages with it; {INSTALL}") from error
    # Its log would quote addresses as they come.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = [logging.NullHandler()]
        logging.getLogger(name).propagate = False
    config = uvicorn.Config(
        app,
        http=bounded_protocol(),
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=2**14,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])
    raise DeviceFault("the server ended by itself")


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ConfigError):
        return Refusal(503, "The results cannot be read now", str(error))
    return unforeseen(error)


def _digest(style: bytes) -> str:
    return base64.b64encode(hashlib.sha256(style).digest()).decode("ascii")
