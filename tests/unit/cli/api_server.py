"""A real HTTP server that answers as the API server does: one LLMDeployment, its worker pods, and their logs.

Only what `logs` needs, and `chat` and `bench` before they are on their way; what the real one does is tested in
tests/apiserver and tests/e2e.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from aiohttp import web
from kubernetes.aio.client import Configuration

from sundog_cli.cluster import Cluster
from sundog_operator.core.names import Manifest
from sundog_operator.kube.client import Client
from sundog_operator.kube.connection import Connection
from tests.unit.core.world import resource


class Container:
    """Writes lines, until it ends; a follower gets them as they come."""

    def __init__(self, number: int, *lines: str, before: Sequence[str] | None = None) -> None:
        self.id = f"containerd://{number}"
        self.lines = list(lines)
        self.before = before
        """Lines of the one before the last restart; None: there was none."""
        self.has_ended = False
        self._changed = asyncio.Condition()

    async def write(self, line: str) -> None:
        async with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    async def end(self) -> None:
        async with self._changed:
            self.has_ended = True
            self._changed.notify_all()

    async def send(self, response: web.StreamResponse, *, first: int, follow: bool) -> None:
        while True:
            for line in self.lines[first:]:
                await response.write(f"{line}\n".encode())
            first = len(self.lines)
            if not follow or self.has_ended:
                return
            async with self._changed:
                while not self.has_ended and len(self.lines) == first:
                    await self._changed.wait()


@dataclass
class ApiServer:
    url: str = ""
    containers: dict[str, Container] = field(default_factory=dict)
    """By pod: the one that runs."""

    def connection(self) -> Connection:
        return Connection(Configuration(host=self.url), None)

    @asynccontextmanager
    async def cluster(self) -> AsyncIterator[Cluster]:
        async with Client(self.connection(), guard=lambda: 60.0) as client:
            yield Cluster(self.connection(), client, "team")

    def kubeconfig(self, file: Path) -> Path:
        def named(key: str, what: Manifest) -> list[Manifest]:
            return [{"name": "here", key: what}]

        config = {
            "clusters": named("cluster", {"server": self.url}),
            "users": named("user", {"token": "secret"}),
            "contexts": named("context", {"cluster": "here", "user": "here"}),
            "current-context": "here",
        }
        file.write_text(yaml.safe_dump(config))
        return file

    async def resource(self, _: web.Request) -> web.Response:
        return web.json_response(resource())

    async def pods(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == "sundog.dev/llmdeployment=qwen3,sundog.dev/component=worker"
        items = [
            {
                "metadata": {"name": pod},
                "status": {"containerStatuses": [{"name": "engine", "containerID": container.id}]},
            }
            for pod, container in self.containers.items()
        ]
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})

    async def log(self, request: web.Request) -> web.StreamResponse:
        pod, query = request.match_info["pod"], request.query
        container = self.containers[pod]
        assert query["container"] == "engine"
        response = web.StreamResponse()
        if query["previous"] == "true":
            if container.before is None:
                message = f'previous terminated container "engine" in pod "{pod}" not found'
                return web.json_response({"kind": "Status", "message": message}, status=400)
            await response.prepare(request)
            await response.write("".join(f"{line}\n" for line in container.before).encode())
            return response
        await response.prepare(request)
        first = max(len(container.lines) - int(query.get("tailLines", len(container.lines))), 0)
        await container.send(response, first=first, follow=query["follow"] == "true")
        return response


@asynccontextmanager
async def api_server() -> AsyncIterator[ApiServer]:
    made = ApiServer()
    app = web.Application()
    app.router.add_get("/apis/sundog.dev/v1alpha1/namespaces/team/llmdeployments/qwen3", made.resource)
    app.router.add_get("/api/v1/namespaces/team/pods", made.pods)
    app.router.add_get("/api/v1/namespaces/team/pods/{pod}/log", made.log)
    # Who follows goes away in the middle: then the answer is over too.
    runner = web.AppRunner(app, access_log=None, handle_signals=False, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
