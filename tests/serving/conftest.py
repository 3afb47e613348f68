"""What tests of the serving side share: an ASGI app on a loopback port, and engines of both kinds."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import aiohttp
import pytest
import uvicorn

from sundog_serving import fake
from sundog_serving.engine import ASGIApp
from sundog_serving.fake import FakeEngine
from sundog_serving.guard import Guard
from sundog_serving.settings import Settings

TOKEN = "a-replica-token"
MODEL = "tiny"
HEADERS = {"x-sundog-replica-token": TOKEN}


LORA = {"max_rank": 8, "max_adapters": 2}


def application_args(engine: str, engine_args: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    """The ``args`` of a Serve application."""
    return {
        "engine": engine,
        "model": {"uri": "pvc://models/tiny", "path": None, "revision": None, "name": MODEL, **model},
        "engine_args": engine_args or {},
        "request_timeout_seconds": 600,
    }


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # Ctrl-C belongs to pytest

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an app on a free loopback port; the URL is what comes out."""
    server = _Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="on"))
    task = asyncio.create_task(server.serve())
    await server.listening.wait()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


class Replica:
    """A guarded fake engine behind a real server, and a client of it."""

    def __init__(self, engine: FakeEngine, url: str, client: aiohttp.ClientSession) -> None:
        self.engine = engine
        self.url = url
        self.client = client

    async def post(self, route: str, **body: Any) -> tuple[int, Any]:
        async with self.client.post(route, json={"model": MODEL, **body}) as response:
            return response.status, await response.json()

    async def get(self, route: str) -> tuple[int, Any]:
        async with self.client.get(route) as response:
            return response.status, await response.json()

    async def stream(self, route: str, **body: Any) -> list[Any]:
        """The events of a stream: documents, and the string ``[DONE]``."""
        async with self.client.post(route, json={"model": MODEL, "stream": True, **body}) as response:
            assert response.status == 200, await response.text()
            return await events(response)


async def events(response: aiohttp.ClientResponse) -> list[Any]:
    found: list[Any] = []
    async for line in response.content:
        if line.startswith(b"data: "):
            text = line.removeprefix(b"data: ").strip().decode()
            found.append(text if text == "[DONE]" else json.loads(text))
    return found


StartReplica = Callable[..., Coroutine[Any, Any, Replica]]


@pytest.fixture
async def replica() -> AsyncIterator[StartReplica]:
    """Start replicas with a fake engine: ``await replica(max_concurrent=1)``."""
    async with AsyncExitStack() as stack:

        async def start(**engine_args: Any) -> Replica:
            engine = await fake.start(Settings.from_args(application_args("fake", engine_args)))
            url = await stack.enter_async_context(served(Guard(engine, token=TOKEN, about={"engine": "fake"})))
            client = await stack.enter_async_context(aiohttp.ClientSession(url, headers=HEADERS))
            stack.push_async_callback(engine.stop)  # first: a wedged one would keep its server from ending
            return Replica(engine, url, client)

        yield start


T = TypeVar("T")


async def eventually(
    probe: Callable[[], Awaitable[T]], accept: Callable[[T], bool], *, within_seconds: float = 60
) -> T:
    """Ask until the answer is acceptable, and return it."""
    async with asyncio.timeout(within_seconds):
        while not accept(answer := await probe()):  # noqa: ASYNC110  it happens in other processes
            await asyncio.sleep(0.1)
    return answer


async def until(condition: Callable[[], bool], *, within_seconds: float = 10) -> None:
    """Wait until something is so; fail with the condition's name otherwise."""
    async with asyncio.timeout(within_seconds):
        while not condition():  # noqa: ASYNC110  what is waited for happens in another process, or in uvicorn
            await asyncio.sleep(0.01)
