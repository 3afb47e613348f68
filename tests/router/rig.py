"""A real HAProxy with Sundog's configuration between real servers and clients, all on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sundog_operator.core.router_config import RouterSettings, router_config
from tests.router.client import Answer, Client
from tests.router.name_server import NameServer
from tests.router.replica import Replica

TOKEN = "t0ken-of-the-deployment"
REPLICAS_HOST = "m-replicas.ns.svc.cluster.local"
HEAD_HOST = "m-head.ns.svc.cluster.local"
PATIENCE = 30
"""Seconds after which a condition counts as never met; the machine is shared."""


def haproxy_binary() -> str:
    """The HAProxy under test: `$HAPROXY`, else Debian's.

    Raises:
        AssertionError: there is none. That is a failure, not a reason to skip: without HAProxy nothing is shown.
    """
    binary = shutil.which(os.environ.get("HAPROXY", "haproxy"), path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert binary, "These tests need a real HAProxy, 2.6 or newer: apt-get install -y haproxy"
    return binary


async def until(condition: Callable[[], Any] | Callable[[], Awaitable[Any]], what: str) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it did not within `PATIENCE`.
    """

    async def poll() -> None:
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            await asyncio.sleep(0.02)

    try:
        await asyncio.wait_for(poll(), PATIENCE)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE} s: {what}") from None


def free_port() -> int:
    """A port that is free on 127.0.0.1, and so most likely on its neighbours."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port: int = each.getsockname()[1]
        return port


@dataclass(slots=True)
class Rig:
    """One router, its DNS server, its replicas and its head."""

    settings: RouterSettings
    folder: Path
    names: NameServer
    replicas: list[Replica]
    head: Replica
    token: str = TOKEN
    open_files: int | None = None
    """Limit of open files, hard and soft; none: that of the test."""
    process: asyncio.subprocess.Process | None = None
    clients: list[Client] = field(default_factory=list)

    def client(self) -> Client:
        """A new client; it is closed at the end of the test."""
        client = Client("127.0.0.1", self.settings.port)
        self.clients.append(client)
        return client

    async def ask(self, method: str = "POST", target: str = "/v1/chat/completions", **rest: Any) -> Answer:
        """One request on a connection of its own."""
        client = self.client()
        try:
            return await client.ask(method, target, **rest)
        finally:
            client.close()

    async def stream(self) -> Client:
        """A client whose answer has begun."""
        client = self.client()
        await client.send("POST", "/v1/chat/completions", body=b"{}")
        assert await client.head() == 200
        return client

    async def stream_of(self, replica: Replica) -> Client:
        """A client whose answer is being held back by this replica."""
        replica.last_byte.clear()
        client = await self.stream()
        while not replica.ongoing:
            await client.answer()
            await client.aclose()
            client = await self.stream()
        return client

    async def start(self) -> None:
        """Start HAProxy and wait until it says that it is ready."""
        config = self.folder / "haproxy.cfg"
        config.write_text(router_config(self.settings))
        command = [haproxy_binary(), "-db", "-f", str(config)]
        if self.open_files is not None:
            command = ["prlimit", f"--nofile={self.open_files}", *command]
        with (self.folder / "log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, env=os.environ | {"SUNDOG_REPLICA_TOKEN": self.token}, stdout=log, stderr=log
            )
        await until(self.ready, f"router ready; its log: {self.log()}")

    async def stop(self) -> None:
        """End everything that this rig started."""
        for client in self.clients:
            await client.aclose()
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()
        for server in (*self.replicas, self.head):
            await server.kill()
        self.names.stop()

    def log(self) -> str:
        """All that HAProxy has written so far."""
        return (self.folder / "log").read_text()

    async def ready(self) -> bool:
        """What the pod's readiness probe finds."""
        assert self.process is not None
        assert self.process.returncode is None, self.log()
        client = Client("127.0.0.1", self.settings.metrics_port)
        try:
            return (await client.ask("GET", "/healthz")).status == 200
        except ConnectionError:
            return False
        finally:
            await client.aclose()

    async def metrics(self) -> dict[str, float]:
        """The Prometheus metrics: full series name → value."""
        client = Client("127.0.0.1", self.settings.metrics_port)
        text = (await client.ask("GET", "/metrics")).body.decode()
        await client.aclose()
        return {m[1]: float(m[2]) for m in re.finditer(r"^(haproxy_\S+) (\S+)$", text, re.MULTILINE)}

    async def queue(self, count: int) -> None:
        """Wait until so many requests wait in the router."""

        async def reached() -> bool:
            return (await self.metrics())['haproxy_backend_current_queue{proxy="replicas"}'] == count

        await until(reached, f"{count} requests in the queue")

    async def requests(self, count: int) -> None:
        """Wait until the router has seen so many requests, with or without their bodies."""

        async def reached() -> bool:
            return (await self.metrics())['haproxy_frontend_http_requests_total{proxy="api"}'] >= count

        await until(reached, f"{count} requests seen by the router")

    def resident(self) -> float:
        """Memory of the router, MiB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    async def up(self) -> set[str]:
        """Names of the servers that the router counts as up."""
        found = re.compile(r'haproxy_server_status\{proxy="replicas",server="(\w+)",state="UP"\}')
        return {m[1] for key, value in (await self.metrics()).items() if value and (m := found.match(key))}

    def resolve(self, replicas: list[Replica]) -> None:
        """Let the replicas' name stand for these."""
        self.names.records[REPLICAS_HOST] = [each.address for each in replicas]


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    *,
    replicas: int = 2,
    head: bool = True,
    token: str = TOKEN,
    open_files: int | None = None,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A router in front of `replicas` replicas that are up, and of a head."""
    replica_port, head_port = free_port(), free_port()
    names = NameServer({})
    await names.start()
    values: dict[str, Any] = {
        "replicas_host": REPLICAS_HOST,
        "head_host": HEAD_HOST,
        "max_ongoing_per_replica": 16,
        "max_queue": 32,
        "request_timeout_seconds": 60,
        "hard_stop_seconds": 75,
        "replica_port": replica_port,
        "head_port": head_port,
        "port": free_port(),
        "metrics_port": free_port(),
        "listen_host": "127.0.0.1",
        "nameservers": (f"127.0.0.1:{names.port}",),
    } | settings
    rig = Rig(
        settings=RouterSettings(**values),
        folder=folder,
        names=names,
        replicas=[Replica(f"127.0.0.{2 + i}", replica_port) for i in range(replicas)],
        head=Replica("127.0.0.1", head_port),
        token=token,
        open_files=open_files,
    )
    try:
        for each in rig.replicas:
            await each.start()
        if head:
            await rig.head.start()
            names.records[HEAD_HOST] = [rig.head.address]
        rig.resolve(rig.replicas)
        await rig.start()
        await until_up(rig, replicas + head)
        yield rig
    finally:
        await rig.stop()


async def until_up(rig: Rig, count: int) -> None:
    """Wait until so many servers, the head among them, are up."""

    async def reached() -> bool:
        return len(await rig.up()) == count

    await until(reached, f"{count} servers up")
