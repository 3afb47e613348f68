"""An HTTP/1.1 client that hides nothing: it tells a complete body from one that was cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool
    """The body ended as its framing says; false where the connection ended first."""

    def error(self) -> dict[str, Any]:
        """The error object of an OpenAI-style error body."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


@dataclass(slots=True)
class Client:
    """One connection to the router, kept alive as long as the router does."""

    host: str
    port: int
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None
    _headers: dict[str, str] = field(default_factory=dict)
    _status: int = 0

    @property
    def connected(self) -> bool:
        """Whether a connection is open, as far as this side knows."""
        return self._writer is not None

    async def send(self, method: str, target: str, *, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """Send one request; connect first if need be."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
        fields = {"host": "model"} | ({"content-length": str(len(body))} if body else {}) | (headers or {})
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
        self._writer.write(head.encode() + b"\r\n" + body)
        # A refusal may come before the body is through; like httpx and curl, read it all the same.
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def write(self, data: bytes) -> None:
        """Send more of the body."""
        assert self._writer is not None
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> int:
        """Read status and headers of the answer; the status.

        Raises:
            ConnectionError: the connection ended before an answer.
        """
        assert self._reader is not None
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError as error:
            self.close()
            raise ConnectionResetError(f"no answer, only {error.partial!r}") from None
        line, *lines = head.rstrip("\r\n").split("\r\n")
        self._headers = {k.strip().lower(): v.strip() for k, _, v in (each.partition(":") for each in lines)}
        self._status = int(line.split(" ")[1])
        return self._status

    async def chunk(self) -> bytes:
        """Read one chunk of the answer; empty at its proper end.

        Raises:
            ConnectionError: the connection ended inside the body.
        """
        assert self._reader is not None
        try:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            return (await self._reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            raise ConnectionResetError("the body was cut") from None

    async def answer(self) -> Answer:
        """Read the whole answer, or what is left of it after `head` and `chunk`."""
        if not self._status:
            await self.head()
        status, headers, body, complete = self._status, self._headers, b"", True
        self._status = 0
        if headers.get("transfer-encoding") == "chunked":
            try:
                while chunk := await self.chunk():
                    body += chunk
            except ConnectionError:
                complete = False
        else:
            assert self._reader is not None
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, headers, body, complete)

    async def ask(
        self,
        method: str = "POST",
        target: str = "/v1/chat/completions",
        *,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send a request and read its answer."""
        if method == "POST" and not body:
            body = b"{}"
        await self.send(method, target, headers=headers, body=body)
        return await self.answer()

    def close(self) -> None:
        """Go away, answer or not."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
        self._status = 0

    async def aclose(self) -> None:
        """Go away and wait until the connection is gone."""
        writer = self._writer
        self.close()
        if writer is not None:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
