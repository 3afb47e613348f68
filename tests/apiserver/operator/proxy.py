"""A reverse proxy between an operator and the API server: it sees every request, and can break any of them.

The operator's kubeconfig points here, without credentials; upstream the proxy uses the token it was given. So what it
records is exactly what one process sent, and what the server answered.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

MUTATING = {"POST", "PUT", "PATCH", "DELETE"}
_OF_THE_CONNECTION = {"transfer-encoding", "connection", "content-length"}
_HOP_BY_HOP = {"transfer-encoding", "connection", "content-length", "host", "authorization"}


@dataclass(slots=True)
class Seen:
    """One request as it passed."""

    method: str
    path: str
    query: dict[str, str]
    at: float
    """Monotonic time of its arrival."""
    status: int = 0
    """0: no answer was given."""

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.method in MUTATING

    @property
    def resource(self) -> str:
        """Plural, and subresource: `deployments`, `llmdeployments/status`."""
        parts = self.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        if parts[:1] == ["namespaces"] and len(parts) > 2:
            parts = parts[2:]
        return "/".join([parts[0], *parts[2:]]) if parts else ""

    @property
    def name(self) -> str:
        """Name of the object, where the path has one."""
        parts = self.path.strip("/").split("/")
        return (
            parts[-1] if self.method in {"PUT", "PATCH", "DELETE"} and not self.path.endswith("/status") else parts[-2]
        )

    @property
    def group(self) -> str:
        """API group; empty for the core group."""
        parts = self.path.strip("/").split("/")
        return parts[1] if parts[0] == "apis" and len(parts) > 3 else ""

    @property
    def verb(self) -> str:
        """As RBAC names it."""
        if self.method == "GET":
            if "watch" in self.query:
                return "watch"
            return "list" if self.path.rstrip("/").split("/")[-1] == self.resource else "get"
        return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[self.method]

    @property
    def of_lease(self) -> bool:
        """Whether it is about the Lease, which is renewed for ever."""
        return self.resource == "leases"


Fault = Callable[[Seen], Awaitable[web.StreamResponse | None]]
"""Looks at a request; what it answers, or raises, comes instead of the API server's answer."""


async def _no_fault(_: Seen) -> web.StreamResponse | None:
    return None


class Cut(Exception):  # noqa: N818 a person cuts a line
    """The connection ends without an answer."""


class Proxy:
    """Listens on a port of the loopback interface while it is entered."""

    def __init__(self, kubeconfig: Path, *, token: str | None = None) -> None:
        self._upstream, self._context = upstream_of(kubeconfig, as_administrator=token is None)
        self._token = token
        self.seen: list[Seen] = []
        self.before: Fault = _no_fault
        """Runs before a request is passed on."""
        self.after: Fault = _no_fault
        """Runs when the server has answered a request that writes, before the operator reads that."""
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._streams: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context, limit=0), auto_decompress=False
        )
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        assert self._session
        await self._session.close()

    async def open(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Cut all connections and refuse new ones."""
        if self._runner:
            self.cut_streams()
            server = self._runner.server
            await self._runner.cleanup()
            self._runner = None
            # What asyncio was just accepting is a connection only now, and nobody else would close it.
            await asyncio.sleep(0.1)
            if server:
                await server.shutdown(0.1)

    def kubeconfig(self, folder: Path) -> Path:
        """Write a kubeconfig that leads here."""
        path = folder / f"kubeconfig-{self.port}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
            "current-context": "proxy",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    @property
    def writes(self) -> list[Seen]:
        """What was written, but for the Lease."""
        return [seen for seen in self.seen if seen.writes and not seen.of_lease]

    def used(self) -> set[tuple[str, str, str]]:
        """Rights that were used: API group, resource with subresource, verb. An apply that creates needs two."""
        used = set()
        for seen in self.seen:
            if seen.resource and not seen.path.startswith(("/api/v1/version", "/version")):
                used.add((seen.group, seen.resource, seen.verb))
                if seen.method == "PATCH" and seen.status == 201:
                    used.add((seen.group, seen.resource, "create"))
        return used

    def cut_streams(self) -> None:
        """End all watches in the middle."""
        for stream in list(self._streams):
            stream.cancel()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task
        self._streams.add(task)
        try:
            return await self._pass_on(request)
        except (Cut, aiohttp.ClientConnectionError):
            if request.transport:
                request.transport.abort()
            return web.Response(status=500)  # nobody reads it
        finally:
            self._streams.discard(task)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        assert self._session
        seen = Seen(request.method, request.path, dict(request.query), time.monotonic())
        self.seen.append(seen)
        body = await request.read()
        instead = await self.before(seen)
        if instead is not None:
            seen.status = instead.status
            return instead
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        url = self._upstream + request.raw_path
        async with self._session.request(
            request.method, URL(url, encoded=True), data=body or None, headers=headers
        ) as answer:
            seen.status = answer.status
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in _OF_THE_CONNECTION}
            if seen.writes:
                text = await answer.read()
                instead = await self.after(seen)
                return instead if instead is not None else web.Response(status=answer.status, body=text, headers=kept)
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            with suppress(ConnectionError):  # a watcher that has gone
                async for part in answer.content.iter_any():
                    await response.write(part)
                await response.write_eof()
            return response


def upstream_of(kubeconfig: Path, *, as_administrator: bool = True) -> tuple[str, ssl.SSLContext]:
    """Give the API server's URL, and how to trust it and, as administrator, to be believed by it."""
    loaded = yaml.safe_load(kubeconfig.read_text())
    cluster, user = loaded["clusters"][0]["cluster"], loaded["users"][0]["user"]

    def text(holder: dict[str, str], name: str) -> str:
        if f"{name}-data" in holder:
            return base64.b64decode(holder[f"{name}-data"]).decode()
        return (kubeconfig.parent / holder[name]).read_text()

    context = ssl.create_default_context(cadata=text(cluster, "certificate-authority"))
    if as_administrator:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
            pair.write(text(user, "client-certificate") + text(user, "client-key"))
            pair.flush()
            context.load_cert_chain(pair.name)
    return str(cluster["server"]), context
