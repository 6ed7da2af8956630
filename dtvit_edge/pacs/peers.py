"""Application entities: who may send here, and where results go."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from dtvit_edge.errors import ConfigError

# PS3.5 section 6.2, AE: 16 characters at most, no backslash or control character, not blanks alone.
_TITLE = re.compile(r"(?=.{1,16}\Z)(?! )[ -\[\]-~]*[!-\[\]-~]\Z", re.ASCII)
_PEER = re.compile(r"(?P<title>.+)@(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]@]+)(?::(?P<port>[0-9]{1,5}))?\Z")


@dataclass(frozen=True)
class Peer:
    """An application entity; port 0 where nothing is sent to it."""

    title: str
    host: str
    port: int = 0

    def addresses(self) -> frozenset[str]:
        """The addresses that its host has now.

        Raises:
            ConfigError: the host has none.
        """
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"{self.host}: no address of this host is known here: {error}") from error
        return frozenset(plain_address(str(entry[4][0])) for entry in found)


def peer(text: str, *, with_port: bool) -> Peer:
    """`AET@HOST:PORT`, or `AET@HOST` of one that only sends; an IPv6 address stands in square brackets.

    Raises:
        ConfigError: it is none.
    """
    form = "AET@HOST:PORT" if with_port else "AET@HOST"
    found = _PEER.match(text)
    if found is None or bool(found["port"]) != with_port:
        raise ConfigError(f"{text!r} is no application entity; expected {form}")
    port = int(found["port"] or 0)
    if with_port and not 0 < port < 1 << 16:
        raise ConfigError(f"{text!r}: a port is 1 to 65535")
    return Peer(title(found["title"]), found["host"].strip("[]"), port)


def title(text: str) -> str:
    """An AE title.

    Raises:
        ConfigError: it is none.
    """
    if not _TITLE.match(text):
        raise ConfigError(f"{text!r} is no AE title: 1 to 16 ASCII characters without a backslash, no blank at an end")
    return text


def plain_address(address: str) -> str:
    """An address as a peer's is compared: IPv4 in IPv6's clothes is IPv4."""
    return address.removeprefix("::ffff:") if "." in address else address
