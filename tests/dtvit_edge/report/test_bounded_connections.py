"""Connections that stand still are closed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

pytest.importorskip("uvicorn", reason="uvicorn, of the extra `view`, is not installed")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
                         ids=["nothing", "half a request", "an answer that does not come"])  # fmt: skip
def test_a_connection_without_an_answer_is_closed(sent: bytes) -> None:
    from uvicorn import Config, Server

    from dtvit_edge.report.bounded_connections import bounded_protocol

    async def never(scope: object, receive: object, send: object) -> None:
        await asyncio.sleep(30)

    async def ask() -> float:
        config = Config(never, http=bounded_protocol(0.2), ws="none", lifespan="off", log_config=None)  # type: ignore[arg-type]
        config.load()
        server = Server(config)
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(
            lambda: config.http_protocol_class(config=config, server_state=server.server_state, app_state={}),  # type: ignore[operator]
            "127.0.0.1", 0,
        )  # fmt: skip
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname()[:2])
        begun = loop.time()
        writer.write(sent)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        listening.close()
        for task in server.server_state.tasks:
            task.cancel()
        return loop.time() - begun

    assert asyncio.run(ask()) < 3
