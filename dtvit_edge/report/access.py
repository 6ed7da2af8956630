"""Who may look: every request passes here before a page is made, and every answer leaves with its headers.

A page of results is asked for by the person at this machine, or by somebody who has the token; never by a page of
another origin, nor by a name that somebody else's DNS leads here (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from dtvit_edge.report.templates import page, policy

COOKIE = "dtvit_view"
TOKEN = "token"  # the parameter of the first address
# A query is a few names; a browser's own longest address is far longer.
LONGEST_TARGET = 4096
METHODS = ("GET", "HEAD")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    # Whose study it is lies in no cache of a browser.
    (b"cache-control", b"no-store"),
    (b"permissions-policy", b"interest-cohort=()"),
)

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that gets no page: its status, the title and the words of the answer, and more headers."""

    def __init__(self, status: int, title: str, words: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(title)
        self.status, self.title, self.words, self.headers = status, title, words, headers

    @property
    def html(self) -> str:
        """Its page."""
        return page("message.html", title=self.title, words=self.words, address="", link="")


def unforeseen(error: Exception) -> Refusal:
    """What to answer to an error of the program: its words may quote a table, and stay here."""
    log.error("a page could not be made: %s", type(error).__name__)
    log.debug("", exc_info=error)
    return Refusal(500, "The page could not be made", "This is an error of the program itself; -v logs more of it.")


class Guard:
    """An ASGI application in front of another one.

    Args:
        names: of this machine that a request may be for, besides addresses.
        token: asked for once and kept as a cookie; None asks for none.
        only_loopback: addresses have to be this machine's own as well.
    """

    def __init__(self, app: App, names: Collection[str], token: str | None, *, only_loopback: bool = True) -> None:
        self._app = app
        self._names = {name.casefold() for name in names}
        self._token = None if token is None else token.encode()
        self._only_loopback = only_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            headers = _headers(scope)
            self._check(scope, headers)
            if self._token is not None and not self._is_known(headers):
                await self._enter(scope, send)
                return
            await self._app(scope, receive, _with_headers(send))
        except Refusal as refusal:
            await answer(scope, send, refusal.status, refusal.html, *refusal.headers)

    def _check(self, scope: Scope, headers: dict[bytes, list[bytes]]) -> None:
        """Refuse what no page of ours asks for.

        Raises:
            Refusal: with the status.
        """
        if scope["method"] not in METHODS:
            allow = (b"allow", ", ".join(METHODS).encode())
            raise Refusal(405, "Only looking is possible here", "Pages can be read, and nothing can be sent.", allow)
        if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_TARGET:
            raise Refusal(414, "The address is too long", f"An address has {LONGEST_TARGET} characters at most.")
        if len(hosts := headers.get(b"host", [])) != 1 or not self._is_ours(hosts[0].decode("latin-1")):
            raise Refusal(421, "Not the name of this server", "Open it by the address that `dtvit-edge view` printed.")
        fetched = headers.get(b"sec-fetch-site", [b"none"])
        if any(site not in (b"same-origin", b"none") for site in fetched) or _is_foreign(headers, hosts[0]):
            words = "Another site asked for this page. Type or paste its address to open it."
            raise Refusal(403, "Not from another site", words)

    def _is_ours(self, host: str) -> bool:
        """Whether a Host is a name of ours, or an address, which no DNS leads elsewhere; the port may be a tunnel's."""
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
        if port and not (port.isascii() and port.isdigit()):
            return False
        if name.casefold() in self._names:
            return True
        try:
            address = ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
        except ValueError:
            return False
        return address.is_loopback or not self._only_loopback

    def _is_known(self, headers: dict[bytes, list[bytes]]) -> bool:
        assert self._token is not None
        given = [value[7:] for value in headers.get(b"authorization", []) if value[:7].lower() == b"bearer "]
        if any(hmac.compare_digest(value.strip(), self._token) for value in given):
            return True
        cookies = []
        for value in headers.get(b"cookie", []):
            try:
                cookies += [morsel.value for name, morsel in SimpleCookie(value.decode("latin-1")).items()
                            if name == COOKIE]  # fmt: skip
            except CookieError:
                continue
        return any(hmac.compare_digest(value.encode(), self._cookie) for value in cookies)

    @property
    def _cookie(self) -> bytes:
        """Not the token itself, which a browser would keep."""
        assert self._token is not None
        return hmac.new(self._token, b"dtvit-edge view", hashlib.sha256).hexdigest().encode()

    async def _enter(self, scope: Scope, send: Send) -> None:
        """Give the cookie to who has the token.

        Not a redirection: after one from elsewhere a browser leaves a strict cookie out.

        Raises:
            Refusal: it is not the token.
        """
        assert self._token is not None
        try:
            asked = parse_qs(scope["query_string"].decode("ascii"), max_num_fields=50)
        except ValueError:
            asked = {}
        if not any(hmac.compare_digest(value.encode(), self._token) for value in asked.get(TOKEN, [])):
            words = "Open the whole address that `dtvit-edge view` printed, with its token."
            raise Refusal(401, "The token is missing", words, (b"www-authenticate", b"Bearer"))
        cookie = f"{COOKIE}={self._cookie.decode()}; Path=/; HttpOnly; SameSite=Strict"
        text = page(
            "message.html", title="You may look", words="This browser is known from now on, until it is closed.",
            address="/", link="Open the worklist", refresh="0; url=/",
        )  # fmt: skip
        await answer(scope, send, 200, text, (b"set-cookie", cookie.encode()))


async def answer(scope: Scope, send: Send, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
    """Send a page that was made here."""
    body = text.encode("utf-8", "backslashreplace")
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode()), *more]
    send = _with_headers(send)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _with_headers(send: Send) -> Send:
    """Sends with the headers that every answer has."""
    allowed = f"{policy(forms=True)}; frame-ancestors 'none'".encode()

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *HEADERS, (b"content-security-policy", allowed)]
        await send(message)

    return sending


def _headers(scope: Scope) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def _is_foreign(headers: dict[bytes, list[bytes]], host: bytes) -> bool:
    """Whether an Origin is given that is not ours: a browser that knows no Sec-Fetch-Site still sends it."""
    return any(origin.split(b"://", 1)[-1] != host for origin in headers.get(b"origin", []))
