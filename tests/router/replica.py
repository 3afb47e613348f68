"""A replica for the router's tests: a real HTTP server on a loopback address that drains and dies on command."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

QUICK = b"quick"
"""Body of a request whose stream is never held back."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it reached a replica."""

    method: str
    target: str
    headers: dict[str, list[str]]
    body: bytes


@dataclass(slots=True)
class Replica:
    """Answers each request with a chunked stream of two events and `[DONE]`; its events say when it goes on."""

    address: str
    port: int
    health: int = 200
    """Status of its health route: 503 while it drains."""
    status: int = 200
    content_type: str = "text/event-stream"
    first_byte: asyncio.Event = field(default_factory=asyncio.Event)
    last_byte: asyncio.Event = field(default_factory=asyncio.Event)
    received: list[Received] = field(default_factory=list)
    checks: int = 0
    ongoing: int = 0
    most_ongoing: int = 0
    left: int = 0
    """Requests whose client went away before the answer was complete."""
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        """Listen; answer at once until a test says otherwise."""
        self.first_byte.set()
        self.last_byte.set()
        self._server = await asyncio.start_server(self._serve, self.address, self.port, backlog=1024)

    async def kill(self) -> None:
        """End as by SIGKILL: every connection is reset, and the port refuses."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while request := await _request(reader):
                    await self._answer(request, reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if request.target == "/-/healthz":
            self.checks += 1
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % self.health)
            await writer.drain()
            return
        self.received.append(request)
        self.ongoing += 1
        self.most_ongoing = max(self.most_ongoing, self.ongoing)
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await _either(self.first_byte, gone)
            head = (
                f"HTTP/1.1 {self.status} X\r\ncontent-type: {self.content_type}\r\n"
                f"x-replica: {self.address}\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            writer.write(head.encode() + _chunk(b"data: first\n\n"))
            await writer.drain()
            if request.body != QUICK:
                await _either(self.last_byte, gone)
            writer.write(_chunk(b"data: last\n\n") + _chunk(b"data: [DONE]\n\n") + _chunk(b""))
            await writer.drain()
        except ConnectionError:
            self.left += 1
            raise
        finally:
            self.ongoing -= 1
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await gone


async def _either(event: asyncio.Event, gone: asyncio.Future[bytes]) -> None:
    """Wait for the event, or learn that the other side has gone."""
    waiting = asyncio.ensure_future(event.wait())
    either: set[asyncio.Future[Any]] = {waiting, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if not event.is_set():
        raise ConnectionResetError("the router closed the connection")


async def _request(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = line.split(" ", 2)
    headers: dict[str, list[str]] = {}
    for each in lines:
        name, _, value = each.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    if headers.get("transfer-encoding") == ["chunked"]:
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", ["0"])[0]))
    return Received(method, target, headers, body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
