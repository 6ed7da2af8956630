"""A connection that sends its request by drops, or takes its answer so, is closed: others want its place."""

from __future__ import annotations

import asyncio
from typing import Any

# Of a connection's life: until its first request is whole, and between the ends of two answers.
SECONDS = 20.0


def bounded_protocol(seconds: float = SECONDS) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, whose connections have so long for each request with its answer."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class BoundedProtocol(H11Protocol):
        """uvicorn itself bounds the time between requests alone."""

        _end: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._begin()

        def on_response_complete(self) -> None:
            self._begin()
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._end is not None:
                self._end.cancel()
            super().connection_lost(exc)

        def _begin(self) -> None:
            if self._end is not None:
                self._end.cancel()
            self._end = self.loop.call_later(seconds, self.transport.abort)

    return BoundedProtocol
